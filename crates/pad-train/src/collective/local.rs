//! A group of threads.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use candle_core::Tensor;

use super::{Buckets, Collective, item::Item};
use crate::{Error, Result};

/// A member of a group whose members are threads of this process, each with its own model. A member
/// that is dropped (its thread returned or panicked) leaves the group: members that wait for it get
/// an error.
///
/// ```
/// use std::time::Duration;
/// use pad_train::{Collective, LocalGroup};
/// // Every member in a thread of its own; each adds its rank.
/// let sums = std::thread::scope(|scope| {
///     let work = |member: LocalGroup| {
///         let member = member.with_timeout(Duration::from_secs(60));
///         let mut sum = [member.rank() as f64];
///         scope.spawn(move || member.all_reduce_sum(&mut sum).map(|()| sum[0]))
///     };
///     let threads: Vec<_> = LocalGroup::members(3).into_iter().map(work).collect();
///     threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect::<Vec<_>>()
/// });
/// assert_eq!(sums, [3.0; 3]);
/// ```
pub struct LocalGroup {
    rank: usize,
    world_size: usize,
    timeout: Duration,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Exchanges that are done.
    round: u64,
    /// Items of the present exchange.
    brought: Vec<Option<Item>>,
    /// Items of the last exchange.
    done: Arc<[Item]>,
    /// Members that failed, and why.
    gone: Option<(usize, String)>,
}

impl LocalGroup {
    /// Creates a group of `count` members (at least one), by rank. They wait for each other for at
    /// most 30 minutes.
    ///
    /// ```
    /// use pad_train::{Collective, LocalGroup};
    /// let members = LocalGroup::members(3);
    /// assert_eq!((members[2].rank(), members[2].world_size()), (2, 3));
    /// ```
    pub fn members(count: usize) -> Vec<Self> {
        let world_size = count.max(1);
        let state = State { brought: vec![None; world_size], ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let timeout = Duration::from_secs(30 * 60);
        let member = |rank| Self { rank, world_size, timeout, shared: shared.clone() };
        (0..world_size).map(member).collect()
    }

    /// Sets the maximum time to wait for the others.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        // Not by update syntax: the type has a `Drop`.
        let mut member = self;
        member.timeout = timeout;
        member
    }

    fn error(&self, what: String) -> Error {
        Error::Group { rank: self.rank, world_size: self.world_size, what }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds `mine` to the exchange and returns the items of all members, by rank.
    fn exchange(&self, mine: Item) -> Result<Arc<[Item]>> {
        let name = mine.to_string();
        let deadline = Instant::now() + self.timeout;
        let mut state = self.lock();
        if let Some((rank, why)) = &state.gone {
            return Err(self.error(format!("rank {rank} is gone: {why}")));
        }
        let round = state.round;
        state.brought[self.rank] = Some(mine);
        if state.brought.iter().all(Option::is_some) {
            state.done = state.brought.iter_mut().filter_map(Option::take).collect();
            state.round += 1;
            self.shared.changed.notify_all();
        }
        while state.round == round {
            if let Some((rank, why)) = &state.gone {
                return Err(self.error(format!("rank {rank} is gone: {why}")));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let missing = state.brought.iter().position(Option::is_none).unwrap_or(0);
                let seconds = self.timeout.as_secs_f64();
                let why = format!("did not come to {name} within {seconds} s");
                let error = self.error(format!("rank {missing} {why}"));
                state.gone = Some((missing, why));
                self.shared.changed.notify_all();
                return Err(error);
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let done = state.done.clone();
        drop(state);
        match done.iter().position(|item| item.to_string() != name) {
            Some(rank) => Err(self.error(format!(
                "rank {rank} does {}, rank {} {name}: all must do the same in the same order",
                done[rank], self.rank
            ))),
            None => Ok(done),
        }
    }

    fn leave(&self, why: &str) {
        let mut state = self.lock();
        state.gone.get_or_insert_with(|| (self.rank, why.to_string()));
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Collective for LocalGroup {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world_size
    }

    fn all_reduce_sum(&self, values: &mut [f64]) -> Result<()> {
        let all = self.exchange(Item::Numbers(values.to_vec()))?;
        values.fill(0.0);
        for item in all.iter() {
            let Item::Numbers(theirs) = item else { continue };
            values.iter_mut().zip(theirs).for_each(|(sum, value)| *sum += value);
        }
        Ok(())
    }

    /// Each member adds in the order of ranks. Nothing overlaps: the others' buckets are in this
    /// memory.
    fn sum_buckets(&self, buckets: &mut Buckets<'_>) -> Result<Vec<Tensor>> {
        let wrap = |cause| Error::Candle { doing: "adding buckets".into(), cause };
        buckets
            .map(|bucket| {
                let bucket = bucket.inspect_err(|error| self.leave(&error.to_string()))?;
                let all = self.exchange(Item::Bucket(bucket))?;
                let mut sum: Option<Tensor> = None;
                for item in all.iter() {
                    let Item::Bucket(theirs) = item else { continue };
                    sum = Some(match sum {
                        Some(sum) => (sum + theirs).map_err(wrap)?,
                        None => theirs.clone(),
                    });
                }
                sum.ok_or_else(|| self.error("no member sent a bucket".into()))
            })
            .collect()
    }

    fn broadcast(&self, bytes: &mut [u8], root: usize) -> Result<()> {
        let all = self.exchange(Item::Bytes(bytes.to_vec(), root))?;
        match all.get(root) {
            Some(Item::Bytes(theirs, _)) => {
                bytes.copy_from_slice(theirs);
                Ok(())
            }
            _ => {
                Err(self.error(format!("expected a root below {}, found {root}", self.world_size)))
            }
        }
    }

    fn barrier(&self) -> Result<()> {
        self.exchange(Item::Presence).map(|_| ())
    }

    fn abort(&self, why: &str) {
        self.leave(why);
    }
}

impl Drop for LocalGroup {
    fn drop(&mut self) {
        self.leave(if std::thread::panicking() { "it panicked" } else { "it left the group" });
    }
}

impl fmt::Debug for LocalGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalGroup({} of {})", self.rank, self.world_size)
    }
}
