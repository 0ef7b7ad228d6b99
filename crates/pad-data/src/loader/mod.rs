//! Batches from worker threads, the same bits for any number of them.
//!
//! A worker takes one batch at a time, allocates it, and the [`Transform`] writes each sample
//! straight into its place; the batch then becomes the tensor without a copy. Batches come in
//! order, whichever is finished first. Every random decision depends on (seed, epoch, index of the
//! sample) alone, and unreadable files are counted in the order of batches, so not even the place
//! of an error depends on threads.
//!
//! Every batch of an epoch comes, also one of which no image could be read: it is
//! [empty](Batch::is_empty).

mod batch;
mod cache;
mod levels;
mod pool;
mod reader;
mod unreadable;

use std::sync::{Arc, atomic::AtomicBool};

use candle_core::{Device, Tensor};
use pad_ops::rng::{Key, Purpose};
use serde::{Deserialize, Serialize};

pub use self::{batch::Batch, unreadable::UnreadableImage};
use self::{
    cache::Cache,
    levels::LevelValues,
    pool::{Plan, Pool},
    reader::{Reader, Source},
    unreadable::Unreadable,
};
use crate::{
    Error, Result,
    ahead::{OnDevice, ToDevice, to_device, to_device_by},
    dataset::Dataset,
    image::DecodeOptions,
    transform::{Transform, detection::DetectionTargets},
};

/// A batch of [`SegmentationPipeline`](crate::transform::segmentation::SegmentationPipeline):
/// labels are `(B, H, W)`, u8.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_data::loader::SegmentationBatch;
/// let images = Tensor::zeros((2, 3, 8, 8), DType::F32, &Device::Cpu)?;
/// let batch = SegmentationBatch::new(images, Tensor::zeros((2, 8, 8), DType::U8, &Device::Cpu)?);
/// assert_eq!(batch.labels.dims(), [2, 8, 8]);
/// # Ok::<(), pad_data::Error>(())
/// ```
pub type SegmentationBatch = Batch<Tensor>;

/// A batch of [`DetectionPipeline`](crate::transform::detection::DetectionPipeline).
pub type DetectionBatch = Batch<DetectionTargets>;

/// How a set is read.
///
/// ```
/// use pad_data::LoaderConfig;
/// let training = LoaderConfig { batch_size: 16, ..Default::default() };
/// let evaluation = training.clone().in_order();
/// assert_eq!((training.shuffle, training.drop_last), (true, true));
/// assert_eq!((evaluation.shuffle, evaluation.drop_last), (false, false));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderConfig {
    /// Number of samples in a batch. Default 64.
    pub batch_size: usize,
    /// Number of threads that read; with 0 the thread that takes the batches reads them. Default 2.
    pub workers: usize,
    /// Number of batches that are kept ready, beyond those that workers are reading. Default 2.
    pub prefetch: usize,
    /// Whether every epoch has an order of its own. Default true.
    pub shuffle: bool,
    /// Whether an incomplete last batch is left out. Default true.
    pub drop_last: bool,
    /// Largest tolerated share of unreadable images, 0 to 1; one is tolerated at any share above 0
    /// (see [`tolerated`](crate::dataset::tolerated)). Default 0.05.
    pub max_unreadable: f64,
    /// Seed of order and augmentation. Default 0.
    pub seed: u64,
    /// Limits of decoding.
    pub decode: DecodeOptions,
    /// Memory for decoded samples, bytes. Samples are kept until it is full, and not replaced.
    /// Default 0.
    pub cache_bytes: u64,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            batch_size: 64,
            workers: 2,
            prefetch: 2,
            shuffle: true,
            drop_last: true,
            max_unreadable: 0.05,
            seed: 0,
            decode: DecodeOptions::default(),
            cache_bytes: 0,
        }
    }
}

impl LoaderConfig {
    /// Every sample once and in order: for evaluation.
    #[must_use]
    pub fn in_order(self) -> Self {
        Self { shuffle: false, drop_last: false, ..self }
    }

