//! The machine that a measurement was taken on.

/// Returns the processor's name as the system gives it, with the number of its cores in use:
/// `AMD EPYC, 2 cores`. Benches print it beside their numbers, together with the level of vector
/// instructions (`pad_ops::cpu_level`).
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = name_in(&text).unwrap_or(std::env::consts::ARCH);
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    format!("{name}, {cores} core{}", if cores == 1 { "" } else { "s" })
}

/// The first `model name` of `/proc/cpuinfo`.
fn name_in(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_cpuinfo() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC 7B13 \nprocessor\t: 1\n";
        assert_eq!(name_in(text), Some("AMD EPYC 7B13"));
        assert_eq!(name_in("processor: 0\n"), None);
        assert!(processor().contains(" core"));
    }
}
