//! What the machine can hold.

use std::sync::OnceLock;

/// Returns the memory of this machine, or of the group of processes that this one is confined to,
/// in bytes; `None` where the system does not say.
///
/// ```
/// assert!(pad_ops::machine::memory_bytes().is_none_or(|bytes| bytes > 1 << 20));
/// ```
pub fn memory_bytes() -> Option<u64> {
    static BYTES: OnceLock<Option<u64>> = OnceLock::new();
    *BYTES.get_or_init(|| {
        let of_machine = read("/proc/meminfo").and_then(|text| total(&text));
        let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        let of_group = files.iter().find_map(|file| read(file)?.trim().parse::<u64>().ok());
        match (of_machine, of_group) {
            (Some(machine), Some(group)) => Some(machine.min(group)),
            (machine, group) => machine.or(group),
        }
    })
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The line `MemTotal` of `/proc/meminfo`, in bytes.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_of_meminfo() {
        assert_eq!(total("MemTotal:       16384256 kB\nMemFree: 1 kB\n"), Some(16_384_256 * 1024));
        assert_eq!(total("MemFree: 1 kB"), None);
        if cfg!(target_os = "linux") {
            assert!(memory_bytes().is_some_and(|bytes| bytes > 1 << 20));
        }
    }
}
