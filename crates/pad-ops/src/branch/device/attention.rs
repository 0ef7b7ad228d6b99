//! Forward and backward of `x + proj(attention(qkv(LN(x))))` on devices.

use candle_core::{Result, Tensor};

use super::{
    kernels::{Normed, Types},
    layer::{self, Collected, Place, Places},
};
use crate::{
    attention::{
        Sizes,
        device::{self as heads, Attended},
    },
    branch::{precision::Keep, saved::Saved, weights::AttentionWeights},
    gpu::nary::{self, Backward, Gradients},
};

/// What the backward needs beside `x`.
struct Activations {
    /// What `qkv` saw, where it is trained.
    normed: Option<Tensor>,
    moments: Tensor,
    /// (B, N, 3 D), without bias.
    qkv: Tensor,
    attended: Attended,
    /// The result of `proj` without bias, for the gradient of a layer scale.
    projected: Option<Tensor>,
    /// The weights in the type of products.
    narrow: [Tensor; 2],
}

pub(super) fn sizes(x: &Tensor, num_heads: usize) -> Result<Sizes> {
    let (b, n, d) = x.dims3()?;
    Ok(Sizes { b, n, d, heads: num_heads, head_dim: d / num_heads })
}

/// Up to the projection.
fn attend(x: &Tensor, weights: &AttentionWeights) -> Result<Activations> {
    // Without the options that `super::attention_branch` leaves to the composition.
    let AttentionWeights { norm, qkv: layer, proj, num_heads, precision, .. } = weights;
    let types = Types::new(x, *precision);
    let narrow = layer::weights(types, [layer, proj])?;
    let Normed { y: normed, moments, .. } = types.norm(x, norm, None)?;
    let qkv = layer::forward(&normed, &narrow[0])?;
    let attended = heads::forward(&qkv, layer.bias.as_ref(), &sizes(x, *num_heads)?)?;
    let normed = layer.weight.track_op().then_some(normed);
    Ok(Activations { normed, moments, qkv, attended, projected: None, narrow })
}

/// Whether the backward needs the result of `proj`.
fn trains_gamma(weights: &AttentionWeights) -> bool {
    weights.residual.gamma.as_ref().is_some_and(Tensor::track_op)
}

pub(super) fn apply(
    op: &'static str,
    x: &Tensor,
    weights: &AttentionWeights,
    keep: Keep,
) -> Result<Tensor> {
    let params = weights.tensors();
    let (values, types) = (x.detach(), Types::new(x, weights.precision));
    let mut activations = attend(&values, weights)?;
    let projected = layer::forward(&activations.attended.out, &activations.narrow[1])?;
    let y = types.joined(&values, &projected, weights.proj.bias.as_ref(), &weights.residual)?;
    activations.projected = trains_gamma(weights).then_some(projected);
    let kept = nary::tracks(x, &params) && keep == Keep::Activations;
    let saved = Saved::new(kept.then_some(activations));
    nary::apply(op, x, &params, y, Node { x: values, weights: weights.clone(), saved })
}

/// The operator's part of the graph.
struct Node {
    x: Tensor,
    weights: AttentionWeights,
    saved: Saved<Activations>,
}

impl Backward for Node {
    fn backward(&self, d_y: &Tensor, d_x: bool, wanted: &[bool]) -> Result<Gradients> {
        let (x, weights) = (&self.x, &self.weights);
        let types = Types::new(x, weights.precision);
        let params = weights.tensors();
        let mut places = Places::new(wanted);
        let (norm, qkv, proj) =
            (places.norm(), places.dense(&weights.qkv), places.dense(&weights.proj));
        let gamma = places.gamma(&weights.residual);
        let mut collected = Collected::new(types, params.len());
        let saved = self.saved.take_or(|| {
            let mut again = attend(x, weights)?;
            if gamma.is_some() {
                again.projected = Some(layer::forward(&again.attended.out, &again.narrow[1])?);
            }
            Ok(again)
        })?;
        let Activations { normed, moments, qkv: packed, attended, projected, narrow } = saved;
        let residual = &weights.residual;
        let result = (projected.as_ref(), weights.proj.bias.as_ref());
        layer::gamma_gradient(&mut collected, gamma, d_y, result, residual)?;
        drop(projected);
        let d_projected = layer::arriving(&mut collected, proj, d_y, residual)?;
        let weight = Place { bias: None, ..proj };
        layer::gradients(&mut collected, weight, &d_projected, Some(&attended.out))?;
        if !(d_x || norm.any() || qkv.any()) {
            return Ok(Gradients { d_x: None, d_params: collected.finish(&params)? });
        }
        let d_out = layer::d_x(&d_projected, &narrow[1])?;
        drop(d_projected);
        let (bias, sizes) = (weights.qkv.bias.as_ref(), sizes(x, weights.num_heads)?);
        let sums = qkv.bias.is_some();
        let (d_packed, sums) = heads::backward(&packed, bias, &attended, &d_out, &sizes, sums)?;
        if let (Some(at), Some(sums)) = (qkv.bias, sums) {
            collected.sum(&[(Some(at), sums.dim(1)?)], sums);
        }
        drop((packed, attended, d_out));
        let weight = Place { bias: None, ..qkv };
        layer::gradients(&mut collected, weight, &d_packed, normed.as_ref())?;
        drop(normed);
        if !(d_x || norm.any()) {
            return Ok(Gradients { d_x: None, d_params: collected.finish(&params)? });
        }
        let d_normed = layer::d_x(&d_packed, &narrow[0])?;
        drop(d_packed);
        let first = (Some((&weights.norm, &d_normed)), norm);
        let sides = [first, (None, Place::NOWHERE)];
        let d_x = layer::norms(&mut collected, x, &moments, sides, d_y, d_x)?;
        Ok(Gradients { d_x, d_params: collected.finish(&params)? })
    }
}
