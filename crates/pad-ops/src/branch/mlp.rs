//! Forward and backward of `x + s A(x) + fc2(GELU(fc1(LN(x))))`.

use candle_core::{Result, Tensor};

use super::{
    adapter::{Adapter, Bottleneck},
    dense::{Dense, Norm, Wants},
    saved::Saved,
    weights::{Keep, MlpWeights},
};
use crate::{
    Mode,
    cpu::{
        level::multiversioned,
        nary::{self, Backward, Gradients},
        real::Real,
        rows,
        scratch::Scratch,
        slices::borrow,
        special,
    },
};

/// What the backward needs beside `x`.
struct Activations<T> {
    /// The hidden layer before GELU (rows, H), without bias.
    hidden: Scratch<T>,
    /// The MLP's output (rows, D), where a gate looks at it.
    mlp: Option<Scratch>,
    bottleneck: Option<Bottleneck>,
}

multiversioned! {
    /// `out = GELU(hidden + bias)`, row by row.
    fn gelu_rows<T: Real>(hidden: &[T], bias: &[f32], out: &mut [T]) {
        let width = bias.len();
        for (out, hidden) in out.chunks_exact_mut(width).zip(hidden.chunks_exact(width)) {
            for i in 0..width {
                let h = hidden[i].to_f32() + bias[i];
                out[i] = T::from_f32(h * special::normal(h).0);
            }
        }
    }
}

multiversioned! {
    /// Replaces `d` by `d GELU'(hidden + bias)`, row by row.
    fn gelu_backward_rows<T: Real>(hidden: &[T], bias: &[f32], d: &mut [T]) {
        let width = bias.len();
        for (d, hidden) in d.chunks_exact_mut(width).zip(hidden.chunks_exact(width)) {
            for i in 0..width {
                let h = hidden[i].to_f32() + bias[i];
                let (cdf, pdf) = special::normal(h);
                d[i] = T::from_f32(d[i].to_f32() * (cdf + h * pdf));
            }
        }
    }
}

/// The weights, borrowed.
struct Layers<'a> {
    norm: Norm<'a>,
    fc1: Dense<'a>,
    fc2: Dense<'a>,
    adapter: Option<Adapter<'a>>,
    /// Zeros where `fc1` has no bias.
    hidden_bias: Vec<f32>,
}

impl<'a> Layers<'a> {
    fn new(weights: &'a MlpWeights) -> Result<Self> {
        let fc1 = Dense::new(&weights.fc1, weights.precision)?;
        let mut hidden_bias = fc1.bias().to_vec();
        hidden_bias.resize(fc1.outputs(), 0.0);
        Ok(Self {
            norm: Norm::new(&weights.norm)?,
            fc1,
            fc2: Dense::new(&weights.fc2, weights.precision)?,
            adapter: weights
                .adapter
                .as_ref()
                .map(|adapter| Adapter::new(adapter, weights.precision))
                .transpose()?,
            hidden_bias,
        })
    }

    fn gelu<T: Real>(&self, hidden: &[T]) -> Scratch<T> {
        let (bias, width) = (&self.hidden_bias[..], self.hidden_bias.len());
        let mut out = Scratch::new(hidden.len());
        rows::for_rows(&mut out, width, |first, out| {
            let from = first * width;
            gelu_rows(&hidden[from..from + out.len()], bias, out);
        });
        out
    }

    /// The hidden layer before GELU, without bias.
    fn hidden<T: Real>(&self, x: &[f32]) -> Scratch<T> {
        let mut normed = Scratch::<T>::new(x.len());
        self.norm.forward(x, &mut normed);
        let mut hidden = Scratch::new(x.len() / self.fc2.outputs() * self.fc1.outputs());
        self.fc1.forward(&normed, &mut hidden);
        hidden
    }

