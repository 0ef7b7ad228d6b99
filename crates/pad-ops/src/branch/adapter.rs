//! The adapter inside the MLP branch: `s A(x)`, its gradients to the weights, to `x` and (through
//! the gate) to the MLP's output.

use candle_core::Result;

use super::{
    dense::{Dense, LayerGradients, Norm, Wants},
    low_rank::Wide,
    precision::MatmulPrecision,
    weights::{AdapterScale, AdapterWeights},
};
use crate::{
    Fusion, Mode,
    cpu::{rows, scratch::Scratch, slices::Values},
    dropout,
    fuse_patchwise::cpu as fuse,
    rng::Purpose,
};

/// The bottleneck after ReLU and dropout (rows, K). Where it is zero, no gradient passes: neither
/// mask is kept.
pub(super) struct Bottleneck {
    values: Scratch,
    /// What dropout multiplied the kept values by.
    kept: f32,
}

enum Strength<'a> {
    Constant(f32),
    Learnable(f32),
    Patchwise { gate: Values<'a>, fusion: Fusion },
}

/// An adapter's weights, borrowed.
pub(super) struct Adapter<'a> {
    norm: Option<Norm<'a>>,
    down: Dense<'a>,
    up: Dense<'a>,
    dropout: f64,
    strength: Strength<'a>,
}

/// The gradient that arrives, and the part of it that the MLP's output gets directly.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a> {
    pub(super) d_y: &'a [f32],
    /// `d_y` behind layer scale and drop path.
    pub(super) d_branch: &'a [f32],
}

/// Gradients of the adapter's part.
pub(super) struct AdapterGradients {
    /// In the order of the adapter's tensors.
    pub(super) d_params: LayerGradients,
    /// To the MLP's output, the residual's own included; absent if not needed or equal to
    /// `d_branch`.
    pub(super) d_mlp: Option<Vec<f32>>,
}

impl<'a> Adapter<'a> {
    pub(super) fn new(weights: &'a AdapterWeights, precision: MatmulPrecision) -> Result<Self> {
        let strength = match &weights.scale {
            AdapterScale::Fixed(scale) => Strength::Constant(*scale as f32),
            AdapterScale::Learnable(scale) => {
                let scale = crate::cpu::slices::borrow(scale)?;
                Strength::Learnable(scale.first().copied().unwrap_or(0.0))
            }
            AdapterScale::Patchwise { gate, fusion } => {
                Strength::Patchwise { gate: crate::cpu::slices::borrow(gate)?, fusion: *fusion }
            }
        };
        Ok(Self {
            norm: weights.norm.as_ref().map(Norm::new).transpose()?,
            down: Dense::new(&weights.down, precision)?,
            up: Dense::new(&weights.up, precision)?,
            dropout: weights.dropout,
            strength,
        })
    }

    /// Whether the gate looks at the MLP's output (the kernel for patchwise scales takes it in any
    /// case).
    pub(super) fn is_gated(&self) -> bool {
        matches!(self.strength, Strength::Patchwise { .. })
    }

    /// What `down` sees.
    fn input(&self, x: &[f32]) -> Option<Scratch> {
        self.norm.as_ref().map(|norm| {
            let mut normed = Scratch::new(x.len());
            norm.forward(x, &mut normed);
            normed
        })
    }

    pub(super) fn bottleneck(&self, x: &[f32], mode: Mode) -> Bottleneck {
        let width = self.down.outputs();
        let mut values = Scratch::new(x.len() / self.up.outputs() * width);
        self.down.forward(self.input(x).as_deref().unwrap_or(x), &mut values);
        rows::add_to_rows(&mut values, self.down.bias());
        rows::for_values(&mut values, |_, values| {
            for value in values {
                *value = value.max(0.0);
            }
        });
        match mode {
            Mode::Train(key) if self.dropout > 0.0 => {
                dropout::apply(&mut values, self.dropout, key.purpose(Purpose::Dropout));
                Bottleneck { values, kept: (1.0 / (1.0 - self.dropout)) as f32 }
            }
            _ => Bottleneck { values, kept: 1.0 },
        }
    }

