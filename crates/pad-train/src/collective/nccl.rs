//! NCCL through the cudarc that candle uses: one process and one GPU a rank.

use std::{
    env,
    ffi::c_char,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, CustomOp1, DType, Device, Layout, Shape, Tensor,
    backend::BackendStorage,
    cuda_backend::{
        CudaDType,
        cudarc::{
            driver::DeviceRepr,
            nccl::{Comm, Id, NcclType, ReduceOp},
        },
    },
};

use super::{
    Buckets, Collective,
    engine::{Engine, EngineThread, TIMEOUT},
    item::Item,
};
use crate::{Error, Result};

/// Bytes of an NCCL id.
const ID: usize = 128;

/// Processes with a GPU each. Buckets are summed on the GPU, from a thread of their own, on the
/// device's one stream: the host packs the next bucket meanwhile, and a sum runs behind what packed
/// its bucket and before what reads it.
///
/// ```no_run
/// use std::path::Path;
/// use pad_train::{Collective, candle_core::Device, collective::NcclGroup};
/// // torchrun --nproc-per-node 4 program
/// let (rank, world_size, local_rank) = NcclGroup::launched().expect("a launcher");
/// # #[allow(clippy::disallowed_methods)]
/// let device = Device::new_cuda(local_rank)?;
/// let group = NcclGroup::new(&device, rank, world_size, Path::new("/shared/run-17/nccl"))?;
/// assert_eq!(group.world_size(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct NcclGroup {
    engine: EngineThread,
}

impl NcclGroup {
    /// Joins `world_size` processes as number `rank` on `device`. They meet through `meeting`, a
    /// file on a file system that all see and that must not exist before: the first writes NCCL's
    /// id into it.
    ///
    /// # Errors
    /// [`Error::Group`] if `device` is not a CUDA device, numbers do not fit, or NCCL fails; after
    /// 30 minutes without the others.
    pub fn new(device: &Device, rank: usize, world_size: usize, meeting: &Path) -> Result<Self> {
        let refuse =
            |what: String| Error::Group { rank, world_size, what: format!("nccl: {what}") };
        let Device::Cuda(cuda) = device else {
            return Err(refuse(format!("expected a CUDA device, found {:?}", device.location())));
        };
        if !pad_ops::device::orders_threads(device) {
            return Err(refuse(
                "expected a device of pad_ops::device::cuda, whose threads share one stream, found one with a \
                 stream for each thread"
                    .into(),
            ));
        }
        if rank >= world_size || i32::try_from(world_size).is_err() {
            return Err(refuse(format!("expected a rank below {world_size}, found {rank}")));
        }
        let id = if rank == 0 { offer(meeting) } else { find(meeting, TIMEOUT) }.map_err(refuse)?;
        let cuda = cuda.clone();
        let make = move || Nccl::start(cuda, rank, world_size, id);
        let engine = EngineThread::start("nccl", TIMEOUT, make)?;
        if rank == 0 {
            // All have read it once the communicator stands; an old one would mislead the next run.
            fs::remove_file(meeting)
                .map_err(|error| refuse(format!("{}: {error}", meeting.display())))?;
        }
        Ok(Self { engine })
    }

    /// Reads rank, number of processes and rank on this host from the variables of a launcher:
    /// `RANK`, `WORLD_SIZE`, `LOCAL_RANK` (torchrun), Open MPI's or Slurm's variables.
    pub fn launched() -> Option<(usize, usize, usize)> {
        let number = |name: &str| env::var(name).ok()?.parse::<usize>().ok();
        let triples = [
            ["RANK", "WORLD_SIZE", "LOCAL_RANK"],
            ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"],
            ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"],
        ];
        triples.iter().find_map(|[rank, size, local]| {
            Some((number(rank)?, number(size)?, number(local).unwrap_or(0)))
        })
    }
}

/// Makes an id and writes it, whole or not at all.
fn offer(meeting: &Path) -> Result<Id, String> {
    let name = meeting.display();
    if meeting.exists() {
        return Err(format!("{name}: exists already, expected a file that no run has used"));
    }
    let id = Id::new().map_err(|error| format!("no id: {:?}", error.0))?;
    let bytes: Vec<u8> = id.internal().iter().map(|&byte| byte as u8).collect();
    pad_ops::fs::write_atomic_bytes(meeting, &bytes).map_err(|error| format!("{name}: {error}"))?;
    Ok(id)
}

