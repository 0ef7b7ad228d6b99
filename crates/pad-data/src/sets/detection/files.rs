//! Images and boxes in files.

use std::path::{Path, PathBuf};

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use super::{BadBoxes, BoxClasses, DetectionSource, LabelledImage, LeftOut, coco, voc, yolo};
use crate::{
    Error, Result,
    image::{DecodeOptions, Image, decode_collapsed},
    sets::no_image,
};

/// How a labelled set is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectionOptions {
    /// The classes; none for those of the set (of COCO files: all categories, in the order of their numbers; of VOC
    /// files: all names that occur, in the order of the alphabet).
    pub classes: Option<BoxClasses>,
    /// What becomes of boxes outside their image and without area.
    pub bad_boxes: BadBoxes,
    /// Whether objects come with their pixels, which only COCO files tell.
    pub masks: bool,
}

impl DetectionOptions {
    /// These options, with `classes` where none are given.
    fn or(&self, classes: impl FnOnce() -> BoxClasses) -> Self {
        let given = self.classes.clone();
        Self { classes: Some(given.unwrap_or_else(classes)), ..self.clone() }
    }

    /// Asks that no masks are wanted of a format that has none.
    fn without_masks(&self, format: &str) -> Result<()> {
        match self.masks {
            false => Ok(()),
            true => Err(Error::Setting {
                name: "masks",
                expected: "a COCO file, which alone tells the pixels of objects".into(),
                found: format!("asked of {format} files"),
            }),
        }
    }
}

/// One image: its file, and what is in it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) labelled: LabelledImage,
}

/// What a format's reader gives.
pub(super) struct Opened {
    pub(super) entries: Vec<Entry>,
    pub(super) classes: BoxClasses,
    pub(super) left_out: LeftOut,
}

/// Images and boxes in files.
#[derive(Clone, Debug)]
pub struct DetectionSet {
    entries: Vec<Entry>,
    classes: BoxClasses,
    left_out: LeftOut,
}

impl DetectionSet {
    fn new(opened: Opened) -> Self {
        let Opened { entries, classes, left_out } = opened;
        Self { entries, classes, left_out }
    }

    /// A COCO file, and the folder that its file names begin at. Images come in the order of their numbers.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Entry`] naming the file and the entry: no COCO file or a truncated one, a number that
    /// is there twice, a box of no image or no category, a category that is no class, a box that [`BadBoxes`] refuses,
    /// an image without its file, a set without images; where masks are asked for, an object without one or with one that
    /// is none.
    pub fn coco(
        annotations: impl AsRef<Path>,
        images: impl AsRef<Path>,
        options: &DetectionOptions,
    ) -> Result<Self> {
        coco::open(annotations.as_ref(), images.as_ref(), options).map(Self::new)
    }

    /// FLIR ADAS, its thermal images: version 2 (`ROOT/images_thermal_SPLIT/coco.json`) where there is such a folder,
    /// else version 1 (`ROOT/SPLIT/thermal_annotations.json`, 8 bits). Splits are `train` and `val`. Classes, unless
    /// others are asked for: [`BoxClasses::flir`].
    ///
    /// # Errors
    /// As [`DetectionSet::coco`].
    pub fn flir(root: impl AsRef<Path>, split: &str, options: &DetectionOptions) -> Result<Self> {
        let root = root.as_ref();
        let second = root.join(format!("images_thermal_{split}"));
        let options = options.or(BoxClasses::flir);
        if second.is_dir() {
            return Self::coco(second.join("coco.json"), second, &options);
        }
        let first = root.join(split);
        Self::coco(first.join("thermal_annotations.json"), first, &options)
    }

    /// HIT-UAV: `ROOT/annotations/SPLIT.json`, images in `ROOT/SPLIT/images` or `ROOT/SPLIT`. Classes, unless others
    /// are asked for: [`BoxClasses::hit_uav`].
    ///
    /// # Errors
    /// As [`DetectionSet::coco`].
    pub fn hit_uav(
        root: impl AsRef<Path>,
        split: &str,
        options: &DetectionOptions,
    ) -> Result<Self> {
        let root = root.as_ref();
        let below = root.join(split).join("images");
        let images = if below.is_dir() { below } else { root.join(split) };
        let annotations = root.join("annotations").join(format!("{split}.json"));
        Self::coco(annotations, images, &options.or(BoxClasses::hit_uav))
    }

