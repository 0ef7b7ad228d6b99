//! From an image with boxes to a sample for detection: the steps of ViTDet in detectron2.
//!
//! Order (as there): mirror, resize, crop, normalise, pad. The decision is a [`Geometry`], drawn
//! from the sample's key and applied to pixels and boxes alike, so a sample is the same on any
//! thread.

mod geometry;
mod mask;
mod rescale;
mod target;

use candle_core::{Device, Tensor};
use pad_ops::{
    ImageSize,
    rng::{Key, Purpose},
};
use serde::{Deserialize, Serialize};

use self::rescale::draw_crop;
pub use self::{
    geometry::Geometry,
    mask::ObjectMask,
    rescale::{ScaleJitter, ShortestEdge},
    target::{DetectionTargets, Target},
};
use super::{HorizontalFlip, Normalize, SampleShape, Transform};
use crate::{
    Error, Result,
    image::{Image, expect_gray_channels, expect_gray_or_rgb},
    rect::Rect,
    resize::{Filter, Planes, Resampling, with_planes},
    sets::detection::{BoxClasses, DetectionImage, Object},
    transform::Flip,
    window::Window,
};

/// From an image with boxes to a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectionPipeline {
    /// Sizes in training. Default: into 1024 x 1024, times 0.1 to 2.
    pub jitter: ScaleJitter,
    /// Size of a training sample: larger images are cropped to it, smaller ones padded. Default
    /// 1024 x 1024.
    pub crop: ImageSize,
    /// Mirroring in training. Default with probability 0.5.
    pub flip: HorizontalFlip,
    /// Boxes of training are left out if the crop shows less of their width or height, pixels.
    /// Default 1e-5, as there: boxes outside.
    pub min_side: f64,
    /// Training batches are padded to the smallest multiple of this that holds their samples, a
    /// divisor of the crop's sides. `None`: to the full size of the crop. Default `None`.
    pub pad_to: Option<usize>,
    /// Sizes in evaluation. Default: short side 1024, long side at most 1024.
    pub test: ShortestEdge,
    /// Mean and standard deviation of levels. Default [`Normalize::downstream`].
    pub normalize: Normalize,
    /// Conversion of counts and kelvin to levels.
    pub window: Window,
    /// Channels of a sample: 1, or 3 equal ones. Default 3.
    pub channels: usize,
}

impl Default for DetectionPipeline {
    fn default() -> Self {
        Self {
            jitter: ScaleJitter::default(),
            crop: ImageSize::square(1024),
            flip: HorizontalFlip::default(),
            min_side: 1e-5,
            pad_to: None,
            test: ShortestEdge::default(),
            normalize: Normalize::downstream(),
            window: Window::default(),
            channels: 3,
        }
    }
}

/// A training sample.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectionSample {
    /// Normalised values, `(channel, row, column)`, of the crop's full size; 0 where the image does
    /// not reach.
    pub pixels: Vec<f32>,
    /// Channels of `pixels`.
    pub channels: usize,
    /// Height and width of `pixels`.
    pub padded: ImageSize,
    /// Height and width of the image in it, at the upper left.
    pub size: ImageSize,
    /// Left, top, right and bottom edge of each box, pixels, inside `size`.
    pub boxes: Vec<[f32; 4]>,
    /// Class of each box.
    pub labels: Vec<u32>,
    /// Pixels of each box's object, where the set has them.
    pub masks: Vec<ObjectMask>,
}

/// A whole image at the size of evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct TestImage {
    /// Normalised values, `(channel, row, column)`.
    pub pixels: Vec<f32>,
    /// Channels of `pixels`.
    pub channels: usize,
    /// Height and width of `pixels`.
    pub size: ImageSize,
    /// Height and width of the image as it is stored, in whose pixels boxes are reported.
    pub original: ImageSize,
}

impl TestImage {
    /// A box in pixels of this image as one in pixels of the stored image, cut to it.
    pub fn to_original(&self, bbox: [f32; 4]) -> [f32; 4] {
        Geometry::whole(self.original, self.size).undo(bbox)
    }
}

impl DetectionPipeline {
    /// The pipeline for samples and evaluation of `side` pixels in place of 1024.
    pub fn square(side: usize) -> Self {
        let size = ImageSize::square(side);
        Self {
            jitter: ScaleJitter { target: size, ..Default::default() },
            crop: size,
            test: ShortestEdge { short: side, longest: side },
            ..Default::default()
        }
    }

