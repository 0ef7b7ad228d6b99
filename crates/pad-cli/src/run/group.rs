//! The processes that train together, as `--group` and the launcher's environment say.

use std::{env, fmt, path::PathBuf, str::FromStr, sync::Arc};

use pad::train::{Collective, SingleProcess};
use serde::{Deserialize, Serialize};

use super::Result;
use crate::tools::device::DeviceName;

/// This process's place in the group.
pub struct Joined {
    pub group: Arc<dyn Collective>,
    /// The device; of `cuda`, each process of a host has one of its own.
    pub device: DeviceName,
}

/// The rank that an MPI launcher, torchrun or Slurm gave this process, before any engine is asked.
pub fn launched_rank() -> Option<usize> {
    ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "RANK"]
        .iter()
        .find_map(|name| env::var(name).ok()?.parse().ok())
}

/// How processes find each other: `auto`, `none`, `mpi` or `nccl:FILE`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GroupName {
    /// MPI if a launcher of MPI started this process.
    #[default]
    Auto,
    /// This process alone.
    None,
    /// MPI.
    Mpi,
    /// NCCL, through a file in which the processes meet.
    Nccl(PathBuf),
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
            Self::Mpi => f.write_str("mpi"),
            Self::Nccl(file) => write!(f, "nccl:{}", file.display()),
        }
    }
}

impl FromStr for GroupName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':').unwrap_or((text, "")) {
            ("auto", "") => Ok(Self::Auto),
            ("none", "") => Ok(Self::None),
            ("mpi", "") => Ok(Self::Mpi),
            ("nccl", "") => {
                Err("group `nccl` needs a file in which the processes meet: nccl:FILE".into())
            }
            ("nccl", file) => Ok(Self::Nccl(file.into())),
            _ => Err("expected auto, none, mpi or nccl:FILE".into()),
        }
    }
}

/// Joins a group.
pub fn join(name: &GroupName, device: DeviceName) -> Result<Joined> {
    let alone = || Joined { group: Arc::new(SingleProcess), device };
    match name {
        GroupName::None => Ok(alone()),
        GroupName::Auto => {
            match env::var("OMPI_COMM_WORLD_SIZE").or_else(|_| env::var("PMI_SIZE")) {
                Ok(size) if size != "1" => mpi(device),
                _ => Ok(alone()),
            }
        }
        GroupName::Mpi => mpi(device),
        GroupName::Nccl(file) => nccl(device, file.clone()),
    }
}

#[cfg(any(feature = "mpi", feature = "nccl"))]
fn device_of(device: DeviceName, local_rank: usize) -> DeviceName {
    if device == DeviceName::Cuda(0) { DeviceName::Cuda(local_rank) } else { device }
}

#[cfg(feature = "mpi")]
fn mpi(device: DeviceName) -> Result<Joined> {
    use pad::train::collective::MpiGroup;
    let device = device_of(device, MpiGroup::local_rank());
    Ok(Joined { group: Arc::new(MpiGroup::new()?), device })
}

#[cfg(not(feature = "mpi"))]
fn mpi(_: DeviceName) -> Result<Joined> {
    Err("several processes over MPI: this program was built without --features mpi".into())
}

#[cfg(feature = "nccl")]
fn nccl(device: DeviceName, file: PathBuf) -> Result<Joined> {
    use pad::train::collective::NcclGroup;
    let (rank, size, local_rank) = NcclGroup::launched()
        .ok_or("group `nccl`: expected RANK, WORLD_SIZE and LOCAL_RANK in the environment")?;
    let device = device_of(device, local_rank);
    let group = NcclGroup::new(&device.open()?, rank, size, &file)?;
    Ok(Joined { group: Arc::new(group), device })
}

#[cfg(not(feature = "nccl"))]
fn nccl(_: DeviceName, _: PathBuf) -> Result<Joined> {
    Err("several processes over NCCL: this program was built without --features nccl".into())
}

/// Does `work` on the first process and returns its result on all.
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
    first.ok_or("no answer from the first process")?.map_err(Into::into)
}
