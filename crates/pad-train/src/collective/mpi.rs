//! MPI (Message Passing Interface 3.1) through rsmpi.

use std::{
    env,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use candle_core::{DType, Device, Tensor, WithDType};
use mpi::{
    Threading,
    collective::SystemOperation,
    environment::Universe,
    request::{Request, Scope, scope},
    topology::SimpleCommunicator,
    traits::{Buffer, BufferMut, Communicator, CommunicatorCollectives, Equivalence, Root},
};

use super::{
    Buckets, Collective,
    engine::{Engine, EngineThread, Flag, TIMEOUT},
    item::Item,
};
use crate::Result;

/// Values of one message: MPI counts them as 32-bit integers.
const MESSAGE: usize = 1 << 28;

/// All processes that `mpirun` started.
///
/// Buckets go as non-blocking all-reduces (`MPI_Iallreduce`) from a thread of their own while the
/// trainer packs the next; tensors of an accelerator go through the host. An error cannot be
/// delivered by MPI: if a process dies, `mpirun` ends the others; one that cannot continue must
/// call [`Collective::abort`], which ends all.
///
/// ```no_run
/// use pad_train::{Collective, collective::MpiGroup};
/// // mpirun -n 4 program
/// assert!(MpiGroup::launched());
/// let group = MpiGroup::new()?; // or `with_timeout`
/// assert_eq!(group.world_size(), 4);
/// println!("process {} here, {} of all", MpiGroup::local_rank(), group.rank());
/// # Ok::<(), pad_train::Error>(())
/// ```
#[derive(Debug)]
pub struct MpiGroup {
    engine: EngineThread,
    abort: Flag,
}

impl MpiGroup {
    /// Joins the group; once a process.
    ///
    /// # Errors
    /// [`Error::Group`](crate::Error::Group) if MPI was initialised before or cannot be.
    pub fn new() -> Result<Self> {
        Self::with_timeout(TIMEOUT)
    }

    /// [`MpiGroup::new`] with another longest time (30 minutes) to wait for the others in one
    /// operation; when it is over, all processes end.
    ///
    /// # Errors
    /// As [`MpiGroup::new`].
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use pad_train::{Collective, collective::MpiGroup};
    /// let group = MpiGroup::with_timeout(Duration::from_secs(120))?;
    /// assert!(group.rank() < group.world_size());
    /// # Ok::<(), pad_train::Error>(())
    /// ```
    pub fn with_timeout(timeout: Duration) -> Result<Self> {
        let abort = Flag::default();
        let flag = Arc::clone(&abort);
        // The engine ends everything itself when its time is over; the trainer's end waits a little
        // longer.
        let patience = timeout.saturating_add(Duration::from_secs(10));
        let engine = EngineThread::start("mpi", patience, move || Mpi::start(flag, timeout))?;
        Ok(Self { engine, abort })
    }

    /// Whether this process was started by an MPI launcher (Open MPI, MPICH, Intel MPI, Slurm's
    /// PMI).
    pub fn launched() -> bool {
        ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK"]
            .iter()
            .any(|name| env::var_os(name).is_some())
    }

    /// Number of this process on its host, from 0: the index of its accelerator.
    pub fn local_rank() -> usize {
        ["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"]
            .iter()
            .find_map(|name| env::var(name).ok()?.parse().ok())
            .unwrap_or(0)
    }
}

impl Collective for MpiGroup {
    fn rank(&self) -> usize {
        self.engine.rank()
    }

    fn world_size(&self) -> usize {
        self.engine.world_size()
    }

    fn all_reduce_sum(&self, values: &mut [f64]) -> Result<()> {
        self.engine.all_reduce_sum(values)
    }

    fn sum_buckets(&self, buckets: &mut Buckets<'_>) -> Result<Vec<Tensor>> {
        self.engine.sum_buckets(buckets)
    }

    fn broadcast(&self, bytes: &mut [u8], root: usize) -> Result<()> {
        self.engine.broadcast(bytes, root)
    }

    fn barrier(&self) -> Result<()> {
        self.engine.barrier()
    }

    /// Prints `why` and ends all processes of the group, this one included.
    fn abort(&self, why: &str) {
        eprintln!("error: rank {} of {}: {why}", self.rank(), self.world_size());
        self.abort.store(true, Ordering::Relaxed);
        // Wakes the engine if it waits for work; one that waits for others looks at the flag.
        let _ = self.engine.barrier();
    }
}

impl Drop for MpiGroup {
    /// A panic here would leave the others waiting.
    fn drop(&mut self) {
        if thread::panicking() {
            self.abort("it panicked");
        }
    }
}

/// What lives on the engine's thread.
struct Mpi {
    world: SimpleCommunicator,
    abort: Flag,
    timeout: Duration,
    /// Ends MPI when it is dropped; after everything else here.
    _universe: Universe,
}

impl Mpi {
    fn start(abort: Flag, timeout: Duration) -> Result<Self, String> {
        let (universe, _) = mpi::initialize_with_threading(Threading::Funneled)
            .ok_or("MPI is initialised already: one group a process")?;
        Ok(Self { world: universe.world(), abort, timeout, _universe: universe })
    }

    /// Waits for an operation. Ends all processes if that was requested, or if it takes too long.
    fn wait<'a, D: ?Sized, S: Scope<'a>>(&self, mut request: Request<'a, D, S>) {
        let start = Instant::now();
        let mut tries = 0_u32;
        loop {
            match request.test() {
                Ok(_) => return,
                Err(pending) => request = pending,
            }
            if self.abort.load(Ordering::Relaxed) {
                self.world.abort(1);
            }
            if start.elapsed() > self.timeout {
                eprintln!(
                    "error: rank {} of {}: another process did not answer within {} s",
                    self.world.rank(),
                    self.world.size(),
                    self.timeout.as_secs_f64()
                );
                self.world.abort(1);
            }
            // Answers usually come at once; later, leave the core to threads that compute.
            tries = tries.saturating_add(1);
            if tries < 200 { thread::yield_now() } else { thread::sleep(Duration::from_micros(50)) }
        }
    }

    fn sum<T: Equivalence + Clone>(&self, values: &[T], mut sums: Vec<T>) -> Vec<T>
    where
        [T]: Buffer + BufferMut,
    {
        for (mine, sum) in values.chunks(MESSAGE).zip(sums.chunks_mut(MESSAGE)) {
            scope(|scope| {
                let op = SystemOperation::sum();
                self.wait(self.world.immediate_all_reduce_into(scope, mine, sum, op));
            });
        }
        sums
    }

    fn sum_tensor<T: WithDType + Equivalence>(&self, tensor: &Tensor) -> candle_core::Result<Tensor>
    where
        [T]: Buffer + BufferMut,
    {
        let values = tensor.to_vec1::<T>()?;
        let sums = self.sum(&values, vec![T::zero(); values.len()]);
        Tensor::from_vec(sums, tensor.shape(), &Device::Cpu)?.to_device(tensor.device())
    }
}

impl Engine for Mpi {
    fn place(&self) -> (usize, usize) {
        // Ranks and sizes are never negative.
        (self.world.rank().unsigned_abs() as usize, self.world.size().unsigned_abs() as usize)
    }

    fn run(&mut self, item: Item) -> Result<Item, String> {
        if self.abort.load(Ordering::Relaxed) {
            self.world.abort(1);
        }
        Ok(match item {
            Item::Numbers(values) => {
                let sums = vec![0.0; values.len()];
                Item::Numbers(self.sum(&values, sums))
            }
            Item::Bucket(tensor) => {
                let sum = match tensor.dtype() {
                    DType::F64 => self.sum_tensor::<f64>(&tensor),
                    _ => self.sum_tensor::<f32>(&tensor),
                };
                Item::Bucket(sum.map_err(|error| format!("bucket: {error}"))?)
            }
            Item::Bytes(mut bytes, root) => {
                let rank = i32::try_from(root).map_err(|_| format!("no rank {root}"))?;
                let root_process = self.world.process_at_rank(rank);
                for part in bytes.chunks_mut(MESSAGE) {
                    scope(|scope| {
                        self.wait(root_process.immediate_broadcast_into(scope, part));
                    });
                }
                Item::Bytes(bytes, root)
            }
            Item::Presence => {
                self.wait(self.world.immediate_barrier());
                Item::Presence
            }
        })
    }
}
