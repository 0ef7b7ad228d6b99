//! Linear layers of a half block: products in `T`, gradients in the parameters' type.

use candle_core::{Result, Tensor};

use super::kernels::{Types, rows_of, tokens};
use crate::{
    branch::layer_weights::{LinearWeights, NormWeights},
    branch::weights::ResidualWeights,
    products::matmul,
};

/// The weights of one or two layers in `T`: copies of frozen ones are kept, trained ones are
/// converted together.
pub(super) fn weights<const N: usize>(
    types: Types,
    layers: [&LinearWeights; N],
) -> Result<[Tensor; N]> {
    if layers.iter().all(|layer| !layer.packed().keeps()) {
        return types.narrow(layers.map(|layer| &layer.weight));
    }
    let mut made = Vec::with_capacity(N);
    for layer in layers {
        made.push(layer.packed().narrow(|| {
            let [narrow] = types.narrow([&layer.weight])?;
            Ok(narrow.detach())
        })?);
    }
    made.try_into().or_else(|_| candle_core::bail!("{N} weights"))
}

/// `x weight^T` over the last axis, both in `T`.
pub(super) fn forward(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (rows, _) = rows_of(x)?;
    let (outputs, inputs) = weight.dims2()?;
    let y = matmul(&x.reshape((rows, inputs))?, &weight.t()?)?;
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    y.reshape(shape)
}

/// `d_y weight`.
pub(super) fn d_x(d_y: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (rows, outputs) = rows_of(d_y)?;
    let y = matmul(&d_y.reshape((rows, outputs))?, weight)?;
    let mut shape = d_y.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = weight.dim(1)?;
    }
    y.reshape(shape)
}

/// `d_y^T x`, in `T`.
pub(super) fn d_weight(d_y: &Tensor, x: &Tensor) -> Result<Tensor> {
    let ((rows, outputs), (_, inputs)) = (rows_of(d_y)?, rows_of(x)?);
    matmul(&d_y.reshape((rows, outputs))?.t()?, &x.reshape((rows, inputs))?)
}

/// Where a branch's gradients to its parameters come together: sums over rows are finished, and
/// products of weights converted, a few at a time.
pub(super) struct Collected {
    types: Types,
    gradients: Vec<Option<Tensor>>,
    /// Places and partial sums: the pieces of one sum are consecutive parameters.
    sums: Vec<(Vec<(usize, usize)>, Tensor)>,
    products: Vec<(usize, Tensor)>,
}

impl Collected {
    pub(super) fn new(types: Types, params: usize) -> Self {
        Self { types, gradients: vec![None; params], sums: Vec::new(), products: Vec::new() }
    }

    /// A product in `T` for parameter `at`.
    pub(super) fn product(&mut self, at: usize, product: Tensor) {
        self.products.push((at, product));
    }

    /// Partial sums of which `pieces` (parameter, width) are parts, in their order; `None` is
    /// dropped.
    pub(super) fn sum(&mut self, pieces: &[(Option<usize>, usize)], partial: Tensor) {
        let pieces = pieces.iter().map(|&(at, width)| (at.unwrap_or(usize::MAX), width));
        self.sums.push((pieces.collect(), partial));
    }

    /// All gradients, each of its parameter's shape.
    pub(super) fn finish(mut self, params: &[&Tensor]) -> Result<Vec<Option<Tensor>>> {
        let (mut sums, mut products) = (&self.sums[..], &self.products[..]);
        while !(sums.is_empty() && products.is_empty()) {
            let (now_sums, later_sums) = sums.split_at(sums.len().min(4));
            let (now_products, later_products) = products.split_at(products.len().min(2));
            let partials: Vec<&Tensor> = now_sums.iter().map(|(_, partial)| partial).collect();
            let raw: Vec<&Tensor> = now_products.iter().map(|(_, product)| product).collect();
            let (finished, converted) = self.types.gradients(&partials, &raw)?;
            let mut put = |at: usize, gradient: Tensor| -> Result<()> {
                if let (Some(place), Some(param)) = (self.gradients.get_mut(at), params.get(at)) {
                    *place = Some(gradient.reshape(param.shape())?);
                }
                Ok(())
            };
            for ((pieces, _), sum) in now_sums.iter().zip(finished) {
                let mut from = 0;
                for &(at, width) in pieces {
                    put(at, sum.narrow(0, from, width)?)?;
                    from += width;
                }
            }
            for ((at, _), product) in now_products.iter().zip(converted) {
                put(*at, product)?;
            }
            (sums, products) = (later_sums, later_products);
        }
        Ok(self.gradients)
    }
}

/// Parameters of a branch in the order of its gradients: which of them want one.
pub(super) struct Places<'a> {
    next: usize,
    wanted: &'a [bool],
}

/// Where a layer's gradients go; `None`: not wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) weight: Option<usize>,
    pub(super) bias: Option<usize>,
}

impl Place {
    /// Nothing is wanted.
    pub(super) const NOWHERE: Self = Self { weight: None, bias: None };

    pub(super) fn any(self) -> bool {
        self.weight.is_some() || self.bias.is_some()
    }
}

impl<'a> Places<'a> {
    pub(super) fn new(wanted: &'a [bool]) -> Self {
        Self { next: 0, wanted }
    }

    pub(super) fn one(&mut self) -> Option<usize> {
        let at = self.next;
        self.next += 1;
        self.wanted.get(at).copied().unwrap_or(false).then_some(at)
    }

