//! Forward and backward of `x + s A(x) + fc2(GELU(fc1(LN(x))))` on devices.

use candle_core::{Result, Tensor};

use super::{
    adapter::{self, Adapted, AdapterPlaces, Tail},
    kernels::{Normed, Types, like},
    layer::{self, Collected, Place, Places},
};
use crate::{
    Mode,
    branch::{
        precision::Keep,
        saved::Saved,
        weights::{AdapterWeights, MlpWeights, ResidualWeights},
    },
    gpu::nary::{self, Backward, Gradients},
};

/// What the backward needs beside `x`. What only a weight's gradient needs is kept where it is
/// trained.
struct Activations {
    moments: Tensor,
    /// What `fc1` saw.
    normed: Option<Tensor>,
    /// Before GELU, without bias.
    hidden: Tensor,
    /// After it.
    activated: Option<Tensor>,
    /// The weights of `fc1` and `fc2` in the type of products.
    narrow: [Tensor; 2],
    /// The MLP's output without bias.
    mlp: Option<Tensor>,
    adapter: Option<AdapterActivations>,
}

struct AdapterActivations {
    /// What `down` saw.
    input: Option<Tensor>,
    adapted: Adapted,
    narrow: [Tensor; 2],
}

/// The branch's output, and what is left of the way there.
fn forward(x: &Tensor, weights: &MlpWeights, mode: Mode) -> Result<(Tensor, Activations)> {
    // Without the options that `super::mlp_branch` leaves to the composition.
    let MlpWeights { norm, fc1, fc2, residual, adapter, precision, .. } = weights;
    let types = Types::new(x, *precision);
    let narrow = layer::weights(types, [fc1, fc2])?;
    let second = adapter.as_ref().and_then(|adapter| adapter.norm.as_ref());
    let Normed { y: normed, second, moments } = types.norm(x, norm, second)?;
    let hidden = layer::forward(&normed, &narrow[0])?;
    let normed = fc1.weight.track_op().then_some(normed);
    let inputs = [Some(&hidden), fc1.bias.as_ref()];
    let activated = types.by_fours("branch_gelu", &inputs, like(&hidden), &[])?;
    let mlp = layer::forward(&activated, &narrow[1])?;
    let activated = fc2.weight.track_op().then_some(activated);
    let mlp_bias = fc2.bias.as_ref();
    let left =
        |mlp, adapter| Activations { moments, normed, hidden, activated, narrow, mlp, adapter };
    let Some(adapter) = adapter else {
        let y = types.joined(x, &mlp, mlp_bias, residual)?;
        let trains_gamma = residual.gamma.as_ref().is_some_and(Tensor::track_op);
        return Ok((y, left(trains_gamma.then_some(mlp), None)));
    };
    let AdapterWeights { norm: _, down, up, dropout: _, scale: _ } = adapter;
    let adapter_narrow = layer::weights(types, [down, up])?;
    let input = match second {
        Some(second) => second,
        None => {
            let [narrow] = types.narrow([x])?;
            narrow
        }
    };
    let adapted = adapter::forward(types, adapter, &adapter_narrow, &input, mode)?;
    let tail = Tail { types, weights: adapter, residual, mlp: &mlp, mlp_bias, a: &adapted.a };
    let y = tail.forward(x)?;
    let input = down.weight.track_op().then_some(input);
    let adapter = AdapterActivations { input, adapted, narrow: adapter_narrow };
    Ok((y, left(Some(mlp), Some(adapter))))
}

pub(super) fn apply(
    op: &'static str,
    x: &Tensor,
    weights: &MlpWeights,
    mode: Mode,
    keep: Keep,
) -> Result<Tensor> {
    let params = weights.tensors();
    let values = x.detach();
    let (y, activations) = forward(&values, weights, mode)?;
    let kept = nary::tracks(x, &params) && keep == Keep::Activations;
    let saved = Saved::new(kept.then_some(activations));
    nary::apply(op, x, &params, y, Node { x: values, weights: weights.clone(), mode, saved })
}

/// The operator's part of the graph.
struct Node {
    x: Tensor,
    weights: MlpWeights,
    mode: Mode,
    saved: Saved<Activations>,
}

