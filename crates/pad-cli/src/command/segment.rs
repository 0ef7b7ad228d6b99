//! Trains, evaluates and runs a segmentor on infrared images: a class for every pixel.
//!
//!     pad segment train                                     # minutes, needs nothing: rendered scenes
//!     pad segment train --data DIR                          # images/, masks/, classes.toml
//!     pad segment train --data DIR --weights runs/pretrain-1
//!     pad segment train --data DIR --recipe soda
//!     pad segment train --resume runs/segment-1
//!     pad segment eval --run runs/segment-1 --test-flip --test-scales 0.75,1,1.25
//!     pad segment predict --run runs/segment-1 --images DIR --out OUT
//!
//! A run folder holds `config.toml`, `classes.json`, `log.jsonl`, `tensorboard/`, `checkpoints/`,
//! `model.safetensors` (the best by mIoU), `overlays.png` and `summary.json`. See
//! docs/segmentation.md.

use clap::{Args, Subcommand};

use crate::{
    downstream::{
        eval::{self, Eval},
        predict::{self, Predict},
        train::{self, Train},
    },
    run::Result,
    segment::Segment,
};

/// Trains, evaluates and runs semantic segmentation: a class for every pixel
#[derive(Args, Debug)]
pub(crate) struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Trains a segmentor
    Train(Box<Train<Segment>>),
    /// Evaluates a segmentor: IoU and accuracy by class, their means, the confusion matrix
    Eval(Box<Eval<Segment>>),
    /// Segments a folder of images: writes an overlay, a class map and a JSON file for each
    Predict(Box<Predict<Segment>>),
}

pub(crate) fn run(program: &Program) -> Result<()> {
    match &program.command {
        Command::Train(program) => train::run(program),
        Command::Eval(program) => eval::run(program),
        Command::Predict(program) => predict::run(program),
    }
}