    pub(super) fn norm(&mut self) -> Place {
        Place { weight: self.one(), bias: self.one() }
    }

    /// A layer scale, if there is one.
    pub(super) fn gamma(&mut self, residual: &ResidualWeights) -> Option<usize> {
        residual.gamma.as_ref().and_then(|_| self.one())
    }

    pub(super) fn dense(&mut self, layer: &LinearWeights) -> Place {
        let weight = self.one();
        Place { weight, bias: layer.bias.as_ref().and_then(|_| self.one()) }
    }
}

/// The gradient to a branch's result in `T`, `g d_y` with `g` of `residual`; the sums over its rows
/// for the bias of `place`, if that is wanted, are taken on the way.
pub(super) fn arriving(
    into: &mut Collected,
    place: Place,
    d_y: &Tensor,
    residual: &ResidualWeights,
) -> Result<Tensor> {
    let types = into.types;
    if residual.is_none() && types.product == types.stream {
        gradients(into, Place { weight: None, ..place }, d_y, None)?;
        return Ok(d_y.clone());
    }
    let inputs = [Some(d_y), residual.gamma.as_ref(), residual.factors.as_ref()];
    let numbers = [tokens(d_y)?];
    match place.bias {
        Some(at) => {
            let function = "branch_scaled_and_sum";
            let [scaled, partial] = types.with_sums(function, &inputs, d_y.shape(), &numbers)?;
            into.sum(&[(Some(at), rows_of(d_y)?.1)], partial);
            Ok(scaled)
        }
        None => {
            let output = (types.product, d_y.shape().clone());
            types.by_fours("branch_scaled", &inputs, output, &numbers)
        }
    }
}

/// Adds the gradient of a layer scale: `t` is the branch's result without `bias`.
pub(super) fn gamma_gradient(
    into: &mut Collected,
    at: Option<usize>,
    d_y: &Tensor,
    (t, bias): (Option<&Tensor>, Option<&Tensor>),
    residual: &ResidualWeights,
) -> Result<()> {
    let (Some(at), Some(t)) = (at, t) else { return Ok(()) };
    let (rows, d) = rows_of(d_y)?;
    let inputs = [Some(d_y), Some(t), bias, residual.factors.as_ref()];
    let numbers = [tokens(d_y)?];
    let partial = into.types.sums("branch_sum_gamma", &inputs, [rows, d, d], &numbers)?;
    into.sum(&[(Some(at), d)], partial);
    Ok(())
}

/// Adds a layer's gradients: `d_y` to its result without bias, `x` what it saw.
pub(super) fn gradients(
    into: &mut Collected,
    place: Place,
    d_y: &Tensor,
    x: Option<&Tensor>,
) -> Result<()> {
    if let Some(at) = place.bias {
        let (rows, columns) = rows_of(d_y)?;
        let sizes = [rows, columns, columns];
        let partial = into.types.sums("branch_sum_rows", &[Some(d_y)], sizes, &[])?;
        into.sum(&[(Some(at), columns)], partial);
    }
    if let (Some(at), Some(x)) = (place.weight, x) {
        into.product(at, d_weight(d_y, x)?);
    }
    Ok(())
}

/// A norm of `x` whose result's gradient arrives: its weights, that gradient, and where its own
/// gradients go.
pub(super) type NormSide<'a> = (Option<(&'a NormWeights, &'a Tensor)>, Place);

/// Adds the gradients of one or both norms of `x`; returns `d_residual` and what comes through them,
/// if `d_x`.
pub(super) fn norms(
    into: &mut Collected,
    x: &Tensor,
    moments: &Tensor,
    [first, second]: [NormSide<'_>; 2],
    d_residual: &Tensor,
    d_x: bool,
) -> Result<Option<Tensor>> {
    let types = into.types;
    let (arriving, places) = ([first.0, second.0], [first.1, second.1]);
    let wanted = places.map(Place::any);
    let d = rows_of(x)?.1;
    if d_x
        && let Some([d_x, partial]) =
            types.norm_backward_and_sum(x, moments, arriving, d_residual, wanted)?
    {
        let summed = places.iter().zip(arriving).filter(|(place, a)| place.any() && a.is_some());
        let pieces: Vec<_> =
            summed.flat_map(|(place, _)| [(place.weight, d), (place.bias, d)]).collect();
        into.sum(&pieces, partial);
        return Ok(Some(d_x));
    }
    for ((arriving, place), which) in arriving.iter().zip(places).zip(1..) {
        if let Some((_, d_y)) = arriving {
            norm_gradients(into, place, x, d_y, moments, which)?;
        }
    }
    match d_x {
        true => Ok(Some(types.norm_backward(x, moments, arriving, d_residual)?)),
        false => Ok(None),
    }
}

/// Adds a norm's gradients: `d_y` to its result; `which` of the norms of `moments`, 1 or 2.
fn norm_gradients(
    into: &mut Collected,
    place: Place,
    x: &Tensor,
    d_y: &Tensor,
    moments: &Tensor,
    which: i32,
) -> Result<()> {
    if !place.any() {
        return Ok(());
    }
    let (rows, d) = rows_of(x)?;
    let inputs = [Some(x), Some(d_y), Some(moments)];
    let which = [crate::gpu::Number::Int(which)];
    let partial = into.types.sums("branch_sum_affine", &inputs, [rows, d, 2 * d], &which)?;
    into.sum(&[(place.weight, d), (place.bias, d)], partial);
    Ok(())
}
