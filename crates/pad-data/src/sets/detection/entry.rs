//! Input and output of the readers of formats.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use super::{BadBoxes, BoxClasses, LabelledImage, LeftOut, Object};
use crate::{
    Error, Result,
    image::{DecodeOptions, image_size},
};

/// How a labelled set is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectionOptions {
    /// The classes. `None`: those of the format, or of the set (of COCO files: all categories, in
    /// the order of their numbers; of VOC files: all names that occur, in alphabetical order).
    pub classes: Option<BoxClasses>,
    /// Names of the classes to keep, in this order; boxes of others are left out, their images
    /// stay. `None`: all.
    pub select: Option<Vec<String>>,
    /// What is done with boxes outside their image and without area.
    pub bad_boxes: BadBoxes,
    /// Whether objects come with their pixels, which only COCO files hold.
    pub masks: bool,
}

impl DetectionOptions {
    /// Checks that no masks are requested of a format without them.
    pub(super) fn without_masks(&self, format: &str) -> Result<()> {
        match self.masks {
            false => Ok(()),
            true => Err(Error::Setting {
                name: "masks",
                expected: "a COCO file, the only format with the pixels of objects".into(),
                found: format!("requested of {format} files"),
            }),
        }
    }

    /// The classes of a set whose files hold the classes `found` and whose format has the classes
    /// `preset`.
    pub(super) fn classes_of(
        &self,
        preset: Option<&BoxClasses>,
        found: impl FnOnce() -> Result<BoxClasses>,
    ) -> Result<BoxClasses> {
        match (&self.classes, &self.select, preset) {
            (Some(classes), None, _) => Ok(classes.clone()),
            (Some(classes), Some(names), _) => classes.select(names),
            (None, None, Some(preset)) => Ok(preset.clone()),
            (None, None, None) => found(),
            // Of all that the files hold, by the names of the format too.
            (None, Some(names), Some(preset)) => found()?.with_names_of(preset).select(names),
            (None, Some(names), None) => found()?.select(names),
        }
    }
}

/// One image: its file, and its labels.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) labelled: Arc<LabelledImage>,
}

impl Entry {
    pub(super) fn new(
        path: PathBuf,
        id: i64,
        name: String,
        size: ImageSize,
        objects: Vec<Object>,
    ) -> Self {
        Self { path, labelled: Arc::new(LabelledImage { id, name, size, objects }) }
    }
}

/// What the reader of a format gives.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) entries: Vec<Entry>,
    pub(super) classes: BoxClasses,
    pub(super) left_out: LeftOut,
}

/// Size of an image, by the reader that gives its pixels.
pub(super) fn header_size(path: &Path) -> Result<ImageSize> {
    image_size(path, &DecodeOptions::default())
}

/// The first of these folders below `root` that exists; else the last of them.
pub(super) fn first_folder(root: &Path, places: &[PathBuf]) -> PathBuf {
    let found = places.iter().find(|place| root.join(place).is_dir());
    root.join(found.or(places.last()).map_or(Path::new(""), PathBuf::as_path))
}
