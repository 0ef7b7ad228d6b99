//! Batches from worker threads, the same bits for any number of them.
//!
//! A worker takes one batch at a time, allocates it, and writes each sample straight into its place; the batch then
//! becomes the tensor without a copy. Batches come in order, whichever is finished first. Everything random depends
//! on (seed, epoch, index of the sample) alone, and everything that is counted (unreadable files) is counted in the
//! order of batches, so not even the place of an error depends on threads.

use std::{
    collections::BTreeMap,
    iter::StepBy,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use candle_core::{Device, Tensor};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use pad_ops::rng::{Key, Purpose};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::{
    Error, Result,
    dataset::{Dataset, SampleShape},
    image::panic_text,
};

/// How a set is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderConfig {
    /// Samples of a batch. Default 64.
    pub batch_size: usize,
    /// Threads that read; 0 reads in the thread that asks. Default 2.
    pub workers: usize,
    /// Batches that are kept ready, beyond those the workers are at. Default 2.
    pub prefetch: usize,
    /// Whether every epoch has an order of its own. Default true.
    pub shuffle: bool,
    /// Whether an incomplete last batch is left out. Default true.
    pub drop_last: bool,
    /// Largest share of unreadable images, 0 to 1. Default 0.05.
    pub max_unreadable: f64,
    /// Seed of order and augmentation. Default 0.
    pub seed: u64,
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
        }
    }
}

impl LoaderConfig {
    fn validate(&self, images: usize) -> Result<()> {
        let fault =
            |name, expected: String, found: String| Err(Error::Setting { name, expected, found });
        if self.batch_size == 0 {
            return fault("batch_size", "at least 1".into(), "0".into());
        }
        if self.drop_last && self.batch_size > images {
            let expected = format!("at most {images}, the images of the set, with drop_last");
            return fault("batch_size", expected, self.batch_size.to_string());
        }
        if !(0.0..=1.0).contains(&self.max_unreadable) {
            return fault("max_unreadable", "0 to 1".into(), self.max_unreadable.to_string());
        }
        if images == 0 {
            return fault("dataset", "at least one image".into(), "none".into());
        }
        Ok(())
    }
}

/// Reads a [`Dataset`] in batches, epoch by epoch.
pub struct Loader {
    dataset: Arc<dyn Dataset>,
    config: LoaderConfig,
    unreadable: Arc<Unreadable>,
}

/// A sample that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableImage {
    /// Its index.
    pub index: usize,
    /// Its file.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Samples in one tensor.
#[derive(Debug)]
pub struct Batch {
    /// `(B, C, H, W)`, f32, on the CPU. `B` is smaller than the batch size where images were unreadable, and in an
    /// incomplete last batch.
    pub images: Tensor,
    /// Index of each sample.
    pub indices: Vec<usize>,
    /// Place of the batch in its epoch, from 0: a run that is resumed after it begins at `number + 1`.
    pub number: usize,
}

impl Loader {
    /// A loader of `dataset`. Threads are only started by [`Loader::epoch`].
    ///
    /// # Errors
    /// [`Error::Setting`] for an empty set, and a configuration under which it gives no batch.
    pub fn new(dataset: Arc<dyn Dataset>, config: LoaderConfig) -> Result<Self> {
        config.validate(dataset.len())?;
        Ok(Self { dataset, config, unreadable: Arc::default() })
    }

    /// Batches of an epoch. Fewer come if all images of a batch are unreadable.
    pub fn batches_per_epoch(&self) -> usize {
        let (images, batch) = (self.dataset.len(), self.config.batch_size);
        if self.config.drop_last { images / batch } else { images.div_ceil(batch) }
    }

