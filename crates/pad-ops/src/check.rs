//! Checks of shapes, dtypes and devices, and the texts of their errors.

use candle_core::{DType, Tensor};

use crate::{Error, ImageSize, Result};

/// Checks that `tensor` has exactly the shape `expected`.
///
/// # Errors
/// [`Error::Shape`] naming `op` and `arg`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_ops::check;
/// let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
/// let refused = check::expect_shape("op", "x", &x, &[2, 4]).unwrap_err();
/// assert_eq!(refused.to_string(), "op: `x` has shape [2, 3], expected [2, 4]");
/// # Ok::<(), candle_core::Error>(())
/// ```
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
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_ops::check;
/// let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
/// let refused = check::expect_rank("op", "x", &x, 3, "(B, N, D)").unwrap_err();
/// assert_eq!(refused.to_string(), "op: `x` has shape [2, 3], expected (B, N, D)");
/// # Ok::<(), candle_core::Error>(())
/// ```
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
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_ops::check;
/// let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(check::last_dim("op", "x", &x)?, 3);
/// # Ok::<(), pad_ops::Error>(())
/// ```
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
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_ops::check;
/// let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
/// assert!(check::expect_float("op", "x", &x).is_ok());
/// assert!(check::expect_float("op", "x", &x.to_dtype(DType::U32)?).is_err());
/// # Ok::<(), pad_ops::Error>(())
/// ```
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
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_ops::check;
/// let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
/// let refused = check::expect_dtype("op", "ids", &x, DType::U32).unwrap_err();
/// assert_eq!(refused.to_string(), "op: `ids` has dtype F32, expected U32");
/// # Ok::<(), candle_core::Error>(())
/// ```
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
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_ops::check;
/// let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
/// let half = x.to_dtype(DType::BF16)?;
/// let refused = check::expect_like("op", "weight", &half, &x).unwrap_err();
/// assert_eq!(refused.to_string(), "op: `weight` has dtype BF16, expected F32");
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn expect_like(
    op: &'static str,
    arg: &'static str,
    tensor: &Tensor,
    like: &Tensor,
) -> Result<()> {
    expect_dtype(op, arg, tensor, like.dtype())?;
    expect_device(op, arg, tensor, like)
}

/// Checks that `tensor` is on the device of `like` and of its dtype, or that both dtypes are among
/// `f32`, `bf16` and `f16`: operators with weights compute such a mix in `f32` and return the dtype
/// of their first operand.
///
/// # Errors
/// [`Error::DType`] or [`Error::Device`].
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// let of = |dtype| Tensor::zeros(2, dtype, &Device::Cpu).unwrap();
/// let check = |a, b| pad_ops::check::expect_mixable("op", "weight", &of(a), &of(b));
/// assert!(check(DType::F32, DType::BF16).is_ok());
/// assert_eq!(
///     check(DType::F64, DType::BF16).unwrap_err().to_string(),
///     "op: `weight` has dtype F64, expected BF16 or another of F32, BF16 and F16"
/// );
/// ```
pub fn expect_mixable(
    op: &'static str,
    arg: &'static str,
    tensor: &Tensor,
    like: &Tensor,
) -> Result<()> {
    if is_narrow(tensor) && is_narrow(like) {
        return expect_device(op, arg, tensor, like);
    }
    if is_narrow(like) && tensor.dtype() != like.dtype() {
        let expected = match like.dtype() {
            DType::F32 => "F32, BF16 or F16".to_string(),
            dtype => format!("{dtype:?} or another of F32, BF16 and F16"),
        };
        return Err(Error::DType { op, arg, expected, found: tensor.dtype() });
    }
    expect_like(op, arg, tensor, like)
}

fn is_narrow(tensor: &Tensor) -> bool {
    matches!(tensor.dtype(), DType::F32 | DType::BF16 | DType::F16)
}

fn expect_device(
    op: &'static str,
    arg: &'static str,
    tensor: &Tensor,
    like: &Tensor,
) -> Result<()> {
    if tensor.device().same_device(like.device()) {
        return Ok(());
    }
    let (expected, found) = (like.device().location(), tensor.device().location());
    Err(Error::Device { op, arg, expected, found })
}

/// Checks a number that is added to a variance: finite in `f32` and not negative.
///
/// # Errors
/// [`Error::Value`].
///
/// ```
/// assert!(pad_ops::check::expect_eps("op", 1e-6).is_ok());
/// assert_eq!(
///     pad_ops::check::expect_eps("op", -10.0).unwrap_err().to_string(),
///     "op: `eps` is -10, expected a finite number >= 0"
/// );
/// ```
pub fn expect_eps(op: &'static str, eps: f64) -> Result<()> {
    if (eps as f32).is_finite() && eps >= 0.0 {
        return Ok(());
    }
    let expected = "a finite number >= 0".to_string();
    Err(Error::Value { op, arg: "eps", expected, found: eps.to_string() })
}

/// Checks a factor: finite in `f32`.
///
/// # Errors
/// [`Error::Value`].
///
/// ```
/// let refused = pad_ops::check::expect_finite("op", "scale", f64::NAN).unwrap_err();
/// assert_eq!(refused.to_string(), "op: `scale` is NaN, expected a finite number");
/// ```
pub fn expect_finite(op: &'static str, arg: &'static str, value: f64) -> Result<()> {
    if (value as f32).is_finite() {
        return Ok(());
    }
    let expected = "a finite number".to_string();
    Err(Error::Value { op, arg, expected, found: value.to_string() })
}

/// Checks the size of images that an operator makes, `planes` of them: a pixel each at least, and no
/// more values of 8 bytes than a process can address.
pub(crate) fn expect_size(
    op: &'static str,
    arg: &'static str,
    size: ImageSize,
    planes: usize,
) -> Result<()> {
    let found = || size.to_string();
    if size.area() == 0 {
        return Err(Error::Value { op, arg, expected: "at least 1x1".into(), found: found() });
    }
    match size.area().checked_mul(planes).and_then(|values| values.checked_mul(8)) {
        Some(bytes) if bytes <= isize::MAX as usize => Ok(()),
        _ => {
            let expected = "images that fit into memory".into();
            Err(Error::Value { op, arg, expected, found: found() })
        }
    }
}

/// Returns the error of a wrong shape, its expectation in words.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_ops::check;
/// let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
/// let error = check::shape_error("op", "x", &x, "one row".into());
/// assert_eq!(error.to_string(), "op: `x` has shape [2, 3], expected one row");
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn shape_error(
    op: &'static str,
    arg: &'static str,
    tensor: &Tensor,
    expected: String,
) -> Error {
    Error::Shape { op, arg, expected, found: tensor.dims().to_vec() }
}
