//! Labelled images in folders.

use std::path::Path;

use super::{
    Classes, SegmentationImage,
    entry::{Entry, Opened, SegmentationOptions},
    formats::{self, SegmentationFormat},
    mask::{fourth_channel, read_mask},
};
use crate::{
    Result,
    dataset::Dataset,
    image::{DecodeOptions, decode_collapsed},
    sets::no_image,
};

/// Labelled images in files.
#[derive(Clone, Debug)]
pub struct SegmentationSet(Opened);

impl SegmentationSet {
    /// The part `split` (`train`, `val`, ..) of a folder: the images that a list names, one a line,
    /// with or without an extension.
    ///
    /// | format | files |
    /// |---|---|
    /// | `folder` | `SPLIT.txt`, `classes.toml` (see [`Classes`]), `images/NAME.*`, `masks/NAME.png` |
    /// | `soda` | SODA: `ImageSets/Segmentation/SPLIT.txt`, `JPEGImages`, `SegmentationClass` (the layout of Pascal VOC) |
    /// | `mfnet` | MFNet: `SPLIT.txt`, `labels`, and the thermal images of `thermal`; without that folder the fourth channel of the pictures in `images` |
    ///
    /// # Errors
    /// [`Error::Entry`](crate::Error::Entry) for a folder of no known format, a malformed
    /// `classes.toml` and an empty list; [`Error::Line`](crate::Error::Line) for a name without an
    /// image or mask, or named twice; [`Error::Io`](crate::Error::Io).
    pub fn open(
        root: impl AsRef<Path>,
        split: &str,
        format: SegmentationFormat,
        options: &SegmentationOptions,
    ) -> Result<Self> {
        formats::open(root.as_ref(), split, format, options).map(Self)
    }

    /// The file of image `index`; `None` beyond the end.
    pub fn image_path(&self, index: usize) -> Option<&Path> {
        self.0.entries.get(index).map(|entry| entry.image.as_path())
    }

    fn entry(&self, index: usize) -> Result<&Entry> {
        self.0.entries.get(index).ok_or_else(|| no_image(index, self.0.entries.len()))
    }
}

impl Dataset for SegmentationSet {
    type Sample = SegmentationImage;

    fn len(&self) -> usize {
        self.0.entries.len()
    }

    fn name(&self, index: usize) -> String {
        self.0.entries.get(index).map_or("(no such image)", |entry| &entry.name).to_string()
    }

    fn classes(&self) -> &Classes {
        &self.0.classes
    }

    fn info(&self, index: usize) -> Result<()> {
        self.entry(index).map(|_| ())
    }

    fn get(&self, index: usize, options: &DecodeOptions) -> Result<SegmentationImage> {
        let entry = self.entry(index)?;
        let image = match self.0.fourth_channel {
            true => fourth_channel(&entry.image, options)?,
            false => decode_collapsed(&entry.image, options)?,
        };
        let labels = read_mask(&entry.mask, image.size(), &self.0.classes, options)?;
        Ok(SegmentationImage { image, labels })
    }
}
