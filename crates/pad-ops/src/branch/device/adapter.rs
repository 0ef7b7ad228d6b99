//! The adapter inside the MLP branch on devices: its bottleneck, and the tail that adds the MLP's
//! output and its own to the residual stream.

use candle_core::{DType, Result, Shape, Tensor};

use super::{
    kernels::{Output, Types, like, rows_of, tokens},
    layer::{self, Collected, Place, Places},
};
use crate::{
    Mode,
    branch::weights::{AdapterScale, AdapterWeights, ResidualWeights},
    dropout::device::mask_numbers,
    fuse_patchwise::device::places,
    gpu::{self, BLOCK, Number, WARPS, int},
    rng::Purpose,
};

/// Numbers of the stream that a thread draws.
const DRAWN: usize = 16;

/// An adapter's way forward.
pub(super) struct Adapted {
    /// After ReLU and dropout, in `T` (.., K).
    pub(super) bottleneck: Tensor,
    /// `A(x)` without bias, in `T` (.., D).
    pub(super) a: Tensor,
}

/// Whether dropout takes part, and what it multiplies kept values by.
fn drops(weights: &AdapterWeights, mode: Mode) -> (bool, f32) {
    match mode {
        Mode::Train(_) if weights.dropout > 0.0 => (true, (1.0 / (1.0 - weights.dropout)) as f32),
        _ => (false, 1.0),
    }
}

/// `input`: what `down` sees, in `T`; `narrow`: the weights of `down` and `up`.
pub(super) fn forward(
    types: Types,
    weights: &AdapterWeights,
    narrow: &[Tensor; 2],
    input: &Tensor,
    mode: Mode,
) -> Result<Adapted> {
    let z = layer::forward(input, &narrow[0])?;
    let (count, (_, width)) = (z.elem_count(), rows_of(&z)?);
    let (drops, _) = drops(weights, mode);
    let mut numbers = vec![int(count)?, int(width)?, Number::Int(i32::from(drops))];
    let key = match mode {
        Mode::Train(key) => key,
        Mode::Eval => crate::rng::Key::new(0), // not drawn from
    };
    numbers.extend(mask_numbers(weights.dropout, key.purpose(Purpose::Dropout)));
    let blocks = count.div_ceil(DRAWN * BLOCK);
    let launch = types.launch("branch_bottleneck", blocks, numbers, like(&z))?;
    let [bottleneck] = gpu::several(&launch, &[Some(&z), weights.down.bias.as_ref()])?;
    let a = layer::forward(&bottleneck, &narrow[1])?;
    Ok(Adapted { bottleneck, a })
}

/// What the tail looks at.
pub(super) struct Tail<'a> {
    pub(super) types: Types,
    pub(super) weights: &'a AdapterWeights,
    /// Of the MLP's output.
    pub(super) residual: &'a ResidualWeights,
    /// The MLP's output without bias.
    pub(super) mlp: &'a Tensor,
    pub(super) mlp_bias: Option<&'a Tensor>,
    pub(super) a: &'a Tensor,
}

