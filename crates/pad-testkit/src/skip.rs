//! Tests that this machine cannot run.

use std::{
    collections::BTreeSet,
    io::Write,
    sync::{Mutex, PoisonError},
};

/// Says that the running test skips `what` for a `reason`, e.g. `skipped: avx512: this processor
/// lacks it (cpu::unpacked::tests::products_of_odd_shapes)`.
///
/// The test harness counts such a test as passed, so the line goes to the terminal itself, past the
/// harness, which keeps back what passed tests print; `.ci/run` lists and counts these lines.
pub fn skipped(what: &str, reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main").unwrap_or("a test");
    let line = format!("skipped: {what}: {reason} ({test})\n");
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let new = SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(line.clone());
    if !new {
        return; // in a loop
    }
    // One write, so that lines of tests that run at once stay whole.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
