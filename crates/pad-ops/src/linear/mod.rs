//! `y = x weight^T + bias`, which computes only the gradients that are needed.
//!
//! candle's matmul computes the gradient of both operands; for a frozen weight that is a third of a
//! layer's work thrown away. Here an operand that tracks nothing gets none. Saved for the backward:
//! the operands.

mod device;

use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, CustomOp3, DType, Layout, MetalStorage,
    Result as CandleResult, Shape, Tensor, backend::BackendStorage,
};
use rayon::prelude::*;

use crate::{
    Result, check,
    cpu::{
        has_kernel,
        matmul::{Into, Mat, Threads, matmul},
        rows, slices,
    },
    empty, gpu,
    products::{self, in_f32},
};

/// Computes `x weight^T + bias`, with PyTorch's weight layout.
///
/// # Shapes
/// `x` (.., I); `weight` (O, I); `bias` (O); result (.., O), of the dtype of `x`. Any floating dtype
/// that candle multiplies on the device; activations in half precision go with weights in `f32` and
/// the other way round (the product is then in `f32`, and each gradient has its operand's dtype).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), `DType` or `Device` if an operand does not fit `x`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1_f32, 2.0]], &Device::Cpu)?;
/// let w = Tensor::new(&[[3_f32, 4.0]], &Device::Cpu)?;
/// assert_eq!(pad_ops::linear(&x, &w, None)?.to_vec2::<f32>()?, [[11.0]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    const OP: &str = "linear";
    let inputs = check::last_dim(OP, "x", x)?;
    check::expect_float(OP, "x", x)?;
    check::expect_rank(OP, "weight", weight, 2, "(O, I)")?;
    let outputs = weight.dim(0)?;
    check::expect_shape(OP, "weight", weight, &[outputs, inputs])?;
    check::expect_mixable(OP, "weight", weight, x)?;
    if let Some(bias) = bias {
        check::expect_shape(OP, "bias", bias, &[outputs])?;
        check::expect_mixable(OP, "bias", bias, x)?;
    }
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let mut operands = vec![x, weight];
    operands.extend(bias);
    if empty::is_empty(&shape) {
        return Ok(empty::result(shape, &operands)?);
    }
    if inputs == 0 {
        // Sums of nothing: the bias alone.
        let y = Tensor::zeros(shape, x.dtype(), x.device())?;
        let y = empty::reaching(&y, &operands[..2])?;
        return Ok(match bias {
            Some(bias) => products::add_bias(&y, bias)?,
            None => y,
        });
    }
    if products::is_mixed(x, &operands[1..]) {
        let bias = bias.map(in_f32).transpose()?;
        let y = linear(&in_f32(x)?, &in_f32(weight)?, bias.as_ref())?;
        return Ok(y.to_dtype(x.dtype())?);
    }
    let rows = x.elem_count() / inputs;
    let x = x.contiguous()?.reshape((rows, inputs))?;
    let weight = weight.contiguous()?;
    let on_cpu = has_kernel(&x) && !gpu::has_kernel([&x, &weight]);
    let y = match bias {
        Some(bias) if on_cpu => x.apply_op3(&weight, &bias.contiguous()?, Linear)?,
        None if on_cpu => x.apply_op2(&weight, Linear)?,
        Some(bias) => add_bias(&x.apply_op2(&weight, DeviceLinear)?, bias)?,
        None => x.apply_op2(&weight, DeviceLinear)?,
    };
    Ok(y.reshape(shape)?)
}

/// [`linear`] by candle's matmul: any device and dtype that it supports. Computes every gradient,
/// needed or not.
///
/// # Shapes
/// `x` (.., I); `weight` (O, I); `bias` (O); result (.., O).
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let x = Tensor::new(&[[1_f64, 2.0]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[3_f64, 4.0]], &Device::Cpu)?;
/// assert_eq!(pad_ops::reference::linear(&x, &weight, None)?.to_vec2::<f64>()?, [[11.0]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn linear_reference(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    let inputs = check::last_dim("linear", "x", x)?;
    if let Some(last) = shape.last_mut() {
        *last = weight.dim(0)?;
    }
    let rows = shape.iter().rev().skip(1).product::<usize>();
    let y = x.contiguous()?.reshape((rows, inputs))?.matmul(&weight.t()?)?.reshape(shape)?;
    Ok(match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    })
}

/// The CPU kernel, in `f32`: the product is added onto rows that already hold the bias.
struct Linear;

