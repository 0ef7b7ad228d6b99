//! Which threads compute: a program's first call, where the defaults cost a third of a step with
//! small tensors.

use std::thread::available_parallelism;

use crate::Error;

/// The most workers that are started, unless the machine has more cores: a million of them would
/// hang the machine before the first one works.
const MAX_THREADS: usize = 1024;

/// Makes the calling thread one of `count` workers of the global thread pool, and returns their
/// number. Without a `count` it is `RAYON_NUM_THREADS`, or the number of cores where that is not
/// set.
///
/// A thread outside the pool passes each parallel section to a worker and sleeps until it is done:
/// two switches between threads for every small operator. A worker starts at once and shares the
/// rest. candle's own pool for elementwise operations spins beside this one, on the same cores; it
/// is turned off unless `CANDLE_NUM_THREADS` is set. Results depend on neither. Call it at the
/// start of `main`, from the thread that trains.
///
/// # Errors
/// [`Error::Value`] for 0 workers, for more than 1024 (or the number of cores, if that is more), or
/// if the global pool exists already.
///
/// ```
/// assert!(pad_ops::join_workers(Some(0)).is_err());
/// ```
pub fn join_workers(count: Option<usize>) -> Result<usize, Error> {
    let from_environment =
        || std::env::var("RAYON_NUM_THREADS").ok().and_then(|value| value.parse().ok());
    let count = count
        .or_else(|| from_environment().filter(|&count| count > 0))
        .unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    let refused = |expected: String| Error::Value {
        op: "threads",
        arg: "count",
        expected,
        found: count.to_string(),
    };
    if count == 0 {
        return Err(refused("at least 1".into()));
    }
    let most = available_parallelism().map_or(MAX_THREADS, |cores| MAX_THREADS.max(cores.into()));
    if count > most {
        return Err(refused(format!("at most {most}")));
    }
    quiet_candle();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count);
    // The only worker must not be a thread that also waits for others, such as a loader's, which
    // may need a worker.
    let pool = if count > 1 { pool.use_current_thread() } else { pool };
    pool.build_global()
        .map_err(|error| refused(format!("the only call that starts workers ({error})")))?;
    Ok(count)
}

/// Sets `CANDLE_NUM_THREADS` to 1 unless it is set, and only while no other thread can read the
/// environment.
#[allow(unsafe_code)]
fn quiet_candle() {
    const NAME: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(NAME).is_none() && is_only_thread() {
        // SAFETY: no other thread exists that could read or write the environment meanwhile.
        unsafe { std::env::set_var(NAME, "1") };
    }
}

/// Returns whether this process has one thread only; false where that cannot be known.
fn is_only_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}
