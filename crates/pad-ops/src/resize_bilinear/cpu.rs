//! Bilinear resizing plane by plane: two rows are mixed, then neighbours in the mixed row.

use rayon::prelude::*;

use crate::{
    ImageSize,
    cpu::{level::multiversioned, scratch::Scratch},
    planes,
};

/// One sample along an axis: `(1 - weight) * first + weight * second`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    pub(super) first: usize,
    pub(super) second: usize,
    pub(super) weight: f32,
}

/// The samples of an axis of `to` values over one of `from`.
pub(super) fn axis(from: usize, to: usize, align_corners: bool) -> Vec<Tap> {
    let last = from.saturating_sub(1);
    let place = |i: usize| {
        if align_corners {
            if to > 1 { i as f64 * last as f64 / (to - 1) as f64 } else { 0.0 }
        } else {
            ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0)
        }
    };
    (0..to)
        .map(|i| {
            let first = (place(i) as usize).min(last);
            let weight = (place(i) - first as f64).clamp(0.0, 1.0) as f32;
            Tap { first, second: (first + 1).min(last), weight }
        })
        .collect()
}

/// The samples of both axes.
pub(super) struct Resize {
    from: ImageSize,
    rows: Vec<Tap>,
    columns: Vec<Tap>,
}

impl Resize {
    pub(super) fn new(from: ImageSize, to: ImageSize, align_corners: bool) -> Self {
        let rows = axis(from.height, to.height, align_corners);
        Self { from, rows, columns: axis(from.width, to.width, align_corners) }
    }

    fn out_area(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    pub(super) fn forward(&self, x: &[f32]) -> Vec<f32> {
        let (area, width) = (self.from.area(), self.from.width);
        let mut y = vec![0.0; x.len() / area * self.out_area()];
        y.par_chunks_mut(self.out_area()).zip(x.par_chunks(area)).for_each(|(y, x)| {
            let mut mixed = Scratch::new(width);
            for (tap, y) in self.rows.iter().zip(y.chunks_exact_mut(self.columns.len())) {
                let row = |row: usize| &x[row * width..(row + 1) * width];
                mix(&mut mixed, row(tap.first), row(tap.second), tap.weight);
                for (y, tap) in y.iter_mut().zip(&self.columns) {
                    *y = (1.0 - tap.weight) * mixed[tap.first] + tap.weight * mixed[tap.second];
                }
            }
        });
        y
    }

    pub(super) fn backward(&self, d_y: &[f32]) -> Vec<f32> {
        let (area, width) = (self.from.area(), self.from.width);
        let mut d_x = vec![0.0; d_y.len() / self.out_area() * area];
        let planes = d_x.par_chunks_mut(area).zip(d_y.par_chunks(self.out_area()));
        planes.for_each(|(d_x, d_y)| {
            let mut mixed = Scratch::new(width);
            for (tap, d_y) in self.rows.iter().zip(d_y.chunks_exact(self.columns.len())) {
                mixed.fill(0.0);
                for (d_y, tap) in d_y.iter().zip(&self.columns) {
                    mixed[tap.first] += (1.0 - tap.weight) * d_y;
                    mixed[tap.second] += tap.weight * d_y;
                }
                let first = tap.first * width..(tap.first + 1) * width;
                planes::add_scaled(&mut d_x[first], &mixed, 1.0 - tap.weight);
                let second = tap.second * width..(tap.second + 1) * width;
                planes::add_scaled(&mut d_x[second], &mixed, tap.weight);
            }
        });
        d_x
    }
}

multiversioned! {
    fn mix(out: &mut [f32], first: &[f32], second: &[f32], weight: f32) {
        let n = out.len().min(first.len()).min(second.len());
        let (out, first, second) = (&mut out[..n], &first[..n], &second[..n]);
        for i in 0..n {
            out[i] = (1.0 - weight) * first[i] + weight * second[i];
        }
    }
}
