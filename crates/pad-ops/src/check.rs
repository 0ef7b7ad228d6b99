//! Checks of shapes, dtypes and devices, and the texts of their errors.

use candle_core::{DType, Tensor};

use crate::{Error, Result};

/// Checks that `tensor` has exactly the shape `expected`.
///
/// # Errors
/// [`Error::Shape`] naming `op` and `arg`.
pub fn expect_shape(
    op: &'static str,
    arg: &'static str,
    tensor: &Tensor,
    expected: &[usize],
) -> Result<()> {
    if tensor.dims() == expected {
        return Ok(());
    }
    Err(shape_error(op, arg, tensor, format!("{expected:?}")))
}

/// Checks that `tensor` has `rank` axes.
///
/// # Errors
/// [`Error::Shape`] with the axes' names from `axes`, e.g. `"(B, N, D)"`.
pub fn expect_rank(
    op: &'static str,
    arg: &'static str,
    tensor: &Tensor,
    rank: usize,
    axes: &str,
) -> Result<()> {
    if tensor.rank() == rank {
        return Ok(());
    }
    Err(shape_error(op, arg, tensor, axes.to_string()))
}

/// Returns the size of the last axis of `tensor`.
///
/// # Errors
/// [`Error::Shape`] for a scalar.
pub fn last_dim(op: &'static str, arg: &'static str, tensor: &Tensor) -> Result<usize> {
    match tensor.dims().last() {
        Some(&d) => Ok(d),
        None => Err(shape_error(op, arg, tensor, "at least one axis".into())),
    }
}

/// Checks that `tensor` has a floating dtype.
///
/// # Errors
/// [`Error::DType`].
pub fn expect_float(op: &'static str, arg: &'static str, tensor: &Tensor) -> Result<()> {
    if tensor.dtype().is_float() {
        return Ok(());
    }
    Err(Error::DType { op, arg, expected: "a floating dtype".into(), found: tensor.dtype() })
}

/// Checks that `tensor` has the dtype `expected`.
///
/// # Errors
/// [`Error::DType`].
pub fn expect_dtype(
    op: &'static str,
    arg: &'static str,
    tensor: &Tensor,
    expected: DType,
) -> Result<()> {
    if tensor.dtype() == expected {
        return Ok(());
    }
    Err(Error::DType { op, arg, expected: format!("{expected:?}"), found: tensor.dtype() })
}

/// Checks that `tensor` has the dtype and the device of `like`.
///
/// # Errors
/// [`Error::DType`] or [`Error::Device`].
pub fn expect_like(
    op: &'static str,
    arg: &'static str,
    tensor: &Tensor,
    like: &Tensor,
) -> Result<()> {
    expect_dtype(op, arg, tensor, like.dtype())?;
    if tensor.device().same_device(like.device()) {
        return Ok(());
    }
    Err(Error::Device {
        op,
        arg,
        expected: like.device().location(),
        found: tensor.device().location(),
    })
}

/// Returns the error of a wrong shape, its expectation in words.
pub fn shape_error(
    op: &'static str,
    arg: &'static str,
    tensor: &Tensor,
    expected: String,
) -> Error {
    Error::Shape { op, arg, expected, found: tensor.dims().to_vec() }
}
