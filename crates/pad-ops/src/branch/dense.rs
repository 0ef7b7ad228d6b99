//! A linear layer's three products, those of its low-rank adapters beside them, and a layer norm's
//! passes, on borrowed weights.

use std::ops::Deref;

use candle_core::Result;

use super::{
    layer_weights::{LinearWeights, NormWeights, PackedWeight},
    low_rank::{LowRank, PartWant, Wide, widened},
    precision::MatmulPrecision,
};
use crate::{
    cpu::{
        bf16::{self, Packed, Values, without},
        matmul::{Into, Mat, Threads, matmul, product},
        real::Real,
        rows,
        scratch::Scratch,
        slices,
    },
    layer_norm,
};

/// A linear layer, `y = f (W x + s B A x)` with its adapters; the bias is its user's to add.
pub(super) struct Dense<'a> {
    weight: slices::Values<'a>,
    bias: Option<slices::Values<'a>>,
    outputs: usize,
    inputs: usize,
    precision: MatmulPrecision,
    packed: &'a PackedWeight,
    low_rank: Vec<LowRank<'a>>,
    /// `f`, (O), where an adapter has one.
    factors: Option<Vec<f32>>,
}

impl<'a> Dense<'a> {
    pub(super) fn new(weights: &'a LinearWeights, precision: MatmulPrecision) -> Result<Self> {
        let (outputs, inputs) = weights.weight.dims2()?;
        let bias = weights.bias.as_ref().map(slices::borrow).transpose()?;
        let (weight, packed) = (slices::borrow(&weights.weight)?, weights.packed());
        let low_rank = weights.low_rank.iter().map(LowRank::new).collect::<Result<Vec<_>>>()?;
        let mut factors = None;
        for (first, factor) in low_rank.iter().filter_map(LowRank::factor) {
            let all = factors.get_or_insert_with(|| vec![1.0; outputs]);
            all[first..first + factor.len()].copy_from_slice(factor);
        }
        Ok(Self { weight, bias, outputs, inputs, precision, packed, low_rank, factors })
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

    /// `y = f (x weight^T + s x a^T b^T)`, without the bias: the pass that reads `y` adds it.
    pub(super) fn forward<A: Real, O: Real>(&self, x: &[A], y: &mut [O]) {
        let rows = x.len() / self.inputs;
        self.multiply(
            (y, Mat::dense(rows, self.outputs)),
            (x, Mat::dense(rows, self.inputs)),
            true,
        );
        self.low_rank.iter().for_each(|part| part.add(x, y, self.outputs));
        self.scale_rows(y);
    }

    /// [`Dense::forward`] into a new array.
    pub(super) fn forward_new<A: Real>(&self, x: &[A]) -> Vec<f32> {
        let mut y = self.unscaled(x);
        self.scale_rows(&mut y);
        y
    }

    /// [`Dense::forward_new`] without the factors.
    fn unscaled<A: Real>(&self, x: &[A]) -> Vec<f32> {
        let (values, mat) = (A::values(x), Mat::dense(x.len() / self.inputs, self.inputs));
        let mut y = match (self.precision, values) {
            (MatmulPrecision::F32, Values::F32(x)) => product((x, mat), self.right(true)),
            (_, x) if bf16::has_instruction() => {
                self.with_packed(true, |b| bf16::product((x, mat), b, None, Threads::All))
            }
            (_, x) => {
                let (weight, weight_mat) = self.right(true);
                without::product((x, mat), (Values::F32(weight), weight_mat))
            }
        };
        self.low_rank.iter().for_each(|part| part.add(x, &mut y, self.outputs));
        y
    }

    /// Multiplies the values of each row by the factors, where there are some.
    fn scale_rows<T: Real>(&self, y: &mut [T]) {
        let Some(factors) = &self.factors else { return };
        rows::for_rows(y, self.outputs, |_, y| {
            for y in y.chunks_exact_mut(factors.len()) {
                for (y, factor) in y.iter_mut().zip(factors) {
                    *y = T::from_f32(y.to_f32() * factor);
                }
            }
        });
    }

    /// `d_y` in front of the factors, in `f32`.
    fn d_unscaled<'y, A: Real>(&self, d_y: &'y [A]) -> Wide<'y> {
        let wide = widened(d_y);
        if self.factors.is_none() {
            return wide;
        }
        let mut scaled = Scratch::new(wide.len());
        scaled.copy_from_slice(&wide);
        self.scale_rows(&mut scaled);
        Wide::Own(scaled)
    }

    /// The gradient to `x`, `d_y weight` and that of the adapters.
    pub(super) fn d_x<A: Real, O: Real>(&self, d_y: &[A], d_x: &mut [O]) {
        let rows = d_y.len() / self.outputs;
        let (from, to) = (Mat::dense(rows, self.outputs), Mat::dense(rows, self.inputs));
        if self.low_rank.is_empty() {
            return self.multiply((d_x, to), (d_y, from), false);
        }
        let d_z = self.d_unscaled(d_y);
        match self.factors {
            Some(_) => self.multiply((d_x, to), (&d_z[..], from), false),
            None => self.multiply((d_x, to), (d_y, from), false),
        }
        self.low_rank.iter().for_each(|part| part.add_d_x(&d_z, self.outputs, d_x));
    }

    /// The gradients that are wanted, in the order of the layer's tensors; `x` computes its input.
    pub(super) fn gradients<A: Real, B: Real, X: Deref<Target = [B]>>(
        &self,
        want: &DenseWant,
        d_y: &[A],
        x: impl FnOnce() -> X,
    ) -> LayerGradients {
        let adapts = want.parts.iter().any(|part| part.any());
        let x = (want.weight || adapts).then(x);
        let x: &[B] = x.as_deref().unwrap_or(&[]);
        let d_z = adapts.then(|| self.d_unscaled(d_y));
        let mut all = vec![want.weight.then(|| match &self.factors {
            Some(_) => self.d_weight(&self.d_unscaled(d_y), x),
            None => self.d_weight(d_y, x),
        })];
        all.extend(want.bias.map(|wanted| wanted.then(|| self.d_bias(d_y))));
        let trains_factor = want.parts.iter().any(|part| part.factor == Some(true));
        // The result without factors is computed again: a trained one may be zero.
        let unscaled = trains_factor.then(|| (widened(d_y), self.unscaled(x)));
        for (part, want) in self.low_rank.iter().zip(&want.parts) {
            let d_z = d_z.as_deref().unwrap_or(&[]);
            all.extend(part.gradients(*want, d_z, self.outputs, x));
            all.extend(want.factor.map(|wanted| {
                let (d_y, z) = unscaled.as_ref().filter(|_| wanted)?;
                Some(part.d_factor(d_y, z, self.outputs))
            }));
        }
        all
    }

    /// `d_y^T x`, (O, I), in `f32` only if the layer multiplies in `f32` and both are.
    fn d_weight<A: Real, B: Real>(&self, d_y: &[A], x: &[B]) -> Vec<f32> {
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
    fn d_bias<A: Real>(&self, d_y: &[A]) -> Vec<f32> {
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
        Want { weight: self.one(), bias: self.one() }
    }

    pub(super) fn dense(&mut self, layer: &Dense<'_>) -> DenseWant {
        let weight = self.one();
        let bias = layer.bias.is_some().then(|| self.one());
        let part = |part: &LowRank<'_>| {
            let (a, b) = (self.one(), self.one());
            PartWant { a, b, factor: part.has_factor().then(|| self.one()) }
        };
        DenseWant { weight, bias, parts: layer.low_rank.iter().map(part).collect() }
    }
}

/// Whether a norm's weight and its bias need a gradient.
#[derive(Clone, Copy)]
pub(super) struct Want {
    weight: bool,
    bias: bool,
}

/// Which of a layer's tensors need a gradient: the weight, the bias if it has one, the adapters'.
pub(super) struct DenseWant {
    weight: bool,
    bias: Option<bool>,
    parts: Vec<PartWant>,
}

impl DenseWant {
    pub(super) fn any(&self) -> bool {
        self.weight || self.bias == Some(true) || self.parts.iter().any(|part| part.any())
    }
}

/// A layer's gradients in the order of its tensors.
pub(super) type LayerGradients = Vec<Option<Vec<f32>>>;

impl Want {
    pub(super) fn any(self) -> bool {
        self.weight || self.bias
    }

    /// A norm's gradients, computed together.
    pub(super) fn norm_gradients(self, norm: &Norm<'_>, x: &[f32], d_y: &[f32]) -> LayerGradients {
        if !self.any() {
            return vec![None, None];
        }
        let (weight, bias) = norm.d_affine(x, d_y);
        vec![self.weight.then_some(weight), self.bias.then_some(bias)]
    }
}
