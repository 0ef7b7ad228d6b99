//! Low-rank adapters beside a linear layer: `s B A x` onto some of its rows, and their gradients.
//! These thin products run in `f32`, whatever the layer multiplies in.

use std::ops::Deref;

use candle_core::Result;

use super::low_rank_weights::LowRankWeights;
use crate::{
    Mode,
    cpu::{
        bf16::Values as Operand,
        matmul::{Into, Mat, Threads, matmul, product},
        real::Real,
        rows,
        scratch::Scratch,
        slices::{self, Values},
    },
    dropout,
    rng::{Key, Purpose},
};

/// Values as `f32`: those that are at hand, or a copy.
pub(super) enum Wide<'a> {
    Borrowed(&'a [f32]),
    Own(Scratch),
}

impl Deref for Wide<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Borrowed(values) => values,
            Self::Own(values) => values,
        }
    }
}

/// The values in `f32`.
pub(super) fn widened<T: Real>(values: &[T]) -> Wide<'_> {
    match T::values(values) {
        Operand::F32(values) => Wide::Borrowed(values),
        Operand::Bf16(_) => Wide::Own(copied(values)),
    }
}

fn copied<T: Real>(values: &[T]) -> Scratch {
    let mut wide = Scratch::new(values.len());
    rows::for_values(&mut wide, |first, wide| {
        wide.iter_mut().zip(&values[first..]).for_each(|(wide, value)| *wide = value.to_f32());
    });
    wide
}

/// One adapter of a layer, borrowed.
pub(super) struct LowRank<'a> {
    a: Values<'a>,
    b: Values<'a>,
    factor: Option<Values<'a>>,
    rank: usize,
    inputs: usize,
    /// The first of the layer's rows that it adapts, and their number.
    first: usize,
    count: usize,
    scale: f32,
    dropout: Option<(f64, Key)>,
}

/// Which of an adapter's tensors need a gradient.
#[derive(Clone, Copy)]
pub(super) struct PartWant {
    pub(super) a: bool,
    pub(super) b: bool,
    pub(super) factor: Option<bool>,
}

impl PartWant {
    pub(super) fn any(self) -> bool {
        self.a || self.b || self.factor == Some(true)
    }
}

impl<'a> LowRank<'a> {
    pub(super) fn new(weights: &'a LowRankWeights) -> Result<Self> {
        let ((rank, inputs), count) = (weights.a.dims2()?, weights.b.dim(0)?);
        Ok(Self {
            a: slices::borrow(&weights.a)?,
            b: slices::borrow(&weights.b)?,
            factor: weights.factor.as_ref().map(slices::borrow).transpose()?,
            rank,
            inputs,
            first: weights.first_row,
            count,
            scale: weights.scale as f32,
            dropout: match weights.mode {
                Mode::Train(key) if weights.dropout > 0.0 => {
                    Some((weights.dropout, key.purpose(Purpose::Dropout)))
                }
                _ => None,
            },
        })
    }

    /// What the layer's rows are multiplied by, if by anything.
    pub(super) fn factor(&self) -> Option<(usize, &[f32])> {
        self.factor.as_deref().map(|factor| (self.first, factor))
    }

    /// Whether it has a factor, which may want a gradient.
    pub(super) fn has_factor(&self) -> bool {
        self.factor.is_some()
    }

