//! The two approximations of GELU that published networks were trained with: both are
//! `x sigmoid(p(x))`, with `p` a polynomial.

use candle_core::{CpuStorage, CustomOp1, Layout, Result as CandleResult, Shape, Tensor};

use crate::{
    Result, check,
    cpu::{has_kernel, level::multiversioned, rows, slices, special},
    products::wide,
};

/// `2 sqrt(2 / pi)`.
const TANH: f32 = 1.595_769;
const CUBE: f32 = 0.044_715;
const QUICK: f32 = 1.702;

/// GELU by tanh: its value and its slope at `x`.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> (f32, f32) {
    // 0.5 (1 + tanh(u)) = sigmoid(2 u). Far out the sigmoid is 0 or 1 whatever the square.
    let square = (x * x).min(1e6);
    let s = special::sigmoid(TANH * x * (1.0 + CUBE * square));
    let slope = TANH * (1.0 + 3.0 * CUBE * square);
    (x * s, s + x * s * (1.0 - s) * slope)
}

/// CLIP's GELU: its value and its slope at `x`.
#[inline(always)]
pub(crate) fn quick(x: f32) -> (f32, f32) {
    let s = special::sigmoid(QUICK * x);
    (x * s, s + x * s * (1.0 - s) * QUICK)
}

/// Computes GELU by its approximation `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`
/// (SigLIP), elementwise.
///
/// # Shapes
/// Any, floating dtype.
///
/// # Errors
/// [`Error::DType`](crate::Error::DType) for integers.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let y = pad_ops::gelu_tanh(&Tensor::new(&[0_f32, 1.0], &Device::Cpu)?)?.to_vec1::<f32>()?;
/// assert!(y[0] == 0.0 && (y[1] - 0.841_192).abs() < 1e-6);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    apply("gelu_tanh", x, gelu_tanh_reference, Kernel { kind: Kind::Tanh })
}

/// Computes `x sigmoid(1.702 x)` (CLIP), elementwise.
///
/// # Shapes
/// Any, floating dtype.
///
/// # Errors
/// [`Error::DType`](crate::Error::DType) for integers.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let y = pad_ops::quick_gelu(&Tensor::new(&[0_f32, 1.0], &Device::Cpu)?)?.to_vec1::<f32>()?;
/// assert!(y[0] == 0.0 && (y[1] - 0.845_796).abs() < 1e-6);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    apply("quick_gelu", x, quick_gelu_reference, Kernel { kind: Kind::Quick })
}

fn apply(
    op: &'static str,
    x: &Tensor,
    reference: fn(&Tensor) -> Result<Tensor>,
    kernel: Kernel,
) -> Result<Tensor> {
    check::expect_float(op, "x", x)?;
    if !has_kernel(x) || x.elem_count() == 0 {
        return reference(x);
    }
    Ok(x.contiguous()?.apply_op1(kernel)?)
}

/// `x sigmoid(p)`, in candle operations: silu(p) x / p would divide by zero.
fn gated(x: &Tensor, p: &Tensor) -> Result<Tensor> {
    let sigmoid = (p.neg()?.exp()? + 1.0)?.recip()?;
    Ok((x * sigmoid)?)
}

/// [`gelu_tanh`] as a composition of candle operations: any device and floating dtype.
///
/// # Shapes
/// Any.
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[0_f64, 1.0], &Device::Cpu)?;
/// let y = pad_ops::reference::gelu_tanh(&x)?.to_vec1::<f64>()?;
/// assert!(y[0] == 0.0 && (y[1] - 0.841192).abs() < 1e-6);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn gelu_tanh_reference(x: &Tensor) -> Result<Tensor> {
    let dtype = x.dtype();
    let x = x.to_dtype(wide(dtype))?;
    let factor = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
    let p = (((x.sqr()? * f64::from(CUBE))? + 1.0)? * &x)?;
    Ok(gated(&x, &(p * factor)?)?.to_dtype(dtype)?)
}

/// [`quick_gelu`] as a composition of candle operations: any device and floating dtype.
///
/// # Shapes
/// Any.
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[0_f64, 1.0], &Device::Cpu)?;
/// let y = pad_ops::reference::quick_gelu(&x)?.to_vec1::<f64>()?;
/// assert!(y[0] == 0.0 && (y[1] - 1.0 / (1.0 + (-1.702_f64).exp())).abs() < 1e-12);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn quick_gelu_reference(x: &Tensor) -> Result<Tensor> {
    let dtype = x.dtype();
    let x = x.to_dtype(wide(dtype))?;
    Ok(gated(&x, &(&x * 1.702)?)?.to_dtype(dtype)?)
}

#[derive(Clone, Copy)]
enum Kind {
    Tanh,
    Quick,
}

struct Kernel {
    kind: Kind,
}

impl CustomOp1 for Kernel {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Tanh => "gelu_tanh",
            Kind::Quick => "quick_gelu",
        }
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        let x = slices::values(self.name(), x, layout)?;
        let y = rows::build(x.len(), 1, |first, y| {
            let x = &x[first..first + y.len()];
            match self.kind {
                Kind::Tanh => tanh_forward(x, y),
                Kind::Quick => quick_forward(x, y),
            }
        });
        Ok(slices::output(y, layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, d_y: &Tensor) -> CandleResult<Option<Tensor>> {
        let d_y = d_y.contiguous()?;
        let (values, d_y) = (slices::borrow(x)?, slices::borrow(&d_y)?);
        let (values, d_y) = (&values[..], &d_y[..]);
        let d_x = rows::build(values.len(), 1, |first, d_x| {
            let range = first..first + d_x.len();
            let (x, d_y) = (&values[range.clone()], &d_y[range]);
            match self.kind {
                Kind::Tanh => tanh_backward(x, d_y, d_x),
                Kind::Quick => quick_backward(x, d_y, d_x),
            }
        });
        Ok(Some(slices::tensor(d_x, x.shape())?))
    }
}

multiversioned! {
    fn tanh_forward(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = tanh(x).0;
        }
    }
}

multiversioned! {
    fn tanh_backward(x: &[f32], d_y: &[f32], d_x: &mut [f32]) {
        for ((d_x, &d_y), &x) in d_x.iter_mut().zip(d_y).zip(x) {
            *d_x = d_y * tanh(x).1;
        }
    }
}

multiversioned! {
    fn quick_forward(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = quick(x).0;
        }
    }
}

multiversioned! {
    fn quick_backward(x: &[f32], d_y: &[f32], d_x: &mut [f32]) {
        for ((d_x, &d_y), &x) in d_x.iter_mut().zip(d_y).zip(x) {
            *d_x = d_y * quick(x).1;
        }
    }
}