    /// LLVIP, its infrared images: `ROOT/infrared/SPLIT`, boxes in `ROOT/Annotations`. Splits are `train` and `test`.
    ///
    /// # Errors
    /// As [`DetectionSet::voc`].
    pub fn llvip(root: impl AsRef<Path>, split: &str, options: &DetectionOptions) -> Result<Self> {
        let root = root.as_ref();
        let (images, annotations) = (root.join("infrared").join(split), root.join("Annotations"));
        Self::voc(images, annotations, &options.or(BoxClasses::llvip))
    }

    /// The images of a folder, each with a Pascal VOC file `NAME.xml` in another. Columns and rows count from 1 there
    /// and the last ones belong to the box, so `xmin = 1`, `xmax = 10` is a width of 10 from 0 to 10. Numbers are those
    /// of the natural order of names, from 1.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Entry`] naming the file and the object: no such XML, a name that is no class, a box that
    /// [`BadBoxes`] refuses, a file of another image's size; [`Error::NoImages`].
    pub fn voc(
        images: impl AsRef<Path>,
        annotations: impl AsRef<Path>,
        options: &DetectionOptions,
    ) -> Result<Self> {
        options.without_masks("VOC")?;
        voc::open(images.as_ref(), annotations.as_ref(), options).map(Self::new)
    }

    /// The images of a folder, each with a text file `NAME.txt` in another: a line `class x y width height` for each
    /// box, classes from 0, the middle and the sides as shares of the image's. An image without a file has no box.
    /// Names, unless given, are the lines of `classes.txt` beside the text files.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Line`] for a malformed line, a number that is no class, and a box that [`BadBoxes`]
    /// refuses; [`Error::NoImages`].
    pub fn yolo(
        images: impl AsRef<Path>,
        labels: impl AsRef<Path>,
        options: &DetectionOptions,
    ) -> Result<Self> {
        options.without_masks("YOLO")?;
        yolo::open(images.as_ref(), labels.as_ref(), options).map(Self::new)
    }

    /// The file of image `index`, if there is one.
    pub fn image_path(&self, index: usize) -> Option<&Path> {
        self.entries.get(index).map(|entry| entry.path.as_path())
    }

    /// What was left out when the set was opened.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// The first `count` images.
    #[must_use]
    pub fn first(mut self, count: usize) -> Self {
        self.entries.truncate(count);
        self
    }
}

impl DetectionSource for DetectionSet {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn classes(&self) -> &BoxClasses {
        &self.classes
    }

    fn labelled(&self, index: usize) -> Result<&LabelledImage> {
        let entry = self.entries.get(index).ok_or_else(|| no_image(index, self.entries.len()))?;
        Ok(&entry.labelled)
    }

    fn load(&self, index: usize, options: &DecodeOptions) -> Result<Image> {
        let entry = self.entries.get(index).ok_or_else(|| no_image(index, self.entries.len()))?;
        let image = decode_collapsed(&entry.path, options)?;
        let (expected, found) = (entry.labelled.size, image.size());
        if expected != found {
            let what = format!("expected an image of {expected} by its annotations, found {found}");
            return Err(Error::Entry { path: entry.path.clone(), what });
        }
        Ok(image)
    }
}

/// Size of an image, from its header.
pub(super) fn header_size(path: &Path) -> Result<ImageSize> {
    let io = |source| Error::Io { path: path.into(), source };
    let reader = ::image::ImageReader::open(path).map_err(io)?;
    let (width, height) = reader
        .with_guessed_format()
        .map_err(io)?
        .into_dimensions()
        .map_err(|source| Error::Decode { path: path.into(), source })?;
    Ok(ImageSize::new(height as usize, width as usize))
}
