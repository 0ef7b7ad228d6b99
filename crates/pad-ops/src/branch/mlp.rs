//! Forward and backward of `x + s A(x) + gamma fc2(activation(fc1(LN(x))))`.

use candle_core::{Result, Tensor};

use super::{
    activation::Hidden,
    adapter::{Adapter, Bottleneck, Incoming},
    dense::{Dense, Norm, Wants},
    low_rank::widened,
    precision::Keep,
    residual::{Residual, skipped},
    saved::Saved,
    weights::MlpWeights,
};
use crate::{
    Mode,
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
    /// The hidden layer before its activation (rows, H), without bias.
    hidden: Scratch<T>,
    /// The MLP's output (rows, D), where a gate looks at it or a layer scale trains.
    mlp: Option<Scratch>,
    bottleneck: Option<Bottleneck>,
}

/// The weights, borrowed.
struct Layers<'a> {
    norm: Norm<'a>,
    fc1: Dense<'a>,
    activation: Hidden,
    inner: Option<Norm<'a>>,
    fc2: Dense<'a>,
    residual: Residual,
    adapter: Option<Adapter<'a>>,
}

impl<'a> Layers<'a> {
    fn new(weights: &'a MlpWeights, x: &Tensor) -> Result<Self> {
        let fc1 = Dense::new(&weights.fc1, weights.precision)?;
        Ok(Self {
            norm: Norm::new(&weights.norm)?,
            activation: Hidden::new(weights.activation, fc1.bias(), fc1.outputs()),
            fc1,
            inner: weights.inner_norm.as_ref().map(Norm::new).transpose()?,
            fc2: Dense::new(&weights.fc2, weights.precision)?,
            residual: Residual::new(&weights.residual, x)?,
            adapter: weights
                .adapter
                .as_ref()
                .map(|adapter| Adapter::new(adapter, weights.precision))
                .transpose()?,
        })
    }

    /// The hidden layer before its activation, without bias.
    fn hidden<T: Real>(&self, x: &[f32]) -> Scratch<T> {
        let mut normed = Scratch::<T>::new(x.len());
        self.norm.forward(x, &mut normed);
        let mut hidden = Scratch::new(x.len() / self.fc2.outputs() * self.fc1.outputs());
        self.fc1.forward(&normed, &mut hidden);
        hidden
    }

    /// What the second layer multiplies.
    fn inner<T: Real>(&self, hidden: &[T]) -> Scratch<T> {
        let active = self.activation.forward(hidden);
        let Some(norm) = &self.inner else { return active };
        let mut normed = Scratch::new(active.len());
        norm.forward(&widened(&active), &mut normed);
        normed
    }

    /// The MLP's output with its bias.
    fn mlp<T: Real>(&self, hidden: &[T]) -> Scratch {
        let rows = hidden.len() / self.fc1.outputs().max(1);
        let mut mlp = Scratch::new(rows * self.fc2.outputs());
        self.fc2.forward(&self.inner(hidden), &mut mlp);
        rows::add_to_rows(&mut mlp, self.fc2.bias());
        mlp
    }
}

/// The operator, with the hidden layer kept as `T`.
pub(super) fn apply<T: Real>(
    op: &'static str,
    x: &Tensor,
    weights: &MlpWeights,
    mode: Mode,
    keep: Keep,
) -> crate::Result<Tensor> {
    let params = weights.tensors();
    let keep = if nary::tracks(x, &params) { keep } else { Keep::Nothing };
    let (y, saved) = forward::<T>(x, weights, mode, keep)?;
    let node = Node { x: x.detach(), weights: weights.clone(), mode, saved: Saved::new(saved) };
    Ok(nary::apply(op, x, &params, y, x.shape().clone(), node)?)
}

/// Whether a layer scale gets a gradient, for which the MLP's output is needed.
fn trains_gamma(weights: &MlpWeights) -> bool {
    weights.residual.gamma.as_ref().is_some_and(Tensor::track_op)
}

/// The branch's output, and what is kept of the way there.
fn forward<T: Real>(
    x: &Tensor,
    weights: &MlpWeights,
    mode: Mode,
    keep: Keep,
) -> Result<(Vec<f32>, Option<Activations<T>>)> {
    let values = borrow(x)?;
    let layers = Layers::new(weights, x)?;
    let stream = skipped(&values, weights.skip);
    let hidden = layers.hidden(&values);
    let gamma = trains_gamma(weights);
    if layers.adapter.is_none() && !gamma {
        let mut y = layers.fc2.forward_new(&layers.inner(&hidden));
        layers.residual.join(&mut y, &stream, layers.fc2.bias());
        let saved = Activations { hidden, mlp: None, bottleneck: None };
        return Ok((y, (keep == Keep::Activations).then_some(saved)));
    }
    let mlp = layers.mlp(&hidden);
    let (mut gated, mut bottleneck) = (false, None);
    let y = match &layers.adapter {
        Some(adapter) => {
            gated = adapter.is_gated();
            let inner = bottleneck.insert(adapter.bottleneck(&values, mode));
            layers.residual.sum(&stream, &mlp, adapter.delta(inner, &mlp))
        }
        None => {
            let mut y = rows::copied(&mlp);
            layers.residual.join(&mut y, &stream, &[]);
            y
        }
    };
    let saved = (keep == Keep::Activations).then(|| Activations {
        hidden,
        mlp: (gated || gamma).then_some(mlp),
        bottleneck,
    });
    Ok((y, saved))
}

