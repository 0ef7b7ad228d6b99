//! Attention of any queries, keys and values: causal, with fewer heads of keys than of queries
//! (grouped queries, Ainslie et al., 2023), with an additive bias.

use candle_core::{Result as CandleResult, Tensor};

use super::{
    general_cpu::{Bias, Geometry},
    options::AttentionOptions,
    reference,
};
use crate::{
    Error, Result, check,
    cpu::{
        has_kernel,
        nary::{self, Backward, Gradients},
        slices,
    },
    empty,
    products::{in_f32, is_half_on_cpu, is_mixed},
};

const OP: &str = "attention";

/// Computes `softmax(scale q k^T + bias) v` for every head: [`attention_with`] without causality.
///
/// # Shapes
/// As [`attention_with`].
///
/// # Errors
/// As [`attention_with`].
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let q = Tensor::new(&[[[[0_f32, 0.0]]]], &Device::Cpu)?; // one image, one head, one query
/// let k = Tensor::new(&[[[[1_f32, 0.0], [0.0, 1.0]]]], &Device::Cpu)?;
/// let v = Tensor::new(&[[[[2_f32], [4.0]]]], &Device::Cpu)?;
/// let y = pad_ops::attention(&q, &k, &v, None, 1.0)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [3.0]); // the mean: no key is nearer
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: Option<&Tensor>,
    scale: f64,
) -> Result<Tensor> {
    attention_with(q, k, v, bias, &AttentionOptions { scale, causal: false })
}

/// Computes `softmax(scale q k^T + bias) v` for every head. Gradients go to all four; on the CPU, in
/// `f32` and half precision, no N x M matrix is kept for the backward: its blocks are computed
/// again. Elsewhere it is composed of candle's operations, which keep it.
///
/// # Shapes
/// `q` (B, H, N, E); `k` (B, K, M, E) and `v` (B, K, M, F), where K divides H: head `h` of the
/// queries sees head `h K / H` of keys and values; `bias` broadcasts to (B, H, N, M) as NumPy's
/// shapes do and may hold minus infinity where a query must not see a key (a row of nothing else
/// gives NaN); result (B, H, N, F), of the dtype of `q`. Any floating dtype; half types go with
/// `f32`.
///
/// # Errors
/// [`Error::Shape`], `DType` or `Device` for operands that do not fit; [`Error::Value`] for a scale
/// that is not finite, or a causal mask over fewer keys than queries.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use pad_ops::{AttentionOptions, attention_with};
/// let q = Tensor::zeros((1, 2, 3, 4), candle_core::DType::F32, &Device::Cpu)?; // two heads
/// let v = Tensor::new(&[[[[3_f32], [5.0], [10.0]]]], &Device::Cpu)?; // share one of keys
/// let k = Tensor::zeros((1, 1, 3, 4), candle_core::DType::F32, &Device::Cpu)?;
/// let causal = AttentionOptions { causal: true, ..AttentionOptions::of_head_dim(4) };
/// let y = attention_with(&q, &k, &v, None, &causal)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [3.0, 4.0, 6.0, 3.0, 4.0, 6.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn attention_with(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: Option<&Tensor>,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let mut geometry = expect(q, k, v, bias, options)?;
    let shape = [geometry.images, geometry.heads, geometry.queries, geometry.values];
    let mut operands = vec![q, k, v];
    operands.extend(bias);
    if empty::is_empty(&shape) {
        return Ok(empty::result(shape.to_vec(), &operands)?);
    }
    if is_mixed(q, &operands[1..]) || is_half_on_cpu(q) {
        let bias = bias.map(in_f32).transpose()?;
        let y = attention_with(&in_f32(q)?, &in_f32(k)?, &in_f32(v)?, bias.as_ref(), options)?;
        return Ok(y.to_dtype(q.dtype())?);
    }
    if !has_kernel(q) {
        return reference::attention_with(q, k, v, bias, options);
    }
    let [q, k, v] = [q.contiguous()?, k.contiguous()?, v.contiguous()?];
    let bias = bias.map(Tensor::contiguous).transpose()?;
    geometry.bias = bias.as_ref().map(|bias| Bias::broadcast(bias.dims()));
    let y = {
        let bias = bias.as_ref().map(slices::borrow).transpose()?;
        let values = [slices::borrow(&q)?, slices::borrow(&k)?, slices::borrow(&v)?];
        geometry.forward((&values[0], &values[1], &values[2]), bias.as_deref())
    };
    let mut params = vec![k.clone(), v.clone()];
    params.extend(bias.clone());
    let params: Vec<&Tensor> = params.iter().collect();
    let backward = Attention { q: q.clone(), k: k.clone(), v: v.clone(), bias, geometry };
    Ok(nary::apply(OP, &q, &params, y, shape.to_vec().into(), backward)?)
}

