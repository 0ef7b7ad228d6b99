//! A folder of images in; pictures and files of what a model finds in them out.

use std::path::PathBuf;

use clap::Args;
use pad::{
    data::{Dataset, image::DecodeOptions, sets::open_images},
    heads::TaskNetwork,
};

use super::{Downstream, Predictions, model};
use crate::{
    run::{Result, signals::Signals, source::ModelSource},
    tools::{
        device::Compute,
        output::Replace,
        reading::{Files, read_as},
    },
};

/// Flags of `predict`.
#[derive(Args, Debug)]
pub struct Predict<P: Downstream> {
    #[command(flatten)]
    source: ModelSource,
    /// Folder of infrared images (PNG, JPEG, BMP, TIFF, NumPy, sequences of thermal cameras), in
    /// any layout; or one file of frames
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Folder for the results: pictures and files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
    #[command(flatten)]
    own: P::PredictFlags,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    compute: Compute,
}

/// Writes what a model finds in the images of a folder. Images that cannot be read are reported and
/// left out.
pub fn run<P: Downstream>(predict: &Predict<P>) -> Result<()> {
    predict.replace.check(&predict.out.join(P::Predictions::MARK))?;
    let images = open_images(&predict.images)?;
    let found = predict.source.find(P::NAME, P::FILE, P::Network::KIND)?;
    let mut settings = P::for_predict(&predict.own, predict.source.settings(&found)?);
    let images = read_as(images, predict.files.over(&settings.run.choice()));
    let device = predict.compute.start()?;
    let (model, inference) = model::open(&mut settings, found, predict.source.run(), &device)?;
    let signals = Signals::watch()?;
    let names = (0..images.len()).map(|index| images.name(index)).collect();
    let mut predictions = P::Predictions::begin(&predict.own, &predict.out, names)?;
    let mut unreadable = 0;
    for index in 0..images.len() {
        if signals.is_raised() {
            // What was found so far.
            predictions.finish(&model, unreadable)?;
            return signals.stopped();
        }
        match images.get(index, &DecodeOptions::default()) {
            Ok(image) => predictions.add(index, image, &model, &inference)?,
            Err(error) => {
                tracing::warn!("left out: {error}");
                unreadable += 1;
            }
        }
    }
    if unreadable == images.len() {
        let folder = predict.images.display();
        return Err(format!("{folder}: none of {unreadable} images could be read").into());
    }
    predictions.finish(&model, unreadable)
}