    /// Checks that every part is valid.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first invalid one.
    pub fn validate(&self) -> Result<()> {
        let fault =
            |name, expected: String, found: String| Err(Error::Setting { name, expected, found });
        expect_gray_channels(self.channels)?;
        let fits = |side: usize| (1..=16_384).contains(&side);
        let ImageSize { height, width } = self.crop;
        if !fits(height) || !fits(width) {
            return fault("crop", "sides of 1 to 16384".into(), self.crop.to_string());
        }
        if let Some(multiple) = self.pad_to
            && (multiple == 0 || height % multiple > 0 || width % multiple > 0)
        {
            let expected = format!("a divisor of the crop's sides, {}", self.crop);
            return fault("pad_to", expected, multiple.to_string());
        }
        if !(self.min_side > 0.0 && self.min_side.is_finite()) {
            return fault("min_side", "above 0".into(), self.min_side.to_string());
        }
        self.jitter.validate()?;
        self.flip.validate()?;
        self.test.validate()?;
        self.normalize.validate()?;
        self.window.validate()
    }

    /// A grey image in levels of 0 to 255.
    fn levels(&self, image: Image) -> Result<Image> {
        expect_gray_or_rgb(&image)?;
        self.window.apply(image.to_gray())
    }

    /// Decides on size, crop and mirroring of an image of `size`.
    pub fn draw(&self, size: ImageSize, key: Key) -> Geometry {
        let flip = self.flip.draw(&mut key.purpose(Purpose::Flip).stream());
        let scaled = self.jitter.draw(size, &mut key.purpose(Purpose::Jitter).stream());
        let window = draw_crop(self.crop, scaled, &mut key.purpose(Purpose::Crop).stream());
        Geometry { from: size, flip, scaled, window }
    }

    /// The training sample that `key` decides on. Boxes of crowds are left out, and those that the
    /// crop does not show; a sample may have none.
    ///
    /// # Errors
    /// [`Error::Setting`] as [`DetectionPipeline::validate`].
    pub fn train(&self, image: Image, objects: &[Object], key: Key) -> Result<DetectionSample> {
        self.validate()?;
        let geometry = self.draw(image.size(), key);
        let mut pixels = vec![0.0; self.channels * self.crop.area()];
        self.place(self.levels(image)?, &geometry, self.crop, &mut pixels)?;
        let Target { boxes, labels, masks, .. } = geometry.target(objects, self.min_side);
        Ok(DetectionSample {
            pixels,
            channels: self.channels,
            padded: self.crop,
            size: geometry.window.size(),
            boxes,
            labels,
            masks,
        })
    }

    /// The whole image for evaluation, without random steps.
    ///
    /// # Errors
    /// [`Error::Setting`] as [`DetectionPipeline::validate`].
    pub fn test(&self, image: Image) -> Result<TestImage> {
        self.validate()?;
        let original = image.size();
        let size = self.test.fitted(original);
        let mut pixels = vec![0.0; self.channels * size.area()];
        let whole = Geometry::whole(original, size);
        self.place(self.levels(image)?, &whole, size, &mut pixels)?;
        Ok(TestImage { pixels, channels: self.channels, size, original })
    }

    /// Writes the part of an image in levels that `geometry` shows to the upper left of `out`,
    /// planes of `padded`.
    fn place(
        &self,
        levels: Image,
        geometry: &Geometry,
        padded: ImageSize,
        out: &mut [f32],
    ) -> Result<()> {
        let levels = HorizontalFlip::apply(levels, geometry.flip)?;
        let Geometry { from, scaled, window, .. } = *geometry;
        let resampling = Resampling { source: Rect::whole(from), scaled, window };
        with_planes(&levels, &resampling, Filter::Bilinear, |planes| {
            for (channel, plane) in out.chunks_exact_mut(padded.area()).enumerate() {
                let rows = plane.chunks_exact_mut(padded.width);
                match planes {
                    Planes::U8(levels) => {
                        let table = self.normalize.table(channel);
                        for (row, levels) in rows.zip(levels.chunks_exact(window.width)) {
                            let pairs = row.iter_mut().zip(levels);
                            pairs.for_each(|(out, &level)| *out = table[usize::from(level)]);
                        }
                    }
                    Planes::F32(levels) => {
                        for (row, levels) in rows.zip(levels.chunks_exact(window.width)) {
                            let pairs = row.iter_mut().zip(levels);
                            pairs.for_each(|(out, &l)| *out = self.normalize.apply(l, channel));
                        }
                    }
                }
            }
        })
    }
}

