//! Test support for the PAD crates: finite-difference checks, golden files, tolerances.
//!
//! Everything here panics on a difference: it is the assertion. Never published.

mod close;
mod forbidden;
mod golden;
mod gradcheck;

pub use close::{close, largest, relative_difference};
pub use golden::{golden, golden_dir, index};
pub use gradcheck::{Precision, gradcheck, numbers};
