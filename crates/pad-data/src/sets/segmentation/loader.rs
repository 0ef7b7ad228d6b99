//! Batches of images and labels.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use pad_ops::rng::Key;

use super::SegmentationSource;
use crate::{
    Error, Result,
    ahead::ToDevice,
    dataset::{Dataset, SampleShape},
    image::DecodeOptions,
    loader::{Batches, Loader, LoaderConfig, UnreadableImage},
    transform::segmentation::SegmentationPipeline,
};

/// A labelled set as a [`Dataset`] whose last channel holds the labels: classes of 0 to 255 are exact in f32, and so
/// the one loader, with its order and its bits, serves labelled sets too.
struct Labelled {
    source: Arc<dyn SegmentationSource>,
    pipeline: SegmentationPipeline,
    decode: DecodeOptions,
}

impl Dataset for Labelled {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn name(&self, index: usize) -> String {
        self.source.name(index)
    }

    fn shape(&self) -> SampleShape {
        SampleShape { channels: self.pipeline.channels + 1, size: self.pipeline.crop.size }
    }

    fn write(&self, index: usize, key: Key, out: &mut [f32]) -> Result<()> {
        self.shape().check_room(out)?;
        let (image, labels) = self.source.load(index, &self.decode)?;
        let sample = self.pipeline.train(image, &labels, key)?;
        let (pixels, classes) = out.split_at_mut(sample.pixels.len());
        pixels.copy_from_slice(&sample.pixels);
        classes.iter_mut().zip(&sample.labels).for_each(|(out, &label)| *out = f32::from(label));
        Ok(())
    }
}

/// Training batches of a labelled set, the same bits for any number of workers.
///
/// Images that cannot be read are left out up to the configured share, as [`Loader`] does; labels that contradict
/// the set (another size, a number that is no class) end the epoch with their error.
pub struct SegmentationLoader {
    loader: Loader,
    source: Arc<dyn SegmentationSource>,
}

/// Images and labels in tensors.
#[derive(Debug)]
pub struct SegmentationBatch {
    /// `(B, C, H, W)`, f32, on the CPU.
    pub images: Tensor,
    /// `(B, H, W)`, u8, on the CPU: classes, or the ignored label.
    pub labels: Tensor,
    /// Index of each sample.
    pub indices: Vec<usize>,
    /// Name of each sample.
    pub names: Vec<String>,
    /// Place of the batch in its epoch, from 0.
    pub number: usize,
}

impl ToDevice for SegmentationBatch {
    fn to_device(self, device: &Device) -> Result<Self> {
        let (images, labels) = (self.images.to_device(device)?, self.labels.to_device(device)?);
        Ok(Self { images, labels, ..self })
    }
}

impl SegmentationLoader {
    /// A loader of `source` through the training steps of `pipeline`.
    ///
    /// # Errors
    /// [`Error::Setting`] for an impossible pipeline (also one that pads with another label than the set ignores),
    /// and as [`Loader::new`].
    pub fn new(
        source: Arc<dyn SegmentationSource>,
        pipeline: SegmentationPipeline,
        config: LoaderConfig,
        decode: DecodeOptions,
    ) -> Result<Self> {
        pipeline.validate()?;
        if pipeline.ignore != source.classes().ignore {
            return Err(Error::Setting {
                name: "ignore",
                expected: format!("{}, the label that the set ignores", source.classes().ignore),
                found: pipeline.ignore.to_string(),
            });
        }
        let labelled = Labelled { source: Arc::clone(&source), pipeline, decode };
        Ok(Self { loader: Loader::new(Arc::new(labelled), config)?, source })
    }

    /// Batches of an epoch.
    pub fn batches_per_epoch(&self) -> usize {
        self.loader.batches_per_epoch()
    }

    /// The images that could not be read so far.
    pub fn unreadable(&self) -> Vec<UnreadableImage> {
        self.loader.unreadable()
    }

    /// The batches of epoch `epoch` from batch `first_batch` on.
    ///
    /// # Errors
    /// [`Error::Worker`] if a thread cannot be started.
    pub fn epoch(&self, epoch: u64, first_batch: usize) -> Result<SegmentationBatches> {
        let batches = self.loader.epoch(epoch, first_batch)?;
        Ok(SegmentationBatches { batches, source: Arc::clone(&self.source) })
    }
}

/// The batches of one epoch, in order.
pub struct SegmentationBatches {
    batches: Batches,
    source: Arc<dyn SegmentationSource>,
}

impl Iterator for SegmentationBatches {
    type Item = Result<SegmentationBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.batches.next()?.and_then(|batch| {
            let channels = batch.images.dim(1)? - 1;
            let labels = batch.images.narrow(1, channels, 1)?.squeeze(1)?.to_dtype(DType::U8)?;
            Ok(SegmentationBatch {
                images: batch.images.narrow(1, 0, channels)?.contiguous()?,
                labels,
                names: batch.indices.iter().map(|&index| self.source.name(index)).collect(),
                indices: batch.indices,
                number: batch.number,
            })
        }))
    }
}