/// Images of different sizes in one tensor: `(B, C, H, W)`, f32, on the CPU, each at the upper
/// left, zeros beside and below; H and W are the smallest multiples of `multiple` that hold all.
/// The sizes are those of the images.
///
/// # Errors
/// [`Error::Setting`] without images, for images of different channels, and a multiple of 0;
/// candle's.
pub fn batch_of(images: &[TestImage], multiple: usize) -> Result<(Tensor, Vec<ImageSize>)> {
    let fault = |name, expected: &str, found: &str| Error::Setting {
        name,
        expected: expected.into(),
        found: found.into(),
    };
    let first = images.first().ok_or_else(|| fault("images", "at least one", "0"))?;
    let channels = first.channels;
    if images.iter().any(|image| image.channels != channels) {
        return Err(fault("images", "one number of channels", "several"));
    }
    if multiple == 0 {
        return Err(fault("multiple", "at least 1", "0"));
    }
    let sizes: Vec<ImageSize> = images.iter().map(|image| image.size).collect();
    let padded = padded_size(&sizes, multiple);
    let mut pixels = vec![0.0; images.len() * channels * padded.area()];
    let planes = pixels.chunks_exact_mut(padded.area());
    let sources = images.iter().flat_map(|image| {
        image.pixels.chunks_exact(image.size.area()).map(move |plane| (plane, image.size.width))
    });
    for (plane, (source, width)) in planes.zip(sources) {
        for (row, source) in plane.chunks_exact_mut(padded.width).zip(source.chunks_exact(width)) {
            row[..width].copy_from_slice(source);
        }
    }
    let shape = (images.len(), channels, padded.height, padded.width);
    Ok((Tensor::from_vec(pixels, shape, &Device::Cpu)?, sizes))
}

/// The smallest size of multiples of `multiple` (at least 1) that holds all.
fn padded_size(sizes: &[ImageSize], multiple: usize) -> ImageSize {
    let side = |side: fn(&ImageSize) -> usize| {
        let largest = sizes.iter().map(side).max().unwrap_or(1);
        largest.next_multiple_of(multiple.max(1))
    };
    ImageSize::new(side(|size| size.height), side(|size| size.width))
}

impl Geometry {
    /// The whole image of size `from`, scaled to `to`.
    pub const fn whole(from: ImageSize, to: ImageSize) -> Self {
        Self { from, flip: Flip::None, scaled: to, window: Rect::whole(to) }
    }
}

impl Transform<DetectionImage> for DetectionPipeline {
    /// Size of the image in its place, and its target.
    type Label = (ImageSize, Target);
    type Labels = DetectionTargets;

    fn shape(&self) -> SampleShape {
        SampleShape { channels: self.channels, size: self.crop }
    }

    fn check(&self, _: &BoxClasses) -> Result<()> {
        self.validate()
    }

    fn prepare(&self, sample: DetectionImage) -> Result<DetectionImage> {
        Ok(DetectionImage { image: self.levels(sample.image)?, ..sample })
    }

    fn write(&self, sample: DetectionImage, key: Key, out: &mut [f32]) -> Result<Self::Label> {
        self.validate()?;
        self.shape().check_len(out)?;
        let DetectionImage { image, labels } = sample;
        let geometry = self.draw(image.size(), key);
        if geometry.window.size() != self.crop {
            out.fill(0.0);
        }
        self.place(image, &geometry, self.crop, out)?;
        Ok((geometry.window.size(), geometry.target(&labels.objects, self.min_side)))
    }

    fn collate(
        &self,
        mut images: Tensor,
        labels: Vec<Self::Label>,
    ) -> Result<(Tensor, DetectionTargets)> {
        let (sizes, targets): (Vec<ImageSize>, Vec<Target>) = labels.into_iter().unzip();
        if let Some(multiple) = self.pad_to.filter(|_| !sizes.is_empty()) {
            let padded = padded_size(&sizes, multiple);
            images =
                images.narrow(2, 0, padded.height)?.narrow(3, 0, padded.width)?.contiguous()?;
        }
        Ok((images, DetectionTargets { sizes, targets }))
    }
}