    fn validate(&self, images: usize) -> Result<()> {
        let fault =
            |name, expected: String, found: String| Err(Error::Setting { name, expected, found });
        if self.batch_size == 0 {
            return fault("batch_size", "at least 1".into(), "0".into());
        }
        if images == 0 {
            return fault("dataset", "at least one image".into(), "empty".into());
        }
        if self.drop_last && self.batch_size > images {
            let expected = format!("at most {images}, the images of the set, with drop_last");
            return fault("batch_size", expected, self.batch_size.to_string());
        }
        if !(0.0..=1.0).contains(&self.max_unreadable) {
            return fault("max_unreadable", "0 to 1".into(), self.max_unreadable.to_string());
        }
        Ok(())
    }
}

/// Reads a [`Dataset`] through a [`Transform`] in batches with labels `L`, epoch by epoch.
///
/// ```
/// use candle_core::Device;
/// use pad_data::{ImageSize, Loader, LoaderConfig, draw::Canvas, sets::ImageFolder};
/// use pad_data::transform::ImagePipeline;
/// let folder = tempfile::tempdir().unwrap();
/// for index in 0..6_u8 {
///     let path = folder.path().join(format!("{index}.png"));
///     Canvas::new(ImageSize::new(48, 64), [index * 40; 3]).save_png(path)?;
/// }
/// std::fs::write(folder.path().join("6.png"), "damaged").unwrap();
/// let pipeline = ImagePipeline { size: ImageSize::square(32), ..Default::default() };
/// let config = LoaderConfig { batch_size: 3, ..Default::default() }.in_order();
/// let loader: Loader = Loader::new(ImageFolder::open(folder.path())?, pipeline, config)?;
/// assert_eq!((loader.len(), loader.batches_per_epoch()), (7, 3));
/// assert_eq!(loader.name(6), "6.png");
/// assert_eq!((loader.config().batch_size, loader.is_empty()), (3, false));
///
/// // Batch 1 and what follows it, as a resumed run takes them; the damaged image is left out.
/// let mut counts = Vec::new();
/// for batch in loader.epoch(0, 1)? {
///     counts.push(batch?.len());
/// }
/// assert_eq!(counts, [3, 0]);
/// assert_eq!(loader.unreadable()[0].name, "6.png");
/// // One of two processes; on a device.
/// assert_eq!(loader.epoch_strided(0, 1, 2)?.count(), 1);
/// let on_device = loader.epoch_on(&Device::Cpu, 0, 0, 1)?;
/// assert_eq!(on_device.count(), 3);
/// # Ok::<(), pad_data::Error>(())
/// ```
pub struct Loader<L = ()> {
    reader: Arc<dyn Reader<L>>,
    config: LoaderConfig,
    unreadable: Arc<Unreadable>,
}

