//! What a branch keeps for its backward, and what its products are in.

use std::{fmt, str::FromStr};

use crate::{Error, Result};

/// The tensors that a branch keeps from forward to backward.
///
/// ```
/// use pad_ops::Keep;
/// assert_eq!(Keep::default(), Keep::Activations);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// All that the backward needs.
    #[default]
    Activations,
    /// Its input alone; the backward computes the forward again (activation checkpointing): a third
    /// more time, a fraction of the memory.
    Nothing,
}

/// The precision of the matrix products of linear layers. Everything else (residual stream, norms,
/// attention, gradients between operators) stays `f32`.
///
/// ```
/// use pad_ops::MatmulPrecision;
/// assert_eq!("bf16".parse::<MatmulPrecision>()?, MatmulPrecision::Bf16);
/// assert_eq!(MatmulPrecision::default().to_string(), "f32");
/// # Ok::<(), pad_ops::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatmulPrecision {
    /// That of the tensors.
    #[default]
    F32,
    /// Operands rounded to bf16, sums in `f32` (PyTorch's autocast): AVX512-BF16 where the
    /// processor has it.
    Bf16,
}

/// `f32` or `bf16`.
impl fmt::Display for MatmulPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// Parses what [`Display`](fmt::Display) writes.
///
/// ```
/// use pad_ops::MatmulPrecision;
/// assert_eq!("bf16".parse::<MatmulPrecision>().unwrap(), MatmulPrecision::Bf16);
/// assert_eq!(
///     "fp16".parse::<MatmulPrecision>().unwrap_err().to_string(),
///     "precision: expected f32 or bf16, found `fp16`"
/// );
/// ```
impl FromStr for MatmulPrecision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(Error::UnknownName {
                what: "precision",
                known: &["f32", "bf16"],
                found: name.to_string(),
            }),
        }
    }
}