    /// The set.
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.dataset
    }

    /// The configuration.
    pub fn config(&self) -> &LoaderConfig {
        &self.config
    }

    /// The batches of epoch `epoch`, from batch `first_batch` on: a resumed run sees the rest of the epoch as the
    /// interrupted one would have.
    ///
    /// # Errors
    /// [`Error::Worker`] if a thread cannot be started.
    pub fn epoch(&self, epoch: u64, first_batch: usize) -> Result<Batches> {
        self.epoch_strided(epoch, first_batch, 1)
    }

    /// The batches `first_batch`, `first_batch + stride`, … of epoch `epoch`, the same bits as in [`Loader::epoch`]; the
    /// others are not read. For one of `stride` processes that share an epoch; what is unreadable counts for each
    /// process by itself. A `stride` of 0 is taken as 1.
    ///
    /// # Errors
    /// [`Error::Worker`] if a thread cannot be started.
    pub fn epoch_strided(&self, epoch: u64, first_batch: usize, stride: usize) -> Result<Batches> {
        let stride = stride.max(1);
        let key = Key::new(self.config.seed).epoch(epoch);
        let mut order: Vec<usize> = (0..self.dataset.len()).collect();
        if self.config.shuffle {
            key.purpose(Purpose::Shuffle).stream().shuffle(&mut order);
        }
        let plan = Arc::new(Plan {
            dataset: Arc::clone(&self.dataset),
            order,
            key,
            batch_size: self.config.batch_size,
            stop: AtomicBool::new(false),
        });
        let end = self.batches_per_epoch();
        let next = first_batch.min(end);
        let numbers = (next..end).step_by(stride);
        let pool = match self.config.workers.min(numbers.len()) {
            0 => None,
            workers => Some(Pool::start(&plan, workers, self.config.prefetch, numbers)?),
        };
        Ok(Batches {
            plan,
            pool,
            next,
            end,
            stride,
            max_unreadable: self.config.max_unreadable,
            unreadable: Arc::clone(&self.unreadable),
        })
    }

    /// The images that could not be read so far, by index, each once.
    pub fn unreadable(&self) -> Vec<UnreadableImage> {
        self.unreadable.list()
    }
}

/// Files that could not be read, over all epochs.
#[derive(Default)]
struct Unreadable(Mutex<BTreeMap<usize, UnreadableImage>>);

impl Unreadable {
    fn list(&self) -> Vec<UnreadableImage> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.values().cloned().collect()
    }

    /// Notes the failures of one batch. An error if they are too many now.
    fn note(&self, failed: Vec<UnreadableImage>, images: usize, allowed: f64) -> Result<()> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for failure in failed {
            files.entry(failure.index).or_insert_with(|| {
                warn!(
                    image = failure.name,
                    reason = failure.reason,
                    "unreadable image is left out"
                );
                failure
            });
        }
        let bad = files.len();
        match files.values().next() {
            Some(first) if bad as f64 > allowed * images as f64 => Err(Error::TooManyUnreadable {
                bad,
                seen: images,
                allowed,
                first: first.reason.clone(),
            }),
            _ => Ok(()),
        }
    }
}

/// What all workers of an epoch share.
struct Plan {
    dataset: Arc<dyn Dataset>,
    order: Vec<usize>,
    key: Key,
    batch_size: usize,
    stop: AtomicBool,
}

/// A batch before it is a tensor.
struct Raw {
    pixels: Vec<f32>,
    shape: SampleShape,
    indices: Vec<usize>,
    failed: Vec<UnreadableImage>,
}