impl<L: Send + 'static> Loader<L> {
    /// A loader of `dataset`. Threads are only started by [`Loader::epoch`].
    ///
    /// # Errors
    /// [`Error::Setting`] for an empty set, a transform that does not suit the set, and a
    /// configuration under which an epoch has no batch.
    pub fn new<D, T>(dataset: D, transform: T, config: LoaderConfig) -> Result<Self>
    where
        D: Dataset + 'static,
        T: Transform<D::Sample, Labels = L> + 'static,
    {
        transform.check(dataset.classes())?;
        config.validate(dataset.len())?;
        let cache = Cache::new(config.cache_bytes);
        let decode = config.decode.clone();
        let reader = Arc::new(Source { dataset, transform, decode, cache });
        Ok(Self { reader, config, unreadable: Arc::default() })
    }

    /// Number of batches in an epoch.
    pub fn batches_per_epoch(&self) -> usize {
        let (images, batch) = (self.len(), self.config.batch_size);
        if self.config.drop_last { images / batch } else { images.div_ceil(batch) }
    }

    /// Number of samples of the set.
    pub fn len(&self) -> usize {
        self.reader.len()
    }

    /// Whether the set has no samples, which [`Loader::new`] refuses.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name of a sample of the set.
    pub fn name(&self, index: usize) -> String {
        self.reader.name(index)
    }

    /// The configuration.
    pub fn config(&self) -> &LoaderConfig {
        &self.config
    }

    /// The batches of epoch `epoch`, from batch `first` on: a resumed run sees the rest of the
    /// epoch as the interrupted one would have.
    ///
    /// # Errors
    /// [`Error::Worker`] if a thread cannot be started.
    pub fn epoch(&self, epoch: u64, first: usize) -> Result<EpochBatches<L>> {
        self.epoch_strided(epoch, first, 1)
    }

    /// The batches `first`, `first + stride`, … of epoch `epoch`, the same bits as in
    /// [`Loader::epoch`]; the others are not read. For one of `stride` processes that share an
    /// epoch; each process counts unreadable images by itself. A `stride` of 0 is taken as 1.
    ///
    /// # Errors
    /// [`Error::Worker`] if a thread cannot be started.
    pub fn epoch_strided(
        &self,
        epoch: u64,
        first: usize,
        stride: usize,
    ) -> Result<EpochBatches<L>> {
        self.epoch_as(epoch, first, stride, false)
    }

    /// Batches of values, or of `levels` where they can be.
    fn epoch_as(
        &self,
        epoch: u64,
        first: usize,
        stride: usize,
        levels: bool,
    ) -> Result<EpochBatches<L>> {
        let stride = stride.max(1);
        let key = Key::new(self.config.seed).epoch(epoch);
        let mut order: Vec<usize> = (0..self.len()).collect();
        if self.config.shuffle {
            key.purpose(Purpose::Shuffle).stream().shuffle(&mut order);
        }
        let plan = Arc::new(Plan {
            reader: Arc::clone(&self.reader),
            order,
            epoch,
            key,
            batch_size: self.config.batch_size,
            levels: AtomicBool::new(levels),
            stop: AtomicBool::new(false),
        });
        let end = self.batches_per_epoch();
        let next = first.min(end);
        let numbers = (next..end).step_by(stride);
        let pool = match self.config.workers.min(numbers.len()) {
            0 => None,
            workers => Some(Pool::start(&plan, workers, self.config.prefetch, numbers)?),
        };
        Ok(EpochBatches {
            plan,
            pool,
            next,
            end,
            stride,
            max_unreadable: self.config.max_unreadable,
            unreadable: Arc::clone(&self.unreadable),
        })
    }

    /// [`Loader::epoch_strided`] on `device`; to a GPU each batch is copied while the one before it
    /// is used, to CUDA devices as bytes if all its images are of 8 bits: they become the same values
    /// there.
    ///
    /// # Errors
    /// [`Error::Worker`] if a thread cannot be started.
    pub fn epoch_on(
        &self,
        device: &Device,
        epoch: u64,
        first: usize,
        stride: usize,
    ) -> Result<OnDevice<Batch<L>>>
    where
        L: ToDevice,
    {
        let tables = if device.is_cuda() { self.reader.level_tables() } else { None };
        let Some(tables) = tables else {
            return to_device(self.epoch_strided(epoch, first, stride)?, device);
        };
        let mut values = LevelValues::new(tables);
        let batches = self.epoch_as(epoch, first, stride, true)?;
        to_device_by(batches, device, move |batch, device| values.of(batch, device))
    }

    /// The images that could not be read so far, by index, each once.
    pub fn unreadable(&self) -> Vec<UnreadableImage> {
        self.unreadable.list()
    }
}

/// The batches of one epoch, in order. Dropping it ends its threads. After an error nothing more
/// comes.
pub struct EpochBatches<L = ()> {
    plan: Arc<Plan<L>>,
    pool: Option<Pool<L>>,
    next: usize,
    end: usize,
    stride: usize,
    max_unreadable: f64,
    unreadable: Arc<Unreadable>,
}

impl<L: Send + 'static> EpochBatches<L> {
    fn read(&mut self, number: usize) -> Result<Batch<L>> {
        let read = match &mut self.pool {
            Some(pool) => pool.wait(number)?,
            None => self.plan.read(number)?,
        };
        self.unreadable.add(read.failed, self.plan.order.len(), self.max_unreadable)?;
        Ok(read.batch)
    }
}

impl<L: Send + 'static> Iterator for EpochBatches<L> {
    type Item = Result<Batch<L>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            self.pool = None;
            return None;
        }
        let number = self.next;
        self.next = self.next.saturating_add(self.stride);
        let batch = self.read(number);
        if batch.is_err() {
            self.next = self.end;
            self.pool = None;
        }
        Some(batch)
    }
}