/// Checks the operands and returns their sizes, without the bias.
fn expect(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: Option<&Tensor>,
    options: &AttentionOptions,
) -> Result<Geometry> {
    check::expect_rank(OP, "q", q, 4, "(B, H, N, E)")?;
    check::expect_float(OP, "q", q)?;
    check::expect_rank(OP, "k", k, 4, "(B, K, M, E)")?;
    check::expect_rank(OP, "v", v, 4, "(B, K, M, F)")?;
    let (images, heads, queries, head_dim) = q.dims4()?;
    let (_, groups, keys, _) = k.dims4()?;
    let values = v.dim(3)?;
    check::expect_shape(OP, "k", k, &[images, groups, keys, head_dim])?;
    check::expect_shape(OP, "v", v, &[images, groups, keys, values])?;
    let divides = if groups == 0 { heads == 0 } else { heads.is_multiple_of(groups) };
    if !divides {
        let expected = format!("heads that divide the {heads} of `q`");
        return Err(check::shape_error(OP, "k", k, expected));
    }
    if keys == 0 || head_dim == 0 {
        return Err(check::shape_error(OP, "k", k, "at least one key of one value".into()));
    }
    for (arg, tensor) in [("k", k), ("v", v)] {
        check::expect_mixable(OP, arg, tensor, q)?;
    }
    if let Some(bias) = bias {
        let full = [images, heads, queries, keys];
        let fits = bias.rank() <= 4
            && bias.dims().iter().rev().zip(full.iter().rev()).all(|(&b, &n)| b == 1 || b == n);
        if !fits {
            let expected = format!("a shape that broadcasts to {full:?}");
            return Err(check::shape_error(OP, "bias", bias, expected));
        }
        check::expect_mixable(OP, "bias", bias, q)?;
    }
    check::expect_finite(OP, "scale", options.scale)?;
    if options.causal && queries > keys {
        return Err(Error::Value {
            op: OP,
            arg: "causal",
            expected: "at least as many keys as queries".into(),
            found: format!("{keys} keys and {queries} queries"),
        });
    }
    let (scale, causal) = (options.scale as f32, options.causal);
    let group = heads.checked_div(groups).unwrap_or(1);
    let bias = None;
    Ok(Geometry { images, heads, group, queries, keys, head_dim, values, scale, causal, bias })
}

struct Attention {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Option<Tensor>,
    geometry: Geometry,
}

impl Backward for Attention {
    fn backward(&self, d_y: &[f32], d_x: bool, wanted: &[bool]) -> CandleResult<Gradients> {
        let bias = self.bias.as_ref().map(slices::borrow).transpose()?;
        let (q, k, v) =
            (slices::borrow(&self.q)?, slices::borrow(&self.k)?, slices::borrow(&self.v)?);
        let d_bias = wanted.get(2).is_some_and(|&wanted| wanted);
        let found = self.geometry.backward((&q, &k, &v), bias.as_deref(), d_y, d_bias);
        let mut d_params = vec![wanted[0].then_some(found.d_k), wanted[1].then_some(found.d_v)];
        if wanted.len() > 2 {
            d_params.push(d_bias.then_some(found.d_bias));
        }
        Ok(Gradients { d_x: d_x.then_some(found.d_q), d_params })
    }
}