impl Linear {
    fn forward(
        &self,
        (x, x_layout): (&CpuStorage, &Layout),
        (weight, weight_layout): (&CpuStorage, &Layout),
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> CandleResult<(CpuStorage, Shape)> {
        let (m, k) = x_layout.shape().dims2()?;
        let (n, _) = weight_layout.shape().dims2()?;
        let x = slices::values("linear", x, x_layout)?;
        let weight = slices::values("linear", weight, weight_layout)?;
        let mut y = vec![0.0; m * n];
        let mut into = Into::Replace;
        if let Some((bias, layout)) = bias {
            let bias = slices::values("linear", bias, layout)?;
            if n > 0 {
                y.par_chunks_mut(n * rows::rows_per_chunk(n)).for_each(|rows| {
                    rows.chunks_exact_mut(n).for_each(|row| row.copy_from_slice(bias));
                });
            }
            into = Into::Add;
        }
        matmul(
            (&mut y, Mat::dense(m, n)),
            into,
            1.0,
            (x, Mat::dense(m, k)),
            (weight, Mat::dense(n, k).t()),
            Threads::All,
        );
        Ok(slices::output(y, (m, n)))
    }
}

/// Gradients to `x` and `weight` where they track something: `d_y weight` and `d_y^T x`.
fn d_operands(
    x: &Tensor,
    weight: &Tensor,
    d_y: &Tensor,
) -> CandleResult<(Option<Tensor>, Option<Tensor>)> {
    let (m, k) = x.dims2()?;
    let n = weight.dim(0)?;
    let product = |shape: (usize, usize), a: (&Tensor, Mat), b: (&Tensor, Mat)| {
        let mut out = vec![0.0; shape.0 * shape.1];
        slices::read(a.0, |a_values| {
            slices::read(b.0, |b_values| {
                matmul(
                    (&mut out, Mat::dense(shape.0, shape.1)),
                    Into::Replace,
                    1.0,
                    (a_values, a.1),
                    (b_values, b.1),
                    Threads::All,
                );
            })
        })??;
        slices::tensor(out, shape)
    };
    let (d_y_mat, weight_mat, x_mat) = (Mat::dense(m, n), Mat::dense(n, k), Mat::dense(m, k));
    let d_x = if x.track_op() {
        Some(product((m, k), (d_y, d_y_mat), (weight, weight_mat))?)
    } else {
        None
    };
    let d_weight = if weight.track_op() {
        Some(product((n, k), (d_y, d_y_mat.t()), (x, x_mat))?)
    } else {
        None
    };
    Ok((d_x, d_weight))
}

/// Gradient to the bias: the sum over rows.
fn d_bias(d_y: &Tensor) -> CandleResult<Tensor> {
    let (m, n) = d_y.dims2()?;
    let sums = slices::read(d_y, |d_y| {
        rows::reduce_rows(m, n, n, |range, partial| {
            for row in range {
                let row = &d_y[row * n..(row + 1) * n];
                partial.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        })
    })?;
    slices::tensor(sums, n)
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        self.forward((x, x_layout), (weight, weight_layout), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        d_y: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>)> {
        d_operands(x, weight, d_y)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        self.forward((x, x_layout), (weight, weight_layout), Some((bias, bias_layout)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        d_y: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (d_x, d_weight) = d_operands(x, weight, d_y)?;
        let d_bias = if bias.track_op() { Some(d_bias(d_y)?) } else { None };
        Ok((d_x, d_weight, d_bias))
    }
}

/// A bias on every row, (rows, O); its gradient is a sum over rows.
fn add_bias(y: &Tensor, bias: &Tensor) -> CandleResult<Tensor> {
    if gpu::has_kernel([y, bias]) { device::add_bias(y, bias) } else { products::add_bias(y, bias) }
}

/// The product by candle's own kernel of whatever device and dtype, with our gradient rule: no
/// frozen operand's gradient is computed.
struct DeviceLinear;

impl DeviceLinear {
    fn product<S: BackendStorage>(
        x: &S,
        x_layout: &Layout,
        weight: &S,
        weight_layout: &Layout,
    ) -> CandleResult<(S, Shape)> {
        let (m, k) = x_layout.shape().dims2()?;
        let (n, _) = weight_layout.shape().dims2()?;
        let y = x.matmul(weight, (1, m, n, k), x_layout, &weight_layout.transpose(0, 1)?)?;
        Ok((y, Shape::from((m, n))))
    }
}

impl CustomOp2 for DeviceLinear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        let dtype = x.dtype();
        if !matches!(dtype, DType::BF16 | DType::F16) {
            return Self::product(x, x_layout, weight, weight_layout);
        }
        // candle multiplies no halves on the CPU.
        let (x, weight) =
            (x.to_dtype(x_layout, DType::F32)?, weight.to_dtype(weight_layout, DType::F32)?);
        let dense = |layout: &Layout| Layout::contiguous(layout.shape());
        let (y, shape) = Self::product(&x, &dense(x_layout), &weight, &dense(weight_layout))?;
        Ok((y.to_dtype(&Layout::contiguous(&shape), dtype)?, shape))
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
    ) -> CandleResult<(CudaStorage, Shape)> {
        Self::product(x, x_layout, weight, weight_layout)
    }

    fn metal_fwd(
        &self,
        x: &MetalStorage,
        x_layout: &Layout,
        weight: &MetalStorage,
        weight_layout: &Layout,
    ) -> CandleResult<(MetalStorage, Shape)> {
        Self::product(x, x_layout, weight, weight_layout)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        d_y: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>)> {
        let d_y = d_y.detach();
        let d_x = if x.track_op() { Some(products::matmul(&d_y, &weight.detach())?) } else { None };
        let d_weight = match weight.track_op() {
            true => Some(products::matmul(&d_y.t()?, &x.detach())?),
            false => None,
        };
        Ok((d_x, d_weight))
    }
}
