//! Images and boxes in files.

use std::{path::Path, sync::Arc};

use super::{
    BoxClasses, DetectionImage, LabelledImage, LeftOut,
    entry::{DetectionOptions, Entry, Opened},
    formats::{self, DetectionFormat, coco, voc, yolo},
    listed::of_folder,
};
use crate::{
    Error, Result,
    dataset::Dataset,
    image::{DecodeOptions, decode_collapsed},
    sets::no_image,
};

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

    /// The part `split` (`train`, `val`, ..) of a folder.
    ///
    /// | format | files | splits |
    /// |---|---|---|
    /// | `flir` | FLIR ADAS, thermal: version 2 (`images_thermal_SPLIT/coco.json`), or version 1 (`SPLIT/thermal_annotations.json`, 8 bits) | `train`, `val` |
    /// | `llvip` | LLVIP, infrared: `infrared/SPLIT`, boxes in `Annotations` | `train`, `test` |
    /// | `coco` | `annotations/SPLIT.json`, images in `SPLIT/images`, `images/SPLIT`, `SPLIT` or `images` | any |
    /// | `voc` | `Annotations`, images in `SPLIT/images`, `images/SPLIT` or `SPLIT` | any |
    /// | `yolo` | `labels/SPLIT/NAME.txt`, images in `images/SPLIT`; `classes.txt` in `labels/SPLIT`, `labels` or the folder | any |
    /// | `hit-uav` | HIT-UAV: `annotations/SPLIT.json`, images in `SPLIT/images` or `SPLIT`; never recognised by content | `train`, `val`, `test` |
    ///
    /// Classes, unless others are requested, are those of the set; of `flir`, `hit-uav` and `llvip`
    /// [`BoxClasses::flir`], [`BoxClasses::hit_uav`], [`BoxClasses::llvip`].
    ///
    /// # Errors
    /// [`Error::Entry`] for a folder of no known format; else as [`DetectionSet::coco`],
    /// [`DetectionSet::voc`] and [`DetectionSet::yolo`].
    pub fn open(
        root: impl AsRef<Path>,
        split: &str,
        format: DetectionFormat,
        options: &DetectionOptions,
    ) -> Result<Self> {
        formats::open(root.as_ref(), split, format, options).map(Self::new)
    }

    /// A COCO file, and the folder that its file names begin at. Images are in the order of their
    /// numbers.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::ClassNotFound`]; [`Error::Entry`] naming the file and the entry:
    /// another kind of file or a truncated one, a duplicate number, a box without its image or
    /// category, a category without its class, a box that [`BadBoxes`](super::BadBoxes) refuses, an
    /// image without its file, a set without images; with masks, an object without a valid one.
    pub fn coco(
        annotations: impl AsRef<Path>,
        images: impl AsRef<Path>,
        options: &DetectionOptions,
    ) -> Result<Self> {
        let folders = [images.as_ref().to_path_buf()];
        coco::read(annotations.as_ref(), &folders, options, None).map(Self::new)
    }

    /// The images of a folder, each with a Pascal VOC file `NAME.xml` in another. Columns and rows
    /// count from 1 there and the last ones belong to the box, so `xmin = 1`, `xmax = 10` is a
    /// width of 10 from 0 to 10. Numbers are those of the natural order of names, from 1.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::ClassNotFound`]; [`Error::Entry`] naming the file and the object: no
    /// such XML, a name without its class, a box that [`BadBoxes`](super::BadBoxes) refuses, a file
    /// of another image's size; [`Error::NoImages`].
    pub fn voc(
        images: impl AsRef<Path>,
        annotations: impl AsRef<Path>,
        options: &DetectionOptions,
    ) -> Result<Self> {
        let images = of_folder(images.as_ref())?;
        voc::read(images, annotations.as_ref(), options, None).map(Self::new)
    }

    /// The images of a folder, each with a text file `NAME.txt` in another: a line
    /// `class x y width height` for each box, classes from 0, the middle and the sides as shares of
    /// the image's. An image without a file has no box. Names, unless given, are the lines of
    /// `classes.txt` beside the text files.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::ClassNotFound`]; [`Error::Line`] for a malformed line, a number
    /// without its class, and a box that [`BadBoxes`](super::BadBoxes) refuses;
    /// [`Error::NoImages`].
    pub fn yolo(
        images: impl AsRef<Path>,
        labels: impl AsRef<Path>,
        options: &DetectionOptions,
    ) -> Result<Self> {
        let labels = labels.as_ref();
        let (images, names) = (of_folder(images.as_ref())?, yolo::Names::in_folder(labels));
        yolo::read(images, &[labels.into()], &names, options).map(Self::new)
    }

    /// The file of image `index`; `None` beyond the end.
    pub fn image_path(&self, index: usize) -> Option<&Path> {
        self.entries.get(index).map(|entry| entry.path.as_path())
    }

    /// What was left out when the set was opened.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    fn entry(&self, index: usize) -> Result<&Entry> {
        self.entries.get(index).ok_or_else(|| no_image(index, self.entries.len()))
    }
}

impl Dataset for DetectionSet {
    type Sample = DetectionImage;

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn name(&self, index: usize) -> String {
        self.entries.get(index).map_or("(no such image)", |entry| &entry.labelled.name).to_string()
    }

    fn classes(&self) -> &BoxClasses {
        &self.classes
    }

    fn info(&self, index: usize) -> Result<Arc<LabelledImage>> {
        Ok(Arc::clone(&self.entry(index)?.labelled))
    }

    /// Of a radiometric file whose labels are those of its picture, the labels are scaled to the
    /// thermal image; [`info`](Dataset::info) has them as they are stored.
    ///
    /// # Errors
    /// [`Error::Label`] for an image of another size than its annotations say.
    fn get(&self, index: usize, options: &DecodeOptions) -> Result<DetectionImage> {
        let Entry { path, labelled } = self.entry(index)?;
        let image = decode_collapsed(path, options)?;
        let (expected, found) = (labelled.size, image.size());
        if expected != found && image.companion_size() == Some(expected) {
            // Labels of a radiometric file's picture on its thermal image, or the other way round.
            let labels = Arc::new(labelled.scaled(found)?);
            return Ok(DetectionImage { image, labels });
        }
        if expected != found {
            let what = format!("expected an image of {expected} by its annotations, found {found}");
            return Err(Error::Label { path: path.clone(), what });
        }
        Ok(DetectionImage { image, labels: Arc::clone(labelled) })
    }
}
