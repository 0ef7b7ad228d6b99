//! Which files a folder holds.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::{DetectionOptions, DetectionSet};
use crate::{Error, Result};

/// How a folder of labelled images is arranged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DetectionFormat {
    /// What the folder looks like; a COCO folder is never taken for HIT-UAV.
    #[default]
    Auto,
    /// `annotations/SPLIT.json` (COCO), images in `SPLIT/images`, `images/SPLIT`, `SPLIT` or `images`.
    Coco,
    /// FLIR ADAS, see [`DetectionSet::flir`].
    Flir,
    /// HIT-UAV, see [`DetectionSet::hit_uav`].
    HitUav,
    /// LLVIP, see [`DetectionSet::llvip`].
    Llvip,
    /// `Annotations` (Pascal VOC), images in `SPLIT/images`, `images/SPLIT` or `SPLIT`.
    Voc,
    /// `labels/SPLIT/NAME.txt` (YOLO), images in `images/SPLIT`; `labels/classes.txt` or `classes.txt`.
    Yolo,
}

impl DetectionFormat {
    /// All, by the names that they are asked for with.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("auto", Self::Auto),
        ("coco", Self::Coco),
        ("flir", Self::Flir),
        ("hit-uav", Self::HitUav),
        ("llvip", Self::Llvip),
        ("voc", Self::Voc),
        ("yolo", Self::Yolo),
    ];

    /// What `root` looks like for `split`.
    fn of(root: &Path, split: &str) -> Option<Self> {
        let at = |path: &str| root.join(path);
        let flir = at(&format!("images_thermal_{split}")).is_dir()
            || at(split).join("thermal_annotations.json").is_file();
        let annotations = at("Annotations").is_dir();
        let found = [
            (flir, Self::Flir),
            (annotations && at("infrared").is_dir(), Self::Llvip),
            (at("annotations").join(format!("{split}.json")).is_file(), Self::Coco),
            (annotations, Self::Voc),
            (at("labels").is_dir(), Self::Yolo),
        ];
        found.into_iter().find_map(|(is, format)| is.then_some(format))
    }
}

impl fmt::Display for DetectionFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, format)| format == self);
        f.write_str(name.map_or("auto", |(name, _)| name))
    }
}

impl FromStr for DetectionFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::NAMES.iter().find(|(name, _)| *name == text);
        known.map(|(_, format)| *format).ok_or_else(|| Error::Setting {
            name: "format",
            expected: Self::NAMES.map(|(name, _)| name).join(", "),
            found: text.into(),
        })
    }
}

impl DetectionSet {
    /// The part `split` (`train`, `val`, ..) of a folder.
    ///
    /// # Errors
    /// [`Error::Entry`] for a folder that looks like nothing known; as the format's own function.
    pub fn open(
        root: impl AsRef<Path>,
        split: &str,
        format: DetectionFormat,
        options: &DetectionOptions,
    ) -> Result<Self> {
        let root = root.as_ref();
        let unknown = || Error::Entry {
            path: root.into(),
            what: format!(
                "expected annotations/{split}.json (COCO), images_thermal_{split}/coco.json or \
                 {split}/thermal_annotations.json (FLIR), infrared and Annotations (LLVIP), Annotations (VOC) or \
                 labels (YOLO), found none"
            ),
        };
        let format = match format {
            DetectionFormat::Auto => DetectionFormat::of(root, split).ok_or_else(unknown)?,
            other => other,
        };
        let images = |places: &[PathBuf]| -> PathBuf {
            let found = places.iter().find(|place| root.join(place).is_dir());
            root.join(found.or(places.last()).map_or(Path::new(split), PathBuf::as_path))
        };
        let split_of = |first: &str, second: &str| Path::new(first).join(second);
        match format {
            DetectionFormat::Flir => Self::flir(root, split, options),
            DetectionFormat::HitUav => Self::hit_uav(root, split, options),
            DetectionFormat::Llvip => Self::llvip(root, split, options),
            DetectionFormat::Coco | DetectionFormat::Auto => {
                let images = images(&[
                    split_of(split, "images"),
                    split_of("images", split),
                    split.into(),
                    "images".into(),
                ]);
                Self::coco(root.join("annotations").join(format!("{split}.json")), images, options)
            }
            DetectionFormat::Voc => {
                let images =
                    images(&[split_of(split, "images"), split_of("images", split), split.into()]);
                Self::voc(images, root.join("Annotations"), options)
            }
            DetectionFormat::Yolo => {
                let labels = root.join("labels");
                let mut options = options.clone();
                // Names may stand beside the folders or among the text files of either level.
                let names = [labels.join(split), labels.clone(), root.into()]
                    .map(|at| at.join("classes.txt"));
                if options.classes.is_none() {
                    let path = names.iter().find(|path| path.is_file()).unwrap_or(&names[0]);
                    options.classes = Some(super::yolo::names(path)?);
                }
                Self::yolo(root.join("images").join(split), labels.join(split), &options)
            }
        }
    }
}
