//! The patchwise fusion of PAD (section 3.2): one scale per patch, predicted from the two branches
//! of a block.
//!
//! `s = sigmoid(gate . [mlp; a])` per token and `delta = s * a`, where `a` is the adapter's output
//! and `mlp` the MLP's. Saved for the backward: the operands; `s` is computed again, one inner
//! product per token.

pub(crate) mod cpu;
pub(crate) mod device;
mod fusion;

use candle_core::{CpuStorage, CustomOp3, Layout, Result as CandleResult, Shape, Tensor};

pub use fusion::Fusion;

use crate::{
    Result, check,
    cpu::{has_kernel, slices},
    empty, gpu,
    products::wide,
};

/// Computes what an adapter adds to its block: `sigmoid(gate . [mlp; adapter]) * adapter`.
///
/// # Shapes
/// `adapter`, `mlp` (.., D); `gate` (1, 2 D) for [`Fusion::Concat`], else (1, D); result (.., D).
/// One floating dtype.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), `DType`, `Device`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{Fusion, fuse_patchwise};
/// let adapter = Tensor::new(&[[[4_f32, 8.0]]], &Device::Cpu)?;
/// let gate = Tensor::zeros((1, 4), candle_core::DType::F32, &Device::Cpu)?;
/// let delta = fuse_patchwise(&adapter, &adapter, &gate, Fusion::Concat)?;
/// assert_eq!(delta.to_vec3::<f32>()?, [[[2.0, 4.0]]]); // a gate of zeros: a scale of one half
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn fuse_patchwise(
    adapter: &Tensor,
    mlp: &Tensor,
    gate: &Tensor,
    fusion: Fusion,
) -> Result<Tensor> {
    check_operands("fuse_patchwise", adapter, mlp, gate, fusion)?;
    if gpu::has_kernel([adapter, mlp, gate]) {
        return Ok(device::apply(adapter, mlp, gate, fusion)?);
    }
    if adapter.elem_count() == 0 {
        return Ok(empty::result(adapter.shape(), &[adapter, mlp, gate])?);
    }
    if !has_kernel(adapter) {
        return fuse_patchwise_reference(adapter, mlp, gate, fusion);
    }
    let (adapter, mlp, gate) = (adapter.contiguous()?, mlp.contiguous()?, gate.contiguous()?);
    Ok(adapter.apply_op3(&mlp, &gate, FusePatchwise { fusion })?)
}

/// [`fuse_patchwise`] as a composition of candle operations: any device and floating dtype.
///
/// # Shapes
/// As [`fuse_patchwise`].
///
/// # Errors
/// As [`fuse_patchwise`].
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ops::{Fusion, reference};
/// let adapter = Tensor::new(&[[[4_f64, 8.0]]], &Device::Cpu)?;
/// let gate = Tensor::zeros((1, 2), DType::F64, &Device::Cpu)?;
/// let delta = reference::fuse_patchwise(&adapter, &adapter, &gate, Fusion::Side)?;
/// assert_eq!(delta.to_vec3::<f64>()?, [[[2.0, 4.0]]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn fuse_patchwise_reference(
    adapter: &Tensor,
    mlp: &Tensor,
    gate: &Tensor,
    fusion: Fusion,
) -> Result<Tensor> {
    let dtype = adapter.dtype();
    let wide = |tensor: &Tensor| tensor.to_dtype(wide(dtype));
    let (adapter, mlp, gate) = (wide(adapter)?, wide(mlp)?, wide(gate)?);
    let scales = patchwise_scales(&adapter, &mlp, &gate, fusion)?;
    Ok(adapter.broadcast_mul(&scales.unsqueeze(scales.rank())?)?.to_dtype(dtype)?)
}

