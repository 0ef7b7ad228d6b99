//! A linear layer's three products and a layer norm's passes, on borrowed weights.

use candle_core::Result;

use super::weights::{LinearWeights, MatmulPrecision, NormWeights, PackedWeight};
use crate::{
    cpu::{
        bf16::{self, Packed, Values, without},
        matmul::{Into, Mat, Threads, matmul, product},
        real::Real,
        rows, slices,
    },
    layer_norm,
};

/// A linear layer.
pub(super) struct Dense<'a> {
    weight: slices::Values<'a>,
    bias: Option<slices::Values<'a>>,
    outputs: usize,
    inputs: usize,
    precision: MatmulPrecision,
    packed: &'a PackedWeight,
}

impl<'a> Dense<'a> {
    pub(super) fn new(weights: &'a LinearWeights, precision: MatmulPrecision) -> Result<Self> {
        let (outputs, inputs) = weights.weight.dims2()?;
        let bias = weights.bias.as_ref().map(slices::borrow).transpose()?;
        let (weight, packed) = (slices::borrow(&weights.weight)?, weights.packed());
        Ok(Self { weight, bias, outputs, inputs, precision, packed })
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// (O), empty if the layer has none.
    pub(super) fn bias(&self) -> &[f32] {
        self.bias.as_deref().unwrap_or(&[])
    }

    /// What a product multiplies with: (I, O) in the forward, (O, I) in the backward.
    fn right(&self, transposed: bool) -> (&[f32], Mat) {
        let mat = Mat::dense(self.outputs, self.inputs);
        (&self.weight, if transposed { mat.t() } else { mat })
    }

    /// `y = x weight^T`, without the bias: the pass that reads `y` adds it.
    pub(super) fn forward<A: Real, O: Real>(&self, x: &[A], y: &mut [O]) {
        let rows = x.len() / self.inputs;
        self.multiply(
            (y, Mat::dense(rows, self.outputs)),
            (x, Mat::dense(rows, self.inputs)),
            true,
        );
    }

    /// [`Dense::forward`] into a new array.
    pub(super) fn forward_new<A: Real>(&self, x: &[A]) -> Vec<f32> {
        let (x, mat) = (A::values(x), Mat::dense(x.len() / self.inputs, self.inputs));
        match (self.precision, x) {
            (MatmulPrecision::F32, Values::F32(x)) => product((x, mat), self.right(true)),
            (_, x) if bf16::has_instruction() => {
                self.with_packed(true, |b| bf16::product((x, mat), b, None, Threads::All))
            }
            (_, x) => {
                let (weight, weight_mat) = self.right(true);
                without::product((x, mat), (Values::F32(weight), weight_mat))
            }
        }
    }

    /// `d_x = d_y weight`.
    pub(super) fn d_x<A: Real, O: Real>(&self, d_y: &[A], d_x: &mut [O]) {
        let rows = d_y.len() / self.outputs;
        let d_x = (d_x, Mat::dense(rows, self.inputs));
        self.multiply(d_x, (d_y, Mat::dense(rows, self.outputs)), false);
    }

    /// `d_y^T x`, (O, I), in `f32` only if the layer multiplies in `f32` and both are.
    pub(super) fn d_weight<A: Real, B: Real>(&self, d_y: &[A], x: &[B]) -> Vec<f32> {
        let rows = x.len() / self.inputs;
        let (a, b) = (Mat::dense(rows, self.outputs).t(), Mat::dense(rows, self.inputs));
        match (self.precision, A::values(d_y), B::values(x)) {
            (MatmulPrecision::F32, Values::F32(d_y), Values::F32(x)) => product((d_y, a), (x, b)),
            (_, d_y, x) if bf16::has_instruction() => {
                bf16::product((d_y, a), &Packed::new((x, b), Threads::All), None, Threads::All)
            }
            (_, d_y, x) => without::product((d_y, a), (x, b)),
        }
    }

    /// `out = a weight`, transposed or not, in `f32` only if the layer multiplies in `f32` and both
    /// are.
    fn multiply<A: Real, O: Real>(
        &self,
        (out, out_mat): (&mut [O], Mat),
        (a, a_mat): (&[A], Mat),
        transposed: bool,
    ) {
        if let (MatmulPrecision::F32, Values::F32(a)) = (self.precision, A::values(a))
            && let Some(out) = O::as_f32_mut(out)
        {
            let b = self.right(transposed);
            return matmul((out, out_mat), Into::Replace, 1.0, (a, a_mat), b, Threads::All);
        }
        if !bf16::has_instruction() {
            let (weight, weight_mat) = self.right(transposed);
            let b = (Values::F32(weight), weight_mat);
            return without::replace((out, out_mat), (A::values(a), a_mat), b);
        }
        self.with_packed(transposed, |b| {
            bf16::replace((out, out_mat), (A::values(a), a_mat), b, Threads::All);
        });
    }

    /// Calls `multiply` with the weight in bf16: the kept one, or one for this call.
    fn with_packed<R>(&self, transposed: bool, multiply: impl FnOnce(&Packed) -> R) -> R {
        let pack = || {
            let (values, mat) = self.right(transposed);
            Packed::new((Values::F32(values), mat), Threads::All)
        };
        match transposed.then(|| self.packed.get(pack)).flatten() {
            Some(packed) => multiply(packed),
            None => multiply(&pack()),
        }
    }

    /// The sum of `d_y` over rows, (O).
    pub(super) fn d_bias<A: Real>(&self, d_y: &[A]) -> Vec<f32> {
        rows::sum_rows(d_y, self.outputs)
    }
}

/// A layer norm.
pub(super) struct Norm<'a> {
    weight: slices::Values<'a>,
    bias: slices::Values<'a>,
    eps: f32,
}

