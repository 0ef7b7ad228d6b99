//! A linear layer's three products and a layer norm's passes, on borrowed weights.

use candle_core::Result;

use super::weights::{LinearWeights, MatmulPrecision, NormWeights};
use crate::{
    cpu::{
        bf16::{self, Packed},
        matmul::{Into, Mat, Threads, matmul, product},
        rows,
        slices::{self, Values},
    },
    layer_norm,
};

/// A linear layer.
pub(super) struct Dense<'a> {
    weight: Values<'a>,
    bias: Option<Values<'a>>,
    outputs: usize,
    inputs: usize,
    precision: MatmulPrecision,
}

impl<'a> Dense<'a> {
    pub(super) fn new(weights: &'a LinearWeights, precision: MatmulPrecision) -> Result<Self> {
        let (outputs, inputs) = weights.weight.dims2()?;
        let bias = weights.bias.as_ref().map(slices::borrow).transpose()?;
        Ok(Self { weight: slices::borrow(&weights.weight)?, bias, outputs, inputs, precision })
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// (O), empty if the layer has none.
    pub(super) fn bias(&self) -> &[f32] {
        self.bias.as_deref().unwrap_or(&[])
    }

    /// (I, O): what a forward multiplies with.
    fn transposed(&self) -> Mat {
        Mat::dense(self.outputs, self.inputs).t()
    }

    /// `y = x weight^T`, without the bias: the pass that reads `y` adds it.
    pub(super) fn forward(&self, x: &[f32], y: &mut [f32]) {
        let rows = x.len() / self.inputs;
        let y = (y, Mat::dense(rows, self.outputs));
        self.multiply(y, (x, Mat::dense(rows, self.inputs)), (&self.weight, self.transposed()));
    }

    /// [`Dense::forward`] into a new array.
    pub(super) fn forward_new(&self, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.inputs;
        self.product((x, Mat::dense(rows, self.inputs)), (&self.weight, self.transposed()))
    }

    /// `d_x = d_y weight`.
    pub(super) fn d_x(&self, d_y: &[f32], d_x: &mut [f32]) {
        let rows = d_y.len() / self.outputs;
        let d_x = (d_x, Mat::dense(rows, self.inputs));
        let weight = (&self.weight[..], Mat::dense(self.outputs, self.inputs));
        self.multiply(d_x, (d_y, Mat::dense(rows, self.outputs)), weight);
    }

    /// `d_y^T x`, (O, I).
    pub(super) fn d_weight(&self, d_y: &[f32], x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.inputs;
        let d_y = (d_y, Mat::dense(rows, self.outputs).t());
        self.product(d_y, (x, Mat::dense(rows, self.inputs)))
    }

    fn multiply(&self, out: (&mut [f32], Mat), a: (&[f32], Mat), b: (&[f32], Mat)) {
        match self.precision {
            MatmulPrecision::F32 => matmul(out, Into::Replace, 1.0, a, b, Threads::All),
            MatmulPrecision::Bf16 => {
                let b = Packed::new((bf16::Values::F32(b.0), b.1), Threads::All);
                bf16::replace(out, (bf16::Values::F32(a.0), a.1), &b, Threads::All);
            }
        }
    }

    fn product(&self, a: (&[f32], Mat), b: (&[f32], Mat)) -> Vec<f32> {
        match self.precision {
            MatmulPrecision::F32 => product(a, b),
            MatmulPrecision::Bf16 => {
                let b = Packed::new((bf16::Values::F32(b.0), b.1), Threads::All);
                bf16::product((bf16::Values::F32(a.0), a.1), &b, None, Threads::All)
            }
        }
    }

    /// The sum of `d_y` over rows, (O).
    pub(super) fn d_bias(&self, d_y: &[f32]) -> Vec<f32> {
        rows::sum_rows(d_y, self.outputs)
    }
}

/// A layer norm.
pub(super) struct Norm<'a> {
    weight: Values<'a>,
    bias: Values<'a>,
    eps: f32,
}

impl<'a> Norm<'a> {
    pub(super) fn new(weights: &'a NormWeights) -> Result<Self> {
        let (weight, bias) = (slices::borrow(&weights.weight)?, slices::borrow(&weights.bias)?);
        Ok(Self { weight, bias, eps: weights.eps as f32 })
    }

    pub(super) fn forward(&self, x: &[f32], y: &mut [f32]) {
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

/// Which of an operator's parameters want a gradient, taken layer by layer in the order of its tensors.
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

/// Whether a layer's weight and its bias (if it has one) want a gradient.
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

    /// The gradients that are wanted.
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
