//! Labelled images in folders.

use std::{collections::BTreeMap, path::Path};

use pad_ops::ImageSize;
use rayon::prelude::*;

use super::{
    ClassMap, Classes, LabelSurvey, SegmentationImage,
    entry::{Entry, Opened, SegmentationOptions},
    formats::{self, SegmentationFormat},
    mask::{Held, fourth_channel, held, labels},
};
use crate::{
    Error, Result,
    dataset::Dataset,
    image::{DecodeOptions, RadiometricMode, decode_collapsed, image_size},
    sets::no_image,
};

/// Labelled images in files.
#[derive(Clone, Debug)]
pub struct SegmentationSet {
    opened: Opened,
    /// The only values that masks may hold, if they are given.
    values: Option<Vec<u8>>,
}

impl SegmentationSet {
    /// The part `split` (`train`, `val`, ..) of a folder: the images that a list names, one a line,
    /// with or without an extension. `valid` and `validation` are `val`, too.
    ///
    /// | format | files |
    /// |---|---|
    /// | `folder` | `classes.toml` (see [`Classes`]), `SPLIT.txt`, `images/NAME.*`, `masks/NAME.png`; without the list `images/SPLIT/NAME.*`, `masks/SPLIT/NAME.png` |
    /// | `soda` | SODA: `ImageSets/Segmentation/SPLIT.txt`, `JPEGImages`, `SegmentationClass` (the layout of Pascal VOC) |
    /// | `mfnet` | MFNet: `SPLIT.txt`, `labels`, and the thermal images of `thermal`; without that folder the fourth channel of the pictures in `images` |
    ///
    /// # Errors
    /// [`Error::Entry`] for a folder of no known format, a malformed `classes.toml` and an empty
    /// list; [`Error::TooManyFaults`] for names without an image or mask, or named twice, beyond the
    /// tolerated share (the first [`Error::Line`] if none is tolerated); [`Error::Setting`] for an
    /// invalid option; [`Error::Io`].
    pub fn open(
        root: impl AsRef<Path>,
        split: &str,
        format: SegmentationFormat,
        options: &SegmentationOptions,
    ) -> Result<Self> {
        if !(0.0..=1.0).contains(&options.max_faulty) {
            let found = options.max_faulty.to_string();
            return Err(Error::Setting { name: "max_faulty", expected: "0 to 1".into(), found });
        }
        let opened = formats::open(root.as_ref(), split, format, options)?;
        Ok(Self { opened, values: options.mask_values.clone() })
    }

    /// Counts the pixels of the masks of the first `count` images, on all cores: about 3 ms of one
    /// core for 640x512 pixels. Masks that cannot be used are listed.
    ///
    /// # Errors
    /// [`Error::Io`] of a machine that is out of file descriptors or memory.
    pub fn survey(&self, count: usize, options: &DecodeOptions) -> Result<LabelSurvey> {
        let entries = &self.opened.entries[..count.min(self.opened.entries.len())];
        let (classes, values) = (&self.opened.classes, self.values.as_deref());
        let of_one = |entry: &Entry| -> Result<LabelSurvey> {
            let mut one = LabelSurvey { masks: 1, ..LabelSurvey::default() };
            let counted = held(&entry.mask, options, classes, values).and_then(|(size, held)| {
                check_size(entry, size, options)?;
                let mut numbered = BTreeMap::new();
                if let Held::Numbers(numbers) = &held {
                    let mut counts = [0_u64; 256];
                    numbers.iter().for_each(|&number| counts[usize::from(number)] += 1);
                    let pairs = (0..=255).zip(counts);
                    numbered = pairs.filter(|(_, count)| *count > 0).collect();
                }
                Ok((labels(&entry.mask, size, held, classes, values)?, numbered))
            });
            match counted {
                Ok((labels, numbered)) => {
                    let mut counts = [0_u64; 256];
                    labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
                    one.pixels = counts[..classes.len()].to_vec();
                    one.ignored = counts[usize::from(classes.ignore)];
                    one.values = numbered;
                }
                Err(error) if error.is_of_one_file() => one.faults.push(error.to_string()),
                Err(error) => return Err(error),
            }
            Ok(one)
        };
        let all: Vec<Result<LabelSurvey>> = entries.par_iter().map(of_one).collect();
        let mut sum = LabelSurvey { pixels: vec![0; classes.len()], ..LabelSurvey::default() };
        for one in all {
            sum.add(one?);
        }
        Ok(sum)
    }

    /// The file of image `index`; `None` beyond the end.
    pub fn image_path(&self, index: usize) -> Option<&Path> {
        self.opened.entries.get(index).map(|entry| entry.image.as_path())
    }

    fn entry(&self, index: usize) -> Result<&Entry> {
        self.opened.entries.get(index).ok_or_else(|| no_image(index, self.opened.entries.len()))
    }
}

impl Dataset for SegmentationSet {
    type Sample = SegmentationImage;

    fn len(&self) -> usize {
        self.opened.entries.len()
    }

    fn name(&self, index: usize) -> String {
        self.opened.entries.get(index).map_or("(no such image)", |entry| &entry.name).to_string()
    }

    fn classes(&self) -> &Classes {
        &self.opened.classes
    }

    fn info(&self, index: usize) -> Result<()> {
        self.entry(index).map(|_| ())
    }

    fn get(&self, index: usize, options: &DecodeOptions) -> Result<SegmentationImage> {
        let entry = self.entry(index)?;
        let image = match self.opened.fourth_channel {
            true => fourth_channel(&entry.image, options)?,
            false => decode_collapsed(&entry.image, options)?,
        };
        let (classes, values) = (&self.opened.classes, self.values.as_deref());
        let (size, held) = held(&entry.mask, options, classes, values)?;
        let expected = image.size();
        // Masks of a radiometric file may be those of its picture.
        if size != expected && image.companion_size() != Some(size) {
            let what =
                format!("expected a mask of {expected}, the size of its image, found {size}");
            return Err(Error::Label { path: entry.mask.clone(), what });
        }
        let labels = labels(&entry.mask, size, held, classes, values)?;
        let labels = if size == expected { labels } else { nearest(&labels, size, expected) };
        Ok(SegmentationImage { image, labels: ClassMap::new(expected, labels)? })
    }
}

/// Checks that an image, or the picture of a radiometric file, has the size of its mask. An image
/// whose size cannot be read is found when it is.
fn check_size(entry: &Entry, mask: ImageSize, options: &DecodeOptions) -> Result<()> {
    let picture = DecodeOptions { radiometric: RadiometricMode::Picture, ..options.clone() };
    let Ok(size) = image_size(&entry.image, options) else { return Ok(()) };
    if size == mask || image_size(&entry.image, &picture).is_ok_and(|size| size == mask) {
        return Ok(());
    }
    let what = format!("expected a mask of {size}, the size of its image, found {mask}");
    Err(Error::Label { path: entry.mask.clone(), what })
}

/// Labels of size `from` in an image of size `to`: each pixel has that of the nearest place.
fn nearest(labels: &[u8], from: ImageSize, to: ImageSize) -> Vec<u8> {
    let at = |place: usize, from: usize, to: usize| (2 * place + 1) * from / (2 * to);
    let row = |row: usize| at(row, from.height, to.height) * from.width;
    let pixel = |(y, x): (usize, usize)| labels[row(y) + at(x, from.width, to.width)];
    (0..to.height).flat_map(|y| (0..to.width).map(move |x| (y, x))).map(pixel).collect()
}
