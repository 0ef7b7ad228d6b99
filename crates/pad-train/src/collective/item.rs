//! An operation with a member's operand.

use std::fmt;

use candle_core::Tensor;

/// A member's part of an operation.
#[derive(Clone)]
pub(super) enum Item {
    Numbers(Vec<f64>),
    Bucket(Tensor),
    Bytes(Vec<u8>, usize),
    Presence,
}

/// The operation in words, equal for members that do the same.
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Numbers(values) => write!(f, "a sum of {} numbers", values.len()),
            Item::Bucket(tensor) => {
                write!(f, "a sum of a bucket {:?} {}", tensor.dims(), tensor.dtype().as_str())
            }
            Item::Bytes(bytes, root) => {
                write!(f, "a broadcast of {} bytes from rank {root}", bytes.len())
            }
            Item::Presence => write!(f, "a barrier"),
        }
    }
}
