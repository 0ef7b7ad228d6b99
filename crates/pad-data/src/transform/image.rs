//! From an image to a sample for pre-training and for evaluation.

use candle_core::Tensor;
use pad_ops::{
    ImageSize,
    rng::{Key, Purpose},
};
use serde::{Deserialize, Serialize};

use super::{
    CenterCrop, Flip, HorizontalFlip, Normalize, RandomResizedCrop, RoiCrop, SampleShape, Transform,
};
use crate::{
    Error, Result,
    image::{Image, Pixels, expect_channels, expect_gray_channels},
    rect::Rect,
    resize::{Filter, Planes, Resampling, with_planes},
    roi::Roi,
    sets::{RoiImage, classification::ClassifiedImage},
    window::Window,
};

/// Which part of an image becomes the sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Crop {
    /// A random part.
    Random(RandomResizedCrop),
    /// A part around a region of interest, a random part for images without regions.
    Roi(RoiCrop),
    /// The middle, always the same.
    Center(CenterCrop),
    /// The whole image, resized to the size of the sample: the aspect changes.
    Whole,
}

/// From an image to a sample: window, crop, resize, mirror, normalise.
///
/// Grey images (also those stored as RGB with equal channels) stay one channel through crop and
/// resize, and are repeated when the sample is written. Crops draw from `key.purpose(Crop)`,
/// mirroring from `key.purpose(Flip)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImagePipeline {
    /// Height and width of the samples, pixels. Default 224x224.
    pub size: ImageSize,
    /// 1 (RGB images become their luma), 3 (grey images are repeated) or, from 4 on, the number of
    /// bands of the images. Default 3.
    pub channels: usize,
    /// Part of the image. Default [`RoiCrop::default`].
    pub crop: Crop,
    /// Mirroring. Default with probability 0.5.
    pub flip: HorizontalFlip,
    /// Filter of the resize. Default bicubic.
    pub filter: Filter,
    /// Mean and standard deviation of levels. Default [`Normalize::msip`].
    pub normalize: Normalize,
    /// Conversion of counts and kelvin to levels. Default the 1st to the 99th percentile of each
    /// image.
    pub window: Window,
}

impl Default for ImagePipeline {
    fn default() -> Self {
        Self {
            size: ImageSize::square(224),
            channels: 3,
            crop: Crop::Roi(RoiCrop::default()),
            flip: HorizontalFlip::default(),
            filter: Filter::default(),
            normalize: Normalize::default(),
            window: Window::default(),
        }
    }
}

impl ImagePipeline {
    /// A pipeline without random steps: the centre, not mirrored. The short side is resized to
    /// `size * 256 / 224`.
    pub fn evaluation(size: ImageSize) -> Self {
        let short_side = size.height.max(size.width) * 256 / 224;
        Self {
            size,
            crop: Crop::Center(CenterCrop { short_side }),
            flip: HorizontalFlip::NEVER,
            ..Self::default()
        }
    }

    /// Checks that every part is valid.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first invalid one.
    pub fn validate(&self) -> Result<()> {
        match self.channels {
            4.. => expect_channels(self.channels)?,
            channels => expect_gray_channels(channels)?,
        }
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
            Crop::Whole => {}
        }
        self.flip.validate()?;
        self.normalize.validate()?;
        self.window.validate()
    }

    /// An image before the crop: in levels of 0 to 255, with one channel where that loses nothing,
    /// or where samples have one.
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid window, and an image of other bands than the samples.
    pub fn levels(&self, image: Image) -> Result<Image> {
        let image = match (self.channels, image.channels()) {
            (1, 3) => image.to_gray(),
            _ => image.collapse_gray(),
        };
        let bands = image.channels();
        if bands != 1 && bands != self.channels {
            return Err(Error::Setting {
                name: "image",
                expected: format!("1 or {} channels, as the samples have", self.channels),
                found: format!("of {bands} channels"),
            });
        }
        self.window.apply(image)
    }

    fn shape(&self) -> SampleShape {
        SampleShape { channels: self.channels, size: self.size }
    }

    /// Decides on crop and mirroring of an image of size `size`.
    fn draw(&self, size: ImageSize, rois: &[Roi], key: Key) -> Result<(Resampling, Flip)> {
        let mut draws = key.purpose(Purpose::Crop).stream();
        let resampling = match &self.crop {
            Crop::Random(crop) => Resampling::new(crop.draw(size, &mut draws), self.size),
            Crop::Roi(crop) => Resampling::new(crop.draw(size, rois, &mut draws), self.size),
            Crop::Center(crop) => crop.draw(size, self.size)?,
            Crop::Whole => Resampling::new(Rect::whole(size), self.size),
        };
        Ok((resampling, self.flip.draw(&mut key.purpose(Purpose::Flip).stream())))
    }

    /// Writes the sample of an image in levels.
    fn write_image(&self, image: &Image, rois: &[Roi], key: Key, out: &mut [f32]) -> Result<()> {
        self.validate()?;
        self.shape().check_len(out)?;
        let (resampling, flip) = self.draw(image.size(), rois, key)?;
        with_planes(image, &resampling, self.filter, |planes| {
            self.fill(planes, image.channels(), flip, out);
        })
    }

    /// Writes the levels of an image of 8 bits; `false` for others.
    fn write_image_levels(
        &self,
        image: &Image,
        rois: &[Roi],
        key: Key,
        out: &mut [u8],
    ) -> Result<bool> {
        if !matches!(image.pixels(), Pixels::U8(_)) {
            return Ok(false);
        }
        self.validate()?;
        self.shape().check_len(out)?;
        let (resampling, flip) = self.draw(image.size(), rois, key)?;
        let (area, width) = (self.size.area(), self.size.width);
        with_planes(image, &resampling, self.filter, |planes| {
            let Planes::U8(planes) = planes else { return false };
            for (channel, out) in out.chunks_exact_mut(area).enumerate() {
                let plane = if image.channels() == 1 { 0 } else { channel };
                let plane = &planes[plane * area..][..area];
                write_rows(out.chunks_exact_mut(width), plane, flip, |level| level);
            }
            true
        })
    }

    fn tables(&self) -> Vec<f32> {
        (0..self.channels).flat_map(|channel| self.normalize.table(channel)).collect()
    }

    /// Normalises planes of `channels` channels (1, or the number of the sample's) into `out`.
    fn fill(&self, planes: Planes<'_>, channels: usize, flip: Flip, out: &mut [f32]) {
        let area = self.size.area();
        for channel in 0..self.channels {
            let (done, out) = out.split_at_mut(channel * area);
            if channels == 1 && channel > 0 && self.normalize.same(0, channel) {
                out[..area].copy_from_slice(&done[..area]);
                continue;
            }
            let plane = if channels == 1 { 0 } else { channel };
            let rows = out[..area].chunks_exact_mut(self.size.width);
            match planes {
                Planes::U8(planes) => {
                    let table = self.normalize.table(channel);
                    let plane = &planes[plane * area..][..area];
                    write_rows(rows, plane, flip, |level| table[usize::from(level)]);
                }
                Planes::F32(planes) => {
                    let plane = &planes[plane * area..][..area];
                    write_rows(rows, plane, flip, |level| self.normalize.apply(level, channel));
                }
            }
        }
    }
}

