//! The machines that cells ran on, and what ran.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::{Result, flags::Flags, words::counted};

/// A line on this machine: the version of `pad`, processor, vector instructions, device, threads.
pub(crate) fn line(flags: &Flags, version: &str) -> String {
    let each = || "a thread per core".to_string();
    let threads = flags.threads.map_or_else(each, |threads| counted(threads, "thread"));
    format!(
        "{version}, {}, level {}, device {}, {threads}",
        pad_testkit::processor(),
        pad::ops::cpu_level(),
        flags.device
    )
}

/// Adds a line to those of `out`, if it is new.
pub(crate) fn note(out: &Path, line: &str) -> Result<()> {
    let mut lines = noted(out);
    if lines.iter().any(|known| known == line) {
        return Ok(());
    }
    lines.push(line.to_string());
    let path = file(out);
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    fs::write(&path, lines.join("\n") + "\n").with_context(|| path.display().to_string())
}

/// The lines of `out`, in order.
pub(crate) fn noted(out: &Path) -> Vec<String> {
    let text = fs::read_to_string(file(out)).unwrap_or_default();
    text.lines().map(String::from).collect()
}

fn file(out: &Path) -> PathBuf {
    out.join("machines.txt")
}
