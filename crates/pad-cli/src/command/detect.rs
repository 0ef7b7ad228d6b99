//! Trains an object detector (ViTDet) on labelled infrared images, evaluates it the COCO way, and
//! finds objects in images without labels.
//!
//!     pad detect train                          # some minutes, needs nothing
//!     pad detect train --data DIR               # your images; formats: docs/detection.md
//!     pad detect train --data DIR --weights runs/pretrain-1
//!     pad detect train --resume runs/detect-1
//!     pad detect eval --run runs/detect-1
//!     pad detect show --data DIR --out labels   # look at the labels first
//!     pad detect predict --run runs/detect-1 --images DIR --out found
//!
//! `train` writes a run folder: `config.toml`, `classes.json`, `log.jsonl`, `tensorboard/`,
//! `checkpoints/` (with the best by AP), `detector.safetensors` (the best one), `results.json` (its
//! detections), `detections.png`, `summary.json`.

use clap::{Args, Subcommand};

use crate::{
    detect::{Detect, show},
    downstream::{
        eval::{self, Eval},
        predict::{self, Predict},
        train::{self, Train},
    },
    run::Result,
};

/// Trains, evaluates and runs an object detector
#[derive(Args, Debug)]
pub(crate) struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Trains a detector
    Train(Box<Train<Detect>>),
    /// Evaluates a detector: COCO's twelve numbers, AP by class, multiply-adds and time per image
    Eval(Box<Eval<Detect>>),
    /// Detects objects in a folder of images: writes pictures with boxes and a COCO results file
    Predict(Box<Predict<Detect>>),
    /// Draws the labels of a data set, and its images as training sees them
    Show(Box<show::Show>),
}

pub(crate) fn run(program: &Program) -> Result<()> {
    match &program.command {
        Command::Train(program) => train::run(program),
        Command::Eval(program) => eval::run(program),
        Command::Predict(program) => predict::run(program),
        Command::Show(program) => show::run(program),
    }
}
