//! Failing file operations on purpose (feature `fault-injection`, for tests).
//!
//! Operations of this process are counted from 1: a file created, its bytes written, synced, renamed;
//! a folder created, renamed, removed, synced. [`arm`] chooses those that fail;
//! `PAD_FAIL_FILE_OPERATION=N` does so for a program, `N-` for all from the `N`th on, and `N!` ends
//! the process there as a power cut would.

use std::{
    io,
    path::Path,
    sync::{Mutex, MutexGuard, Once, PoisonError},
};

/// Which operations fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Plan {
    #[default]
    None,
    /// The one with this number.
    Once(usize),
    /// All from this number on.
    From(usize),
    /// The process ends at this number.
    Abort(usize),
}

#[derive(Debug)]
struct Counter {
    plan: Plan,
    reached: usize,
}

static COUNTER: Mutex<Counter> = Mutex::new(Counter { plan: Plan::None, reached: 0 });
static ENVIRONMENT: Once = Once::new();

fn counter() -> MutexGuard<'static, Counter> {
    COUNTER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the operation `number` fail, counted from now; with `and_later` all after it too, as if the
/// process had died there.
///
/// ```standalone_crate
/// use pad_ops::fs::{fault, write_atomic_bytes};
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("state");
/// fault::arm(2, true); // the bytes, and everything after
/// assert!(write_atomic_bytes(&path, b"new").is_err() && !path.exists());
/// assert!(fault::disarm() >= 2);
/// write_atomic_bytes(&path, b"new")?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn arm(number: usize, and_later: bool) {
    let plan = if and_later { Plan::From(number) } else { Plan::Once(number) };
    *counter() = Counter { plan, reached: 0 };
}

/// Lets all operations succeed again, and returns how many there were since [`arm`].
///
/// ```standalone_crate
/// use pad_ops::fs::{fault, write_atomic_bytes};
/// let folder = tempfile::tempdir()?;
/// fault::arm(usize::MAX, false); // nothing fails; operations are counted
/// write_atomic_bytes(&folder.path().join("state"), b"new")?;
/// assert!(fault::disarm() >= 4); // created, written, synced, renamed
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn disarm() -> usize {
    let mut counter = counter();
    counter.plan = Plan::None;
    counter.reached
}

fn from_environment() {
    let Ok(text) = std::env::var("PAD_FAIL_FILE_OPERATION") else { return };
    let plan = match (text.strip_suffix('-'), text.strip_suffix('!')) {
        (Some(number), _) => number.parse().map(Plan::From),
        (_, Some(number)) => number.parse().map(Plan::Abort),
        _ => text.parse().map(Plan::Once),
    };
    counter().plan = plan.unwrap_or_default();
}

/// Counts an operation, and fails it if it is its turn.
pub(super) fn point(operation: &str, path: &Path) -> io::Result<()> {
    ENVIRONMENT.call_once(from_environment);
    let mut counter = counter();
    counter.reached += 1;
    let now = counter.reached;
    let fails = match counter.plan {
        Plan::None => false,
        Plan::Once(number) | Plan::Abort(number) => now == number,
        Plan::From(number) => now >= number,
    };
    if !fails {
        return Ok(());
    }
    let what = format!("injected: {operation} {} (operation {now})", path.display());
    if matches!(counter.plan, Plan::Abort(_)) {
        eprintln!("{what}");
        std::process::abort();
    }
    Err(io::Error::other(what))
}