/// Waits for the first process's id.
fn find(meeting: &Path, timeout: Duration) -> Result<Id, String> {
    let (start, name) = (Instant::now(), meeting.display());
    while !meeting.exists() {
        if start.elapsed() > timeout {
            let seconds = timeout.as_secs_f64();
            return Err(format!("{name}: rank 0 did not write it within {seconds} s"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    let bytes = pad_ops::fs::read(meeting).map_err(|error| format!("{name}: {error}"))?;
    let bytes: [u8; ID] = bytes
        .try_into()
        .map_err(|bytes: Vec<u8>| format!("{name}: expected {ID} bytes, found {}", bytes.len()))?;
    Ok(Id::uninit(bytes.map(|byte| byte as c_char)))
}

impl Collective for NcclGroup {
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

    /// Prints `why`. The others end when the launcher ends them, or when their time to wait is
    /// over.
    fn abort(&self, why: &str) {
        eprintln!("error: rank {} of {}: {why}", self.rank(), self.world_size());
    }
}

/// What lives on the engine's thread.
struct Nccl {
    comm: Comm,
    device: CudaDevice,
}

impl Nccl {
    fn start(device: CudaDevice, rank: usize, world_size: usize, id: Id) -> Result<Self, String> {
        let comm = Comm::from_rank(device.cuda_stream(), rank, world_size, id);
        Ok(Self { comm: comm.map_err(|error| format!("{:?}", error.0))?, device })
    }

    fn sum_numbers(&self, values: &[f64]) -> candle_core::Result<Vec<f64>> {
        let mut values = self.device.clone_htod(values)?;
        self.comm.all_reduce_in_place(&mut values, &ReduceOp::Sum).map_err(refused)?;
        self.device.clone_dtoh(&values)
    }

    fn broadcast(&self, bytes: &[u8], root: usize) -> candle_core::Result<Vec<u8>> {
        let sent = self.device.clone_htod(bytes)?;
        let mut found = self.device.alloc_zeros::<u8>(bytes.len())?;
        // In `NcclGroup::broadcast` the root was checked to be a rank, and ranks fit.
        self.comm.broadcast(Some(&sent), &mut found, root as i32).map_err(refused)?;
        self.device.clone_dtoh(&found)
    }
}

fn refused(
    error: candle_core::cuda_backend::cudarc::nccl::result::NcclError,
) -> candle_core::Error {
    candle_core::Error::Msg(format!("nccl: {:?}", error.0))
}

impl Engine for Nccl {
    fn place(&self) -> (usize, usize) {
        (self.comm.rank(), self.comm.world_size())
    }

    fn run(&mut self, item: Item) -> Result<Item, String> {
        let done = match item {
            Item::Numbers(values) if values.is_empty() => Ok(Item::Numbers(values)),
            Item::Numbers(values) => self.sum_numbers(&values).map(Item::Numbers),
            Item::Bucket(tensor) => {
                tensor.apply_op1_no_bwd(&AllReduce(&self.comm)).map(Item::Bucket)
            }
            Item::Bytes(bytes, root) if bytes.is_empty() => Ok(Item::Bytes(bytes, root)),
            Item::Bytes(bytes, root) => {
                self.broadcast(&bytes, root).map(|found| Item::Bytes(found, root))
            }
            // The fetched sum is there when all have come.
            Item::Presence => self.sum_numbers(&[1.0]).map(|_| Item::Presence),
        };
        done.map_err(|error| error.to_string())
    }
}

/// The sum of a bucket as an operation of candle, which gives access to the device's memory.
struct AllReduce<'a>(&'a Comm);

impl AllReduce<'_> {
    fn sum<T: CudaDType + DeviceRepr + NcclType>(
        &self,
        storage: &CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<CudaStorage>
    where
        T: candle_core::cuda_backend::cudarc::driver::ValidAsZeroBits,
    {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("expected a contiguous bucket, found {layout:?}")
        };
        let device = storage.device().clone();
        let mine = storage.as_cuda_slice::<T>()?.slice(start..end);
        let mut sum = device.alloc_zeros::<T>(end - start)?;
        self.0.all_reduce(&mine, &mut sum, &ReduceOp::Sum).map_err(refused)?;
        Ok(CudaStorage::wrap_cuda_slice(sum, device))
    }
}

impl CustomOp1 for AllReduce<'_> {
    fn name(&self) -> &'static str {
        "all_reduce"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        candle_core::bail!("nccl: expected a bucket on the GPU, found one on the CPU")
    }

    fn cuda_fwd(
        &self,
        storage: &CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let sum = match storage.dtype() {
            DType::F64 => self.sum::<f64>(storage, layout),
            _ => self.sum::<f32>(storage, layout),
        };
        Ok((sum?, layout.shape().clone()))
    }
}
