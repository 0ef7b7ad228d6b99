//! A folder of images in; overlays, class maps and numbers out.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use pad::data::{
    draw::{Canvas, ImageClasses, save_class_png},
    image::{DecodeOptions, decode},
    sets::ImageFolder,
};

use super::{evaluation::Looking, model::Network};
use crate::run::Result;

/// `SUB/NAME.EXT` for an image `.../NAME.*`; with the image's own extension inside where two images share a name.
fn place(out: &Path, sub: &str, name: &str, extension: &str) -> Result<PathBuf> {
    let path = out.join(sub).join(format!("{name}.{extension}"));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|error| format!("{}: {error}", parent.display()))?;
    }
    Ok(path)
}

/// Names of results, one for each image: without the extension where that is enough.
fn names(images: &ImageFolder) -> Vec<String> {
    let mut taken = BTreeSet::new();
    (0..images.len())
        .map(|index| {
            let full = images.name(index).unwrap_or_default().to_string();
            let stem = full.rsplit_once('.').map_or(full.as_str(), |(stem, _)| stem).to_string();
            if taken.insert(stem.clone()) { stem } else { full }
        })
        .collect()
}

/// Returns how many images were read and how many were not.
pub fn run(
    network: &Network,
    looking: &Looking,
    images: &Path,
    out: &Path,
    opacity: f32,
) -> Result<(usize, usize)> {
    let folder = ImageFolder::open(images)?;
    let (mut read, mut unreadable) = (0, 0);
    for (index, name) in names(&folder).into_iter().enumerate() {
        let Some(path) = folder.path(index) else { continue };
        let image = match decode(path, &DecodeOptions::default()) {
            Ok(image) => image,
            Err(error) => {
                tracing::warn!("left out: {error}");
                unreadable += 1;
                continue;
            }
        };
        let canvas = Canvas::from_image(&image, Some(&looking.pipeline.window))?;
        let (map, scores) = looking.classes(&network.segmentor, image)?;
        let classes = &network.classes;
        let overlay = canvas.overlay_classes(&map, classes, opacity)?;
        overlay.save_png(&place(out, "overlays", &name, "png")?)?;
        save_class_png(&place(out, "classes", &name, "png")?, &map, classes)?;
        let found = ImageClasses::of(name.as_str(), &map, &scores, classes)?;
        found.save(&place(out, "json", &name, "json")?)?;
        read += 1;
    }
    if read == 0 {
        return Err(
            format!("{}: not one of {unreadable} images could be read", images.display()).into()
        );
    }
    let everything: Vec<u8> = (0..network.classes.len()).map(|class| class as u8).collect();
    Canvas::legend(&network.classes, &everything).save_png(&place(out, ".", "legend", "png")?)?;
    Ok((read, unreadable))
}
