//! Rows of both halves; forward and backward side by side.

use crate::cpu::{level::multiversioned, real::Real, special};

multiversioned! {
    /// `y = silu(gate) value` of rows (gate, value) of `width` values, to which `bias` is added
    /// first; an empty bias adds nothing.
    pub(crate) fn forward<T: Real>(x: &[T], bias: &[f32], width: usize, y: &mut [T]) {
        let half = width / 2;
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(half)) {
            let (gate, value) = x.split_at(half);
            if bias.len() == width {
                let (gate_bias, value_bias) = bias.split_at(half);
                for i in 0..half {
                    let gate = gate[i].to_f32() + gate_bias[i];
                    let value = value[i].to_f32() + value_bias[i];
                    y[i] = T::from_f32(gate * special::sigmoid(gate) * value);
                }
            } else {
                for i in 0..half {
                    let gate = gate[i].to_f32();
                    y[i] = T::from_f32(gate * special::sigmoid(gate) * value[i].to_f32());
                }
            }
        }
    }
}

multiversioned! {
    /// The gradient to `x` of [`forward`]: `d_value = d_y silu(gate)`, `d_gate = d_y value
    /// silu'(gate)`.
    pub(crate) fn backward<T: Real>(
        x: &[T],
        bias: &[f32],
        width: usize,
        d_y: &[T],
        d_x: &mut [T],
    ) {
        let half = width / 2;
        let rows = x.chunks_exact(width).zip(d_y.chunks_exact(half));
        for ((x, d_y), d_x) in rows.zip(d_x.chunks_exact_mut(width)) {
            let (gate, value) = x.split_at(half);
            let (d_gate, d_value) = d_x.split_at_mut(half);
            let has_bias = bias.len() == width;
            for i in 0..half {
                let mut g = gate[i].to_f32();
                let mut v = value[i].to_f32();
                if has_bias {
                    g += bias[i];
                    v += bias[half + i];
                }
                let (d, s) = (d_y[i].to_f32(), special::sigmoid(g));
                d_value[i] = T::from_f32(d * g * s);
                d_gate[i] = T::from_f32(d * v * s * (1.0 + g * (1.0 - s)));
            }
        }
    }
}
