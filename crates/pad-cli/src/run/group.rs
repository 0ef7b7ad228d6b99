//! The processes that train together: found from `--group` and from what the launcher says.

use std::{env, path::PathBuf, sync::Arc};

use pad::train::{Collective, SingleProcess};
use serde::{Deserialize, Serialize};

use super::Result;

/// This process's place in the group.
pub struct Joined {
    pub group: Arc<dyn Collective>,
    /// The device's name; `cuda` has become `cuda:N`, one a process of a host.
    pub device: String,
}

/// The rank that an MPI launcher, torchrun or Slurm gave this process, before any engine is asked.
pub fn launched_rank() -> Option<usize> {
    ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "RANK"]
        .iter()
        .find_map(|name| env::var(name).ok()?.parse().ok())
}

/// Joins the group called `auto`, `none`, `mpi` or `nccl:FILE`.
pub fn join(kind: &str, device: &str) -> Result<Joined> {
    let alone = || Joined { group: Arc::new(SingleProcess), device: device.to_string() };
    match kind.split_once(':').unwrap_or((kind, "")) {
        ("none", "") => Ok(alone()),
        ("auto", "") => match env::var("OMPI_COMM_WORLD_SIZE").or_else(|_| env::var("PMI_SIZE")) {
            Ok(size) if size != "1" => mpi(device),
            _ => Ok(alone()),
        },
        ("mpi", "") => mpi(device),
        ("nccl", "") => {
            Err("group `nccl` needs a file in which the processes meet: nccl:FILE".into())
        }
        ("nccl", file) => nccl(device, PathBuf::from(file)),
        _ => Err(format!("group `{kind}`, expected auto, none, mpi or nccl:FILE").into()),
    }
}

#[cfg(any(feature = "mpi", feature = "nccl"))]
fn device_of(device: &str, local_rank: usize) -> String {
    if device == "cuda" { format!("cuda:{local_rank}") } else { device.to_string() }
}

#[cfg(feature = "mpi")]
fn mpi(device: &str) -> Result<Joined> {
    use pad::train::collective::MpiGroup;
    let device = device_of(device, MpiGroup::local_rank());
    Ok(Joined { group: Arc::new(MpiGroup::new()?), device })
}

#[cfg(not(feature = "mpi"))]
fn mpi(_: &str) -> Result<Joined> {
    Err("several processes over MPI: this program was built without --features mpi".into())
}

#[cfg(feature = "nccl")]
fn nccl(device: &str, file: PathBuf) -> Result<Joined> {
    use pad::train::collective::NcclGroup;
    let (rank, size, local_rank) = NcclGroup::launched()
        .ok_or("group `nccl`: expected RANK, WORLD_SIZE and LOCAL_RANK in the environment")?;
    let device = device_of(device, local_rank);
    let group = NcclGroup::new(&super::device(&device)?, rank, size, &file)?;
    Ok(Joined { group: Arc::new(group), device })
}

#[cfg(not(feature = "nccl"))]
fn nccl(_: &str, _: PathBuf) -> Result<Joined> {
    Err("several processes over NCCL: this program was built without --features nccl".into())
}

/// Does `work` on the first process; all get what it gave.
pub fn on_first<T: Serialize + for<'de> Deserialize<'de>>(
    group: &dyn Collective,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if group.world_size() == 1 {
        return work();
    }
    let mine = (group.rank() == 0).then(|| work().map_err(|error| error.to_string()));
    let said = group.all_gather(&serde_json::to_vec(&mine)?)?;
    let first: Option<Result<T, String>> = serde_json::from_slice(&said[0])?;
    first.ok_or("the first process said nothing")?.map_err(Into::into)
}
