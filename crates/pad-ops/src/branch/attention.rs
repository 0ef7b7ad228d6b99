//! Forward and backward of `x + gamma proj(attention(rope(qkv(LN(x)))))`.

use candle_core::{Result, Tensor};

use super::{
    dense::{Dense, Norm, Wants},
    precision::Keep,
    residual::{Residual, skipped},
    saved::Saved,
    weights::AttentionWeights,
};
use crate::{
    attention::{Sizes, cpu as heads},
    cpu::{
        nary::{self, Backward, Gradients},
        real::Real,
        rows,
        scratch::Scratch,
        slices::borrow,
    },
    rope::cpu::Rotation,
};

/// What the backward needs beside `x`.
struct Activations<T> {
    /// (B, N, 3 D), without bias and before the rotation.
    qkv: Scratch<T>,
    /// The heads' output (B, N, D): the input of what follows them, where that trains or is a norm.
    heads: Option<Scratch>,
}

/// The weights, borrowed.
struct Layers<'a> {
    norm: Norm<'a>,
    qkv: Dense<'a>,
    rotation: Option<Rotation>,
    inner: Option<Norm<'a>>,
    proj: Dense<'a>,
    residual: Residual,
    sizes: Sizes,
}

impl<'a> Layers<'a> {
    fn new(weights: &'a AttentionWeights, x: &Tensor) -> Result<Self> {
        let (b, n, d) = x.dims3()?;
        let heads = weights.num_heads;
        Ok(Self {
            norm: Norm::new(&weights.norm)?,
            qkv: Dense::new(&weights.qkv, weights.precision)?,
            rotation: weights.rope.as_ref().map(|rope| Rotation::new(rope, n)).transpose()?,
            inner: weights.inner_norm.as_ref().map(Norm::new).transpose()?,
            proj: Dense::new(&weights.proj, weights.precision)?,
            residual: Residual::new(&weights.residual, x)?,
            sizes: Sizes { b, n, d, heads, head_dim: d / heads },
        })
    }

    /// Queries, keys and values (without bias), and the heads' output.
    fn attend<T: Real>(&self, x: &[f32]) -> (Scratch<T>, Scratch) {
        let mut normed = Scratch::<T>::new(x.len());
        self.norm.forward(x, &mut normed);
        let mut packed = Scratch::new(3 * x.len());
        self.qkv.forward(&normed, &mut packed);
        drop(normed);
        let mut out = Scratch::new(x.len());
        heads::forward(&packed, self.qkv.bias(), self.rotation.as_ref(), &self.sizes, &mut out);
        (packed, out)
    }

    /// What the projection multiplies, if it is not the heads' output itself.
    fn inner(&self, heads: &[f32]) -> Option<Scratch> {
        self.inner.as_ref().map(|norm| {
            let mut normed = Scratch::new(heads.len());
            norm.forward(heads, &mut normed);
            normed
        })
    }
}

/// The operator, with queries, keys and values kept as `T`.
pub(super) fn apply<T: Real>(
    op: &'static str,
    x: &Tensor,
    weights: &AttentionWeights,
    keep: Keep,
) -> crate::Result<Tensor> {
    let params = weights.tensors();
    let keep = if nary::tracks(x, &params) { keep } else { Keep::Nothing };
    let (y, saved) = forward::<T>(x, weights, keep)?;
    let node = Node { x: x.detach(), weights: weights.clone(), saved: Saved::new(saved) };
    Ok(nary::apply(op, x, &params, y, x.shape().clone(), node)?)
}

/// Whether the backward reads the heads' output.
fn reads_heads(weights: &AttentionWeights) -> bool {
    weights.inner_norm.is_some()
        || weights.proj.reads_input()
        || weights.residual.gamma.as_ref().is_some_and(Tensor::track_op)
}

