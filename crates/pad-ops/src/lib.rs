//! Differentiable transformer operators for candle: correct gradients first, fast on the CPU.

pub mod check;
mod error;
pub mod fs;
mod mode;
pub mod rng;

pub use error::{Error, Result};
pub use mode::{ImageSize, Mode};
