//! Input and output of the readers of formats.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use super::{BadBoxes, BoxClasses, LabelledImage, LeftOut, Object, Others};
use crate::{
    Error, Result,
    image::{DecodeOptions, RadiometricMode, image_size},
};

/// How a labelled set is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectionOptions {
    /// The classes. `None`: those of the format, or of the set (of COCO files: all categories, in
    /// the order of their numbers; of VOC files: all names that occur, in alphabetical order).
    pub classes: Option<BoxClasses>,
    /// Names of the classes to keep, in this order; boxes of others are left out, their images
    /// stay. `None`: all.
    pub select: Option<Vec<String>>,
    /// The classes of another part of the set, such as the one that a model was trained on: this
    /// part has the same ones, whether its files hold all of them or not, with the numbers of its
    /// own files. Goes before `classes` and `select`.
    pub as_in: Option<BoxClasses>,
    /// What is done with boxes outside their image and without area.
    pub bad_boxes: BadBoxes,
    /// Whether objects come with their pixels, which only COCO files hold.
    pub masks: bool,
    /// The folder that names of images begin at, in place of those that the format knows.
    pub images: Option<PathBuf>,
    /// Largest tolerated share of annotations, and of images, that cannot be used, 0 to 1; one is
    /// tolerated at any share above 0 (see [`tolerated`](crate::dataset::tolerated)). They are left
    /// out, counted ([`LeftOut`]) and named in a warning. Default 0.05.
    pub max_faulty: f64,
}

impl Default for DetectionOptions {
    fn default() -> Self {
        Self {
            classes: None,
            select: None,
            as_in: None,
            bad_boxes: BadBoxes::default(),
            masks: false,
            images: None,
            max_faulty: 0.05,
        }
    }
}

impl DetectionOptions {
    /// Checks the settings.
    pub(super) fn validate(&self) -> Result<()> {
        if (0.0..=1.0).contains(&self.max_faulty) {
            return Ok(());
        }
        let found = self.max_faulty.to_string();
        Err(Error::Setting { name: "max_faulty", expected: "0 to 1".into(), found })
    }

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
        numbers: Numbers,
        found: impl FnOnce() -> Result<BoxClasses>,
    ) -> Result<BoxClasses> {
        let numbered = |classes: BoxClasses, found: Result<BoxClasses>| match numbers {
            Numbers::Files => Ok(classes.with_ids_of(&found?)),
            Numbers::Ours => Ok(classes),
        };
        if let Some(other) = &self.as_in {
            let mut classes = other.clone();
            classes.others = Others::LeaveOut;
            return numbered(classes, found());
        }
        match (&self.classes, &self.select, preset) {
            (Some(classes), None, _) => Ok(classes.clone()),
            (Some(classes), Some(names), _) => classes.select(names),
            (None, None, Some(preset)) => numbered(preset.clone(), found()),
            (None, None, None) => Ok(found()?.with_ignored_regions()),
            // Of all that the files hold, by the names of the format too.
            (None, Some(names), Some(preset)) => found()?.with_names_of(preset).select(names),
            (None, Some(names), None) => found()?.select(names),
        }
    }

    /// Names of classes that are requested.
    pub(super) fn wanted(&self) -> Vec<&str> {
        let names = self.select.iter().flatten().map(String::as_str);
        let classes = self.as_in.iter().flat_map(BoxClasses::classes);
        names.chain(classes.map(|class| class.name.as_str())).collect()
    }
}

/// Whose numbers classes have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    /// Those of the files.
    Files,
    /// Files have none.
    Ours,
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
        Self { path, labelled: Arc::new(LabelledImage { id, text_id: None, name, size, objects }) }
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

/// Whether an image, or the picture of a radiometric file, has this size.
pub(super) fn has_size(path: &Path, size: ImageSize) -> Result<bool> {
    let picture = DecodeOptions { radiometric: RadiometricMode::Picture, ..Default::default() };
    Ok(header_size(path)? == size || image_size(path, &picture)? == size)
}

/// The first of these folders below `root` that exists; else the last of them.
pub(super) fn first_folder(root: &Path, places: &[PathBuf]) -> PathBuf {
    let found = places.iter().find(|place| root.join(place).is_dir());
    root.join(found.or(places.last()).map_or(Path::new(""), PathBuf::as_path))
}

/// The numbers of annotations that are added to those of a file.
pub(super) struct FreeIds(i64);

impl FreeIds {
    /// Numbers above `largest`.
    pub(super) fn above(largest: i64) -> Self {
        Self(largest.max(0))
    }

    pub(super) fn next(&mut self) -> i64 {
        self.0 = self.0.saturating_add(1);
        self.0
    }
}

/// Regions whose content is not labelled: a crowd of each of `classes` classes, so that detections
/// of any class in it are neither right nor wrong.
pub(super) fn ignored_region(region: &Object, classes: usize, ids: &mut FreeIds) -> Vec<Object> {
    let classes = 0..u32::try_from(classes).unwrap_or(u32::MAX);
    classes.map(|class| Object { class, crowd: true, id: ids.next(), ..region.clone() }).collect()
}