/// The branch's output, and what is kept of the way there.
fn forward<T: Real>(
    x: &Tensor,
    weights: &AttentionWeights,
    keep: Keep,
) -> Result<(Vec<f32>, Option<Activations<T>>)> {
    let values = borrow(x)?;
    let layers = Layers::new(weights, x)?;
    let (packed, out) = layers.attend(&values);
    let mut y = layers.proj.forward_new(layers.inner(&out).as_deref().unwrap_or(&out));
    layers.residual.join(&mut y, &skipped(&values, weights.skip), layers.proj.bias());
    let saved = (keep == Keep::Activations)
        .then(|| Activations { qkv: packed, heads: reads_heads(weights).then_some(out) });
    Ok((y, saved))
}

/// The operator's part of the graph. Queries, keys and values are kept as `T`.
struct Node<T> {
    x: Tensor,
    weights: AttentionWeights,
    saved: Saved<Activations<T>>,
}

impl<T: Real> Backward for Node<T> {
    fn backward(&self, d_y: &[f32], d_x: bool, wanted: &[bool]) -> Result<Gradients> {
        let x = borrow(&self.x)?;
        let layers = Layers::new(&self.weights, &self.x)?;
        let Layers { norm, qkv, inner, proj, residual, .. } = &layers;
        let mut wants = Wants::new(wanted);
        let (norm_want, qkv_want) = (wants.norm(), wants.dense(qkv));
        let inner_want = inner.as_ref().map(|_| wants.norm());
        let proj_want = wants.dense(proj);
        let gamma_want = residual.has_gamma().then(|| wants.one());
        let saved = self.saved.take_or(|| {
            let (qkv, out) = layers.attend(&x);
            Ok(Activations { qkv, heads: Some(out) })
        })?;

        let out = saved.heads.as_deref().unwrap_or(&[]);
        let inner_out = layers.inner(out);
        let projected = inner_out.as_deref().unwrap_or(out);
        let d_gamma = gamma_want.map(|wanted| {
            wanted.then(|| residual.d_gamma(d_y, &proj.forward_new(projected), proj.bias()))
        });
        let d_branch = residual.d_branch(d_y);
        let d_branch = d_branch.as_deref().unwrap_or(d_y);
        let d_proj = proj.gradients(&proj_want, d_branch, || projected);
        let last = [d_proj, d_gamma.into_iter().collect()].concat();
        let below_inner = d_x || norm_want.any() || qkv_want.any();
        if !below_inner && !inner_want.is_some_and(|want| want.any()) {
            let absent = vec![None; wanted.len() - last.len()];
            return Ok(Gradients { d_x: None, d_params: [absent, last].concat() });
        }
        let mut d_out = Scratch::new(x.len());
        proj.d_x(d_branch, &mut d_out);
        drop(inner_out);
        let mut d_inner = Vec::new();
        if let (Some(inner), Some(want)) = (inner, inner_want) {
            d_inner = want.norm_gradients(inner, out, &d_out);
            let mut d_heads = Scratch::new(x.len());
            d_heads.fill(0.0);
            inner.add_d_x(out, &d_out, &mut d_heads);
            d_out = d_heads;
        }
        let last = [d_inner, last].concat();
        if !below_inner {
            let absent = vec![None; wanted.len() - last.len()];
            return Ok(Gradients { d_x: None, d_params: [absent, last].concat() });
        }
        let mut d_packed = Scratch::new(3 * x.len());
        let rotation = layers.rotation.as_ref();
        heads::backward(&saved.qkv, qkv.bias(), rotation, &d_out, &layers.sizes, &mut d_packed);
        drop(saved);
        let d_qkv = qkv.gradients(&qkv_want, &d_packed, || {
            let mut normed = Scratch::<T>::new(x.len());
            norm.forward(&x, &mut normed);
            normed
        });
        let mut d_normed = d_out; // its values are used up
        qkv.d_x(&d_packed, &mut d_normed);
        let d_norm = norm_want.norm_gradients(norm, &x, &d_normed);
        let d_x = d_x.then(|| {
            let mut d_x = rows::copied(&skipped(d_y, self.weights.skip));
            norm.add_d_x(&x, &d_normed, &mut d_x);
            d_x
        });
        Ok(Gradients { d_x, d_params: [d_norm, d_qkv, last].concat() })
    }
}
