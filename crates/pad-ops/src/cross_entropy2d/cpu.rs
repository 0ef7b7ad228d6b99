//! The loss on maps as they lie in memory, class after class.

use rayon::prelude::*;

use super::{options::CrossEntropy, weights::pixel_weights};
use crate::cpu::{level::multiversioned, special::exp};

/// Pixels that one task takes through all classes.
const CHUNK: usize = 1024;

/// What the backward needs of every pixel.
pub(super) struct Pixels {
    labels: Vec<u32>,
    /// Logarithm of the sum of exponentials over classes.
    log_sums: Vec<f32>,
    losses: Vec<f32>,
    weights: Vec<f32>,
    classes: usize,
    area: usize,
}

impl Pixels {
    pub(super) fn new(
        x: &[f32],
        labels: Vec<u32>,
        batch: usize,
        classes: usize,
        area: usize,
        options: &CrossEntropy,
    ) -> Self {
        let mut log_sums = vec![0.0; batch * area];
        let images = log_sums.par_chunks_mut(area).zip(x.par_chunks(classes * area));
        images.for_each(|(log_sums, image)| {
            log_sums.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, log_sums)| {
                let mut peaks = [0.0; CHUNK];
                log_sum(log_sums, &mut peaks, image, area, chunk * CHUNK);
            });
        });
        let loss = |pixel: usize| {
            let (image, place) = (pixel / area, pixel % area);
            let label = labels[pixel];
            if Some(label) == options.ignore_index {
                return 0.0;
            }
            log_sums[pixel] - x[(image * classes + label as usize) * area + place]
        };
        let losses: Vec<f32> =
            (0..labels.len()).into_par_iter().with_min_len(CHUNK).map(loss).collect();
        let weights = pixel_weights(&labels, &losses, batch, options);
        Self { labels, log_sums, losses, weights, classes, area }
    }

    /// The sum, in f64 and in the order of pixels; a pixel without weight does not count, even if
    /// it is not finite.
    pub(super) fn loss(&self) -> f32 {
        let pixels = self.losses.iter().zip(&self.weights).filter(|(_, weight)| **weight != 0.0);
        pixels.map(|(loss, weight)| f64::from(*loss) * f64::from(*weight)).sum::<f64>() as f32
    }

    pub(super) fn d_logits(&self, x: &[f32], d_loss: f32) -> Vec<f32> {
        let (area, classes) = (self.area, self.classes);
        let mut d_x = vec![0.0; x.len()];
        let planes = d_x.par_chunks_mut(area).zip(x.par_chunks(area)).enumerate();
        planes.for_each(|(index, (d_x, x))| {
            let class = (index % classes) as u32;
            let pixels = index / classes * area..(index / classes + 1) * area;
            let weights = &self.weights[pixels.clone()];
            d_plane(d_x, x, &self.log_sums[pixels.clone()], weights, d_loss);
            for ((d_x, label), weight) in d_x.iter_mut().zip(&self.labels[pixels]).zip(weights) {
                if *label == class && *weight != 0.0 {
                    *d_x -= weight * d_loss;
                }
            }
        });
        d_x
    }
}

multiversioned! {
    /// Logarithms of sums over the planes of `image`, from pixel `first` on.
    fn log_sum(out: &mut [f32], peaks: &mut [f32], image: &[f32], area: usize, first: usize) {
        let n = out.len();
        let peaks = &mut peaks[..n];
        peaks.fill(f32::NEG_INFINITY);
        for plane in image.chunks_exact(area) {
            let plane = &plane[first..first + n];
            for i in 0..n {
                peaks[i] = if plane[i] > peaks[i] { plane[i] } else { peaks[i] };
            }
        }
        out.fill(0.0);
        for plane in image.chunks_exact(area) {
            let plane = &plane[first..first + n];
            for i in 0..n {
                out[i] += exp(plane[i] - peaks[i]);
            }
        }
        for i in 0..n {
            out[i] = out[i].ln() + peaks[i];
        }
    }
}

multiversioned! {
    /// The softmax of one class times the pixels' weights.
    fn d_plane(d_x: &mut [f32], x: &[f32], log_sums: &[f32], weights: &[f32], d_loss: f32) {
        let n = d_x.len().min(x.len()).min(log_sums.len()).min(weights.len());
        let (d_x, x, log_sums, weights) = (&mut d_x[..n], &x[..n], &log_sums[..n], &weights[..n]);
        for i in 0..n {
            let weight = weights[i] * d_loss;
            let d = weight * exp(x[i] - log_sums[i]);
            d_x[i] = if weights[i] == 0.0 { 0.0 } else { d };
        }
    }
}
