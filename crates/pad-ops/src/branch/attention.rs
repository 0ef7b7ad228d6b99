//! Forward and backward of `x + proj(attention(qkv(LN(x))))`.

use candle_core::{Result, Tensor};

use super::{
    dense::{Dense, Norm, Wants},
    saved::Saved,
    weights::{AttentionWeights, Keep},
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
};

/// What the backward needs beside `x`.
struct Activations<T> {
    /// (B, N, 3 D), without bias.
    qkv: Scratch<T>,
    /// The heads' output (B, N, D): the input of a trained projection.
    heads: Option<Scratch>,
}

fn sizes(x: &Tensor, num_heads: usize) -> Result<Sizes> {
    let (b, n, d) = x.dims3()?;
    Ok(Sizes { b, n, d, heads: num_heads, head_dim: d / num_heads })
}

/// Queries, keys and values (without bias), and the heads' output.
fn attend<T: Real>(
    x: &[f32],
    norm: &Norm<'_>,
    qkv: &Dense<'_>,
    sizes: &Sizes,
) -> (Scratch<T>, Scratch) {
    let mut normed = Scratch::<T>::new(x.len());
    norm.forward(x, &mut normed);
    let mut packed = Scratch::new(3 * x.len());
    qkv.forward(&normed, &mut packed);
    drop(normed);
    let mut out = Scratch::new(x.len());
    heads::forward(&packed, qkv.bias(), sizes, &mut out);
    (packed, out)
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

/// The branch's output, and what is kept of the way there.
fn forward<T: Real>(
    x: &Tensor,
    weights: &AttentionWeights,
    keep: Keep,
) -> Result<(Vec<f32>, Option<Activations<T>>)> {
    let sizes = sizes(x, weights.num_heads)?;
    let values = borrow(x)?;
    let (norm, qkv, proj) = (
        Norm::new(&weights.norm)?,
        Dense::new(&weights.qkv, weights.precision)?,
        Dense::new(&weights.proj, weights.precision)?,
    );
    let (packed, out) = attend(&values, &norm, &qkv, &sizes);
    let mut y = proj.forward_new(&out);
    rows::add_to(&mut y, &values, proj.bias());
    let saved = (keep == Keep::Activations)
        .then(|| Activations { qkv: packed, heads: weights.proj.weight.track_op().then_some(out) });
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
        let weights = &self.weights;
        let sizes = sizes(&self.x, weights.num_heads)?;
        let x = borrow(&self.x)?;
        let (norm, qkv, proj) = (
            Norm::new(&weights.norm)?,
            Dense::new(&weights.qkv, weights.precision)?,
            Dense::new(&weights.proj, weights.precision)?,
        );
        let mut wants = Wants::new(wanted);
        let (norm_want, qkv_want, proj_want) =
            (wants.norm(), wants.dense(&qkv), wants.dense(&proj));
        let saved = self.saved.take_or(|| {
            let (qkv, out) = attend(&x, &norm, &qkv, &sizes);
            Ok(Activations { qkv, heads: Some(out) })
        })?;

        let out = saved.heads.as_deref().unwrap_or(&[]);
        let d_proj = proj_want.gradients(|| proj.d_weight(d_y, out), || proj.d_bias(d_y));
        let below_proj = d_x || norm_want.any() || qkv_want.any();
        if !below_proj {
            let absent = vec![None; wanted.len() - d_proj.len()];
            return Ok(Gradients { d_x: None, d_params: [absent, d_proj].concat() });
        }
        let mut d_out = Scratch::new(x.len());
        proj.d_x(d_y, &mut d_out);
        let mut d_packed = Scratch::new(3 * x.len());
        heads::backward(&saved.qkv, qkv.bias(), &d_out, &sizes, &mut d_packed);
        drop(saved);
        let d_qkv = qkv_want.gradients(
            || {
                let mut normed = Scratch::<T>::new(x.len());
                norm.forward(&x, &mut normed);
                qkv.d_weight(&d_packed, &normed)
            },
            || qkv.d_bias(&d_packed),
        );
        let mut d_normed = d_out; // its values are used up
        qkv.d_x(&d_packed, &mut d_normed);
        let d_norm = norm_want.norm_gradients(&norm, &x, &d_normed);
        let d_x = d_x.then(|| {
            let mut d_x = rows::copied(d_y);
            norm.add_d_x(&x, &d_normed, &mut d_x);
            d_x
        });
        Ok(Gradients { d_x, d_params: [d_norm, d_qkv, d_proj].concat() })
    }
}
