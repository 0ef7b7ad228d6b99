//! The activation between an MLP's layers, row by row.

use super::weights::MlpActivation;
use crate::{
    cpu::{level::multiversioned, real::Real, rows, scratch::Scratch, special},
    gelu, swiglu,
};

/// The activation of a hidden layer whose bias is added here.
pub(super) struct Hidden {
    kind: MlpActivation,
    /// As wide as the first layer's output; zeros where it has none.
    bias: Vec<f32>,
}

multiversioned! {
    /// `out = GELU(hidden + bias)`, row by row.
    fn gelu_rows<T: Real>(hidden: &[T], bias: &[f32], out: &mut [T]) {
        let width = bias.len();
        for (out, hidden) in out.chunks_exact_mut(width).zip(hidden.chunks_exact(width)) {
            for i in 0..width {
                let h = hidden[i].to_f32() + bias[i];
                out[i] = T::from_f32(h * special::normal(h).0);
            }
        }
    }
}

multiversioned! {
    /// Replaces `d` by `d GELU'(hidden + bias)`, row by row.
    fn gelu_backward_rows<T: Real>(hidden: &[T], bias: &[f32], d: &mut [T]) {
        let width = bias.len();
        for (d, hidden) in d.chunks_exact_mut(width).zip(hidden.chunks_exact(width)) {
            for i in 0..width {
                let h = hidden[i].to_f32() + bias[i];
                let (cdf, pdf) = special::normal(h);
                d[i] = T::from_f32(d[i].to_f32() * (cdf + h * pdf));
            }
        }
    }
}

multiversioned! {
    /// `out = tanh's GELU(hidden + bias)`, row by row.
    fn tanh_rows<T: Real>(hidden: &[T], bias: &[f32], out: &mut [T]) {
        let width = bias.len();
        for (out, hidden) in out.chunks_exact_mut(width).zip(hidden.chunks_exact(width)) {
            for i in 0..width {
                out[i] = T::from_f32(gelu::tanh(hidden[i].to_f32() + bias[i]).0);
            }
        }
    }
}

multiversioned! {
    /// Replaces `d` by `d` times the slope of [`tanh_rows`].
    fn tanh_backward_rows<T: Real>(hidden: &[T], bias: &[f32], d: &mut [T]) {
        let width = bias.len();
        for (d, hidden) in d.chunks_exact_mut(width).zip(hidden.chunks_exact(width)) {
            for i in 0..width {
                let slope = gelu::tanh(hidden[i].to_f32() + bias[i]).1;
                d[i] = T::from_f32(d[i].to_f32() * slope);
            }
        }
    }
}

multiversioned! {
    /// `out = CLIP's GELU(hidden + bias)`, row by row.
    fn quick_rows<T: Real>(hidden: &[T], bias: &[f32], out: &mut [T]) {
        let width = bias.len();
        for (out, hidden) in out.chunks_exact_mut(width).zip(hidden.chunks_exact(width)) {
            for i in 0..width {
                out[i] = T::from_f32(gelu::quick(hidden[i].to_f32() + bias[i]).0);
            }
        }
    }
}

multiversioned! {
    /// Replaces `d` by `d` times the slope of [`quick_rows`].
    fn quick_backward_rows<T: Real>(hidden: &[T], bias: &[f32], d: &mut [T]) {
        let width = bias.len();
        for (d, hidden) in d.chunks_exact_mut(width).zip(hidden.chunks_exact(width)) {
            for i in 0..width {
                let slope = gelu::quick(hidden[i].to_f32() + bias[i]).1;
                d[i] = T::from_f32(d[i].to_f32() * slope);
            }
        }
    }
}

impl Hidden {
    /// Of a first layer of `outputs` values with `bias`, which may be empty.
    pub(super) fn new(kind: MlpActivation, bias: &[f32], outputs: usize) -> Self {
        let mut bias = bias.to_vec();
        bias.resize(outputs, 0.0);
        Self { kind, bias }
    }

    /// Values of a row of the result.
    fn width(&self) -> usize {
        match self.kind {
            MlpActivation::SwiGlu => self.bias.len() / 2,
            _ => self.bias.len(),
        }
    }

    /// The second layer's input, of the first one's output.
    pub(super) fn forward<T: Real>(&self, hidden: &[T]) -> Scratch<T> {
        let (bias, wide, width) = (&self.bias[..], self.bias.len(), self.width());
        let mut out = Scratch::new(hidden.len() / wide.max(1) * width);
        rows::for_rows(&mut out, width, |first, out| {
            let hidden = &hidden[first * wide..][..out.len() / width * wide];
            match self.kind {
                MlpActivation::Gelu => gelu_rows(hidden, bias, out),
                MlpActivation::GeluTanh => tanh_rows(hidden, bias, out),
                MlpActivation::QuickGelu => quick_rows(hidden, bias, out),
                MlpActivation::SwiGlu => swiglu::cpu::forward(hidden, bias, wide, out),
            }
        });
        out
    }

    /// The gradient to the first layer's output, from that to the second layer's input.
    pub(super) fn backward<T: Real>(&self, hidden: &[T], mut d: Scratch<T>) -> Scratch<T> {
        let (bias, wide, width) = (&self.bias[..], self.bias.len(), self.width());
        if self.kind == MlpActivation::SwiGlu {
            let mut d_hidden = Scratch::new(hidden.len());
            rows::for_rows(&mut d_hidden, wide, |first, d_hidden| {
                let hidden = &hidden[first * wide..][..d_hidden.len()];
                let d = &d[first * width..][..d_hidden.len() / wide * width];
                swiglu::cpu::backward(hidden, bias, wide, d, d_hidden);
            });
            return d_hidden;
        }
        rows::for_rows(&mut d, width, |first, d| {
            let hidden = &hidden[first * wide..][..d.len()];
            match self.kind {
                MlpActivation::GeluTanh => tanh_backward_rows(hidden, bias, d),
                MlpActivation::QuickGelu => quick_backward_rows(hidden, bias, d),
                _ => gelu_backward_rows(hidden, bias, d),
            }
        });
        d
    }
}