impl Backward for Node {
    fn backward(&self, d_y: &Tensor, d_x: bool, wanted: &[bool]) -> Result<Gradients> {
        let (x, weights) = (&self.x, &self.weights);
        let MlpWeights { norm: norm_weights, fc1: fc1_weights, fc2: fc2_weights, .. } = weights;
        let residual = &weights.residual;
        let types = Types::new(x, weights.precision);
        let params = weights.tensors();
        let mut places = Places::new(wanted);
        let (norm, mut fc1, mut fc2) =
            (places.norm(), places.dense(fc1_weights), places.dense(fc2_weights));
        let gamma = places.gamma(residual);
        let adapter = weights.adapter.as_ref();
        let adapter = adapter.map(|adapter| (adapter, AdapterPlaces::new(adapter, &mut places)));
        let mut into = Collected::new(types, params.len());
        let saved = self.saved.take_or(|| Ok(forward(x, weights, self.mode)?.1))?;
        let Activations { moments, normed, hidden, activated, narrow, mlp, adapter: kept } = saved;

        let result = (mlp.as_ref(), fc2_weights.bias.as_ref());
        layer::gamma_gradient(&mut into, gamma, d_y, result, residual)?;
        // The adapter first: its gate passes a gradient to the MLP's output.
        let mut d_input = None;
        let d_mlp = match (&adapter, &mlp, kept) {
            (Some((adapter, places)), Some(mlp), Some(kept)) => {
                let mut up = places.up;
                let AdapterActivations { input, adapted, narrow } = kept;
                let mlp_bias = fc2_weights.bias.as_ref();
                let a = &adapted.a;
                let tail = Tail { types, weights: adapter, residual, mlp, mlp_bias, a };
                let [d_mlp, d_a] = tail.backward(d_y, places.scale, &mut up.bias, &mut into)?;
                let seen = (input.as_ref(), &adapted.bottleneck);
                d_input = adapter::backward(
                    types,
                    adapter,
                    (places, up),
                    &narrow,
                    seen,
                    &d_a,
                    (self.mode, d_x),
                    &mut into,
                )?;
                d_mlp
            }
            _ => {
                let d_mlp = layer::arriving(&mut into, fc2, d_y, residual)?;
                fc2.bias = None;
                d_mlp
            }
        };
        drop(mlp);
        layer::gradients(&mut into, fc2, &d_mlp, activated.as_ref())?;
        drop(activated);
        let mut d_normed = None;
        if d_x || norm.any() || fc1.any() {
            let d_activated = layer::d_x(&d_mlp, &narrow[1])?;
            let inputs = [Some(&hidden), fc1_weights.bias.as_ref(), Some(&d_activated)];
            let d_hidden = match fc1.bias.take() {
                Some(at) => {
                    let shape = hidden.shape();
                    let function = "branch_gelu_backward_and_sum";
                    let [d_hidden, partial] = types.with_sums(function, &inputs, shape, &[])?;
                    into.sum(&[(Some(at), fc1_weights.weight.dim(0)?)], partial);
                    d_hidden
                }
                None => types.by_fours("branch_gelu_backward", &inputs, like(&hidden), &[])?,
            };
            drop((hidden, d_activated));
            layer::gradients(&mut into, fc1, &d_hidden, normed.as_ref())?;
            if d_x || norm.any() {
                d_normed = Some(layer::d_x(&d_hidden, &narrow[0])?);
            }
        }
        drop((normed, d_mlp));
        let first = (d_normed.as_ref().map(|d_normed| (norm_weights, d_normed)), norm);
        let second_norm = adapter.as_ref().and_then(|(adapter, _)| adapter.norm.as_ref());
        let place = adapter.as_ref().and_then(|(_, places)| places.norm);
        let second = (second_norm.zip(d_input.as_ref()), place.unwrap_or(Place::NOWHERE));
        let d_x = layer::norms(&mut into, x, &moments, [first, second], d_y, d_x)?;
        // An adapter without norm sees `x` itself.
        let d_x = match (d_x, second_norm, &d_input) {
            (Some(d_x), None, Some(d_input)) => {
                Some(types.joined(&d_x, d_input, None, &ResidualWeights::default())?)
            }
            (d_x, ..) => d_x,
        };
        Ok(Gradients { d_x, d_params: into.finish(&params)? })
    }
}
