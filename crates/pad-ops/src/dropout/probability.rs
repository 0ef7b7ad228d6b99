//! The probability of dropping a value, as kernels use it.

use crate::{Error, Result};

/// Checks that `0 <= p < 1`.
pub(crate) fn check_probability(op: &'static str, p: f64) -> Result<()> {
    if (0.0..1.0).contains(&p) {
        return Ok(());
    }
    Err(Error::Value { op, arg: "p", expected: "0 <= p < 1".into(), found: p.to_string() })
}

/// What values that are not dropped are multiplied by.
pub(super) fn kept(p: f64) -> f32 {
    (1.0 / (1.0 - p)) as f32
}

/// A value is dropped if 32 random bits fall below p * 2^32.
pub(super) fn threshold(p: f64) -> u32 {
    (p * 4_294_967_296.0) as u32
}
