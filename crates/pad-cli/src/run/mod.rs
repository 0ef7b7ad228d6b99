//! Runs of training: opened, resumed, stopped, logged and closed in one way for all programs.

pub mod adapters;
pub mod backbone;
pub mod cost;
pub mod ending;
pub mod folder;
pub mod group;
pub mod schedule;
pub mod session;
pub mod signals;
pub mod source;
pub mod warm_up;

use std::path::{Path, PathBuf};

/// Any error, printed in one line.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Makes this thread one of `count` workers of all operators; `None`: one per core.
pub fn threads(count: Option<usize>) -> Result<()> {
    pad::ops::join_workers(count)?;
    Ok(())
}

/// Highest resident memory of this process so far, in MiB; `None` where there is no /proc.
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

/// Reads a text file of settings, names or results: a regular file of at most 64 MiB.
pub fn read_text(path: &Path) -> std::io::Result<String> {
    let bytes = pad::ops::fs::read_small(path, 64 << 20)?;
    let not_text = |_| std::io::Error::new(std::io::ErrorKind::InvalidData, "not UTF-8 text");
    String::from_utf8(bytes).map_err(not_text)
}

/// Writes a text file whole.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    pad::ops::fs::write_atomic_bytes(path, text.as_bytes())
        .map_err(|error| format!("{}: {error}", path.display()).into())
}