    /// What `a` multiplies.
    fn input<'x, T: Real>(&self, x: &'x [T]) -> Wide<'x> {
        match self.dropout {
            None => widened(x),
            Some((p, key)) => {
                let mut x = copied(x);
                dropout::apply(&mut x, p, key);
                Wide::Own(x)
            }
        }
    }

    fn a(&self) -> (&[f32], Mat) {
        (&self.a, Mat::dense(self.rank, self.inputs))
    }

    fn b(&self) -> (&[f32], Mat) {
        (&self.b, Mat::dense(self.count, self.rank))
    }

    /// `x a^T` (rows, r).
    fn inner(&self, x: &[f32]) -> Vec<f32> {
        let (a, mat) = self.a();
        product((x, Mat::dense(x.len() / self.inputs, self.inputs)), (a, mat.t()))
    }

    /// Adds `s b a x` onto its part of `y`, whose rows have `outputs` values.
    pub(super) fn add<T: Real, O: Real>(&self, x: &[T], y: &mut [O], outputs: usize) {
        let (x, (b, mat)) = (self.input(x), self.b());
        let (inner, rows) = (self.inner(&x), x.len() / self.inputs);
        drop(x);
        let inner = (&inner[..], Mat::dense(rows, self.rank));
        if let Some(y) = O::as_f32_mut(y) {
            let to = (&mut y[self.first..], Mat::strided(rows, self.count, outputs));
            return matmul(to, Into::Add, self.scale, inner, (b, mat.t()), Threads::All);
        }
        let added = product(inner, (b, mat.t()));
        let (start, count, scale) = (self.first, self.count, self.scale);
        rows::for_rows(y, outputs, |first, y| {
            for (row, y) in y.chunks_exact_mut(outputs).enumerate() {
                let added = &added[(first + row) * count..][..count];
                for (y, added) in y[start..][..count].iter_mut().zip(added) {
                    *y = O::from_f32(y.to_f32() + scale * added);
                }
            }
        });
    }

    /// `s d_z b` (rows, r), of its part of the rows of `outputs` values.
    fn d_inner(&self, d_z: &[f32], outputs: usize) -> Vec<f32> {
        let rows = d_z.len() / outputs;
        let mut d = vec![0.0; rows * self.rank];
        let d_z = (&d_z[self.first..], Mat::strided(rows, self.count, outputs));
        let to = (&mut d[..], Mat::dense(rows, self.rank));
        matmul(to, Into::Replace, self.scale, d_z, self.b(), Threads::All);
        d
    }

    /// Adds its gradient to `x` onto `d_x`.
    pub(super) fn add_d_x<O: Real>(&self, d_z: &[f32], outputs: usize, d_x: &mut [O]) {
        let (d_inner, rows) = (self.d_inner(d_z, outputs), d_z.len() / outputs);
        let d_inner = (&d_inner[..], Mat::dense(rows, self.rank));
        if let (None, Some(d_x)) = (self.dropout, O::as_f32_mut(d_x)) {
            let to = (d_x, Mat::dense(rows, self.inputs));
            return matmul(to, Into::Add, 1.0, d_inner, self.a(), Threads::All);
        }
        let mut added = product(d_inner, self.a());
        if let Some((p, key)) = self.dropout {
            dropout::apply(&mut added, p, key);
        }
        let inputs = self.inputs;
        rows::for_rows(d_x, inputs, |first, d_x| {
            let added = &added[first * inputs..];
            d_x.iter_mut().zip(added).for_each(|(d, added)| *d = O::from_f32(d.to_f32() + added));
        });
    }

    /// The gradients to `a` and `b` that are wanted: `d_a = s (d_z b)^T x`, `d_b = s d_z^T (x a^T)`.
    pub(super) fn gradients<T: Real>(
        &self,
        want: PartWant,
        d_z: &[f32],
        outputs: usize,
        x: &[T],
    ) -> [Option<Vec<f32>>; 2] {
        if !(want.a || want.b) {
            return [None, None];
        }
        let (x, rows) = (self.input(x), d_z.len() / outputs);
        let x_mat = Mat::dense(rows, self.inputs);
        let d_a = want.a.then(|| {
            let d_inner = self.d_inner(d_z, outputs);
            product((&d_inner, Mat::dense(rows, self.rank).t()), (&x, x_mat))
        });
        let d_b = want.b.then(|| {
            let inner = self.inner(&x);
            let mut d_b = vec![0.0; self.count * self.rank];
            let d_z = (&d_z[self.first..], Mat::strided(rows, self.count, outputs).t());
            let to = (&mut d_b[..], Mat::dense(self.count, self.rank));
            let inner = (&inner[..], Mat::dense(rows, self.rank));
            matmul(to, Into::Replace, self.scale, d_z, inner, Threads::All);
            d_b
        });
        [d_a, d_b]
    }

    /// The gradient to the factor: `d_y z` summed over rows, `z` the layer's result without it.
    pub(super) fn d_factor(&self, d_y: &[f32], z: &[f32], outputs: usize) -> Vec<f32> {
        let (start, count) = (self.first, self.count);
        rows::reduce_rows(d_y.len() / outputs, outputs, count, |range, partial| {
            for row in range {
                let at = row * outputs + start;
                let (d_y, z) = (&d_y[at..][..count], &z[at..][..count]);
                for (sum, (d, z)) in partial.iter_mut().zip(d_y.iter().zip(z)) {
                    *sum += d * z;
                }
            }
        })
    }
}
