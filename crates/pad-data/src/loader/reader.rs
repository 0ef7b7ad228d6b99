//! From a set and a transform to whole batches.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering},
};

use candle_core::{Device, Tensor, WithDType};
use pad_ops::rng::Key;

use super::{batch::Batch, cache::Cache, unreadable::UnreadableImage};
use crate::{
    Error, Result,
    dataset::Dataset,
    image::{DecodeOptions, panic_text},
    transform::Transform,
};

/// A batch, and the samples that are missing in it.
pub(super) struct Read<L> {
    pub(super) batch: Batch<L>,
    pub(super) failed: Vec<UnreadableImage>,
}

/// Place of a batch in a run.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) epoch: u64,
    pub(super) number: usize,
}

/// Reads batches of the labels `L` from any set.
pub(super) trait Reader<L>: Send + Sync {
    /// Number of samples of the set.
    fn len(&self) -> usize;

    /// Name of a sample.
    fn name(&self, index: usize) -> String;

    /// Reads a batch: the samples `indices`, whose keys refine `key`. Once `stop` is set the batch
    /// is not used any more, and may be short.
    fn read(&self, place: Place, indices: &[usize], key: Key, stop: &AtomicBool)
    -> Result<Read<L>>;

    /// The same with images of levels (u8); `None` if not all samples have them.
    fn read_levels(
        &self,
        place: Place,
        indices: &[usize],
        key: Key,
        stop: &AtomicBool,
    ) -> Result<Option<Read<L>>>;

    /// What each level becomes, `C` tables of 256; `None` if there are no levels.
    fn level_tables(&self) -> Option<Vec<f32>>;
}

/// A set and its transform.
pub(super) struct Source<D: Dataset, T> {
    pub(super) dataset: D,
    pub(super) transform: T,
    pub(super) decode: DecodeOptions,
    pub(super) cache: Cache<D::Sample>,
}

impl<D: Dataset, T: Transform<D::Sample>> Source<D, T> {
    /// The sample before its random transformations.
    fn prepared(&self, index: usize) -> Result<D::Sample> {
        let origin = self.dataset.origin(index);
        if let Some(sample) = self.cache.get(origin) {
            return Ok(sample);
        }
        let sample = self.transform.prepare(self.dataset.get(index, &self.decode)?)?;
        self.cache.keep(origin, &sample);
        Ok(sample)
    }

    /// Calls `write` for a sample; a panic is an error.
    fn caught<R>(&self, index: usize, write: impl FnOnce() -> Result<R>) -> Result<R> {
        catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|panic| {
            let what = format!(
                "reading image {index} ({}) panicked: {}",
                self.dataset.name(index),
                panic_text(panic.as_ref())
            );
            Err(Error::Worker { what })
        })
    }

    /// A batch whose samples `write` writes; `None` as soon as it returns `None`.
    fn batch<P: WithDType + Default>(
        &self,
        Place { epoch, number }: Place,
        indices: &[usize],
        stop: &AtomicBool,
        write: impl Fn(usize, &mut [P]) -> Result<Option<T::Label>>,
    ) -> Result<Option<Read<T::Labels>>> {
        let shape = self.transform.shape();
        let mut pixels = vec![P::default(); indices.len() * shape.len()];
        let (mut read, mut labels) =
            (Vec::with_capacity(indices.len()), Vec::with_capacity(indices.len()));
        let mut failed = Vec::new();
        for &index in indices {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            // A failed sample leaves its place to the next one.
            let out = &mut pixels[read.len() * shape.len()..][..shape.len()];
            match self.caught(index, || write(index, out)) {
                Ok(Some(label)) => {
                    read.push(index);
                    labels.push(label);
                }
                Ok(None) => return Ok(None),
                Err(error) if error.is_of_one_file() => {
                    let name = self.dataset.name(index);
                    failed.push(UnreadableImage { index, name, reason: error.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        pixels.truncate(read.len() * shape.len());
        let dims = (read.len(), shape.channels, shape.size.height, shape.size.width);
        let images = Tensor::from_vec(pixels, dims, &Device::Cpu)?;
        let (images, labels) = self.transform.collate(images, labels)?;
        let names = read.iter().map(|&index| self.dataset.name(index)).collect();
        let batch = Batch { epoch, number, indices: read, names, images, labels };
        Ok(Some(Read { batch, failed }))
    }
}

impl<D: Dataset, T: Transform<D::Sample>> Reader<T::Labels> for Source<D, T> {
    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn name(&self, index: usize) -> String {
        self.dataset.name(index)
    }

    fn read(
        &self,
        place: Place,
        indices: &[usize],
        key: Key,
        stop: &AtomicBool,
    ) -> Result<Read<T::Labels>> {
        let write = |index: usize, out: &mut [f32]| {
            let sample = self.prepared(index)?;
            self.transform.write(sample, key.sample(index as u64), out).map(Some)
        };
        match self.batch(place, indices, stop, write)? {
            Some(read) => Ok(read),
            None => Err(Error::Worker { what: "a sample was not written".into() }),
        }
    }

    fn read_levels(
        &self,
        place: Place,
        indices: &[usize],
        key: Key,
        stop: &AtomicBool,
    ) -> Result<Option<Read<T::Labels>>> {
        self.batch(place, indices, stop, |index: usize, out: &mut [u8]| {
            let sample = self.prepared(index)?;
            self.transform.write_levels(&sample, key.sample(index as u64), out)
        })
    }

    fn level_tables(&self) -> Option<Vec<f32>> {
        self.transform.level_tables()
    }
}
