//! Threads that read batches ahead.

use std::{
    collections::BTreeMap,
    iter::StepBy,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use pad_ops::rng::Key;

use super::reader::{Place, Read, Reader};
use crate::{Error, Result};

/// What all workers of an epoch share.
pub(super) struct Plan<L> {
    pub(super) reader: Arc<dyn Reader<L>>,
    pub(super) order: Vec<usize>,
    pub(super) epoch: u64,
    pub(super) key: Key,
    pub(super) batch_size: usize,
    /// Whether batches are levels where they can be. No more once one could not: a set is of one
    /// kind, as a rule.
    pub(super) levels: AtomicBool,
    pub(super) stop: AtomicBool,
}

impl<L> Plan<L> {
    /// Reads batch `number`.
    pub(super) fn read(&self, number: usize) -> Result<Read<L>> {
        let start = number * self.batch_size;
        let end = (start + self.batch_size).min(self.order.len());
        let place = Place { epoch: self.epoch, number };
        let indices = &self.order[start..end];
        if self.levels.load(Ordering::Relaxed) {
            if let Some(read) = self.reader.read_levels(place, indices, self.key, &self.stop)? {
                return Ok(read);
            }
            self.levels.store(false, Ordering::Relaxed);
        }
        self.reader.read(place, indices, self.key, &self.stop)
    }
}

/// Threads that read batches ahead.
pub(super) struct Pool<L> {
    /// Numbers of the batches to be read; `None` once the pool ends.
    tasks: Option<Sender<usize>>,
    results: Receiver<(usize, Result<Read<L>>)>,
    /// Numbers of the batches that are not handed out yet.
    waiting: StepBy<Range<usize>>,
    /// Batches that came before their turn.
    early: BTreeMap<usize, Result<Read<L>>>,
    threads: Vec<JoinHandle<()>>,
    plan: Arc<Plan<L>>,
}

impl<L: Send + 'static> Pool<L> {
    pub(super) fn start(
        plan: &Arc<Plan<L>>,
        workers: usize,
        prefetch: usize,
        batches: StepBy<Range<usize>>,
    ) -> Result<Self> {
        // Maximum number of batches in flight. The channels hold all of them, so that sending never
        // waits.
        let in_flight = workers.saturating_add(prefetch).min(batches.len());
        let (tasks, todo) = bounded::<usize>(in_flight);
        let (done, results) = bounded(in_flight);
        let mut pool = Self {
            tasks: Some(tasks),
            results,
            waiting: batches,
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
        for _ in 0..in_flight {
            pool.hand_out();
        }
        Ok(pool)
    }

    /// Hands out the next batch, if one is left.
    fn hand_out(&mut self) {
        if let (Some(tasks), Some(number)) = (&self.tasks, self.waiting.next()) {
            // Refused only if every worker is gone, which `wait` reports.
            let _ = tasks.try_send(number);
        }
    }

    /// Waits for batch `number`.
    pub(super) fn wait(&mut self, number: usize) -> Result<Read<L>> {
        let result = loop {
            if let Some(result) = self.early.remove(&number) {
                break result;
            }
            let gone = match self.results.recv_timeout(Duration::from_secs(1)) {
                Ok((number, result)) => {
                    self.early.insert(number, result);
                    false
                }
                // Workers outlive the wait for their results, unless something outside ended them.
                Err(RecvTimeoutError::Timeout) => {
                    self.results.is_empty() && self.threads.iter().any(JoinHandle::is_finished)
                }
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if gone {
                return Err(Error::Worker { what: "a thread ended before its work".into() });
            }
        };
        self.hand_out();
        result
    }
}

impl<L> Drop for Pool<L> {
    /// Ends the threads, each after its current sample.
    fn drop(&mut self) {
        self.plan.stop.store(true, Ordering::Relaxed);
        self.tasks = None;
        for thread in self.threads.drain(..) {
            // A panic was reported as the batch's error.
            let _ = thread.join();
        }
    }
}
