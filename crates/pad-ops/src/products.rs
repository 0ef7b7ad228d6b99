//! Matrix products of compositions: candle's, with half precision on the CPU too.

use candle_core::{DType, Result, Tensor};

/// What sums are taken in: f64 for f64, else f32. Compositions of half precision round their result
/// once.
pub(crate) fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Whether an operand's dtype is not that of `x` (both are narrow: [`crate::check::expect_mixable`]).
pub(crate) fn is_mixed(x: &Tensor, others: &[&Tensor]) -> bool {
    others.iter().any(|other| other.dtype() != x.dtype())
}

/// `tensor` in f32, and an optional one.
pub(crate) fn in_f32(tensor: &Tensor) -> Result<Tensor> {
    tensor.to_dtype(DType::F32)
}

/// Whether candle multiplies no matrices of `tensor`'s type where it is.
pub(crate) fn is_half_on_cpu(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && matches!(tensor.dtype(), DType::BF16 | DType::F16)
}

/// `a b` over the last two axes, the others alike; halves are multiplied with sums in f32.
pub(crate) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let y = match is_half_on_cpu(a) {
        false => a.matmul(b)?,
        true => a.to_dtype(DType::F32)?.matmul(&b.to_dtype(DType::F32)?)?.to_dtype(a.dtype())?,
    };
    #[cfg(test)]
    crate::gpu::dry::product(a, b, &y);
    Ok(y)
}

/// `y + bias`, broadcast; the gradient of a bias of half precision is summed in f32.
pub(crate) fn add_bias(y: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let dtype = y.dtype();
    y.to_dtype(wide(dtype))?.broadcast_add(&bias.to_dtype(wide(dtype))?)?.to_dtype(dtype)
}