impl Plan {
    /// Reads batch `number`. An abandoned one (nobody waits for it) comes back short.
    fn read(&self, number: usize) -> Result<Raw> {
        let start = number * self.batch_size;
        let end = (start + self.batch_size).min(self.order.len());
        let shape = self.dataset.shape();
        let mut raw = Raw {
            pixels: vec![0.0; (end - start) * shape.len()],
            shape,
            indices: Vec::with_capacity(end - start),
            failed: Vec::new(),
        };
        for &index in &self.order[start..end] {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            // A failed sample leaves its place to the next one.
            let place = raw.indices.len() * shape.len();
            let out = &mut raw.pixels[place..][..shape.len()];
            match self.write(index, out) {
                Ok(()) => raw.indices.push(index),
                Err(error) if error.is_of_one_file() => {
                    let name = self.dataset.name(index);
                    raw.failed.push(UnreadableImage { index, name, reason: error.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        raw.pixels.truncate(raw.indices.len() * shape.len());
        Ok(raw)
    }

    fn write(&self, index: usize, out: &mut [f32]) -> Result<()> {
        let key = self.key.sample(index as u64);
        let write = AssertUnwindSafe(|| self.dataset.write(index, key, out));
        catch_unwind(write).unwrap_or_else(|panic| {
            let what = format!(
                "reading image {index} ({}) panicked: {}",
                self.dataset.name(index),
                panic_text(panic.as_ref())
            );
            Err(Error::Worker { what })
        })
    }
}

/// Threads that read batches ahead.
struct Pool {
    /// Numbers of the batches to be read; `None` once the pool ends.
    tasks: Option<Sender<usize>>,
    results: Receiver<(usize, Result<Raw>)>,
    /// First batch that is not yet asked for, and the end.
    unasked: StepBy<Range<usize>>,
    /// Batches that came before their turn.
    early: BTreeMap<usize, Result<Raw>>,
    threads: Vec<JoinHandle<()>>,
    plan: Arc<Plan>,
}

impl Pool {
    fn start(
        plan: &Arc<Plan>,
        workers: usize,
        prefetch: usize,
        batches: StepBy<Range<usize>>,
    ) -> Result<Self> {
        // So many batches are under way at most; with room for all of them no send ever waits.
        let under_way = workers.saturating_add(prefetch).min(batches.len());
        let (tasks, todo) = bounded::<usize>(under_way);
        let (done, results) = bounded(under_way);
        let mut pool = Self {
            tasks: Some(tasks),
            results,
            unasked: batches,
            early: BTreeMap::new(),
            threads: Vec::with_capacity(workers),
            plan: Arc::clone(plan),
        };
        for worker in 0..workers {
            let (plan, todo, done) = (Arc::clone(plan), todo.clone(), done.clone());
            let work = move || {
                for number in todo {
                    let result = plan.read(number);
                    if plan.stop.load(Ordering::Relaxed) || done.send((number, result)).is_err() {
                        break;
                    }
                }
            };
            let thread = thread::Builder::new().name(format!("pad-loader-{worker}")).spawn(work);
            // On an error the pool is dropped, which ends the threads that did start.
            pool.threads.push(thread.map_err(|error| Error::Worker {
                what: format!("a thread could not be started: {error}"),
            })?);
        }
        for _ in 0..under_way {
            pool.ask();
        }
        Ok(pool)
    }

    /// Hands out the next batch, if there is one.
    fn ask(&mut self) {
        if let (Some(tasks), Some(number)) = (&self.tasks, self.unasked.next()) {
            // Refused only if every worker is gone, which `wait` reports.
            let _ = tasks.try_send(number);
        }
    }

    fn wait(&mut self, number: usize) -> Result<Raw> {
        let result = loop {
            if let Some(result) = self.early.remove(&number) {
                break result;
            }
            let gone = match self.results.recv_timeout(Duration::from_secs(1)) {
                Ok((number, result)) => {
                    self.early.insert(number, result);
                    false
                }
                // Workers outlive the wait for their results; one that does not was ended from outside.
                Err(RecvTimeoutError::Timeout) => {
                    self.results.is_empty() && self.threads.iter().any(JoinHandle::is_finished)
                }
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if gone {
                return Err(Error::Worker { what: "a thread ended before its work".into() });
            }
        };
        self.ask();
        result
    }
}

impl Drop for Pool {
    /// Ends the threads, each after the sample it is at.
    fn drop(&mut self) {
        self.plan.stop.store(true, Ordering::Relaxed);
        self.tasks = None;
        for thread in self.threads.drain(..) {
            // A panic was reported as the batch's error.
            let _ = thread.join();
        }
    }
}

/// The batches of one epoch, in order. Dropping it ends its threads. After an error nothing more comes.
pub struct Batches {
    plan: Arc<Plan>,
    pool: Option<Pool>,
    next: usize,
    end: usize,
    stride: usize,
    max_unreadable: f64,
    unreadable: Arc<Unreadable>,
}

impl Batches {
    fn read(&mut self, number: usize) -> Result<Option<Batch>> {
        let raw = match &mut self.pool {
            Some(pool) => pool.wait(number)?,
            None => self.plan.read(number)?,
        };
        self.unreadable.note(raw.failed, self.plan.order.len(), self.max_unreadable)?;
        if raw.indices.is_empty() {
            return Ok(None);
        }
        let SampleShape { channels, size } = raw.shape;
        let shape = (raw.indices.len(), channels, size.height, size.width);
        let images = Tensor::from_vec(raw.pixels, shape, &Device::Cpu)?;
        Ok(Some(Batch { images, indices: raw.indices, number }))
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next < self.end {
            let number = self.next;
            self.next += self.stride;
            match self.read(number) {
                Ok(Some(batch)) => return Some(Ok(batch)),
                Ok(None) => {} // all of its images are unreadable
                Err(error) => {
                    self.next = self.end;
                    self.pool = None;
                    return Some(Err(error));
                }
            }
        }
        self.pool = None;
        None
    }
}
