//! Multi-head self-attention on packed queries, keys and values (Vaswani et al., 2017).
//!
//! `O_h = softmax(scale * Q_h K_h^T) V_h` for each head `h`. Saved for the backward: the operand;
//! the N x N matrix of a head lives only while that head is worked on (blocks of rows when N is
//! large), in both directions.

mod bias;
mod biased;
mod biased_cpu;
pub(crate) mod cpu;
pub(crate) mod device;
mod general;
mod general_cpu;
mod layout;
mod options;
mod panel;
mod reference;

use candle_core::{CpuStorage, CustomOp1, Layout, Result as CandleResult, Shape, Tensor};

pub use bias::AttentionBias;
pub use biased::attention_packed_biased;
pub use general::{attention, attention_with};
pub(crate) use layout::Sizes;
use layout::expect_packed;
pub use options::AttentionOptions;
pub use reference::{
    attention as attention_reference, attention_packed as attention_packed_reference,
    attention_packed_biased as attention_packed_biased_reference,
    attention_with as attention_with_reference,
};

use crate::{
    Result,
    cpu::{has_kernel, slices},
    empty, gpu,
};

/// Computes self-attention of `num_heads` heads with scale `head_dim^-0.5`, from the output of a
/// `qkv` layer to the input of the output projection: no transposed copies in between.
///
/// # Shapes
/// `qkv` (B, N, 3 D) with queries, keys, values in turn and heads in turn inside each (timm's
/// layout); result (B, N, D). `num_heads` must divide D. Any floating dtype.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), `DType` or `Value`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// // Two tokens of width 1: query, key and value of each in turn.
/// let qkv = Tensor::new(&[[[0_f32, 1.0, 2.0], [0.0, 5.0, 4.0]]], &Device::Cpu)?;
/// let y = pad_ops::attention_packed(&qkv, 1)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[3.0], [3.0]]]); // queries of zero: the mean value
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn attention_packed(qkv: &Tensor, num_heads: usize) -> Result<Tensor> {
    expect_packed("attention_packed", qkv, num_heads)?;
    let (b, n, width) = qkv.dims3()?;
    let d = width / 3;
    if qkv.elem_count() == 0 {
        return Ok(empty::result((b, n, d), &[qkv])?);
    }
    let sizes = Sizes { b, n, d, heads: num_heads, head_dim: d / num_heads };
    if gpu::has_kernel([qkv]) && device::fits(&sizes) {
        return Ok(device::apply("attention_packed", qkv, sizes)?);
    }
    if !has_kernel(qkv) {
        return reference::attention_packed(qkv, num_heads);
    }
    Ok(qkv.contiguous()?.apply_op1(AttentionPacked { num_heads })?)
}

struct AttentionPacked {
    num_heads: usize,
}

impl AttentionPacked {
    fn sizes(&self, shape: &Shape) -> CandleResult<Sizes> {
        let (b, n, width) = shape.dims3()?;
        let d = width / 3;
        Ok(Sizes { b, n, d, heads: self.num_heads, head_dim: d / self.num_heads })
    }
}

impl CustomOp1 for AttentionPacked {
    fn name(&self) -> &'static str {
        "attention_packed"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        let sizes = self.sizes(layout.shape())?;
        let qkv = slices::values(self.name(), qkv, layout)?;
        let mut out = vec![0.0; sizes.b * sizes.n * sizes.d];
        cpu::forward(qkv, &[], None, &sizes, &mut out);
        Ok(slices::output(out, (sizes.b, sizes.n, sizes.d)))
    }

    fn bwd(&self, qkv: &Tensor, _out: &Tensor, d_out: &Tensor) -> CandleResult<Option<Tensor>> {
        let sizes = self.sizes(qkv.shape())?;
        let mut d_qkv = vec![0.0; qkv.elem_count()];
        let d_out = d_out.contiguous()?;
        let (values, d_out) = (slices::borrow(qkv)?, slices::borrow(&d_out)?);
        cpu::backward(&values, &[], None, &d_out, &sizes, &mut d_qkv);
        Ok(Some(slices::tensor(d_qkv, qkv.shape())?))
    }
}
