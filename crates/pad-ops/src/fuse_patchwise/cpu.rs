//! One pass over the tokens; forward and backward side by side.
//!
//! All fusions are one formula: `logit = gate_m . mlp + gate_a . a`, where concat has both halves of the gate, sum
//! uses the same weights twice, and side and gside leave one product out.

use rayon::prelude::*;

use super::Fusion;
use crate::cpu::{level::vectorized, rows, special};

/// Which gradients someone asked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) d_adapter: bool,
    pub(super) d_mlp: bool,
    pub(super) d_gate: bool,
}

/// Gradients to the operands; those not wanted are absent.
pub(super) struct Gradients {
    pub(super) d_adapter: Option<Vec<f32>>,
    pub(super) d_mlp: Option<Vec<f32>>,
    pub(super) d_gate: Option<Vec<f32>>,
}

/// `adapter`, `mlp` (rows, D); `gate` (2 D) or (D).
pub(super) struct Operands<'a> {
    pub(super) adapter: &'a [f32],
    pub(super) mlp: &'a [f32],
    pub(super) gate: &'a [f32],
    pub(super) d: usize,
    pub(super) fusion: Fusion,
}

impl Operands<'_> {
    /// The gate's weights for the MLP's output and for the adapter's; empty where that branch is not seen.
    fn gates(&self) -> (&[f32], &[f32]) {
        match self.fusion {
            Fusion::Concat => self.gate.split_at(self.d),
            Fusion::Sum => (self.gate, self.gate),
            Fusion::Side => (&[], self.gate),
            Fusion::Gside => (self.gate, &[]),
        }
    }

    fn row<'b>(&self, values: &'b [f32], row: usize) -> &'b [f32] {
        &values[row * self.d..(row + 1) * self.d]
    }

    /// The scale of token `row`.
    #[inline(always)]
    fn scale(&self, row: usize) -> f32 {
        let (gate_mlp, gate_adapter) = self.gates();
        // `dot` over the shorter operand: an absent gate contributes nothing.
        let logit = rows::dot(gate_mlp, self.row(self.mlp, row))
            + rows::dot(gate_adapter, self.row(self.adapter, row));
        special::sigmoid(logit)
    }

    /// `s * adapter`, (rows, D).
    pub(super) fn forward(&self) -> Vec<f32> {
        let mut delta = vec![0.0; self.adapter.len()];
        rows::for_rows(&mut delta, self.d, |first, delta| {
            vectorized(|| {
                for (i, delta) in delta.chunks_exact_mut(self.d).enumerate() {
                    let s = self.scale(first + i);
                    let adapter = self.row(self.adapter, first + i);
                    delta.iter_mut().zip(adapter).for_each(|(delta, a)| *delta = s * a);
                }
            });
        });
        delta
    }

    /// Per token, with `d_logit = s (1 - s) (d_delta . a)`: `d_a = s d_delta + d_logit gate_a`,
    /// `d_mlp = d_logit gate_m`, `d_gate_a += d_logit a`, `d_gate_m += d_logit mlp`.
    pub(super) fn backward(&self, d_delta: &[f32], wanted: Wanted) -> Gradients {
        let d = self.d;
        let (gate_mlp, gate_adapter) = self.gates();
        // One scale's inner products per token serve all three gradients.
        let mut scales = vec![(0.0, 0.0); self.adapter.len() / d];
        let rows = rows::rows_per_chunk(d);
        scales.par_chunks_mut(rows).enumerate().for_each(|(chunk, scales)| {
            vectorized(|| {
                for (i, scale) in scales.iter_mut().enumerate() {
                    let row = chunk * rows + i;
                    let s = self.scale(row);
                    let d_s = rows::dot(self.row(d_delta, row), self.row(self.adapter, row));
                    *scale = (s, s * (1.0 - s) * d_s);
                }
            });
        });
        let d_adapter = wanted.d_adapter.then(|| {
            let mut d_adapter = vec![0.0; self.adapter.len()];
            rows::for_rows(&mut d_adapter, d, |first, d_adapter| {
                vectorized(|| {
                    for (i, d_adapter) in d_adapter.chunks_exact_mut(d).enumerate() {
                        let (s, d_logit) = scales[first + i];
                        let g = self.row(d_delta, first + i);
                        if gate_adapter.is_empty() {
                            d_adapter.iter_mut().zip(g).for_each(|(d_a, g)| *d_a = s * g);
                        } else {
                            for j in 0..d {
                                d_adapter[j] = s * g[j] + d_logit * gate_adapter[j];
                            }
                        }
                    }
                });
            });
            d_adapter
        });
        let d_mlp = (wanted.d_mlp && !gate_mlp.is_empty()).then(|| {
            let mut d_mlp = vec![0.0; self.mlp.len()];
            rows::for_rows(&mut d_mlp, d, |first, d_mlp| {
                vectorized(|| {
                    for (i, d_mlp) in d_mlp.chunks_exact_mut(d).enumerate() {
                        let d_logit = scales[first + i].1;
                        d_mlp.iter_mut().zip(gate_mlp).for_each(|(d_m, w)| *d_m = d_logit * w);
                    }
                });
            });
            d_mlp
        });
        let d_gate = wanted.d_gate.then(|| self.d_gate(&scales));
        Gradients { d_adapter, d_mlp, d_gate }
    }

    /// The gate's gradient, in the gate's own layout.
    fn d_gate(&self, scales: &[(f32, f32)]) -> Vec<f32> {
        let d = self.d;
        let (sees_mlp, sees_adapter) = match self.fusion {
            Fusion::Concat | Fusion::Sum => (true, true),
            Fusion::Side => (false, true),
            Fusion::Gside => (true, false),
        };
        let adapter_from = if self.fusion == Fusion::Concat { d } else { 0 };
        rows::reduce_rows(scales.len(), d, self.gate.len(), |range, partial| {
            vectorized(|| {
                let mut add = |from: usize, values: &[f32], d_logit: f32| {
                    let sums = &mut partial[from..from + d];
                    sums.iter_mut().zip(values).for_each(|(sum, v)| *sum += d_logit * v);
                };
                for row in range {
                    if sees_mlp {
                        add(0, self.row(self.mlp, row), scales[row].1);
                    }
                    if sees_adapter {
                        add(adapter_from, self.row(self.adapter, row), scales[row].1);
                    }
                }
            });
        })
    }
}
