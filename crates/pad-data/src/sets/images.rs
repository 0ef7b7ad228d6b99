//! A folder of images as a [`Dataset`].

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use pad_ops::{
    ImageSize,
    rng::{Key, Purpose},
};
use serde::{Deserialize, Serialize};

use super::{ImageFolder, ImageSource};
use crate::{
    Error, Result,
    dataset::{Dataset, SampleShape},
    image::{DecodeOptions, Image, expect_channels},
    resize::{Filter, Planes, Resampling, with_planes},
    roi::{self, Roi},
    transform::{CenterCrop, Flip, HorizontalFlip, Normalize, RandomResizedCrop, RoiCrop},
    window::Window,
};

/// Which part of an image becomes the sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Crop {
    /// A random part.
    Random(RandomResizedCrop),
    /// A part around a region of interest, a random part for images without regions.
    Roi(RoiCrop),
    /// The middle, always the same.
    Center(CenterCrop),
}

/// From a file to a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageDatasetConfig {
    /// Height and width of the samples, pixels. Default 224x224.
    pub size: ImageSize,
    /// 1 (RGB images become their luma) or 3 (grey images are repeated). Default 3.
    pub channels: usize,
    /// Part of the image. Default [`RoiCrop::default`].
    pub crop: Crop,
    /// Mirroring. Default with probability 0.5.
    pub flip: HorizontalFlip,
    /// Filter of the resize. Default bicubic.
    pub filter: Filter,
    /// What becomes of levels. Default [`Normalize::msip`].
    pub normalize: Normalize,
    /// What becomes of counts and kelvin. Default the 1st to the 99th percentile of each image.
    pub window: Window,
    /// Limits of decoding.
    pub decode: DecodeOptions,
    /// Memory for decoded images, bytes. Images are kept until it is full, and not replaced: an epoch visits each
    /// image once, so that the oldest is the one that is needed soonest. Default 0.
    pub cache_bytes: u64,
}

impl Default for ImageDatasetConfig {
    fn default() -> Self {
        Self {
            size: ImageSize::square(224),
            channels: 3,
            crop: Crop::Roi(RoiCrop::default()),
            flip: HorizontalFlip::default(),
            filter: Filter::default(),
            normalize: Normalize::default(),
            window: Window::default(),
            decode: DecodeOptions::default(),
            cache_bytes: 0,
        }
    }
}

impl ImageDatasetConfig {
    /// Nothing random: the centre, not mirrored. The short side is resized to `size * 256 / 224`.
    pub fn evaluation(size: ImageSize) -> Self {
        let short_side = size.height.max(size.width) * 256 / 224;
        Self {
            size,
            crop: Crop::Center(CenterCrop { short_side }),
            flip: HorizontalFlip::NEVER,
            ..Self::default()
        }
    }

    /// Asks that every part is valid.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first that is not.
    pub fn validate(&self) -> Result<()> {
        expect_channels(self.channels)?;
        if self.size.height == 0 || self.size.width == 0 {
            return Err(Error::Setting {
                name: "size",
                expected: "at least 1x1".into(),
                found: self.size.to_string(),
            });
        }
        match &self.crop {
            Crop::Random(crop) => crop.validate()?,
            Crop::Roi(crop) => crop.validate()?,
            Crop::Center(crop) => crop.draw(self.size, self.size).map(|_| ())?,
        }
        self.flip.validate()?;
        self.normalize.validate()?;
        self.window.validate()
    }
}

/// The images of an [`ImageFolder`], cropped, resized, mirrored and normalised.
///
/// Grey images (also those stored as RGB with equal channels) stay one channel through crop and resize, and are
/// repeated when the sample is written. Crops draw from `key.purpose(Crop)`, mirroring from `key.purpose(Flip)`.
pub struct ImageDataset {
    source: Arc<dyn ImageSource>,
    config: ImageDatasetConfig,
    rois: Option<Arc<[Vec<Roi>]>>,
    cache: Cache,
    /// Normalised values of all 8-bit levels, by channel.
    tables: Vec<[f32; 256]>,
}

impl ImageDataset {
    /// The images of a folder, without regions of interest.
    ///
    /// # Errors
    /// [`Error::Setting`] as [`ImageDatasetConfig::validate`].
    pub fn new(folder: ImageFolder, config: ImageDatasetConfig) -> Result<Self> {
        Self::from_source(Arc::new(folder), config)
    }

    /// The images of any source, without regions of interest.
    ///
    /// # Errors
    /// [`Error::Setting`] as [`ImageDatasetConfig::validate`].
    pub fn from_source(source: Arc<dyn ImageSource>, config: ImageDatasetConfig) -> Result<Self> {
        config.validate()?;
        let tables = (0..config.channels).map(|channel| config.normalize.table(channel)).collect();
        let cache = Cache::new(source.len(), config.cache_bytes);
        Ok(Self { source, config, rois: None, cache, tables })
    }

    /// The same set with regions of interest: one list for each image, in the source's order. They are used by
    /// [`Crop::Roi`] alone.
    ///
    /// A region that leaves its image (which was replaced after its regions were found) makes that image unreadable,
    /// with an error that names the source's file and line, where there is one.
    ///
    /// # Errors
    /// [`Error::Setting`] if the number of lists is not that of images.
    pub fn with_rois(self, rois: impl Into<Arc<[Vec<Roi>]>>) -> Result<Self> {
        let rois = rois.into();
        if rois.len() != self.source.len() {
            return Err(Error::Setting {
                name: "rois",
                expected: format!("one list for each of {} images", self.source.len()),
                found: format!("{} lists", rois.len()),
            });
        }
        Ok(Self { rois: Some(rois), ..self })
    }