    /// The MLP's output with its bias.
    fn mlp<T: Real>(&self, hidden: &[T]) -> Scratch {
        let rows = hidden.len() / self.fc1.outputs().max(1);
        let mut mlp = Scratch::new(rows * self.fc2.outputs());
        self.fc2.forward(&self.gelu(hidden), &mut mlp);
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

/// The branch's output, and what is kept of the way there.
fn forward<T: Real>(
    x: &Tensor,
    weights: &MlpWeights,
    mode: Mode,
    keep: Keep,
) -> Result<(Vec<f32>, Option<Activations<T>>)> {
    let values = borrow(x)?;
    let layers = Layers::new(weights)?;
    let hidden = layers.hidden(&values);
    let Some(adapter) = &layers.adapter else {
        let mut y = layers.fc2.forward_new(&layers.gelu(&hidden));
        rows::add_to(&mut y, &values, layers.fc2.bias());
        let saved = Activations { hidden, mlp: None, bottleneck: None };
        return Ok((y, (keep == Keep::Activations).then_some(saved)));
    };
    let mlp = layers.mlp(&hidden);
    let bottleneck = adapter.bottleneck(&values, mode);
    let y = rows::sum_of_three(&values, &mlp, &adapter.delta(&bottleneck, &mlp));
    let saved = (keep == Keep::Activations).then(|| Activations {
        hidden,
        mlp: adapter.is_gated().then_some(mlp),
        bottleneck: Some(bottleneck),
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
        let layers = Layers::new(&self.weights)?;
        let Layers { norm, fc1, fc2, adapter, .. } = &layers;
        let mut wants = Wants::new(wanted);
        let (norm_want, fc1_want, fc2_want) = (wants.norm(), wants.dense(fc1), wants.dense(fc2));
        let saved = self.saved.take_or(|| {
            let hidden = layers.hidden(&x);
            let gated = adapter.as_ref().is_some_and(Adapter::is_gated);
            let mlp = gated.then(|| layers.mlp(&hidden));
            let bottleneck = adapter.as_ref().map(|adapter| adapter.bottleneck(&x, self.mode));
            Ok(Activations { hidden, mlp, bottleneck })
        })?;
        let Activations::<T> { hidden, mlp, bottleneck } = saved;
        let below_fc2 = d_x || norm_want.any() || fc1_want.any();
        let mut d_result = d_x.then(|| rows::copied(d_y));

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
                d_y,
                (d_result.as_deref_mut(), want_d_mlp),
                &mut wants,
            );
            d_adapter = gradients.d_params;
            d_mlp = gradients.d_mlp;
        }
        drop(mlp);
        let d_mlp = d_mlp.as_deref().unwrap_or(d_y);

        let d_fc2 =
            fc2_want.gradients(|| fc2.d_weight(d_mlp, &layers.gelu(&hidden)), || fc2.d_bias(d_mlp));
        if !below_fc2 {
            let absent = vec![None; wanted.len() - d_fc2.len() - d_adapter.len()];
            return Ok(Gradients { d_x: None, d_params: [absent, d_fc2, d_adapter].concat() });
        }
        let (bias, width) = (&layers.hidden_bias[..], fc1.outputs());
        let mut d_hidden = Scratch::<T>::new(hidden.len());
        fc2.d_x(d_mlp, &mut d_hidden);
        rows::for_rows(&mut d_hidden, width, |first, d| {
            let from = first * width;
            gelu_backward_rows(&hidden[from..from + d.len()], bias, d);
        });
        drop(hidden);
        let d_fc1 = fc1_want.gradients(
            || {
                let mut normed = Scratch::<T>::new(x.len());
                norm.forward(&x, &mut normed);
                fc1.d_weight(&d_hidden, &normed)
            },
            || fc1.d_bias(&d_hidden),
        );
        let mut d_normed = Scratch::new(x.len());
        fc1.d_x(&d_hidden, &mut d_normed);
        drop(d_hidden);
        let d_norm = norm_want.norm_gradients(norm, &x, &d_normed);
        if let Some(d_x) = &mut d_result {
            norm.add_d_x(&x, &d_normed, d_x);
        }
        Ok(Gradients { d_x: d_result, d_params: [d_norm, d_fc1, d_fc2, d_adapter].concat() })
    }
}
