//! One pass over the tokens; forward and backward side by side.
//!
//! All fusions are one formula: `logit = gate_m . mlp + gate_a . a`, where concat has both halves
//! of the gate, sum uses the same weights twice, and side and gside leave one product out.

use rayon::prelude::*;

use super::fusion::Fusion;
use crate::cpu::{level::multiversioned, rows, special};

/// Which gradients are needed.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) d_adapter: bool,
    pub(crate) d_mlp: bool,
    pub(crate) d_gate: bool,
}

/// Gradients to the operands; those not needed are absent.
pub(crate) struct Gradients {
    pub(crate) d_adapter: Option<Vec<f32>>,
    pub(crate) d_mlp: Option<Vec<f32>>,
    pub(crate) d_gate: Option<Vec<f32>>,
}

/// `adapter`, `mlp` (rows, D); `gate` (2 D) or (D).
pub(crate) struct Operands<'a> {
    pub(crate) adapter: &'a [f32],
    pub(crate) mlp: &'a [f32],
    pub(crate) gate: &'a [f32],
    pub(crate) d: usize,
    pub(crate) fusion: Fusion,
}

/// The scale of a token. An absent gate is empty and contributes nothing.
#[inline(always)]
fn scale(adapter: &[f32], mlp: &[f32], gate_adapter: &[f32], gate_mlp: &[f32]) -> f32 {
    special::sigmoid(rows::dot(gate_mlp, mlp) + rows::dot(gate_adapter, adapter))
}

multiversioned! {
    fn forward_rows(
        adapter: &[f32],
        mlp: &[f32],
        gate_adapter: &[f32],
        gate_mlp: &[f32],
        d: usize,
        delta: &mut [f32],
    ) {
        let rows = adapter.chunks_exact(d).zip(mlp.chunks_exact(d));
        for ((a, m), delta) in rows.zip(delta.chunks_exact_mut(d)) {
            let s = scale(a, m, gate_adapter, gate_mlp);
            for (delta, a) in delta.iter_mut().zip(a) {
                *delta = s * a;
            }
        }
    }
}

multiversioned! {
    /// Per token: the scale, and `d_logit = s (1 - s) (d_delta . a)`.
    fn scales_rows(
        adapter: &[f32],
        mlp: &[f32],
        gate_adapter: &[f32],
        gate_mlp: &[f32],
        d_delta: &[f32],
        d: usize,
        scales: &mut [(f32, f32)],
    ) {
        let rows = adapter.chunks_exact(d).zip(mlp.chunks_exact(d)).zip(d_delta.chunks_exact(d));
        for (((a, m), g), out) in rows.zip(scales) {
            let s = scale(a, m, gate_adapter, gate_mlp);
            *out = (s, s * (1.0 - s) * rows::dot(g, a));
        }
    }
}

multiversioned! {
    /// `out += factor * values`.
    fn add_scaled(out: &mut [f32], factor: f32, values: &[f32]) {
        for (out, value) in out.iter_mut().zip(values) {
            *out += factor * value;
        }
    }
}

impl Operands<'_> {
    /// The gate's weights for the MLP's output and for the adapter's; empty where that branch is
    /// not seen.
    fn gates(&self) -> (&[f32], &[f32]) {
        match self.fusion {
            Fusion::Concat => self.gate.split_at(self.d),
            Fusion::Sum => (self.gate, self.gate),
            Fusion::Side => (&[], self.gate),
            Fusion::Gside => (self.gate, &[]),
        }
    }

    /// `s * adapter`, (rows, D).
    pub(crate) fn forward(&self) -> Vec<f32> {
        let (d, (gate_mlp, gate_adapter)) = (self.d, self.gates());
        rows::build(self.adapter.len(), d, |first, delta| {
            let range = first * d..first * d + delta.len();
            let (adapter, mlp) = (&self.adapter[range.clone()], &self.mlp[range]);
            forward_rows(adapter, mlp, gate_adapter, gate_mlp, d, delta);
        })
    }

    /// Per token: `d_a = s d_delta + d_logit gate_a`, `d_mlp = d_logit gate_m`,
    /// `d_gate_a += d_logit a`, `d_gate_m += d_logit mlp`.
    pub(crate) fn backward(&self, d_delta: &[f32], wanted: Wanted) -> Gradients {
        let (d, (gate_mlp, gate_adapter)) = (self.d, self.gates());
        // One scale's inner products per token serve all three gradients.
        let mut scales = vec![(0.0, 0.0); self.adapter.len() / d];
        let rows = rows::rows_per_chunk(d);
        scales.par_chunks_mut(rows).enumerate().for_each(|(chunk, scales)| {
            let range = chunk * rows * d..(chunk * rows + scales.len()) * d;
            let (adapter, mlp) = (&self.adapter[range.clone()], &self.mlp[range.clone()]);
            scales_rows(adapter, mlp, gate_adapter, gate_mlp, &d_delta[range], d, scales);
        });
        // Each gradient below is a sum of rows times numbers.
        let weighted_rows = |terms: &(dyn Fn(usize, &mut [f32]) + Sync)| {
            rows::build(self.adapter.len(), d, |first, out| {
                out.chunks_exact_mut(d).enumerate().for_each(|(i, row)| terms(first + i, row));
            })
        };
        let row = |values: &[f32], row: usize| row * d..((row + 1) * d).min(values.len());
        let d_adapter = wanted.d_adapter.then(|| {
            weighted_rows(&|token, out| {
                let (s, d_logit) = scales[token];
                add_scaled(out, s, &d_delta[row(d_delta, token)]);
                add_scaled(out, d_logit, gate_adapter);
            })
        });
        let d_mlp = (wanted.d_mlp && !gate_mlp.is_empty())
            .then(|| weighted_rows(&|token, out| add_scaled(out, scales[token].1, gate_mlp)));
        let d_gate = wanted.d_gate.then(|| {
            let adapter_from = if self.fusion == Fusion::Concat { d } else { 0 };
            rows::reduce_rows(scales.len(), d, self.gate.len(), |range, partial| {
                for token in range {
                    let d_logit = scales[token].1;
                    if !gate_mlp.is_empty() {
                        add_scaled(&mut partial[..d], d_logit, &self.mlp[row(self.mlp, token)]);
                    }
                    if !gate_adapter.is_empty() {
                        let sums = &mut partial[adapter_from..];
                        add_scaled(sums, d_logit, &self.adapter[row(self.adapter, token)]);
                    }
                }
            })
        });
        Gradients { d_adapter, d_mlp, d_gate }
    }
}
