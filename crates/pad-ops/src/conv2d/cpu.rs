//! Convolution as `weight (O, taps)` times columns `(taps, pixels)`, a block of output rows at a
//! time. A group of channels of an image is an image of its own.

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
        let (kernel, width, out) = (self.kernel, self.width, self.out_width());
        let (plane, stride) = (self.height * width, self.stride.width);
        let size = kernel.area() * rows * out;
        columns.par_chunks_mut(size).enumerate().for_each(|(channel, columns)| {
            let image = &image[channel * plane..(channel + 1) * plane];
            for (tap, columns) in columns.chunks_exact_mut(rows * out).enumerate() {
                let (from, pixel, count) = self.overlap(tap % kernel.width);
                for (row, columns) in columns.chunks_exact_mut(out).enumerate() {
                    columns[..from].fill(0.0);
                    columns[from + count..].fill(0.0);
                    if count == 0 {
                        continue; // the kernel's column is beside the image throughout
                    }
                    let columns = &mut columns[from..from + count];
                    match self.input_row(first + row, tap / kernel.width) {
                        Some(row) if stride == 1 => {
                            let pixel = row * width + pixel;
                            columns.copy_from_slice(&image[pixel..pixel + count]);
                        }
                        Some(row) => {
                            let pixels = image[row * width + pixel..].iter();
                            let pixels = pixels.step_by(stride);
                            columns.iter_mut().zip(pixels).for_each(|(to, from)| *to = *from);
                        }
                        None => columns.fill(0.0),
                    }
                }
            }
        });
    }

    /// The transpose of [`Geometry::gather`]: adds columns back to where they came from.
    fn scatter(self, columns: &[f32], (first, rows): (usize, usize), image: &mut [f32]) {
        let (kernel, width, out) = (self.kernel, self.width, self.out_width());
        let (plane, stride) = (self.height * width, self.stride.width);
        image.par_chunks_mut(plane).enumerate().for_each(|(channel, image)| {
            let size = kernel.area() * rows * out;
            let columns = &columns[channel * size..(channel + 1) * size];
            for (tap, columns) in columns.chunks_exact(rows * out).enumerate() {
                let (from, pixel, count) = self.overlap(tap % kernel.width);
                if count == 0 {
                    continue;
                }
                for (row, columns) in columns.chunks_exact(out).enumerate() {
                    let Some(row) = self.input_row(first + row, tap / kernel.width) else {
                        continue;
                    };
                    let columns = &columns[from..from + count];
                    if stride == 1 {
                        let pixel = row * width + pixel;
                        planes::add(&mut image[pixel..pixel + count], columns);
                    } else {
                        let pixels = image[row * width + pixel..].iter_mut();
                        let pixels = pixels.step_by(stride);
                        pixels.zip(columns).for_each(|(to, from)| *to += from);
                    }
                }
            }
        });
    }

    /// Values of a group of an image, and of its result.
    fn sizes(self) -> (usize, usize) {
        (self.channels * self.height * self.width, self.outputs * self.out.area())
    }

    pub(super) fn forward(self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let (all, out) = (self.outputs * self.groups, self.out.area());
        let mut y = vec![0.0; self.batch * all * out];
        let mut into = Into::Replace;
        if let Some(bias) = bias {
            y.par_chunks_mut(out)
                .enumerate()
                .for_each(|(index, plane)| plane.fill(bias[index % all]));
            into = Into::Add;
        }
        if let Some(winograd) = Winograd::of(self) {
            winograd.forward(x, weight, &mut y);
            return y;
        }
        let (image, result) = self.sizes();
        if self.groups == 1 {
            let mut columns = self.columns();
            for (x, y) in x.chunks_exact(image).zip(y.chunks_exact_mut(result)) {
                self.convolve(x, weight, into, y, &mut columns, Threads::All);
            }
            return y;
        }
        let weights = self.outputs * self.taps();
        let images = y.par_chunks_mut(result).zip(x.par_chunks(image)).enumerate();
        images.for_each_init(
            || self.columns(),
            |columns, (index, (y, x))| {
                let weight = &weight[index % self.groups * weights..][..weights];
                self.convolve(x, weight, into, y, columns, Threads::One);
            },
        );
        y
    }

    /// One group of one image.
    fn convolve(
        self,
        image: &[f32],
        weight: &[f32],
        into: Into,
        y: &mut [f32],
        columns: &mut Scratch,
        threads: Threads,
    ) {
        let taps = self.taps();
        for (first, rows) in self.blocks() {
            let pixels = rows * self.out_width();
            let columns = self.columns_of(image, (first, rows), columns);
            let y_mat = Mat::strided(self.outputs, pixels, self.out.area());
            matmul(
                (&mut y[first * self.out_width()..], y_mat),
                into,
                1.0,
                (weight, Mat::dense(self.outputs, taps)),
                (columns, Mat::dense(taps, pixels)),
                threads,
            );
        }
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
        let mut d_x = want_x.then(|| vec![0.0; x.len()]);
        let mut d_weight = want_weight.then(|| vec![0.0; weight.len()]);
        if let Some(winograd) = Winograd::of(self) {
            winograd.backward(x, weight, d_y, d_x.as_deref_mut(), d_weight.as_deref_mut());
            return (d_x, d_weight);
        }
        if let Some(d_x) = &mut d_x {
            self.add_d_x(weight, d_y, d_x);
        }
        if let Some(d_weight) = &mut d_weight {
            self.add_d_weight(x, d_y, d_weight);
        }
        (d_x, d_weight)
    }

    fn add_d_x(self, weight: &[f32], d_y: &[f32], d_x: &mut [f32]) {
        let (image, result) = self.sizes();
        if self.groups == 1 {
            let mut columns = self.columns();
            for (d_x, d_y) in d_x.chunks_exact_mut(image).zip(d_y.chunks_exact(result)) {
                self.d_image(weight, d_y, d_x, &mut columns, Threads::All);
            }
            return;
        }
        let weights = self.outputs * self.taps();
        let images = d_x.par_chunks_mut(image).zip(d_y.par_chunks(result)).enumerate();
        images.for_each_init(
            || self.columns(),
            |columns, (index, (d_x, d_y))| {
                let weight = &weight[index % self.groups * weights..][..weights];
                self.d_image(weight, d_y, d_x, columns, Threads::One);
            },
        );
    }

    /// Adds the gradient to one group of one image.
    fn d_image(
        self,
        weight: &[f32],
        d_y: &[f32],
        d_image: &mut [f32],
        columns: &mut Scratch,
        threads: Threads,
    ) {
        let taps = self.taps();
        for (first, rows) in self.blocks() {
            let pixels = rows * self.out_width();
            let d_y_mat = Mat::strided(self.outputs, pixels, self.out.area());
            let to = if self.is_plain() { &mut *d_image } else { &mut columns[..taps * pixels] };
            matmul(
                (to, Mat::dense(taps, pixels)),
                Into::Replace,
                1.0,
                (weight, Mat::dense(self.outputs, taps).t()),
                (&d_y[first * self.out_width()..], d_y_mat),
                threads,
            );
            if !self.is_plain() {
                self.scatter(&columns[..taps * pixels], (first, rows), d_image);
            }
        }
    }

    fn add_d_weight(self, x: &[f32], d_y: &[f32], d_weight: &mut [f32]) {
        if self.groups == 1 {
            let mut columns = self.columns();
            return self.d_group(x, d_y, 0, d_weight, &mut columns, Threads::All);
        }
        let weights = self.outputs * self.taps();
        let groups = d_weight.par_chunks_mut(weights).enumerate();
        groups.for_each_init(
            || self.columns(),
            |columns, (group, d_weight)| {
                self.d_group(x, d_y, group, d_weight, columns, Threads::One);
            },
        );
    }

    /// Adds the gradient to the weights of one group, image by image.
    fn d_group(
        self,
        x: &[f32],
        d_y: &[f32],
        group: usize,
        d_weight: &mut [f32],
        columns: &mut Scratch,
        threads: Threads,
    ) {
        let ((image, result), taps) = (self.sizes(), self.taps());
        for index in (0..self.batch).map(|index| index * self.groups + group) {
            let x = &x[index * image..(index + 1) * image];
            let d_y = &d_y[index * result..(index + 1) * result];
            for (first, rows) in self.blocks() {
                let pixels = rows * self.out_width();
                let columns = self.columns_of(x, (first, rows), columns);
                matmul(
                    (&mut *d_weight, Mat::dense(self.outputs, taps)),
                    Into::Add,
                    1.0,
                    (
                        &d_y[first * self.out_width()..],
                        Mat::strided(self.outputs, pixels, self.out.area()),
                    ),
                    (columns, Mat::dense(taps, pixels).t()),
                    threads,
                );
            }
        }
    }

    /// Gradient to the bias: the sum over images and pixels.
    pub(super) fn d_bias(self, d_y: &[f32]) -> Vec<f32> {
        planes::sums_per_channel(d_y, self.outputs * self.groups, self.out.area())
    }
}
