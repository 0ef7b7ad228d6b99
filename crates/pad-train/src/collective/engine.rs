//! A thread that owns an engine: its handles stay on one thread, the trainer packs the next bucket
//! while this one is on its way, and an engine that hangs is noticed.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use candle_core::Tensor;

use super::{Buckets, item::Item};
use crate::{Error, Result};

/// What runs on the thread.
pub(super) trait Engine {
    /// Number of this process and of all.
    fn place(&self) -> (usize, usize);

    /// Does one operation; the result has the item's form.
    fn run(&mut self, item: Item) -> Result<Item, String>;
}

/// The trainer's end of the thread.
pub(super) struct EngineThread {
    rank: usize,
    world_size: usize,
    timeout: Duration,
    /// `None` once the thread is to end.
    lines: Mutex<Option<Lines>>,
    thread: Option<JoinHandle<()>>,
    /// Whether the thread may be stuck in the engine.
    stuck: AtomicBool,
}

struct Lines {
    commands: Sender<Item>,
    replies: Receiver<Result<Item, String>>,
}

/// PyTorch's default.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30 * 60);

impl EngineThread {
    /// Starts the thread and the engine in it.
    pub(super) fn start<E: Engine>(
        name: &'static str,
        timeout: Duration,
        make: impl FnOnce() -> Result<E, String> + Send + 'static,
    ) -> Result<Self> {
        let broken =
            |what: String| Error::Group { rank: 0, world_size: 0, what: format!("{name}: {what}") };
        let (commands, todo) = channel::<Item>();
        let (done, replies) = channel();
        let (say, begun) = channel();
        let work = move || {
            let mut engine = match make() {
                Ok(engine) => engine,
                Err(error) => {
                    let _ = say.send(Err(error)); // who started the thread may be gone
                    return;
                }
            };
            let _ = say.send(Ok(engine.place()));
            for item in todo {
                if done.send(engine.run(item)).is_err() {
                    break;
                }
            }
        };
        let thread = thread::Builder::new().name(format!("pad-{name}"));
        let thread = thread.spawn(work).map_err(|error| broken(error.to_string()))?;
        let place = begun.recv_timeout(timeout).map_err(|_| {
            broken(format!(
                "the processes did not find each other within {} s",
                timeout.as_secs_f64()
            ))
        })?;
        let (rank, world_size) = place.map_err(broken)?;
        let lines = Mutex::new(Some(Lines { commands, replies }));
        let stuck = AtomicBool::new(false);
        Ok(Self { rank, world_size, timeout, lines, thread: Some(thread), stuck })
    }

    pub(super) fn rank(&self) -> usize {
        self.rank
    }

    pub(super) fn world_size(&self) -> usize {
        self.world_size
    }

    fn error(&self, what: String) -> Error {
        Error::Group { rank: self.rank, world_size: self.world_size, what }
    }

    /// Submits what `items` gives, one after the other, without waiting between them; the results
    /// in their order.
    pub(super) fn run_all(&self, items: impl Iterator<Item = Result<Item>>) -> Result<Vec<Item>> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lines) = lines.as_ref().filter(|_| !self.stuck.load(Ordering::Relaxed)) else {
            return Err(self.error("the group is broken".into()));
        };
        let mut submitted = 0;
        let mut failed = None;
        for item in items {
            match item {
                // Fails only if the thread is gone, which the wait below reports.
                Ok(item) => submitted += usize::from(lines.commands.send(item).is_ok()),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let mut out = Vec::with_capacity(submitted);
        for _ in 0..submitted {
            match lines.replies.recv_timeout(self.timeout) {
                Ok(reply) => out.push(reply.map_err(|what| self.error(what))?),
                Err(error) => {
                    self.stuck.store(true, Ordering::Relaxed);
                    let seconds = self.timeout.as_secs_f64();
                    return Err(self.error(match error {
                        RecvTimeoutError::Timeout => {
                            format!("another process did not answer within {seconds} s")
                        }
                        RecvTimeoutError::Disconnected => "the engine's thread ended".into(),
                    }));
                }
            }
        }
        failed.map_or(Ok(out), Err)
    }

    pub(super) fn run(&self, item: Item) -> Result<Item> {
        let done = self.run_all(std::iter::once(Ok(item)))?;
        done.into_iter().next().ok_or_else(|| self.error("the engine's thread ended".into()))
    }

    pub(super) fn all_reduce_sum(&self, values: &mut [f64]) -> Result<()> {
        match self.run(Item::Numbers(values.to_vec()))? {
            Item::Numbers(sums) if sums.len() == values.len() => {
                values.copy_from_slice(&sums);
                Ok(())
            }
            other => Err(self.unexpected(&other)),
        }
    }

    pub(super) fn sum_buckets(&self, buckets: &mut Buckets<'_>) -> Result<Vec<Tensor>> {
        let done = self.run_all(buckets.map(|bucket| bucket.map(Item::Bucket)))?;
        let bucket = |item| match item {
            Item::Bucket(sum) => Ok(sum),
            other => Err(self.unexpected(&other)),
        };
        done.into_iter().map(bucket).collect()
    }

    pub(super) fn broadcast(&self, bytes: &mut [u8], root: usize) -> Result<()> {
        if root >= self.world_size {
            let size = self.world_size;
            return Err(self.error(format!("expected a root below {size}, found {root}")));
        }
        match self.run(Item::Bytes(bytes.to_vec(), root))? {
            Item::Bytes(theirs, _) if theirs.len() == bytes.len() => {
                bytes.copy_from_slice(&theirs);
                Ok(())
            }
            other => Err(self.unexpected(&other)),
        }
    }

    pub(super) fn barrier(&self) -> Result<()> {
        self.run(Item::Presence).map(|_| ())
    }

    fn unexpected(&self, item: &Item) -> Error {
        self.error(format!("the engine answered with {item}"))
    }
}

impl Drop for EngineThread {
    /// Ends the engine in order, unless it hangs.
    fn drop(&mut self) {
        *self.lines.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(thread) = self.thread.take().filter(|_| !self.stuck.load(Ordering::Relaxed)) {
            // A panic of the thread was reported as the end of its lines.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for EngineThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.rank, self.world_size)
    }
}

/// Set from one thread, seen by the engine's.
#[cfg(feature = "mpi")]
pub(super) type Flag = std::sync::Arc<AtomicBool>;
