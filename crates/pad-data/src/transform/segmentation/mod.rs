//! From an image with a class map to a sample for semantic segmentation: the steps of
//! mmsegmentation 0.x.
//!
//! Order (as in its configurations): resize, crop, mirror, distort, normalise, pad. Every decision
//! is drawn from the sample's key, so a sample is the same on any thread.

mod crop;
mod distortion;
mod rescale;

use candle_core::{Device, Tensor};
use pad_ops::{
    ImageSize,
    rng::{Key, Purpose},
};
use serde::{Deserialize, Serialize};

pub use self::{
    crop::LimitedCrop,
    distortion::{Distortion, PhotometricDistortion},
    rescale::{Rescale, resize_labels, resize_levels},
};
use super::{Flip, HorizontalFlip, Normalize, SampleShape, Transform};
use crate::{
    Error, Result,
    image::{Image, Pixels, expect_gray_channels, expect_gray_or_rgb},
    rect::Rect,
    sets::segmentation::{ClassMap, Classes, SegmentationImage},
    window::Window,
};

/// From an image with a class map to a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentationPipeline {
    /// Resize. Default: into 2048 x 512, times 0.5 to 2.
    pub rescale: Rescale,
    /// Crop of training. Default 512 x 512, one class at most 0.75 of it.
    pub crop: LimitedCrop,
    /// Mirroring in training. Default with probability 0.5.
    pub flip: HorizontalFlip,
    /// Brightness and contrast in training.
    pub distortion: PhotometricDistortion,
    /// Mean and standard deviation of levels. Default [`Normalize::downstream`].
    pub normalize: Normalize,
    /// Conversion of counts and kelvin to levels.
    pub window: Window,
    /// Channels of a sample: 1, or 3 equal ones. Default 3.
    pub channels: usize,
    /// Label of padded pixels. Default 255.
    pub ignore: u8,
}

impl Default for SegmentationPipeline {
    fn default() -> Self {
        Self {
            rescale: Rescale::default(),
            crop: LimitedCrop::default(),
            flip: HorizontalFlip::default(),
            distortion: PhotometricDistortion::default(),
            normalize: Normalize::downstream(),
            window: Window::default(),
            channels: 3,
            ignore: 255,
        }
    }
}

/// An image and its labels, ready for a network.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentationSample {
    /// Normalised values, `(channel, row, column)`.
    pub pixels: Vec<f32>,
    /// Classes, `(row, column)`.
    pub labels: Vec<u8>,
    /// Channels of `pixels`.
    pub channels: usize,
    /// Height and width of both.
    pub size: ImageSize,
}

impl SegmentationPipeline {
    /// Checks that every part is valid.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first invalid one.
    pub fn validate(&self) -> Result<()> {
        expect_gray_channels(self.channels)?;
        self.rescale.validate()?;
        self.crop.validate()?;
        self.flip.validate()?;
        self.distortion.validate()?;
        self.normalize.validate()?;
        self.window.validate()
    }

    /// A grey image in levels of 0 to 255.
    fn levels(&self, image: Image) -> Result<Image> {
        expect_gray_or_rgb(&image)?;
        self.window.apply(image.to_gray())
    }

    /// The training sample that `key` decides on: of the crop's size, whatever the image's.
    ///
    /// # Errors
    /// [`Error::Setting`] as [`SegmentationPipeline::validate`], and for labels of another size.
    pub fn train(&self, image: Image, labels: &ClassMap, key: Key) -> Result<SegmentationSample> {
        let SampleShape { channels, size } = self.shape();
        let mut pixels = vec![0.0; channels * size.area()];
        let sample = self.prepare(SegmentationImage { image, labels: labels.clone() })?;
        let labels = self.write(sample, key, &mut pixels)?;
        Ok(SegmentationSample { pixels, labels, channels, size })
    }

    /// Writes a normalised crop, padded to the crop's full size on the right and below: 0 for the
    /// image (after normalising), `ignore` for the labels, which are returned.
    fn place(
        &self,
        levels: &[f32],
        labels: &[u8],
        scaled: ImageSize,
        (rect, flip): (Rect, Flip),
        pixels: &mut [f32],
    ) -> Vec<u8> {
        let size = self.crop.size;
        if rect.size() != size {
            pixels.fill(0.0);
        }
        let mut classes = vec![self.ignore; size.area()];
        for row in 0..rect.height {
            let out = &mut classes[row * size.width..][..rect.width];
            out.copy_from_slice(
                &labels[(rect.top + row) * scaled.width + rect.left..][..rect.width],
            );
            if flip == Flip::Horizontal {
                out.reverse();
            }
            for channel in 0..self.channels {
                let out = &mut pixels[channel * size.area() + row * size.width..][..rect.width];
                let levels = &levels[row * rect.width..][..rect.width];
                for (out, &level) in out.iter_mut().zip(levels) {
                    *out = self.normalize.apply(level, channel);
                }
                if flip == Flip::Horizontal {
                    out.reverse();
                }
            }
        }
        classes
    }

