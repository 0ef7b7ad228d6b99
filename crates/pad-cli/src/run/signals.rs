//! Ctrl-C, SIGTERM and SIGHUP (a closed terminal): the work is saved and ends, with the exit code that
//! shells expect.

use std::{
    fmt,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

use super::Result;

/// The signals that end a program.
#[derive(Clone, Debug)]
pub struct Signals {
    /// True from the first signal on.
    pub stop: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Signals {
    /// From now on a signal sets [`Signals::stop`]; a second one ends the program at once.
    pub fn watch() -> Result<Self> {
        let (stop, signal) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let signals = [SIGINT, SIGTERM].into_iter().chain((!ignores_hangup()).then_some(SIGHUP));
        for number in signals {
            // In this order: the first signal finds `stop` still false.
            flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&stop))?;
            flag::register_usize(number, Arc::clone(&signal), number as usize)?;
            flag::register(number, Arc::clone(&stop))?;
        }
        Ok(Self { stop, signal })
    }

    /// The exit status after the signal that came, as shells expect it.
    pub fn exit_status(&self) -> i32 {
        128 + i32::try_from(self.signal.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Whether a signal has come.
    pub fn is_raised(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The error with the exit code of the signal that came; nothing without one.
    pub fn stopped(&self) -> Result<()> {
        match self.signal.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Stopped { signal }.into()),
        }
    }
}

/// Whether this process was started with SIGHUP ignored (`nohup`), and is to outlive its terminal.
/// False where the system does not say.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (SIGHUP - 1) & 1 == 1)
}

/// The program ended because of a signal, with its work saved.
#[derive(Clone, Copy, Debug)]
pub struct Stopped {
    signal: usize,
}

impl Stopped {
    /// 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(u8::try_from(128 + self.signal).unwrap_or(u8::MAX))
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by signal {}", self.signal)
    }
}

impl std::error::Error for Stopped {}
