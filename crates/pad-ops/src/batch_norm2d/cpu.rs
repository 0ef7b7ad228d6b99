//! Batch norm plane by plane; sums over planes in f64, in the order of the batch.

use rayon::prelude::*;

use crate::{
    cpu::{level::multiversioned, rows},
    planes::{per_channel, sum, sums_per_channel},
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Channels {
    pub(super) count: usize,
    /// Pixels of a plane.
    pub(super) area: usize,
}

impl Channels {
    fn plane(self, values: &[f32], index: usize) -> &[f32] {
        &values[index * self.area..(index + 1) * self.area]
    }

    /// Mean and biased variance.
    pub(super) fn moments(self, x: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let planes = x.len() / self.area;
        let values = (x.len() / self.count) as f64;
        let mut mean = per_channel(planes, self.count, |i| f64::from(sum(self.plane(x, i))));
        mean.iter_mut().for_each(|mean| *mean /= values);
        let mut variance = per_channel(planes, self.count, |i| {
            let mean = mean[i % self.count];
            // Squares around the f32 mean, corrected for what rounding it left out.
            let (centre, plane) = (mean as f32, self.plane(x, i));
            let rest = mean - f64::from(centre);
            f64::from(square_distance(plane, centre)) - rest * rest * plane.len() as f64
        });
        variance.iter_mut().for_each(|variance| *variance = (*variance / values).max(0.0));
        (mean, variance)
    }

    pub(super) fn forward(
        self,
        x: &[f32],
        (mean, scale): (&[f32], &[f32]),
        weight: &[f32],
        bias: &[f32],
    ) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(self.area).enumerate().for_each(|(index, y)| {
            let channel = index % self.count;
            let factor = scale[channel] * weight[channel];
            normalize(y, self.plane(x, index), mean[channel], factor, bias[channel]);
        });
        y
    }

    /// Gradients to weight and bias.
    pub(super) fn d_params(
        self,
        x: &[f32],
        (mean, scale): (&[f32], &[f32]),
        d_y: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let d_weight = per_channel(x.len() / self.area, self.count, |i| {
            let (x, d_y) = (self.plane(x, i), self.plane(d_y, i));
            f64::from(centred_dot(x, d_y, mean[i % self.count]))
        });
        let d_weight =
            d_weight.iter().zip(scale).map(|(d, scale)| (d * f64::from(*scale)) as f32).collect();
        (d_weight, sums_per_channel(d_y, self.count, self.area))
    }

    /// Gradient to `x`; `means` are those of `d_y xhat` and of `d_y`, where the statistics came
    /// from values.
    pub(super) fn d_x(
        self,
        x: &[f32],
        (mean, scale): (&[f32], &[f32]),
        weight: &[f32],
        d_y: &[f32],
        means: Option<(&[f32], &[f32])>,
    ) -> Vec<f32> {
        let mut d_x = vec![0.0; x.len()];
        d_x.par_chunks_mut(self.area).enumerate().for_each(|(index, d_x)| {
            let channel = index % self.count;
            let (mean, scale) = (mean[channel], scale[channel]);
            // d_x = weight scale (d_y - mean(d_y) - xhat mean(d_y xhat))
            let (slope, offset) = match means {
                Some((with_xhat, alone)) => (scale * with_xhat[channel], alone[channel]),
                None => (0.0, 0.0),
            };
            let (x, d_y) = (self.plane(x, index), self.plane(d_y, index));
            d_normalize(d_x, x, d_y, mean, slope, offset, scale * weight[channel]);
        });
        d_x
    }
}

multiversioned! {
    fn square_distance(x: &[f32], centre: f32) -> f32 {
        rows::sum_by(x.len(), |i| (x[i] - centre) * (x[i] - centre))
    }
}

multiversioned! {
    fn centred_dot(x: &[f32], d_y: &[f32], centre: f32) -> f32 {
        let n = x.len().min(d_y.len());
        let (x, d_y) = (&x[..n], &d_y[..n]);
        rows::sum_by(n, |i| (x[i] - centre) * d_y[i])
    }
}

multiversioned! {
    fn normalize(y: &mut [f32], x: &[f32], mean: f32, factor: f32, bias: f32) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = (x - mean) * factor + bias;
        }
    }
}

multiversioned! {
    fn d_normalize(
        d_x: &mut [f32],
        x: &[f32],
        d_y: &[f32],
        mean: f32,
        slope: f32,
        offset: f32,
        factor: f32,
    ) {
        let n = d_x.len().min(x.len()).min(d_y.len());
        let (d_x, x, d_y) = (&mut d_x[..n], &x[..n], &d_y[..n]);
        for i in 0..n {
            d_x[i] = factor * (d_y[i] - offset - (x[i] - mean) * slope);
        }
    }
}