    /// `A(x)` (rows, D).
    fn branch(&self, bottleneck: &Bottleneck) -> Scratch {
        let rows = bottleneck.values.len() / self.down.outputs();
        let mut a = Scratch::new(rows * self.up.outputs());
        self.up.forward(&bottleneck.values, &mut a);
        rows::add_to_rows(&mut a, self.up.bias());
        a
    }

    /// `s A(x)` (rows, D).
    pub(super) fn delta(&self, bottleneck: &Bottleneck, mlp: &[f32]) -> Vec<f32> {
        let a = self.branch(bottleneck);
        match &self.strength {
            Strength::Constant(scale) | Strength::Learnable(scale) => rows::scaled(&a, *scale),
            Strength::Patchwise { gate, fusion } => {
                let d = self.up.outputs();
                fuse::Operands { adapter: &a, mlp, gate, d, fusion: *fusion }.forward()
            }
        }
    }

    /// Adds the adapter's gradient to `x` onto `d_x`, if that is there.
    pub(super) fn backward(
        &self,
        x: &[f32],
        mlp: &[f32],
        bottleneck: Bottleneck,
        Incoming { d_y, d_branch }: Incoming<'_>,
        (d_x, want_d_mlp): (Option<&mut [f32]>, bool),
        wants: &mut Wants<'_>,
    ) -> AdapterGradients {
        let norm_want = self.norm.as_ref().map(|_| wants.norm());
        let (down_want, up_want) = (wants.dense(&self.down), wants.dense(&self.up));
        let d = self.up.outputs();
        let d_a;
        let (mut d_mlp, mut d_scale) = (None, Vec::new());
        match &self.strength {
            Strength::Constant(scale) => d_a = rows::scaled(d_y, *scale),
            Strength::Learnable(scale) => {
                d_a = rows::scaled(d_y, *scale);
                let a = self.branch(&bottleneck);
                d_scale.push(wants.one().then(|| vec![rows::inner(d_y, &a, d)]));
            }
            Strength::Patchwise { gate, fusion } => {
                let a = self.branch(&bottleneck);
                let operands = fuse::Operands { adapter: &a, mlp, gate, d, fusion: *fusion };
                let d_gate = wants.one();
                let wanted = fuse::Wanted { d_adapter: true, d_mlp: want_d_mlp, d_gate };
                let gradients = operands.backward(d_y, wanted);
                d_a = gradients.d_adapter.unwrap_or_default();
                d_mlp = gradients.d_mlp.map(|mut d_mlp| {
                    rows::add_to(&mut d_mlp, d_branch, &[]);
                    d_mlp
                });
                d_scale.push(gradients.d_gate);
            }
        }
        let Bottleneck { values: inner, kept } = bottleneck;
        let d_up = self.up.gradients(&up_want, &d_a, || &inner[..]);
        let mut d_inner = Scratch::new(inner.len());
        self.up.d_x(&d_a, &mut d_inner);
        rows::for_values(&mut d_inner, |first, d_inner| {
            for (d, value) in d_inner.iter_mut().zip(&inner[first..]) {
                *d = if *value > 0.0 { *d * kept } else { 0.0 };
            }
        });
        let d_down = self
            .down
            .gradients(&down_want, &d_inner, || self.input(x).map_or(Wide::Borrowed(x), Wide::Own));
        let mut d_norm = Vec::new();
        if d_x.is_some() || norm_want.is_some_and(|want| want.any()) {
            let mut d_normed = Scratch::new(x.len());
            self.down.d_x(&d_inner, &mut d_normed);
            if let (Some(norm), Some(want)) = (&self.norm, norm_want) {
                d_norm = want.norm_gradients(norm, x, &d_normed);
            }
            match (d_x, &self.norm) {
                (Some(d_x), Some(norm)) => norm.add_d_x(x, &d_normed, d_x),
                (Some(d_x), None) => rows::add_to(d_x, &d_normed, &[]),
                (None, _) => {}
            }
        } else if norm_want.is_some() {
            d_norm = vec![None, None];
        }
        AdapterGradients { d_params: [d_norm, d_down, d_up, d_scale].concat(), d_mlp }
    }
}
