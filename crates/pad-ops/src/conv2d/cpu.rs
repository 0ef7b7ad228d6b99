//! Convolution as `weight (O, C k k)` times columns `(C k k, pixels)`, a block of output rows at a
//! time.

use rayon::prelude::*;

use super::{geometry::Geometry, winograd::Winograd};
use crate::{
    cpu::{
        matmul::{Into, Mat, Threads, matmul},
        scratch::Scratch,
    },
    planes,
};

/// Values of one block of columns: large enough for the product, small beside the image.
const COLUMN_VALUES: usize = 1 << 20;

impl Geometry {
    /// Output rows in a block: it depends on the shape alone.
    fn block_rows(self) -> usize {
        if self.is_plain() {
            return self.out_height();
        }
        (COLUMN_VALUES / (self.taps() * self.out_width())).clamp(1, self.out_height())
    }

    /// `(first row, rows)` of every block.
    fn blocks(self) -> impl Iterator<Item = (usize, usize)> {
        let (rows, step) = (self.out_height(), self.block_rows());
        (0..rows).step_by(step).map(move |first| (first, step.min(rows - first)))
    }

    /// Columns of output rows `first .. first + rows` of one image.
    fn gather(self, image: &[f32], (first, rows): (usize, usize), columns: &mut [f32]) {
        let (k, width, out) = (self.kernel, self.width, self.out_width());
        let plane = self.height * width;
        columns.par_chunks_mut(k * k * rows * out).enumerate().for_each(|(channel, columns)| {
            let image = &image[channel * plane..(channel + 1) * plane];
            for (tap, columns) in columns.chunks_exact_mut(rows * out).enumerate() {
                let (from, pixel, count) = self.overlap(tap % k);
                for (row, columns) in columns.chunks_exact_mut(out).enumerate() {
                    columns[..from].fill(0.0);
                    columns[from + count..].fill(0.0);
                    let columns = &mut columns[from..from + count];
                    match self.input_row(first + row, tap / k) {
                        Some(row) => {
                            let pixel = row * width + pixel;
                            columns.copy_from_slice(&image[pixel..pixel + count]);
                        }
                        None => columns.fill(0.0),
                    }
                }
            }
        });
    }

    /// The transpose of [`Geometry::gather`]: adds columns back to where they came from.
    fn scatter(self, columns: &[f32], (first, rows): (usize, usize), image: &mut [f32]) {
        let (k, width, out) = (self.kernel, self.width, self.out_width());
        let plane = self.height * width;
        image.par_chunks_mut(plane).enumerate().for_each(|(channel, image)| {
            let size = k * k * rows * out;
            let columns = &columns[channel * size..(channel + 1) * size];
            for (tap, columns) in columns.chunks_exact(rows * out).enumerate() {
                let (from, pixel, count) = self.overlap(tap % k);
                for (row, columns) in columns.chunks_exact(out).enumerate() {
                    let Some(row) = self.input_row(first + row, tap / k) else { continue };
                    let pixel = row * width + pixel;
                    planes::add(&mut image[pixel..pixel + count], &columns[from..from + count]);
                }
            }
        });
    }

    pub(super) fn forward(self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let (plane, out) = (self.height * self.width, self.out_height() * self.out_width());
        let taps = self.taps();
        let mut y = vec![0.0; self.batch * self.outputs * out];
        let mut into = Into::Replace;
        if let Some(bias) = bias {
            y.par_chunks_mut(out)
                .enumerate()
                .for_each(|(index, plane)| plane.fill(bias[index % self.outputs]));
            into = Into::Add;
        }
        if let Some(winograd) = Winograd::of(self) {
            winograd.forward(x, weight, &mut y);
            return y;
        }
        let mut columns = self.columns();
        let images = x.chunks_exact(self.channels * plane);
        for (image, y) in images.zip(y.chunks_exact_mut(self.outputs * out)) {
            for (first, rows) in self.blocks() {
                let pixels = rows * self.out_width();
                let columns = self.columns_of(image, (first, rows), &mut columns);
                let y_mat = Mat::strided(self.outputs, pixels, out);
                matmul(
                    (&mut y[first * self.out_width()..], y_mat),
                    into,
                    1.0,
                    (weight, Mat::dense(self.outputs, taps)),
                    (columns, Mat::dense(taps, pixels)),
                    Threads::All,
                );
            }
        }
        y
    }

    /// Memory for a block of columns.
    fn columns(self) -> Scratch {
        let len =
            if self.is_plain() { 0 } else { self.taps() * self.block_rows() * self.out_width() };
        Scratch::new(len)
    }

    /// The columns of a block: gathered, or the image itself.
    fn columns_of<'a>(
        self,
        image: &'a [f32],
        block: (usize, usize),
        columns: &'a mut Scratch,
    ) -> &'a [f32] {
        if self.is_plain() {
            return image;
        }
        let len = self.taps() * block.1 * self.out_width();
        self.gather(image, block, &mut columns[..len]);
        &columns[..len]
    }

    pub(super) fn backward(
        self,
        x: &[f32],
        weight: &[f32],
        d_y: &[f32],
        want_x: bool,
        want_weight: bool,
    ) -> (Option<Vec<f32>>, Option<Vec<f32>>) {
        let (plane, out) = (self.height * self.width, self.out_height() * self.out_width());
        let taps = self.taps();
        let mut d_x = want_x.then(|| vec![0.0; x.len()]);
        let mut d_weight = want_weight.then(|| vec![0.0; weight.len()]);
        if let Some(winograd) = Winograd::of(self) {
            winograd.backward(x, weight, d_y, d_x.as_deref_mut(), d_weight.as_deref_mut());
            return (d_x, d_weight);
        }
        let mut columns = self.columns();
        let weight_mat = Mat::dense(self.outputs, taps);
        for (index, d_y) in d_y.chunks_exact(self.outputs * out).enumerate() {
            let image = index * self.channels * plane..(index + 1) * self.channels * plane;
            for (first, rows) in self.blocks() {
                let pixels = rows * self.out_width();
                let d_y = &d_y[first * self.out_width()..];
                let d_y_mat = Mat::strided(self.outputs, pixels, out);
                let columns_mat = Mat::dense(taps, pixels);
                if let Some(d_weight) = &mut d_weight {
                    let columns = self.columns_of(&x[image.clone()], (first, rows), &mut columns);
                    matmul(
                        (d_weight, weight_mat),
                        Into::Add,
                        1.0,
                        (d_y, d_y_mat),
                        (columns, columns_mat.t()),
                        Threads::All,
                    );
                }
                let Some(d_x) = &mut d_x else { continue };
                let d_image = &mut d_x[image.clone()];
                let to =
                    if self.is_plain() { &mut *d_image } else { &mut columns[..taps * pixels] };
                matmul(
                    (to, columns_mat),
                    Into::Replace,
                    1.0,
                    (weight, weight_mat.t()),
                    (d_y, d_y_mat),
                    Threads::All,
                );
                if !self.is_plain() {
                    self.scatter(&columns[..taps * pixels], (first, rows), d_image);
                }
            }
        }
        (d_x, d_weight)
    }

    /// Gradient to the bias: the sum over images and pixels.
    pub(super) fn d_bias(self, d_y: &[f32]) -> Vec<f32> {
        planes::sums_per_channel(d_y, self.outputs, self.out_height() * self.out_width())
    }
}
