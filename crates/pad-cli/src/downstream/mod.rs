//! Downstream tasks: a network with heads on labelled images, trained, measured and used in one
//! way.

pub mod eval;
pub mod model;
pub mod predict;
pub mod selection;
pub mod train;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use clap::Args;
use pad::{
    checkpoint::Backbone,
    data::{SharedDataset, Transform, dataset::Sample, image::Image, transform::Normalize},
    heads::{EvaluationReport, Evaluator, TaskModel, TaskNetwork, Trained},
    vit::ViTConfig,
};

use self::selection::Selection;
use crate::{
    run::{Result, adapters::Place, backbone, session::Session},
    settings::{Settings, Trainer},
};

/// The classes that a task tells apart.
pub type Classes<P> = <<P as Downstream>::Network as TaskNetwork>::Classes;
/// The hyperparameters of a task's network.
pub type Config<P> = <<P as Downstream>::Network as TaskNetwork>::Config;
/// Images of one part of a set.
pub type Images<P> = SharedDataset<<P as Downstream>::Sample>;
/// A task's model.
pub type Model<P> = TaskModel<<P as Downstream>::Network>;

/// A task: its network, its images, and what its commands have beside those of the others.
pub trait Downstream: Trainer {
    /// The network.
    type Network: TaskNetwork;
    /// A labelled image.
    type Sample: Sample<Classes = Classes<Self>>;
    /// From labelled images to batches.
    type Pipeline: Transform<Self::Sample, Labels = <Self::Network as TaskNetwork>::Labels>
        + Clone
        + 'static;
    /// How an image goes through the network when it is used.
    type Inference: Clone;
    /// What an evaluation finds.
    type Report: EvaluationReport + serde::Serialize + fmt::Display;
    /// Evaluates a model.
    type Evaluator<'a>: Evaluator<Report = Self::Report>;
    /// Further flags of `eval`.
    type EvalFlags: Args + fmt::Debug;
    /// Further flags of `predict`.
    type PredictFlags: Args + fmt::Debug;
    /// Writes what `predict` finds.
    type Predictions: Predictions<Self>;

    /// The file of a run that has ended.
    const FILE: &'static str;

    /// Opens the weights of a run; `None` if they say nothing that matters.
    fn weights(settings: &Settings<Self>) -> Result<Option<Backbone>> {
        backbone::open(&settings.run)
    }

    /// Whether training starts from the tensors of the weights.
    fn starts_on_weights(&self) -> bool {
        true
    }

    /// The images to train on.
    fn training(settings: &Settings<Self>) -> Result<Images<Self>>;

    /// The images to evaluate on; `classes` are those of training.
    fn evaluation(settings: &Settings<Self>, classes: &Classes<Self>) -> Result<Images<Self>>;

    /// Whether its network has adapters.
    fn adapters(&self) -> Place;

    /// The network that settings and a transformer, with its adapters, make.
    fn config(
        settings: &Settings<Self>,
        vit: ViTConfig,
        classes: &Classes<Self>,
    ) -> Result<Config<Self>>;

    /// Which parts train.
    fn trained(&self) -> Trained;

    /// From images to batches.
    fn pipeline(
        settings: &Settings<Self>,
        normalize: &Normalize,
        classes: &Classes<Self>,
    ) -> Result<Self::Pipeline>;

    /// How images go through the network in evaluation.
    fn inference(&self, pipeline: Self::Pipeline) -> Result<Self::Inference>;

    /// What an opened model takes from the settings, and they from it.
    fn opened(settings: &mut Settings<Self>, model: Model<Self>) -> Result<Model<Self>> {
        let _ = settings;
        Ok(model)
    }

    /// Sends an image through the network.
    fn look(model: &Model<Self>, image: Self::Sample, inference: &Self::Inference) -> Result<()>;

    /// Evaluates a model on images.
    fn evaluator<'a>(
        settings: &Settings<Self>,
        model: &'a Model<Self>,
        images: &'a Images<Self>,
        inference: Self::Inference,
    ) -> Result<Self::Evaluator<'a>>;

    /// Writes what a run leaves beside the model; returns the files.
    fn leave(
        session: &Session<Self>,
        model: &Model<Self>,
        held_out: &Images<Self>,
        inference: &Self::Inference,
        report: &Self::Report,
    ) -> Result<Vec<PathBuf>>;

    /// The settings of a run with the flags of `eval`, and the images that they select, in place of
    /// its own.
    fn for_eval(
        flags: &Self::EvalFlags,
        selection: &Selection,
        settings: Settings<Self>,
    ) -> Settings<Self>;

    /// Prints what `eval` finds, and writes what its flags name.
    fn report(flags: &Self::EvalFlags, report: &Self::Report) -> Result<()>;

    /// A file that `eval` writes beside the numbers.
    fn eval_file(flags: &Self::EvalFlags) -> Option<&PathBuf> {
        let _ = flags;
        None
    }

    /// The settings of a run with the flags of `predict` in place of its own.
    fn for_predict(flags: &Self::PredictFlags, settings: Settings<Self>) -> Settings<Self>;
}

/// Writes what a model finds in the images of a folder.
pub trait Predictions<P: Downstream>: Sized {
    /// A file that tells that a folder holds predictions.
    const MARK: &'static str;

    /// Begins in the folder `out`, for the images `names`.
    fn begin(flags: &P::PredictFlags, out: &Path, names: Vec<String>) -> Result<Self>;

    /// Adds the image of a number.
    fn add(
        &mut self,
        index: usize,
        image: Image,
        model: &Model<P>,
        inference: &P::Inference,
    ) -> Result<()>;

    /// Ends, after `unreadable` images that were left out.
    fn finish(self, model: &Model<P>, unreadable: usize) -> Result<()>;
}
