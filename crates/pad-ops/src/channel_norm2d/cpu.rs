//! Statistics by stretches of pixels, all channels of a stretch in turn; values by planes. Every
//! pixel's sums run over its channels in order: the same bits for any number of threads.

use rayon::prelude::*;

use crate::{
    cpu::{level::multiversioned, rows},
    planes,
};

/// Pixels whose sums are kept in the cache together.
const STRETCH: usize = 1024;

#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) channels: usize,
    /// Pixels of a plane.
    pub(super) area: usize,
}

/// Two numbers a pixel, (B, H W) each.
pub(super) struct Pixels {
    mean: Vec<f32>,
    /// `1 / sqrt(var + eps)`.
    rstd: Vec<f32>,
}

multiversioned! {
    fn statistics(image: &[f32], area: usize, from: usize, eps: f32, mean: &mut [f32], rstd: &mut [f32]) {
        let count = mean.len();
        let rstd = &mut rstd[..count];
        let channels = (image.len() / area) as f32;
        mean.fill(0.0);
        for plane in image.chunks_exact(area) {
            let values = &plane[from..from + count];
            for i in 0..count {
                mean[i] += values[i];
            }
        }
        for i in 0..count {
            mean[i] /= channels;
            rstd[i] = 0.0;
        }
        for plane in image.chunks_exact(area) {
            let values = &plane[from..from + count];
            for i in 0..count {
                let centred = values[i] - mean[i];
                rstd[i] += centred * centred;
            }
        }
        for value in rstd.iter_mut() {
            *value = 1.0 / (*value / channels + eps).sqrt();
        }
    }
}

multiversioned! {
    fn normal_plane(x: &[f32], mean: &[f32], rstd: &[f32], weight: f32, bias: f32, y: &mut [f32]) {
        let count = y.len();
        let (x, mean, rstd) = (&x[..count], &mean[..count], &rstd[..count]);
        for i in 0..count {
            y[i] = (x[i] - mean[i]) * rstd[i] * weight + bias;
        }
    }
}

multiversioned! {
    /// Means over channels of `g = d_y weight` and of `g n`.
    fn d_means(
        x: &[f32],
        d_y: &[f32],
        weight: &[f32],
        area: usize,
        from: usize,
        mean: &[f32],
        rstd: &[f32],
        g: &mut [f32],
        gn: &mut [f32],
    ) {
        let count = g.len();
        let gn = &mut gn[..count];
        let (mean, rstd) = (&mean[..count], &rstd[..count]);
        g.fill(0.0);
        gn.fill(0.0);
        for ((x, d_y), &weight) in x.chunks_exact(area).zip(d_y.chunks_exact(area)).zip(weight) {
            let (x, d_y) = (&x[from..from + count], &d_y[from..from + count]);
            for i in 0..count {
                let value = d_y[i] * weight;
                g[i] += value;
                gn[i] += value * (x[i] - mean[i]) * rstd[i];
            }
        }
        let channels = weight.len() as f32;
        for i in 0..count {
            g[i] /= channels;
            gn[i] /= channels;
        }
    }
}

multiversioned! {
    /// With `n = (x - mean) rstd`: `d_x = rstd (d_y weight - mean(g) - n mean(g n))`.
    fn d_plane(
        x: &[f32],
        d_y: &[f32],
        mean: &[f32],
        rstd: &[f32],
        g: &[f32],
        gn: &[f32],
        weight: f32,
        d_x: &mut [f32],
    ) {
        let count = d_x.len();
        let (x, d_y, mean, rstd) = (&x[..count], &d_y[..count], &mean[..count], &rstd[..count]);
        let (g, gn) = (&g[..count], &gn[..count]);
        for i in 0..count {
            let n = (x[i] - mean[i]) * rstd[i];
            d_x[i] = rstd[i] * (d_y[i] * weight - g[i] - n * gn[i]);
        }
    }
}

multiversioned! {
    fn sum_of_normal(x: &[f32], d_y: &[f32], mean: &[f32], rstd: &[f32]) -> f32 {
        let count = x.len();
        let (d_y, mean, rstd) = (&d_y[..count], &mean[..count], &rstd[..count]);
        rows::sum_by(count, |i| d_y[i] * (x[i] - mean[i]) * rstd[i])
    }
}

