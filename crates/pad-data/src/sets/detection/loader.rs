//! Batches of images and boxes.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use pad_ops::{ImageSize, rng::Key};

use super::DetectionSource;
use crate::{
    Result,
    ahead::ToDevice,
    dataset::{Dataset, SampleShape},
    image::DecodeOptions,
    loader::{Batches, Loader, LoaderConfig, UnreadableImage},
    transform::detection::{DetectionPipeline, ObjectMask, padded_size},
};

/// The pixels of a labelled set as a [`Dataset`], so that the one loader, with its order and its bits, serves it too.
/// Boxes do not pass through it: they follow from the same key.
struct Pictures {
    source: Arc<dyn DetectionSource>,
    pipeline: DetectionPipeline,
    decode: DecodeOptions,
}

impl Dataset for Pictures {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn name(&self, index: usize) -> String {
        name(self.source.as_ref(), index)
    }

    fn shape(&self) -> SampleShape {
        SampleShape { channels: self.pipeline.channels, size: self.pipeline.crop }
    }

    fn write(&self, index: usize, key: Key, out: &mut [f32]) -> Result<()> {
        self.shape().check_room(out)?;
        let image = self.source.load(index, &self.decode)?;
        let geometry = self.pipeline.draw(image.size(), key);
        // The place may hold what a sample before it left, one that could not be read to its end.
        out.fill(0.0);
        self.pipeline.write(image, &geometry, self.pipeline.crop, out)
    }
}

fn name(source: &dyn DetectionSource, index: usize) -> String {
    source.labelled(index).map_or("(no such image)", |image| &image.name).to_string()
}

/// Training batches of a labelled set, the same bits for any number of workers.
///
/// Images that cannot be read are left out up to the configured share, as [`Loader`] does; one of another size than its
/// annotations say ends the epoch with its error.
pub struct DetectionLoader {
    loader: Loader,
    pictures: Arc<Pictures>,
}

/// Images and boxes.
#[derive(Debug)]
pub struct BoxBatch {
    /// `(B, C, H, W)`, f32, on the CPU: each image at the upper left, zeros beside and below.
    pub images: Tensor,
    /// Height and width of each image in its place.
    pub sizes: Vec<ImageSize>,
    /// Left, top, right and bottom edges of each image's boxes, pixels, inside `sizes`; maybe none.
    pub boxes: Vec<Vec<[f32; 4]>>,
    /// Classes of the boxes.
    pub labels: Vec<Vec<u32>>,
    /// Pixels of the boxes' objects, where the set has them.
    pub masks: Vec<Vec<ObjectMask>>,
    /// Index of each sample.
    pub indices: Vec<usize>,
    /// Name of each sample.
    pub names: Vec<String>,
    /// Place of the batch in its epoch, from 0.
    pub number: usize,
}

impl ToDevice for BoxBatch {
    /// The images; boxes, labels and masks are worked on by the host.
    fn to_device(self, device: &Device) -> Result<Self> {
        Ok(Self { images: self.images.to_device(device)?, ..self })
    }
}

impl DetectionLoader {
    /// A loader of `source` through the training steps of `pipeline`.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for an impossible pipeline, and as [`Loader::new`].
    pub fn new(
        source: Arc<dyn DetectionSource>,
        pipeline: DetectionPipeline,
        config: LoaderConfig,
        decode: DecodeOptions,
    ) -> Result<Self> {
        pipeline.validate()?;
        let pictures = Arc::new(Pictures { source, pipeline, decode });
        let dataset: Arc<dyn Dataset> = pictures.clone();
        Ok(Self { loader: Loader::new(dataset, config)?, pictures })
    }

    /// The set.
    pub fn source(&self) -> &Arc<dyn DetectionSource> {
        &self.pictures.source
    }

    /// The configuration.
    pub fn config(&self) -> &LoaderConfig {
        self.loader.config()
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
    /// [`Error::Worker`](crate::Error::Worker) if a thread cannot be started.
    pub fn epoch(&self, epoch: u64, first_batch: usize) -> Result<BoxBatches> {
        let key = Key::new(self.loader.config().seed).epoch(epoch);
        let batches = self.loader.epoch(epoch, first_batch)?;
        Ok(BoxBatches { batches, pictures: Arc::clone(&self.pictures), key })
    }
}

/// The batches of one epoch, in order.
pub struct BoxBatches {
    batches: Batches,
    pictures: Arc<Pictures>,
    /// The key that the loader refines for each sample.
    key: Key,
}

impl BoxBatches {
    fn labelled(&self, batch: crate::loader::Batch) -> Result<BoxBatch> {
        let Pictures { source, pipeline, .. } = self.pictures.as_ref();
        let count = batch.indices.len();
        let (mut sizes, mut boxes) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let (mut labels, mut masks) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for &index in &batch.indices {
            let image = source.labelled(index)?;
            let geometry = pipeline.draw(image.size, self.key.sample(index as u64));
            let (corners, classes) = geometry.boxes(&image.objects, pipeline.min_side);
            sizes.push(geometry.window.size());
            boxes.push(corners);
            labels.push(classes);
            masks.push(geometry.masks(&image.objects, pipeline.min_side));
        }
        let mut images = batch.images;
        if let Some(multiple) = pipeline.pad_to {
            let padded = padded_size(&sizes, multiple);
            images =
                images.narrow(2, 0, padded.height)?.narrow(3, 0, padded.width)?.contiguous()?;
        }
        let names = batch.indices.iter().map(|&index| name(source.as_ref(), index)).collect();
        let (indices, number) = (batch.indices, batch.number);
        Ok(BoxBatch { images, sizes, boxes, labels, masks, indices, names, number })
    }
}

impl Iterator for BoxBatches {
    type Item = Result<BoxBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next()?;
        Some(batch.and_then(|batch| self.labelled(batch)))
    }
}