impl<'a> Norm<'a> {
    pub(super) fn new(weights: &'a NormWeights) -> Result<Self> {
        let (weight, bias) = (slices::borrow(&weights.weight)?, slices::borrow(&weights.bias)?);
        Ok(Self { weight, bias, eps: weights.eps as f32 })
    }

    pub(super) fn forward<T: Real>(&self, x: &[f32], y: &mut [T]) {
        layer_norm::cpu::forward(x, &self.weight, &self.bias, self.eps, y);
    }

    /// Adds the gradient to `x` onto `d_x`.
    pub(super) fn add_d_x(&self, x: &[f32], d_y: &[f32], d_x: &mut [f32]) {
        layer_norm::cpu::add_d_x(x, &self.weight, d_y, self.eps, d_x);
    }

    /// Gradients to weight and bias.
    pub(super) fn d_affine(&self, x: &[f32], d_y: &[f32]) -> (Vec<f32>, Vec<f32>) {
        layer_norm::cpu::d_affine(x, self.weight.len(), d_y, self.eps)
    }
}

/// Which of an operator's parameters need a gradient, taken layer by layer in the order of its
/// tensors.
pub(super) struct Wants<'a>(std::slice::Iter<'a, bool>);

impl<'a> Wants<'a> {
    pub(super) fn new(wanted: &'a [bool]) -> Self {
        Self(wanted.iter())
    }

    pub(super) fn one(&mut self) -> bool {
        self.0.next().copied().unwrap_or(false)
    }

    pub(super) fn norm(&mut self) -> Want {
        Want { weight: self.one(), bias: Some(self.one()) }
    }

    pub(super) fn dense(&mut self, layer: &Dense<'_>) -> Want {
        let weight = self.one();
        Want { weight, bias: layer.bias.is_some().then(|| self.one()) }
    }
}

/// Whether a layer's weight and its bias (if it has one) need a gradient.
#[derive(Clone, Copy)]
pub(super) struct Want {
    pub(super) weight: bool,
    bias: Option<bool>,
}

/// A layer's gradients in the order of its tensors.
pub(super) type LayerGradients = Vec<Option<Vec<f32>>>;

impl Want {
    pub(super) fn any(self) -> bool {
        self.weight || self.bias == Some(true)
    }

    /// The gradients that are needed.
    pub(super) fn gradients(
        self,
        weight: impl FnOnce() -> Vec<f32>,
        bias: impl FnOnce() -> Vec<f32>,
    ) -> LayerGradients {
        let mut all = vec![self.weight.then(weight)];
        all.extend(self.bias.map(|wanted| wanted.then(bias)));
        all
    }

    /// A norm's gradients, computed together.
    pub(super) fn norm_gradients(self, norm: &Norm<'_>, x: &[f32], d_y: &[f32]) -> LayerGradients {
        if !self.any() {
            return vec![None, None];
        }
        let (weight, bias) = norm.d_affine(x, d_y);
        vec![self.weight.then_some(weight), (self.bias == Some(true)).then_some(bias)]
    }
}
