//! A segmentor against labelled images.

use std::path::PathBuf;

use clap::Args;
use pad::{
    data::{Dataset, sets::segmentation::SegmentationFormat, transform::Normalize},
    heads::segmentation::measure,
};

use super::{Segment, data, inference::InferenceFlags, model};
use crate::{
    run::{Result, signals::Signals, source::ModelSource},
    settings::{Trainer, values::Text},
    tools::{
        device::Compute,
        output::{Replace, print, write_json},
        values,
    },
};

/// Flags of `pad segment eval`.
#[derive(Args, Debug)]
pub struct Eval {
    #[command(flatten)]
    source: ModelSource,
    /// Folder of labelled images [default: the run's]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Layout of the folder: auto, folder, soda or mfnet [default: the run's]
    #[arg(long, value_name = "NAME")]
    format: Option<SegmentationFormat>,
    /// Part of the folder [default: the run's for evaluation]
    #[arg(long, value_name = "NAME")]
    val_split: Option<String>,
    /// Maximum number of images, the first ones [default: the run's]
    #[arg(long, value_name = "N", value_parser = values::count)]
    val_images: Option<usize>,
    /// File for the numbers
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    replace: Replace,
    #[command(flatten)]
    inference: InferenceFlags,
    #[command(flatten)]
    compute: Compute,
}

/// Measures a segmentor.
pub fn run(eval: &Eval) -> Result<()> {
    eval.replace.check_some(eval.json.as_ref())?;
    let found = eval.source.find(Segment::NAME, model::FILE)?;
    let mut settings = eval.inference.over(eval.source.settings()?);
    settings.run.data = eval.data.clone().or(settings.run.data);
    settings.own.format = eval.format.map_or(settings.own.format, Text);
    settings.own.val_split = eval.val_split.clone().unwrap_or(settings.own.val_split);
    settings.own.val_images = eval.val_images.or(settings.own.val_images);
    let device = eval.compute.start()?;
    let model = model::open(&settings, &found, eval.source.run(), &device)?;
    let images = data::evaluation(&settings)?;
    let normalize = model.normalize.clone().unwrap_or_else(Normalize::downstream);
    let pipeline = settings.own.pipeline(&settings.run, &normalize, images.classes().ignore)?;
    let inference = settings.own.inference(pipeline)?;
    let signals = Signals::watch()?;
    let stopped = || signals.is_raised();
    let Some(report) = measure(&model, images.as_ref(), &inference, &stopped)? else {
        return signals.stopped();
    };
    print(format_args!("{}\n\n{report}", report.confusion_table()))?;
    match &eval.json {
        Some(path) => write_json(path, &report),
        None => Ok(()),
    }
}