    /// The whole image for evaluation, resized to the base scale (its own size without one),
    /// without random steps. Labels keep the image's own size, to which predictions are resized.
    ///
    /// Returns `(channel, row, column)` values and their height and width.
    ///
    /// # Errors
    /// [`Error::Setting`] as [`SegmentationPipeline::validate`].
    pub fn test(&self, image: Image) -> Result<(Vec<f32>, ImageSize)> {
        self.validate()?;
        let size = image.size();
        let scaled = self.rescale.fitted(size, 1.0);
        let (levels, whole) = floats(self.levels(image)?)?;
        let levels = resize_levels(&levels, size, scaled, Rect::whole(scaled), whole);
        let channel = |channel| levels.iter().map(move |&l| self.normalize.apply(l, channel));
        Ok(((0..self.channels).flat_map(channel).collect(), scaled))
    }
}

/// Levels of a grey image as floats, row-major, and whether they are whole numbers.
fn floats(image: Image) -> Result<(Vec<f32>, bool)> {
    if let Pixels::U8(levels) = image.pixels() {
        return Ok((levels.iter().copied().map(f32::from).collect(), true));
    }
    match image.into_pixels() {
        Pixels::F32(levels) => Ok((levels, false)),
        _ => Err(Error::Setting {
            name: "pixels",
            expected: "levels after the window".into(),
            found: "16-bit counts".into(),
        }),
    }
}

impl Transform<SegmentationImage> for SegmentationPipeline {
    /// Classes, `(row, column)`.
    type Label = Vec<u8>;
    /// `(B, H, W)`, u8: classes, or the ignored label.
    type Labels = Tensor;

    fn shape(&self) -> SampleShape {
        SampleShape { channels: self.channels, size: self.crop.size }
    }

    /// # Errors
    /// [`Error::Setting`] also for a padding label that the set does not ignore.
    fn check(&self, classes: &Classes) -> Result<()> {
        self.validate()?;
        if self.ignore == classes.ignore {
            return Ok(());
        }
        Err(Error::Setting {
            name: "ignore",
            expected: format!("{}, the label that the set ignores", classes.ignore),
            found: self.ignore.to_string(),
        })
    }

    fn prepare(&self, sample: SegmentationImage) -> Result<SegmentationImage> {
        Ok(SegmentationImage { image: self.levels(sample.image)?, ..sample })
    }

    /// The labels are resized first, because the crop depends on them; of the image only the crop
    /// is computed.
    fn write(&self, sample: SegmentationImage, key: Key, out: &mut [f32]) -> Result<Vec<u8>> {
        self.validate()?;
        self.shape().check_len(out)?;
        let SegmentationImage { image, labels } = sample;
        let size = image.size();
        if labels.size() != size {
            return Err(Error::Setting {
                name: "labels",
                expected: format!("the image's size, {size}"),
                found: labels.size().to_string(),
            });
        }
        let mut draws = key.purpose(Purpose::Crop).stream();
        let scaled = self.rescale.draw(size, &mut draws);
        let labels = resize_labels(labels.classes(), size, scaled);
        let rect = self.crop.draw(&labels, scaled, self.ignore, &mut draws);
        let flip = self.flip.draw(&mut key.purpose(Purpose::Flip).stream());
        let distortion = self.distortion.draw(&mut key.purpose(Purpose::Jitter).stream());
        let (levels, whole) = floats(image)?;
        let mut levels = resize_levels(&levels, size, scaled, rect, whole);
        distortion.apply(&mut levels, whole);
        Ok(self.place(&levels, &labels, scaled, (rect, flip), out))
    }

    fn collate(&self, images: Tensor, labels: Vec<Vec<u8>>) -> Result<(Tensor, Tensor)> {
        let ImageSize { height, width } = self.crop.size;
        let shape = (labels.len(), height, width);
        Ok((images, Tensor::from_vec(labels.concat(), shape, &Device::Cpu)?))
    }
}
