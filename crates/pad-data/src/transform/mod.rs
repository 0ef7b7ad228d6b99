//! From decoded samples to the pixels and labels of a batch.
//!
//! Each augmentation is a `draw`, which only decides, and an `apply`, which is a pure function of
//! the decision: tests can replay decisions that another framework made. A pipeline puts them
//! together and is a [`Transform`], which a [`Loader`](crate::loader::Loader) takes:
//!
//! | pipeline | of | labels of a batch |
//! |---|---|---|
//! | [`ImagePipeline`] | images, images with regions of interest, images of classes | `()`, or the classes |
//! | [`SegmentationPipeline`](segmentation::SegmentationPipeline) | images with class maps | a tensor `(B, H, W)` |
//! | [`DetectionPipeline`](detection::DetectionPipeline) | images with boxes | boxes, classes, masks of each image |

mod crop;
pub mod detection;
mod draws;
mod flip;
mod image;
mod normalize;
mod roi_crop;
pub mod segmentation;

use candle_core::{Device, Tensor};
use pad_ops::{ImageSize, rng::Key};

pub use self::{
    crop::{CenterCrop, RandomResizedCrop},
    draws::Draws,
    flip::{Flip, HorizontalFlip},
    image::{Crop, ImagePipeline},
    normalize::Normalize,
    roi_crop::RoiCrop,
};
use crate::{Error, Result, dataset::Sample};

/// Axes of one sample, `(channels, height, width)`: the same for all samples of a transform.
///
/// ```
/// use pad_data::{ImageSize, transform::SampleShape};
/// let shape = SampleShape { channels: 3, size: ImageSize::new(4, 5) };
/// assert_eq!((shape.len(), shape.is_empty()), (60, false));
/// assert!(shape.check_len(&[0.0; 59]).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleShape {
    /// Channels.
    pub channels: usize,
    /// Height and width, pixels.
    pub size: ImageSize,
}

impl SampleShape {
    /// Number of values in a sample.
    pub const fn len(&self) -> usize {
        self.channels * self.size.area()
    }

    /// Whether a sample has no values.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks the length of the memory that a sample is written to.
    ///
    /// # Errors
    /// [`Error::Setting`] for any length but [`SampleShape::len`].
    pub fn check_len<T>(&self, out: &[T]) -> Result<()> {
        if out.len() == self.len() {
            return Ok(());
        }
        let (expected, found) = (format!("{} values", self.len()), out.len().to_string());
        Err(Error::Setting { name: "out", expected, found })
    }
}

/// Writes samples into their places of a batch.
///
/// What is written depends on the sample and the key alone: loaders call from several threads, in
/// any order.
///
/// ```
/// use pad_data::{ImageSize, Key, Transform, image::{Image, Pixels}, transform::ImagePipeline};
/// let pipeline = ImagePipeline { size: ImageSize::square(32), ..Default::default() };
/// let image = Image::new(ImageSize::new(48, 64), 1, Pixels::U8(vec![0; 48 * 64]))?;
/// let (pixels, ()) = Transform::<Image>::apply(&pipeline, image, Key::new(0))?;
/// assert_eq!(pixels.dims(), [1, 3, 32, 32]);
/// # Ok::<(), pad_data::Error>(())
/// ```
pub trait Transform<S: Sample>: Send + Sync {
    /// What a sample has beside its pixels.
    type Label: Send;

    /// The labels of a batch.
    type Labels: Send + 'static;

    /// Axes of every sample.
    fn shape(&self) -> SampleShape;

    /// Checks the settings, also against the classes of a set. Called once for every loader.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first invalid setting.
    fn check(&self, classes: &S::Classes) -> Result<()> {
        let _ = classes;
        Ok(())
    }

    /// The steps before anything random, such as a conversion to grey levels. A loader may keep the
    /// result in memory.
    ///
    /// # Errors
    /// [`Error::Setting`] for invalid settings.
    fn prepare(&self, sample: S) -> Result<S> {
        Ok(sample)
    }

    /// Writes the pixels of a prepared sample to `out`, which holds `shape().len()` values in
    /// `(channel, row, column)` order and may hold a part of another sample. Random decisions are
    /// drawn from `key` (of this seed, epoch and sample), refined by their purpose.
    ///
    /// # Errors
    /// [`Error::Setting`] for invalid settings and another length of `out`; faults of the sample.
    /// The content of `out` is unspecified then.
    fn write(&self, sample: S, key: Key, out: &mut [f32]) -> Result<Self::Label>;

    /// Returns the value that [`Transform::write`] gives each of 256 levels, `C` tables of 256 in a
    /// row, if samples of 8 bits can be written as levels: batches of such travel to a GPU as bytes
    /// and become values there. Default: `None`.
    fn level_tables(&self) -> Option<Vec<f32>> {
        None
    }

    /// Writes a sample as levels, in the order of [`Transform::write`]: looked up in the tables they
    /// are the values that it writes, bit for bit. Returns `None` for a sample that has no 8-bit
    /// levels (the default).
    ///
    /// # Errors
    /// As [`Transform::write`].
    fn write_levels(&self, sample: &S, key: Key, out: &mut [u8]) -> Result<Option<Self::Label>> {
        let _ = (sample, key, out);
        Ok(None)
    }

    /// Puts the labels of a batch together. `images` is `(B, C, H, W)`, f32 or levels (u8), with `B`
    /// of 0 if no sample could be read; a transform may cut it, for example to the size of its largest image.
    ///
    /// # Errors
    /// candle's.
    fn collate(&self, images: Tensor, labels: Vec<Self::Label>) -> Result<(Tensor, Self::Labels)>;

    /// Prepares and writes a single sample: `(1, C, H, W)`, f32, on the CPU, and its label.
    ///
    /// # Errors
    /// As [`Transform::prepare`] and [`Transform::write`].
    fn apply(&self, sample: S, key: Key) -> Result<(Tensor, Self::Label)> {
        let shape = self.shape();
        let mut pixels = vec![0.0; shape.len()];
        let label = self.write(self.prepare(sample)?, key, &mut pixels)?;
        let dims = (1, shape.channels, shape.size.height, shape.size.width);
        Ok((Tensor::from_vec(pixels, dims, &Device::Cpu)?, label))
    }
}