    /// Where the images come from.
    pub fn source(&self) -> &Arc<dyn ImageSource> {
        &self.source
    }

    /// The configuration.
    pub fn config(&self) -> &ImageDatasetConfig {
        &self.config
    }

    /// Image `index` before the crop: decoded, in levels of 0 to 255, with one channel where that loses nothing (or
    /// one is asked for).
    ///
    /// # Errors
    /// As [`decode`](crate::image::decode); [`Error::Setting`] if there is no such image.
    pub fn image(&self, index: usize) -> Result<Arc<Image>> {
        if let Some(image) = self.cache.get(index) {
            return Ok(image);
        }
        let image = self.source.load(index, &self.config.decode)?;
        let image = match self.config.channels {
            1 => image.to_gray(),
            _ => image.collapse_gray(),
        };
        let image = Arc::new(self.config.window.apply(image)?);
        self.cache.keep(index, &image);
        Ok(image)
    }

    /// What `key` decides for image `index` of size `size`.
    fn draw(&self, index: usize, size: ImageSize, key: Key) -> Result<(Resampling, Flip)> {
        let mut draws = key.purpose(Purpose::Crop).stream();
        let resampling = match &self.config.crop {
            Crop::Random(crop) => Resampling::new(crop.draw(size, &mut draws), self.config.size),
            Crop::Roi(crop) => {
                let rois = self.rois.as_ref().and_then(|rois| rois.get(index));
                let rois = rois.map(Vec::as_slice).unwrap_or_default();
                self.check_rois(index, size, rois)?;
                Resampling::new(crop.draw(size, rois, &mut draws), self.config.size)
            }
            Crop::Center(crop) => crop.draw(size, self.config.size)?,
        };
        Ok((resampling, self.config.flip.draw(&mut key.purpose(Purpose::Flip).stream())))
    }

    /// Asks that the regions of image `index` are inside it. In the reference the crop passes over those that are
    /// not, and nobody learns that an image and its regions do not belong together.
    fn check_rois(&self, index: usize, size: ImageSize, rois: &[Roi]) -> Result<()> {
        let Some(outside) = rois.iter().find(|roi| !roi.is_inside(size)) else { return Ok(()) };
        if let Some(file) = self.source.roi_file(index) {
            // Read again for the line's number.
            roi::read(&file, size)?;
        }
        Err(Error::Setting {
            name: "rois",
            expected: format!("rectangles inside {} of {size} pixels", self.source.name(index)),
            found: outside.to_string(),
        })
    }

    /// Normalises planes of `channels` channels (1 or as many as the sample has) into `out`.
    fn fill(&self, planes: Planes<'_>, channels: usize, flip: Flip, out: &mut [f32]) {
        let area = self.config.size.area();
        let normalize = &self.config.normalize;
        for channel in 0..self.config.channels {
            let (done, out) = out.split_at_mut(channel * area);
            if channels == 1 && channel > 0 && normalize.same(0, channel) {
                out[..area].copy_from_slice(&done[..area]);
                continue;
            }
            let plane = if channels == 1 { 0 } else { channel };
            let rows = out[..area].chunks_exact_mut(self.config.size.width);
            match planes {
                Planes::U8(planes) => {
                    let table = &self.tables[channel];
                    let plane = &planes[plane * area..][..area];
                    write_rows(rows, plane, flip, |level| table[usize::from(level)]);
                }
                Planes::F32(planes) => {
                    let plane = &planes[plane * area..][..area];
                    write_rows(rows, plane, flip, |level| normalize.apply(level, channel));
                }
            }
        }
    }
}

fn write_rows<'a, T: Copy>(
    rows: impl Iterator<Item = &'a mut [f32]>,
    plane: &[T],
    flip: Flip,
    value: impl Fn(T) -> f32,
) {
    let mut plane = plane;
    for row in rows {
        let (levels, rest) = plane.split_at(row.len());
        plane = rest;
        match flip {
            Flip::None => {
                row.iter_mut().zip(levels).for_each(|(out, &level)| *out = value(level));
            }
            Flip::Horizontal => {
                row.iter_mut()
                    .zip(levels.iter().rev())
                    .for_each(|(out, &level)| *out = value(level));
            }
        }
    }
}

impl Dataset for ImageDataset {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn name(&self, index: usize) -> String {
        self.source.name(index)
    }

    fn shape(&self) -> SampleShape {
        SampleShape { channels: self.config.channels, size: self.config.size }
    }

    fn write(&self, index: usize, key: Key, out: &mut [f32]) -> Result<()> {
        self.shape().check_room(out)?;
        let image = self.image(index)?;
        let (resampling, flip) = self.draw(index, image.size(), key)?;
        with_planes(&image, &resampling, self.config.filter, |planes| {
            self.fill(planes, image.channels(), flip, out);
        })
    }
}

/// Decoded images, up to a number of bytes.
struct Cache {
    slots: Vec<OnceLock<Arc<Image>>>,
    used: AtomicU64,
    budget: u64,
}

impl Cache {
    fn new(images: usize, budget: u64) -> Self {
        let slots = if budget == 0 { 0 } else { images };
        Self {
            slots: (0..slots).map(|_| OnceLock::new()).collect(),
            used: AtomicU64::new(0),
            budget,
        }
    }

    fn get(&self, index: usize) -> Option<Arc<Image>> {
        self.slots.get(index)?.get().cloned()
    }

    fn keep(&self, index: usize, image: &Arc<Image>) {
        let Some(slot) = self.slots.get(index) else { return };
        let bytes = image.pixels().bytes();
        let fits =
            self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= self.budget;
        // The second of two threads that decoded the same image gives its share back.
        if !fits || slot.set(Arc::clone(image)).is_err() {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}
