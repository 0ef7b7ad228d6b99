//! The comparison of a saved state with an optimiser's own.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::{Result, TensorFaults, WrongTensor};

/// Shape and dtype in words, as in [`WrongTensor`].
pub(crate) fn describe(tensor: &Tensor) -> String {
    format!("{:?} {}", tensor.dims(), tensor.dtype().as_str())
}

/// Compares shape and dtype; `None` if they are equal.
fn compare(name: &str, expected: &Tensor, found: &Tensor) -> Option<WrongTensor> {
    if expected.dims() != found.dims() || expected.dtype() != found.dtype() {
        let (expected, found) = (describe(expected), describe(found));
        return Some(WrongTensor { name: name.into(), expected, found });
    }
    // The only integers here are counts of steps.
    let count = found.to_scalar::<i64>().ok().filter(|&count| count < 0)?;
    let (expected, found) = ("a count".into(), count.to_string());
    Some(WrongTensor { name: name.into(), expected, found })
}

/// Checks that `state` has the tensors of an optimiser's `own` state, and no others.
pub(crate) fn check_state(
    own: &BTreeMap<String, Tensor>,
    state: &BTreeMap<String, Tensor>,
) -> Result<()> {
    let mut faults = TensorFaults::default();
    for (name, tensor) in own {
        match state.get(name) {
            None => faults.missing.push(name.clone()),
            Some(found) => faults.wrong.extend(compare(name, tensor, found)),
        }
    }
    let unexpected = state.keys().filter(|name| !own.contains_key(*name));
    faults.unexpected.extend(unexpected.cloned());
    faults.into_result("optimizer state")
}