impl Shape {
    fn image(self) -> usize {
        self.channels * self.area
    }

    /// Two new arrays of one number a pixel: `work(image, first pixel, a, b)` fills a stretch of
    /// both.
    fn per_pixel(
        self,
        len: usize,
        work: impl Fn(usize, usize, &mut [f32], &mut [f32]) + Send + Sync,
    ) -> (Vec<f32>, Vec<f32>) {
        let pixels = len / self.channels;
        let (mut a, mut b) = (vec![0.0; pixels], vec![0.0; pixels]);
        let images = a.par_chunks_mut(self.area).zip(b.par_chunks_mut(self.area)).enumerate();
        images.for_each(|(image, (a, b))| {
            let stretches = a.par_chunks_mut(STRETCH).zip(b.par_chunks_mut(STRETCH)).enumerate();
            stretches.for_each(|(stretch, (a, b))| work(image, stretch * STRETCH, a, b));
        });
        (a, b)
    }

    /// The new planes `work(plane, channel, first pixel of the image's)` fills.
    fn per_plane(
        self,
        len: usize,
        work: impl Fn(usize, usize, usize, &mut [f32]) + Send + Sync,
    ) -> Vec<f32> {
        let mut out = vec![0.0; len];
        out.par_chunks_mut(self.area).enumerate().for_each(|(plane, out)| {
            let image = plane / self.channels;
            work(plane * self.area, plane % self.channels, image * self.area, out);
        });
        out
    }

    pub(super) fn statistics(self, x: &[f32], eps: f32) -> Pixels {
        let (mean, rstd) = self.per_pixel(x.len(), |image, from, mean, rstd| {
            let image = &x[image * self.image()..(image + 1) * self.image()];
            statistics(image, self.area, from, eps, mean, rstd);
        });
        Pixels { mean, rstd }
    }

    pub(super) fn normalize(
        self,
        x: &[f32],
        pixels: &Pixels,
        weight: &[f32],
        bias: &[f32],
    ) -> Vec<f32> {
        self.per_plane(x.len(), |at, channel, first, y| {
            let (mean, rstd) = (&pixels.mean[first..], &pixels.rstd[first..]);
            normal_plane(&x[at..], mean, rstd, weight[channel], bias[channel], y);
        })
    }

    pub(super) fn d_x(self, x: &[f32], pixels: &Pixels, weight: &[f32], d_y: &[f32]) -> Vec<f32> {
        let (g, gn) = self.per_pixel(x.len(), |image, from, g, gn| {
            let range = image * self.image()..(image + 1) * self.image();
            let at = image * self.area + from;
            let (mean, rstd) = (&pixels.mean[at..], &pixels.rstd[at..]);
            d_means(&x[range.clone()], &d_y[range], weight, self.area, from, mean, rstd, g, gn);
        });
        self.per_plane(x.len(), |at, channel, first, d_x| {
            let (mean, rstd) = (&pixels.mean[first..], &pixels.rstd[first..]);
            let (g, gn) = (&g[first..], &gn[first..]);
            d_plane(&x[at..], &d_y[at..], mean, rstd, g, gn, weight[channel], d_x);
        })
    }

    pub(super) fn d_weight(self, x: &[f32], pixels: &Pixels, d_y: &[f32]) -> Vec<f32> {
        let sums = planes::per_channel(x.len() / self.area, self.channels, |plane| {
            let (at, first) = (plane * self.area, plane / self.channels * self.area);
            let (mean, rstd) = (&pixels.mean[first..], &pixels.rstd[first..]);
            let range = at..at + self.area;
            f64::from(sum_of_normal(&x[range.clone()], &d_y[range], mean, rstd))
        });
        sums.into_iter().map(|sum| sum as f32).collect()
    }

    pub(super) fn d_bias(self, d_y: &[f32]) -> Vec<f32> {
        planes::sums_per_channel(d_y, self.channels, self.area)
    }
}
