//! A detector against labelled images.

use std::path::PathBuf;

use clap::Args;
use pad::{
    data::{sets::detection::DetectionFormat, transform::Normalize},
    heads::detection::{coco::write_results, measure},
};

use super::{Detect, data, model, thresholds::ThresholdFlags};
use crate::{
    run::{Result, signals::Signals, source::ModelSource},
    settings::{Trainer, values::Text},
    tools::{
        device::Compute,
        output::{Replace, print, write_json},
        values,
    },
};

/// Flags of `pad detect eval`.
#[derive(Args, Debug)]
pub struct Eval {
    #[command(flatten)]
    source: ModelSource,
    /// Folder of labelled images [default: the run's]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Layout of the folder: auto, coco, flir, hit-uav, llvip, voc or yolo [default: the run's]
    #[arg(long, value_name = "NAME")]
    format: Option<DetectionFormat>,
    /// Part of the folder [default: the run's for evaluation]
    #[arg(long, value_name = "NAME")]
    val_split: Option<String>,
    /// Maximum number of images, the first ones [default: the run's]
    #[arg(long, value_name = "N", value_parser = values::count)]
    val_images: Option<usize>,
    /// File for the numbers
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// File for the detections, COCO results
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    #[command(flatten)]
    replace: Replace,
    #[command(flatten)]
    thresholds: ThresholdFlags,
    #[command(flatten)]
    compute: Compute,
}

/// Measures a detector.
pub fn run(eval: &Eval) -> Result<()> {
    eval.replace.check_some(eval.json.as_ref())?;
    eval.replace.check_some(eval.results.as_ref())?;
    let found = eval.source.find(Detect::NAME, model::FILE)?;
    let mut settings = eval.thresholds.over(eval.source.settings()?, None);
    settings.run.data = eval.data.clone().or(settings.run.data);
    settings.own.format = eval.format.map_or(settings.own.format, Text);
    settings.own.val_split = eval.val_split.clone().unwrap_or(settings.own.val_split);
    settings.own.val_images = eval.val_images.or(settings.own.val_images);
    let device = eval.compute.start()?;
    let model = model::open(&settings, &found, eval.source.run(), &device)?;
    settings.own.masks = model.detector.config().masks;
    let images = data::evaluation(&settings, &model.classes)?;
    let normalize = model.normalize.clone().unwrap_or_else(Normalize::downstream);
    let pipeline = settings.own.pipeline(&settings.run, &normalize)?;
    let signals = Signals::watch()?;
    let stopped = || signals.is_raised();
    let Some(report) = measure(&model, images.as_ref(), &pipeline, &stopped)? else {
        return signals.stopped();
    };
    print(&report)?;
    if let Some(path) = &eval.results {
        write_results(path, &report.results)?;
        print(format_args!("wrote {}", path.display()))?;
    }
    match &eval.json {
        Some(path) => write_json(path, &report),
        None => Ok(()),
    }
}
