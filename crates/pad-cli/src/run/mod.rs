//! What the subcommands share: flags and TOML, device, models and pictures.

pub mod flags;
pub mod group;
pub mod images;
pub mod model;
pub mod objective;
pub mod overlay;
pub mod pictures;
pub mod run_folder;
pub mod settings;
pub mod signals;

use std::path::{Path, PathBuf};

use candle_core::Device;

/// Any error, printed in one line.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The device called `cpu`, `cuda`, `cuda:N` or `metal`.
pub fn device(name: &str) -> Result<Device> {
    let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
    let index = index.parse().map_err(|_| format!("device `{name}`: `{index}` is no number"))?;
    match kind {
        "cpu" => Ok(Device::Cpu),
        "cuda" => Device::new_cuda(index).map_err(|error| {
            format!("device `{name}`: {error} (built with --features cuda?)").into()
        }),
        "metal" => Device::new_metal(index).map_err(|error| {
            format!("device `{name}`: {error} (built with --features metal?)").into()
        }),
        _ => Err(format!("device `{name}`, expected cpu, cuda, cuda:N or metal").into()),
    }
}

/// Makes this thread one of `count` workers of all operators; 0 = as many as there are cores.
pub fn threads(count: usize) -> Result<()> {
    pad::ops::join_workers((count > 0).then_some(count))?;
    Ok(())
}

/// Highest resident memory of this process so far, in MiB; none where there is no /proc.
pub fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}

/// `runs/NAME-1`, or the first number that is free.
pub fn free_run_folder(name: &str) -> PathBuf {
    let folder = |number: usize| PathBuf::from(format!("runs/{name}-{number}"));
    (1..).map(folder).find(|folder| !folder.exists()).unwrap_or_else(|| folder(0))
}

/// Writes a text file whole.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    pad::ops::fs::write_atomic_bytes(path, text.as_bytes())
        .map_err(|error| format!("{}: {error}", path.display()).into())
}
