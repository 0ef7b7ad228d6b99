//! What a loader needs of a set of images.

use candle_core::{Device, Tensor};
use pad_ops::{ImageSize, rng::Key};

use crate::{Error, Result};

/// Axes of one sample, `(channels, height, width)`. The same for every sample of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleShape {
    /// Channels.
    pub channels: usize,
    /// Height and width, pixels.
    pub size: ImageSize,
}

impl SampleShape {
    /// Numbers of one sample.
    pub const fn len(&self) -> usize {
        self.channels * self.size.area()
    }

    /// Asks that `out` has room for one sample.
    ///
    /// # Errors
    /// [`Error::Setting`] for another number of numbers.
    pub fn check_room(&self, out: &[f32]) -> Result<()> {
        if out.len() == self.len() {
            return Ok(());
        }
        let (expected, found) = (format!("{} numbers", self.len()), out.len().to_string());
        Err(Error::Setting { name: "out", expected, found })
    }

    /// Whether a sample holds no number.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A set of images, ready for a network.
///
/// What a sample is depends on its index and the key it is asked with, never on what was asked before: loaders call
/// from several threads, in any order.
pub trait Dataset: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A name for messages: the file. Any string for an index beyond the end.
    fn name(&self, index: usize) -> String;

    /// Axes of every sample.
    fn shape(&self) -> SampleShape;

    /// Writes sample `index` to `out`, which holds `shape().len()` numbers in `(channel, row, column)` order. Random
    /// decisions are drawn from `key` (of this seed, epoch and sample), refined by their purpose.
    ///
    /// # Errors
    /// Whatever is wrong with the sample's file (the loader leaves it out), or with `index` and `out`. What `out`
    /// holds then is unspecified.
    fn write(&self, index: usize, key: Key, out: &mut [f32]) -> Result<()>;

    /// [`Dataset::write`] into memory of its own.
    ///
    /// # Errors
    /// As [`Dataset::write`].
    fn get(&self, index: usize, key: Key) -> Result<Sample> {
        let shape = self.shape();
        let mut pixels = vec![0.0; shape.len()];
        self.write(index, key, &mut pixels)?;
        Ok(Sample { pixels, shape })
    }
}

/// A set that is seen several times in an epoch, with other random decisions each time: for few large images, from
/// which many different crops can be cut.
pub struct Repeated<D> {
    dataset: D,
    times: usize,
}

impl<D: Dataset> Repeated<D> {
    /// `dataset`, `times` times over (0 counts as 1).
    pub fn new(dataset: D, times: usize) -> Self {
        Self { dataset, times: times.max(1) }
    }
}

impl<D: Dataset> Dataset for Repeated<D> {
    fn len(&self) -> usize {
        self.dataset.len() * self.times
    }

    fn name(&self, index: usize) -> String {
        self.dataset.name(index % self.dataset.len().max(1))
    }

    fn shape(&self) -> SampleShape {
        self.dataset.shape()
    }

    fn write(&self, index: usize, key: Key, out: &mut [f32]) -> Result<()> {
        // `key` is of this index, so every repetition draws for itself.
        self.dataset.write(index % self.dataset.len().max(1), key, out)
    }
}

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Normalised values, `(channel, row, column)`.
    pub pixels: Vec<f32>,
    /// Axes of `pixels`.
    pub shape: SampleShape,
}

impl Sample {
    /// The sample as a batch of one: `(1, C, H, W)`, f32, on the CPU.
    ///
    /// # Errors
    /// candle's, if `pixels` was changed to another length.
    pub fn into_tensor(self) -> Result<Tensor> {
        let SampleShape { channels, size } = self.shape;
        let shape = (1, channels, size.height, size.width);
        Ok(Tensor::from_vec(self.pixels, shape, &Device::Cpu)?)
    }
}
