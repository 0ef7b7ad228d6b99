//! Processes that train one model together: what they exchange, and over which engine.
//!
//! | group | engine | for |
//! |---|---|---|
//! | [`SingleProcess`] | none | the default |
//! | [`LocalGroup`] | threads of one process | tests, and models that are too small to fill the cores |
//! | `MpiGroup` (feature `mpi`) | MPI, e.g. Open MPI | several CPUs, several hosts |
//! | `NcclGroup` (feature `nccl`) | NCCL through cudarc | several GPUs |
//!
//! Every member of a group calls the same operations in the same order, each with the same number
//! of values. Sums come out with the same bits on every member.
//!
//! A group of `n` members whose trainers take `accumulate` micro-batches a step computes what one
//! process with the same `accumulate` computes: member `r` takes the micro-batches `r`, `r + n`, …
//! of each step, gradients are summed over all, and everything random is drawn from the number of
//! the micro-batch or of the sample, never from the rank.

mod agree;
mod buckets;
#[cfg(any(feature = "mpi", feature = "nccl"))]
mod engine;
mod item;
mod local;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;

use std::fmt::Debug;

use candle_core::Tensor;

pub use agree::agree;
pub(crate) use agree::agree_by;
pub use buckets::BUCKET_BYTES;
pub(crate) use buckets::{check_parameters, sum_gradients};
pub use local::LocalGroup;
#[cfg(feature = "mpi")]
pub use mpi::MpiGroup;
#[cfg(feature = "nccl")]
pub use nccl::NcclGroup;

use crate::Result;

/// A lazy list of buckets: each is made when it is needed, so that an engine can send one while
/// the next is made.
///
/// ```
/// use pad_train::{Collective, SingleProcess, candle_core::{Device, Tensor}, collective::Buckets};
/// let bucket = Tensor::new(&[1_f32, 2.0], &Device::Cpu)?;
/// let buckets: &mut Buckets<'_> = &mut std::iter::once(Ok(bucket));
/// assert_eq!(SingleProcess.sum_buckets(buckets)?[0].to_vec1::<f32>()?, [1.0, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Buckets<'a> = dyn Iterator<Item = Result<Tensor>> + 'a;

/// One member of a group of processes.
///
/// ```
/// use pad_train::{Collective, SingleProcess};
/// let mut losses = [0.5, 2.0];
/// SingleProcess.all_reduce_sum(&mut losses)?; // a sum over one member
/// assert_eq!(losses, [0.5, 2.0]);
/// assert_eq!(SingleProcess.all_gather(b"mine")?, [b"mine"]);
/// SingleProcess.barrier()?;
/// # Ok::<(), pad_train::Error>(())
/// ```
pub trait Collective: Debug + Send + Sync {
    /// Returns the rank of this member, from 0.
    fn rank(&self) -> usize;

    /// Returns the number of members.
    fn world_size(&self) -> usize;

    /// Replaces each number by its sum over all members: for a few numbers, such as losses and
    /// statistics.
    ///
    /// # Errors
    /// [`Error::Group`](crate::Error::Group) if a member is gone, does something else, or the time
    /// is over. The same holds for all methods below.
    fn all_reduce_sum(&self, values: &mut [f64]) -> Result<()>;

    /// Sums buckets over all members. A bucket is a contiguous tensor of rank 1, f32 or f64, of the
    /// same length on every member.
    ///
    /// # Errors
    /// As above, and any error of making a bucket.
    fn sum_buckets(&self, buckets: &mut Buckets<'_>) -> Result<Vec<Tensor>>;

    /// Replaces `bytes` by those of member `root`; the length must be the same on every member.
    ///
    /// # Errors
    /// As above.
    fn broadcast(&self, bytes: &mut [u8], root: usize) -> Result<()>;

    /// Returns once every member has called it.
    ///
    /// # Errors
    /// As above.
    fn barrier(&self) -> Result<()>;

    /// Ends the group because this member cannot continue: the others get `why` in place of waiting
    /// for ever. Engines that cannot deliver an error (MPI) print it and end all processes.
    fn abort(&self, why: &str);

    /// Returns every member's bytes, by rank.
    ///
    /// # Errors
    /// As above.
    fn all_gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        (0..self.world_size())
            .map(|root| {
                let own = root == self.rank();
                let mut length = (mine.len() as u64).to_le_bytes();
                self.broadcast(&mut length, root)?;
                let length = u64::from_le_bytes(length) as usize;
                let mut bytes = if own { mine.to_vec() } else { vec![0; length] };
                self.broadcast(&mut bytes, root)?;
                Ok(bytes)
            })
            .collect()
    }
}

/// A group of one process.
///
/// ```
/// use pad_train::{Collective, SingleProcess};
/// assert_eq!((SingleProcess.rank(), SingleProcess.world_size()), (0, 1));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleProcess;

impl Collective for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn all_reduce_sum(&self, _: &mut [f64]) -> Result<()> {
        Ok(())
    }

    fn sum_buckets(&self, buckets: &mut Buckets<'_>) -> Result<Vec<Tensor>> {
        buckets.collect()
    }

    fn broadcast(&self, _: &mut [u8], _: usize) -> Result<()> {
        Ok(())
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }

    /// Returns at once: no member waits.
    fn abort(&self, _: &str) {}
}
