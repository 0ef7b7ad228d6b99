//! `weight^T (4 O, C)` times pixels `(C, H W)`, image by image, and the four planes woven into one.

use rayon::prelude::*;

use crate::{
    cpu::{
        matmul::{Into, Mat, Threads, matmul},
        scratch::Scratch,
    },
    planes,
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) channels: usize,
    pub(super) outputs: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Geometry {
    fn area(self) -> usize {
        self.height * self.width
    }

    /// (C, 4 O).
    fn weight(self) -> Mat {
        Mat::dense(self.channels, 4 * self.outputs)
    }

    pub(super) fn forward(self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let (area, width) = (self.area(), self.width);
        let mut y = vec![0.0; x.len() / self.channels * self.outputs * 4];
        let mut parts = Scratch::new(4 * self.outputs * area);
        let images = x.chunks_exact(self.channels * area);
        for (image, y) in images.zip(y.chunks_exact_mut(4 * self.outputs * area)) {
            matmul(
                (&mut parts, Mat::dense(4 * self.outputs, area)),
                Into::Replace,
                1.0,
                (weight, self.weight().t()),
                (image, Mat::dense(self.channels, area)),
                Threads::All,
            );
            let parts = &*parts;
            y.par_chunks_mut(4 * area).enumerate().for_each(|(output, y)| {
                let bias = bias.map_or(0.0, |bias| bias[output]);
                let parts = &parts[4 * output * area..4 * (output + 1) * area];
                for (row, y) in y.chunks_exact_mut(2 * width).enumerate() {
                    let from = (row % 2) * 2 * area + row / 2 * width;
                    let left = &parts[from..from + width];
                    let right = &parts[from + area..from + area + width];
                    for ((y, left), right) in y.chunks_exact_mut(2).zip(left).zip(right) {
                        y[0] = left + bias;
                        y[1] = right + bias;
                    }
                }
            });
        }
        y
    }

    pub(super) fn backward(
        self,
        x: &[f32],
        weight: &[f32],
        d_y: &[f32],
        want_x: bool,
        want_weight: bool,
    ) -> (Option<Vec<f32>>, Option<Vec<f32>>) {
        let (area, width) = (self.area(), self.width);
        let mut d_x = want_x.then(|| vec![0.0; x.len()]);
        let mut d_weight = want_weight.then(|| vec![0.0; weight.len()]);
        let mut parts = Scratch::new(4 * self.outputs * area);
        let parts_mat = Mat::dense(4 * self.outputs, area);
        let image_mat = Mat::dense(self.channels, area);
        for (index, d_y) in d_y.chunks_exact(4 * self.outputs * area).enumerate() {
            parts.par_chunks_mut(4 * area).enumerate().for_each(|(output, parts)| {
                let d_y = &d_y[4 * output * area..4 * (output + 1) * area];
                for (row, d_y) in d_y.chunks_exact(2 * width).enumerate() {
                    let from = (row % 2) * 2 * area + row / 2 * width;
                    for (column, d_y) in d_y.chunks_exact(2).enumerate() {
                        parts[from + column] = d_y[0];
                        parts[from + area + column] = d_y[1];
                    }
                }
            });
            let image = index * self.channels * area..(index + 1) * self.channels * area;
            if let Some(d_x) = &mut d_x {
                matmul(
                    (&mut d_x[image.clone()], image_mat),
                    Into::Replace,
                    1.0,
                    (weight, self.weight()),
                    (&parts, parts_mat),
                    Threads::All,
                );
            }
            if let Some(d_weight) = &mut d_weight {
                matmul(
                    (d_weight, self.weight()),
                    Into::Add,
                    1.0,
                    (&x[image], image_mat),
                    (&parts, parts_mat.t()),
                    Threads::All,
                );
            }
        }
        (d_x, d_weight)
    }

    /// Gradient to the bias: the sum over images and pixels.
    pub(super) fn d_bias(self, d_y: &[f32]) -> Vec<f32> {
        planes::sums_per_channel(d_y, self.outputs, 4 * self.area())
    }
}