/// The operator's part of the graph. The hidden layer is kept as `T`.
struct Node<T> {
    x: Tensor,
    weights: MlpWeights,
    mode: Mode,
    saved: Saved<Activations<T>>,
}

impl<T: Real> Backward for Node<T> {
    fn backward(&self, d_y: &[f32], d_x: bool, wanted: &[bool]) -> Result<Gradients> {
        let x = borrow(&self.x)?;
        let layers = Layers::new(&self.weights, &self.x)?;
        let Layers { norm, fc1, inner, fc2, residual, adapter, .. } = &layers;
        let mut wants = Wants::new(wanted);
        let (norm_want, fc1_want) = (wants.norm(), wants.dense(fc1));
        let inner_want = inner.as_ref().map(|_| wants.norm());
        let fc2_want = wants.dense(fc2);
        let gamma_want = residual.has_gamma().then(|| wants.one());
        let saved = self.saved.take_or(|| {
            let hidden = layers.hidden(&x);
            let gated = adapter.as_ref().is_some_and(Adapter::is_gated);
            let mlp = (gated || trains_gamma(&self.weights)).then(|| layers.mlp(&hidden));
            let bottleneck = adapter.as_ref().map(|adapter| adapter.bottleneck(&x, self.mode));
            Ok(Activations { hidden, mlp, bottleneck })
        })?;
        let Activations::<T> { hidden, mlp, bottleneck } = saved;
        let below_inner = d_x || norm_want.any() || fc1_want.any();
        let below_fc2 = below_inner || inner_want.is_some_and(|want| want.any());
        let mut d_result = d_x.then(|| rows::copied(&skipped(d_y, self.weights.skip)));
        let d_gamma = gamma_want.map(|wanted| {
            wanted.then(|| residual.d_gamma(d_y, mlp.as_deref().unwrap_or(&[]), &[]))
        });
        let d_branch = residual.d_branch(d_y);
        let d_branch = d_branch.as_deref().unwrap_or(d_y);

        // The adapter first: its gate passes a gradient to the MLP's output.
        let mut d_adapter = Vec::new();
        let mut d_mlp = None;
        if let (Some(adapter), Some(bottleneck)) = (adapter, bottleneck) {
            let mlp = mlp.as_deref().unwrap_or(&[]);
            let want_d_mlp = below_fc2 || fc2_want.any();
            let gradients = adapter.backward(
                &x,
                mlp,
                bottleneck,
                Incoming { d_y, d_branch },
                (d_result.as_deref_mut(), want_d_mlp),
                &mut wants,
            );
            d_adapter = gradients.d_params;
            d_mlp = gradients.d_mlp;
        }
        drop(mlp);
        let d_mlp = d_mlp.as_deref().unwrap_or(d_branch);

        let d_fc2 = fc2.gradients(&fc2_want, d_mlp, || layers.inner(&hidden));
        let last = [d_fc2, d_gamma.into_iter().collect(), d_adapter].concat();
        if !below_fc2 {
            let absent = vec![None; wanted.len() - last.len()];
            return Ok(Gradients { d_x: None, d_params: [absent, last].concat() });
        }
        let mut d_active = Scratch::<T>::new(hidden.len() / fc1.outputs().max(1) * fc2.inputs());
        let mut d_inner = Vec::new();
        match (inner, inner_want) {
            (Some(inner), Some(want)) => {
                let mut d_normed = Scratch::<f32>::new(d_active.len());
                fc2.d_x(d_mlp, &mut d_normed);
                let active = layers.activation.forward(&hidden);
                let active = widened(&active);
                d_inner = want.norm_gradients(inner, &active, &d_normed);
                let mut d = Scratch::<f32>::new(d_active.len());
                d.fill(0.0);
                inner.add_d_x(&active, &d_normed, &mut d);
                let width = fc2.inputs();
                rows::for_rows(&mut d_active, width, |first, out| {
                    let d = &d[first * width..];
                    out.iter_mut().zip(d).for_each(|(out, d)| *out = T::from_f32(*d));
                });
            }
            _ => fc2.d_x(d_mlp, &mut d_active),
        }
        let last = [d_inner, last].concat();
        if !below_inner {
            let absent = vec![None; wanted.len() - last.len()];
            return Ok(Gradients { d_x: None, d_params: [absent, last].concat() });
        }
        let d_hidden = layers.activation.backward(&hidden, d_active);
        drop(hidden);
        let d_fc1 = fc1.gradients(&fc1_want, &d_hidden, || {
            let mut normed = Scratch::<T>::new(x.len());
            norm.forward(&x, &mut normed);
            normed
        });
        let mut d_normed = Scratch::new(x.len());
        fc1.d_x(&d_hidden, &mut d_normed);
        drop(d_hidden);
        let d_norm = norm_want.norm_gradients(norm, &x, &d_normed);
        if let Some(d_x) = &mut d_result {
            norm.add_d_x(&x, &d_normed, d_x);
        }
        Ok(Gradients { d_x: d_result, d_params: [d_norm, d_fc1, last].concat() })
    }
}
