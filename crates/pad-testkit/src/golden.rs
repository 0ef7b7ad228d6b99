//! Files of the reference implementation's inputs, weights, outputs and gradients.

use std::{collections::BTreeMap, fmt::Debug, ops::RangeBounds, path::PathBuf};

use candle_core::{Device, Tensor};

use crate::repository;

/// Returns the folder that every golden test reads: the environment variable `PAD_GOLDEN` (relative
/// to the root of the repository), by default `tests/golden`. Another folder has the same layout
/// and other cases.
pub fn golden_folder() -> PathBuf {
    match std::env::var_os("PAD_GOLDEN") {
        Some(folder) => repository().join(folder), // `join` keeps an absolute path as it is
        None => repository().join("tests/golden"),
    }
}

/// Reads all tensors of `NAME.safetensors` in [`golden_folder`].
///
/// # Panics
/// If the file cannot be read.
pub fn golden(name: &str) -> BTreeMap<String, Tensor> {
    let path = golden_folder().join(format!("{name}.safetensors"));
    candle_core::safetensors::load(&path, &Device::Cpu)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into_iter()
        .collect()
}

/// Reads `NAME.json` in [`golden_folder`].
///
/// # Panics
/// If the file cannot be read.
pub fn index(name: &str) -> serde_json::Value {
    let path = golden_folder().join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Asserts that a golden test has compared its cases: a number in `expected` with `tests/golden`,
/// at least one with another [`golden_folder`].
///
/// # Panics
/// If there are fewer or more.
#[track_caller]
pub fn expect_cases(found: usize, expected: impl RangeBounds<usize> + Debug) {
    match std::env::var_os("PAD_GOLDEN") {
        Some(folder) => assert!(found > 0, "no case in {}", folder.display()),
        None => assert!(expected.contains(&found), "{found} cases, expected {expected:?}"),
    }
}
