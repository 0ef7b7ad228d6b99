//! Overlays, class maps and numbers of a folder's images.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::Args;
use pad::{
    data::{
        draw::{Canvas, ImageClasses, save_class_png},
        image::Image,
    },
    heads::segmentation::{SegmentationInference, SegmentationModel},
};

use super::{inference::InferenceFlags, settings::Segment};
use crate::{
    downstream::Predictions,
    run::Result,
    tools::{
        output::{make_folder, print},
        values,
    },
};

/// Flags of `pad segment predict`, beside those of all tasks.
#[derive(Args, Debug)]
pub struct PredictFlags {
    /// Share of the colours in overlays, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = values::share)]
    opacity: f64,
    #[command(flatten)]
    pub(super) inference: InferenceFlags,
}

/// Writes `overlays/`, `classes/`, `json/` and `legend.png`.
pub struct Pictures {
    out: PathBuf,
    /// Of results, one for each image.
    names: Vec<String>,
    opacity: f32,
    read: usize,
}

impl Predictions<Segment> for Pictures {
    const MARK: &'static str = "legend.png";

    fn begin(flags: &PredictFlags, out: &Path, names: Vec<String>) -> Result<Self> {
        let (out, names) = (out.to_path_buf(), without_extensions(names));
        Ok(Self { out, names, opacity: flags.opacity as f32, read: 0 })
    }

    fn add(
        &mut self,
        index: usize,
        image: Image,
        model: &SegmentationModel,
        inference: &SegmentationInference,
    ) -> Result<()> {
        let (out, name, classes) = (&self.out, &self.names[index], &model.classes);
        let canvas = Canvas::from_image(&image, Some(&inference.pipeline.window))?;
        let predicted = model.predict(image, inference)?;
        let overlay = canvas.overlay_classes(&predicted.classes, classes, self.opacity)?;
        overlay.save_png(&place(out, "overlays", name, "png")?)?;
        save_class_png(&place(out, "classes", name, "png")?, &predicted.classes, classes)?;
        ImageClasses::of(name.as_str(), &predicted.classes, &predicted.scores, classes)?
            .save(&place(out, "json", name, "json")?)?;
        self.read += 1;
        Ok(())
    }

    fn finish(self, model: &SegmentationModel, unreadable: usize) -> Result<()> {
        let all: Vec<u8> = (0..model.classes.len()).map(|class| class as u8).collect();
        let legend = place(&self.out, ".", "legend", "png")?;
        Canvas::legend(&model.classes, &all).save_png(&legend)?;
        let (read, out) = (self.read, self.out.display());
        print(format_args!("{read} images, {unreadable} unreadable; wrote {out}"))
    }
}

/// `SUB/NAME.EXT`, in a folder that exists.
fn place(out: &Path, sub: &str, name: &str, extension: &str) -> Result<PathBuf> {
    let path = out.join(sub).join(format!("{name}.{extension}"));
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    Ok(path)
}

/// The names without their extensions where that is enough to tell them apart.
fn without_extensions(names: Vec<String>) -> Vec<String> {
    // A stem that is another image's whole name would take that one's place.
    let mut taken: BTreeSet<String> = names.iter().cloned().collect();
    let short = |full: String| {
        let stem = full.rsplit_once('.').map_or(full.as_str(), |(stem, _)| stem).to_string();
        if taken.insert(stem.clone()) { stem } else { full }
    };
    names.into_iter().map(short).collect()
}

#[cfg(test)]
mod tests {
    use super::without_extensions;

    #[test]
    fn no_image_takes_the_name_of_another() {
        let names = ["a.jpg", "a.png", "a.png.jpg", "b/a.jpg", "c"].map(str::to_string);
        let short = without_extensions(names.to_vec());
        assert_eq!(short, ["a", "a.png", "a.png.jpg", "b/a", "c"]);
    }
}