impl Tail<'_> {
    fn gate(&self) -> Option<&Tensor> {
        match &self.weights.scale {
            AdapterScale::Patchwise { gate, .. } => Some(gate),
            _ => None,
        }
    }

    fn scale(&self) -> Option<&Tensor> {
        match &self.weights.scale {
            AdapterScale::Learnable(scale) => Some(scale),
            _ => None,
        }
    }

    fn operands(&self) -> [Option<&Tensor>; 8] {
        let a_bias = self.weights.up.bias.as_ref();
        let ResidualWeights { gamma, factors } = self.residual;
        [
            Some(self.mlp),
            self.mlp_bias,
            Some(self.a),
            a_bias,
            self.gate(),
            self.scale(),
            gamma.as_ref(),
            factors.as_ref(),
        ]
    }

    fn places(&self, d: usize) -> Result<[Number; 2]> {
        match &self.weights.scale {
            AdapterScale::Patchwise { fusion, .. } => places(*fusion, d),
            _ => Ok([Number::Int(-1); 2]),
        }
    }

    fn numbers(&self) -> Result<Vec<Number>> {
        let (rows, d) = rows_of(self.mlp)?;
        let fixed = match &self.weights.scale {
            AdapterScale::Fixed(scale) => *scale as f32,
            _ => 0.0,
        };
        let [mlp_at, adapter_at] = self.places(d)?;
        let fixed = Number::Float(fixed);
        Ok(vec![int(rows)?, int(d)?, mlp_at, adapter_at, fixed, tokens(self.mlp)?])
    }

    fn blocks(&self) -> Result<usize> {
        Ok(rows_of(self.mlp)?.0.div_ceil(WARPS))
    }

    /// `x + g mlp + s a`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let launch =
            self.types.launch("branch_adapted_tail", self.blocks()?, self.numbers()?, like(x))?;
        let inputs: Vec<Option<&Tensor>> =
            std::iter::once(Some(x)).chain(self.operands()).collect();
        let [y] = gpu::several(&launch, &inputs)?;
        Ok(y)
    }

    /// Gradients to `mlp` and `a`, in `T`; those to gate or scale go to `into`, and with those to a
    /// gate that to `up`'s bias, which is taken from `up_bias_at`.
    pub(super) fn backward(
        &self,
        d_y: &Tensor,
        scale_at: Option<usize>,
        up_bias_at: &mut Option<usize>,
        into: &mut Collected,
    ) -> Result<[Tensor; 2]> {
        let (rows, d) = rows_of(self.mlp)?;
        let (function, output): (_, Output) = ("branch_adapted_tail_backward", like(self.mlp));
        let mut launch =
            self.types.launch(function, self.blocks()?, self.numbers()?, output.clone())?;
        launch.more.extend([output, (DType::F32, Shape::from((rows, 2)))]);
        let inputs: Vec<Option<&Tensor>> = self.operands().into_iter().chain([Some(d_y)]).collect();
        let [d_mlp, d_a, marks] = gpu::several(&launch, &inputs)?;
        let Some(at) = scale_at else { return Ok([d_mlp, d_a]) };
        match &self.weights.scale {
            AdapterScale::Fixed(_) => {}
            AdapterScale::Learnable(_) => {
                let chunks = crate::gpu::chunks(rows);
                let numbers = vec![int(rows)?, int(chunks)?];
                let output = (DType::F32, Shape::from((chunks, 1)));
                let launch = self.types.launch("branch_sum_marks", chunks, numbers, output)?;
                let [partial] = gpu::several(&launch, &[Some(&marks)])?;
                into.sum(&[(Some(at), 1)], partial);
            }
            AdapterScale::Patchwise { fusion, .. } => {
                let width = fusion.gate_width(d);
                let [mlp, mlp_bias, a, a_bias, ..] = self.operands();
                let inputs = [mlp, mlp_bias, a, a_bias, Some(&d_a), Some(&marks)];
                let [mlp_at, adapter_at] = self.places(d)?;
                let numbers = [mlp_at, adapter_at, int(width)?];
                let sizes = [rows, d, width + d];
                let partial = self.types.sums("branch_sum_gate", &inputs, sizes, &numbers)?;
                into.sum(&[(Some(at), width), (up_bias_at.take(), d)], partial);
            }
        }
        Ok([d_mlp, d_a])
    }
}

/// Where an adapter's gradients go.
pub(super) struct AdapterPlaces {
    pub(super) norm: Option<Place>,
    pub(super) down: Place,
    pub(super) up: Place,
    pub(super) scale: Option<usize>,
}

impl AdapterPlaces {
    /// In the order of the adapter's tensors.
    pub(super) fn new(weights: &AdapterWeights, places: &mut Places<'_>) -> Self {
        let norm = weights.norm.as_ref().map(|_| places.norm());
        let (down, up) = (places.dense(&weights.down), places.dense(&weights.up));
        let scale = match &weights.scale {
            AdapterScale::Fixed(_) => None,
            _ => places.one(),
        };
        Self { norm, down, up, scale }
    }

    /// Whether anything before the bottleneck wants a gradient.
    fn below_up(&self) -> bool {
        self.down.any() || self.norm.is_some_and(Place::any)
    }
}

/// The gradient to what `down` saw, in `T`, if it is needed: for `x`, or for the norm. `up`: what is
/// left of its gradients.
#[expect(clippy::too_many_arguments, reason = "the adapter's side of one backward")]
pub(super) fn backward(
    types: Types,
    weights: &AdapterWeights,
    (places, up): (&AdapterPlaces, Place),
    narrow: &[Tensor; 2],
    (input, bottleneck): (Option<&Tensor>, &Tensor),
    d_a: &Tensor,
    (mode, d_x): (Mode, bool),
    into: &mut Collected,
) -> Result<Option<Tensor>> {
    layer::gradients(into, up, d_a, Some(bottleneck))?;
    if !(d_x || places.below_up()) {
        return Ok(None);
    }
    let d_bottleneck = layer::d_x(d_a, &narrow[1])?;
    let (count, (_, kept)) = (bottleneck.elem_count(), drops(weights, mode));
    let numbers = vec![int(count)?, Number::Float(kept)];
    let blocks = count.div_ceil(4 * BLOCK);
    let launch = types.launch("branch_bottleneck_backward", blocks, numbers, like(bottleneck))?;
    let [d_z] = gpu::several(&launch, &[Some(bottleneck), Some(&d_bottleneck)])?;
    layer::gradients(into, places.down, &d_z, input)?;
    if !(d_x || places.norm.is_some_and(Place::any)) {
        return Ok(None);
    }
    Ok(Some(layer::d_x(&d_z, &narrow[0])?))
}
