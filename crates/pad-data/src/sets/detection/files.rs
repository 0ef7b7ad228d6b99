//! Images and boxes in files.

use std::{path::Path, sync::Arc};

use super::{
    BoxClasses, DetectionImage, LabelledImage, LeftOut, Object,
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
    /// Checks what only all boxes together show.
    fn new(path: &Path, opened: Opened) -> Result<Self> {
        let Opened { entries, classes, left_out } = opened;
        let objects = || entries.iter().flat_map(|entry| &entry.labelled.objects);
        let all = objects().count();
        let is_tiny = |object: &Object| object.bbox[2] <= 1.0 && object.bbox[3] <= 1.0;
        if all > 0 && objects().all(is_tiny) {
            let what = format!(
                "expected boxes in the units of the format, found all {all} within the first pixel of \
                 their images (shares of the sides in place of pixels?)"
            );
            return Err(Error::Entry { path: path.into(), what });
        }
        Ok(Self { entries, classes, left_out })
    }

    /// The part `split` (`train`, `val`, ..) of a folder. `valid` and `validation` are `val`, too; of
    /// `coco` and `cvat` a part may be the name of a file.
    ///
    /// | format | files | splits |
    /// |---|---|---|
    /// | `flir` | FLIR ADAS, thermal: version 2 (`images_thermal_SPLIT/coco.json`), or version 1 (`SPLIT/thermal_annotations.json`, 8 bits) | `train`, `val` |
    /// | `llvip` | LLVIP, infrared: `infrared/SPLIT`, boxes in `Annotations` | `train`, `test` |
    /// | `hit-uav` | HIT-UAV: `annotations/SPLIT.json`, images in `SPLIT/images` or `SPLIT`, or both below `normal_json` | `train`, `val`, `test` |
    /// | `coco` | `annotations/SPLIT.json`, `annotations/instances_SPLIT.json` (also with a year), `SPLIT/_annotations.coco.json`; images in `SPLIT/images`, `images/SPLIT`, `SPLIT`, beside the file, `images`, `data` or the folder | any |
    /// | `label-studio` | JSON or JSON-MIN of Label Studio, where `coco` has its file; images as `coco` | any |
    /// | `cvat` | `annotations.xml` with subsets, `SPLIT.xml` or `SPLIT/annotations.xml`; images in `images/SPLIT`, `SPLIT`, `images` or the folder; frames of a video as `frame_000000.png` | any |
    /// | `voc` | `Annotations/SPLIT`, `SPLIT/Annotations` or `Annotations` (also `annotations`, `xmls`), or XML files beside the images; images in `SPLIT/images`, `images/SPLIT`, `SPLIT/JPEGImages`, `JPEGImages/SPLIT` or `SPLIT`, or those of `ImageSets/Main/SPLIT.txt` | any |
    /// | `yolo` | `labels/SPLIT/NAME.txt`, images in `images/SPLIT`; `SPLIT/labels` and `SPLIT/images`; the places in `data.yaml`; a list `SPLIT.txt`; both together in `SPLIT`. Names in `classes.txt`, `obj.names` or `data.yaml` | any |
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
        let root = root.as_ref();
        Self::new(root, formats::open(root, split, format, options)?)
    }

    /// A COCO file, and the folder that its file names begin at. Images are in the order of their
    /// numbers.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::ClassNotFound`]; [`Error::Entry`] naming the file: another kind of
    /// file or a truncated one, two images or categories of one number, a category without its class, a
    /// set without images. [`Error::TooManyFaults`] for more than the
    /// [tolerated](DetectionOptions::max_faulty) boxes without their image or category, boxes that
    /// [`BadBoxes`](super::BadBoxes) refuses, images without their file, and, with masks, objects
    /// without a valid one; where none is tolerated, the first of them as [`Error::Entry`].
    pub fn coco(
        annotations: impl AsRef<Path>,
        images: impl AsRef<Path>,
        options: &DetectionOptions,
    ) -> Result<Self> {
        let folders = [images.as_ref().to_path_buf()];
        let annotations = annotations.as_ref();
        Self::new(annotations, coco::read(annotations, &folders, options, None)?)
    }

    /// The images of a folder, each with a Pascal VOC file `NAME.xml` in another. Columns and rows
    /// count from 1 there and the last ones belong to the box, so `xmin = 1`, `xmax = 10` is a
    /// width of 10 from 0 to 10. Numbers are those of the natural order of names, from 1.
    ///
    /// Images without a file are left out and counted.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::ClassNotFound`]; [`Error::NoImages`]; [`Error::Entry`] if no image
    /// has a file, and for a name without its class; [`Error::TooManyFaults`] for files and objects
    /// that cannot be used, or the first of them where none is tolerated.
    pub fn voc(
        images: impl AsRef<Path>,
        annotations: impl AsRef<Path>,
        options: &DetectionOptions,
    ) -> Result<Self> {
        let images = of_folder(images.as_ref())?;
        let annotations = annotations.as_ref();
        Self::new(annotations, voc::read(images, annotations, options, None)?)
    }

    /// The images of a folder, each with a text file `NAME.txt` in another: a line
    /// `class x y width height` for each box, classes from 0, the middle and the sides as shares of
    /// the image's, or an outline `class x1 y1 x2 y2 ..`, of which the box around it is taken. An
    /// image without a file has no box. Names, unless given, are the lines of `classes.txt` beside
    /// the text files.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::ClassNotFound`]; [`Error::NoImages`]; [`Error::Entry`] if no image
    /// has a file; [`Error::TooManyFaults`] for malformed lines, numbers without their class, and boxes
    /// that [`BadBoxes`](super::BadBoxes) refuses, or the first [`Error::Line`] where none is
    /// tolerated.
    pub fn yolo(
        images: impl AsRef<Path>,
        labels: impl AsRef<Path>,
        options: &DetectionOptions,
    ) -> Result<Self> {
        let labels = labels.as_ref();
        let (places, names) = (yolo::Places::in_folder(labels), yolo::Names::in_folder(labels));
        Self::new(labels, yolo::read(of_folder(images.as_ref())?, &places, &names, options)?)
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
