//! A folder of images in; overlays, class maps and numbers out.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::Args;
use pad::data::{
    Dataset,
    draw::{Canvas, ImageClasses, save_class_png},
    image::{DecodeOptions, Image},
    sets::open_images,
    transform::Normalize,
};

use super::{Segment, inference::InferenceFlags, model};
use crate::{
    run::{Result, signals::Signals, source::ModelSource},
    settings::Trainer,
    tools::{
        device::Compute,
        output::{Replace, make_folder, print},
        reading::{Files, read_as},
        values,
    },
};

/// Flags of `pad segment predict`.
#[derive(Args, Debug)]
pub struct Predict {
    #[command(flatten)]
    source: ModelSource,
    /// Folder of infrared images (8 or 16 bits; PNG, JPEG, BMP, TIFF), in any depth
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Folder for `overlays/`, `classes/`, `json/` and `legend.png`
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
    /// Share of the colours in overlays, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = values::share)]
    opacity: f64,
    #[command(flatten)]
    inference: InferenceFlags,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    compute: Compute,
}

/// Writes what a segmentor sees in the images of a folder.
pub fn run(predict: &Predict) -> Result<()> {
    let out = &predict.out;
    predict.replace.check(&out.join("legend.png"))?;
    let images = open_images(&predict.images)?;
    let found = predict.source.find(Segment::NAME, model::FILE)?;
    let settings = predict.inference.over(predict.source.settings()?);
    let images = read_as(images, predict.files.over(&settings.run.choice()));
    let device = predict.compute.start()?;
    let model = model::open(&settings, &found, predict.source.run(), &device)?;
    let classes = &model.classes;
    let normalize = model.normalize.clone().unwrap_or_else(Normalize::downstream);
    let pipeline = settings.own.pipeline(&settings.run, &normalize, classes.ignore)?;
    let inference = settings.own.inference(pipeline)?;
    let signals = Signals::watch()?;

    let (mut read, mut unreadable) = (0, 0);
    for (index, name) in names(images.as_ref()).into_iter().enumerate() {
        if signals.is_raised() {
            return signals.stopped();
        }
        let image = match images.get(index, &DecodeOptions::default()) {
            Ok(image) => image,
            Err(error) => {
                tracing::warn!("left out: {error}");
                unreadable += 1;
                continue;
            }
        };
        let canvas = Canvas::from_image(&image, Some(&inference.pipeline.window))?;
        let predicted = model.predict(image, &inference)?;
        let overlay =
            canvas.overlay_classes(&predicted.classes, classes, predict.opacity as f32)?;
        overlay.save_png(&place(out, "overlays", &name, "png")?)?;
        save_class_png(&place(out, "classes", &name, "png")?, &predicted.classes, classes)?;
        ImageClasses::of(name.as_str(), &predicted.classes, &predicted.scores, classes)?
            .save(&place(out, "json", &name, "json")?)?;
        read += 1;
    }
    if read == 0 {
        let folder = predict.images.display();
        return Err(format!("{folder}: none of {unreadable} images could be read").into());
    }
    let all: Vec<u8> = (0..classes.len()).map(|class| class as u8).collect();
    Canvas::legend(classes, &all).save_png(&place(out, ".", "legend", "png")?)?;
    print(format_args!("{read} images, {unreadable} unreadable; wrote {}", out.display()))
}

/// `SUB/NAME.EXT`, in a folder that exists.
fn place(out: &Path, sub: &str, name: &str, extension: &str) -> Result<PathBuf> {
    let path = out.join(sub).join(format!("{name}.{extension}"));
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    Ok(path)
}

/// Names of results, one for each image: without the extension where that is enough.
fn names(images: &(impl Dataset<Sample = Image> + ?Sized)) -> Vec<String> {
    let mut taken = BTreeSet::new();
    (0..images.len())
        .map(|index| {
            let full = images.name(index);
            let stem = full.rsplit_once('.').map_or(full.as_str(), |(stem, _)| stem).to_string();
            if taken.insert(stem.clone()) { stem } else { full }
        })
        .collect()
}