/// Computes the scales `s` themselves, e.g. for pictures; differentiable.
///
/// # Shapes
/// `adapter`, `mlp` (.., D); `gate` as in [`fuse_patchwise`]; result (..), each in (0, 1).
///
/// # Errors
/// As [`fuse_patchwise`].
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{Fusion, patchwise_scales};
/// let adapter = Tensor::new(&[[[4_f32, 8.0]]], &Device::Cpu)?;
/// let gate = Tensor::new(&[[0_f32, 0.0]], &Device::Cpu)?;
/// let scales = patchwise_scales(&adapter, &adapter, &gate, Fusion::Side)?;
/// assert_eq!(scales.to_vec2::<f32>()?, [[0.5]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn patchwise_scales(
    adapter: &Tensor,
    mlp: &Tensor,
    gate: &Tensor,
    fusion: Fusion,
) -> Result<Tensor> {
    check_operands("patchwise_scales", adapter, mlp, gate, fusion)?;
    let d = check::last_dim("patchwise_scales", "adapter", adapter)?;
    let shape = &adapter.dims()[..adapter.rank() - 1];
    let tokens = shape.iter().product::<usize>();
    if tokens == 0 {
        return Ok(empty::result(shape, &[adapter, mlp, gate])?);
    }
    if d == 0 {
        let half = Tensor::full(0.5_f32, shape, adapter.device())?.to_dtype(adapter.dtype())?;
        return Ok(empty::reaching(&half, &[adapter, mlp, gate])?);
    }
    let flat = |x: &Tensor| -> Result<Tensor> { Ok(x.contiguous()?.reshape((tokens, d))?) };
    let seen = match fusion {
        Fusion::Concat => Tensor::cat(&[flat(mlp)?, flat(adapter)?], 1)?,
        Fusion::Sum => (flat(mlp)? + flat(adapter)?)?,
        Fusion::Side => flat(adapter)?,
        Fusion::Gside => flat(mlp)?,
    };
    let dtype = adapter.dtype();
    let logits = seen.to_dtype(wide(dtype))?.matmul(&gate.to_dtype(wide(dtype))?.t()?)?;
    let scales = ((logits.neg()?.exp()? + 1.0)?).recip()?.to_dtype(dtype)?;
    Ok(scales.reshape(shape)?)
}

fn check_operands(
    op: &'static str,
    adapter: &Tensor,
    mlp: &Tensor,
    gate: &Tensor,
    fusion: Fusion,
) -> Result<()> {
    let d = check::last_dim(op, "adapter", adapter)?;
    check::expect_float(op, "adapter", adapter)?;
    check::expect_shape(op, "mlp", mlp, adapter.dims())?;
    check::expect_like(op, "mlp", mlp, adapter)?;
    check::expect_shape(op, "gate", gate, &[1, fusion.gate_width(d)])?;
    check::expect_like(op, "gate", gate, adapter)
}

struct FusePatchwise {
    fusion: Fusion,
}

impl CustomOp3 for FusePatchwise {
    fn name(&self) -> &'static str {
        "fuse_patchwise"
    }

    fn cpu_fwd(
        &self,
        adapter: &CpuStorage,
        layout: &Layout,
        mlp: &CpuStorage,
        mlp_layout: &Layout,
        gate: &CpuStorage,
        gate_layout: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        let operands = cpu::Operands {
            adapter: slices::values(self.name(), adapter, layout)?,
            mlp: slices::values(self.name(), mlp, mlp_layout)?,
            gate: slices::values(self.name(), gate, gate_layout)?,
            d: layout.dims().last().copied().unwrap_or(1),
            fusion: self.fusion,
        };
        Ok(slices::output(operands.forward(), layout.shape()))
    }

    fn bwd(
        &self,
        adapter: &Tensor,
        mlp: &Tensor,
        gate: &Tensor,
        _delta: &Tensor,
        d_delta: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let wanted = cpu::Wanted {
            d_adapter: adapter.track_op(),
            d_mlp: mlp.track_op(),
            d_gate: gate.track_op(),
        };
        let d = adapter.dim(candle_core::D::Minus1)?;
        let gradients = slices::read(adapter, |adapter| {
            slices::read(mlp, |mlp| {
                slices::read(gate, |gate| {
                    slices::read(d_delta, |d_delta| {
                        cpu::Operands { adapter, mlp, gate, d, fusion: self.fusion }
                            .backward(d_delta, wanted)
                    })
                })
            })
        })????;
        Ok((
            gradients
                .d_adapter
                .map(|values| slices::tensor(values, adapter.shape()))
                .transpose()?,
            gradients.d_mlp.map(|values| slices::tensor(values, mlp.shape())).transpose()?,
            gradients.d_gate.map(|values| slices::tensor(values, gate.shape())).transpose()?,
        ))
    }
}