fn write_rows<'a, T: Copy, V: 'a>(
    rows: impl Iterator<Item = &'a mut [V]>,
    plane: &[T],
    flip: Flip,
    value: impl Fn(T) -> V,
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

impl Transform<Image> for ImagePipeline {
    type Label = ();
    type Labels = ();

    fn shape(&self) -> SampleShape {
        self.shape()
    }

    fn check(&self, (): &()) -> Result<()> {
        self.validate()
    }

    fn prepare(&self, image: Image) -> Result<Image> {
        self.levels(image)
    }

    fn write(&self, image: Image, key: Key, out: &mut [f32]) -> Result<()> {
        self.write_image(&image, &[], key, out)
    }

    fn level_tables(&self) -> Option<Vec<f32>> {
        Some(self.tables())
    }

    fn write_levels(&self, image: &Image, key: Key, out: &mut [u8]) -> Result<Option<()>> {
        Ok(self.write_image_levels(image, &[], key, out)?.then_some(()))
    }

    fn collate(&self, images: Tensor, _: Vec<()>) -> Result<(Tensor, ())> {
        Ok((images, ()))
    }
}

impl Transform<RoiImage> for ImagePipeline {
    type Label = ();
    type Labels = ();

    fn shape(&self) -> SampleShape {
        self.shape()
    }

    fn check(&self, (): &()) -> Result<()> {
        self.validate()
    }

    fn prepare(&self, sample: RoiImage) -> Result<RoiImage> {
        Ok(RoiImage { image: self.levels(sample.image)?, ..sample })
    }

    fn write(&self, sample: RoiImage, key: Key, out: &mut [f32]) -> Result<()> {
        self.write_image(&sample.image, &sample.rois, key, out)
    }

    fn level_tables(&self) -> Option<Vec<f32>> {
        Some(self.tables())
    }

    fn write_levels(&self, sample: &RoiImage, key: Key, out: &mut [u8]) -> Result<Option<()>> {
        let written = self.write_image_levels(&sample.image, &sample.rois, key, out)?;
        Ok(written.then_some(()))
    }

    fn collate(&self, images: Tensor, _: Vec<()>) -> Result<(Tensor, ())> {
        Ok((images, ()))
    }
}

impl Transform<ClassifiedImage> for ImagePipeline {
    type Label = usize;
    type Labels = Vec<usize>;

    fn shape(&self) -> SampleShape {
        self.shape()
    }

    fn check(&self, _: &Vec<String>) -> Result<()> {
        self.validate()
    }

    fn prepare(&self, sample: ClassifiedImage) -> Result<ClassifiedImage> {
        Ok(ClassifiedImage { image: self.levels(sample.image)?, ..sample })
    }

    fn write(&self, sample: ClassifiedImage, key: Key, out: &mut [f32]) -> Result<usize> {
        self.write_image(&sample.image, &[], key, out)?;
        Ok(sample.class)
    }

    fn level_tables(&self) -> Option<Vec<f32>> {
        Some(self.tables())
    }

    fn write_levels(
        &self,
        sample: &ClassifiedImage,
        key: Key,
        out: &mut [u8],
    ) -> Result<Option<usize>> {
        let written = self.write_image_levels(&sample.image, &[], key, out)?;
        Ok(written.then_some(sample.class))
    }

    fn collate(&self, images: Tensor, labels: Vec<usize>) -> Result<(Tensor, Vec<usize>)> {
        Ok((images, labels))
    }
}
