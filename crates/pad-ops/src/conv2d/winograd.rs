//! 3 x 3 convolutions by Winograd's algorithm F(2 x 2, 3 x 3) (Lavin & Gray, 2015): a tile of 2 x 2
//! outputs costs 16 products per pair of channels instead of 36. Its backward is its transpose,
//! step by step.
//!
//! A block is some rows of tiles, counted through all images: where maps are small (heads on boxes)
//! it spans many of them. What is written channel by channel lies as (channels, 16, tiles), what
//! products write place by place as (16, channels, tiles): so every task writes one stretch of
//! memory. The transforms of weights are held for a group of outputs at a time.

use std::ops::Range;

use rayon::prelude::*;

use super::geometry::Geometry;
use crate::{
    ImageSize,
    cpu::{
        level::multiversioned,
        matmul::{Into, Mat, Threads, matmul},
        scratch::Scratch,
    },
    planes,
};

/// Values of a block of transformed tiles.
const TILE_VALUES: usize = 1 << 21;
/// Values of a group of transformed weights.
const WEIGHT_VALUES: usize = 1 << 22;
/// Minimum number of channels on either side: below, the transforms cost more than they save.
const MIN_CHANNELS: usize = 16;

/// Places of a transformed tile.
const PLACES: usize = 16;

#[derive(Clone, Copy)]
pub(super) struct Winograd {
    of: Geometry,
    /// Tiles down and across.
    down: usize,
    across: usize,
}

impl Winograd {
    /// Returns the tiling of a convolution of 3 x 3 with enough channels, else `None`.
    pub(super) fn of(of: Geometry) -> Option<Self> {
        let three = of.kernel == ImageSize::square(3) && of.groups == 1 && of.is_dense();
        let even = of.padding.height == of.padding.width;
        let fits = three && even && of.channels.min(of.outputs) >= MIN_CHANNELS;
        let (down, across) = (of.out_height().div_ceil(2), of.out_width().div_ceil(2));
        fits.then_some(Self { of, down, across })
    }

    /// `(first row of tiles, rows of tiles)` of every block, by the shape alone. Row `r` is row
    /// `r % down` of image `r / down`.
    fn blocks(self) -> impl Iterator<Item = (usize, usize)> {
        let (widest, all) = (self.of.channels.max(self.group()), self.of.batch * self.down);
        let rows = (TILE_VALUES / (PLACES * widest * self.across)).clamp(1, all.max(1));
        (0..all).step_by(rows).map(move |first| (first, rows.min(all - first)))
    }

    /// Images that a block touches.
    fn images(self, (first, rows): (usize, usize)) -> Range<usize> {
        first / self.down..(first + rows).div_ceil(self.down)
    }

    /// Of a block, the rows that belong to an image: `(row in the block, row in the image)`.
    fn rows_of(
        self,
        image: usize,
        (first, rows): (usize, usize),
    ) -> impl Iterator<Item = (usize, usize)> {
        let from = first.max(image * self.down);
        let to = (first + rows).min((image + 1) * self.down);
        (from..to).map(move |row| (row - first, row - image * self.down))
    }

    /// Outputs of a group.
    fn group(self) -> usize {
        (WEIGHT_VALUES / (PLACES * self.of.channels)).clamp(1, self.of.outputs)
    }

    fn groups(self) -> impl Iterator<Item = Range<usize>> {
        let (outputs, step) = (self.of.outputs, self.group());
        (0..outputs).step_by(step).map(move |first| first..(first + step).min(outputs))
    }

    /// Width of four input rows with their padding, as tiles see them.
    fn padded(self) -> usize {
        2 * self.across + 2
    }

    /// One place of all rows of `(rows, 16, width)`.
    fn place(rows: usize, width: usize) -> Mat {
        Mat::strided(rows, width, PLACES * width)
    }

    /// Adds the convolution to `y`.
    pub(super) fn forward(self, x: &[f32], weight: &[f32], y: &mut [f32]) {
        let channels = self.of.channels;
        let most = self.blocks().map(|(_, rows)| rows).max().unwrap_or(0) * self.across;
        let mut tiles = Scratch::new(PLACES * channels * most);
        let mut sums = Scratch::new(PLACES * self.group() * most);
        for group in self.groups() {
            let weights = self.weights(&weight[group.start * channels * 9..], group.len());
            for block in self.blocks() {
                let count = block.1 * self.across;
                self.gather(x, block, &mut tiles[..PLACES * channels * count]);
                let tiles = &tiles[..PLACES * channels * count];
                let sums = &mut sums[..PLACES * group.len() * count];
                by_place(sums, group.len(), count, Into::Replace, |place| {
                    (
                        (&weights[place * channels..], Self::place(group.len(), channels)),
                        (&tiles[place * count..], Self::place(channels, count)),
                    )
                });
                self.outputs(sums, block, &group, y);
            }
        }
    }

    /// Adds the gradients to those of `x` and `weight` that are needed.
    pub(super) fn backward(
        self,
        x: &[f32],
        weight: &[f32],
        d_y: &[f32],
        mut d_x: Option<&mut [f32]>,
        mut d_weight: Option<&mut [f32]>,
    ) {
        let channels = self.of.channels;
        let most = self.blocks().map(|(_, rows)| rows).max().unwrap_or(0) * self.across;
        let mut tiles = Scratch::new(PLACES * channels * most);
        let mut d_sums = Scratch::new(PLACES * self.group() * most);
        for group in self.groups() {
            let weights = d_x
                .is_some()
                .then(|| self.weights(&weight[group.start * channels * 9..], group.len()));
            let mut d_weights = d_weight.is_some().then(|| {
                let mut zeros = Scratch::new(PLACES * group.len() * channels);
                zeros.fill(0.0);
                zeros
            });
            for block in self.blocks() {
                let count = block.1 * self.across;
                self.spread(d_y, block, &group, &mut d_sums[..PLACES * group.len() * count]);
                let d_sums = &*d_sums;
                let sums_mat = Self::place(group.len(), count);
                let (tiles_mat, weights_mat) =
                    (Self::place(channels, count), Self::place(group.len(), channels));
                if let Some(d_weights) = &mut d_weights {
                    let tiles = &mut tiles[..PLACES * channels * count];
                    self.gather(x, block, tiles);
                    let tiles = &*tiles;
                    by_place(d_weights, group.len(), channels, Into::Add, |place| {
                        (
                            (&d_sums[place * count..], sums_mat),
                            (&tiles[place * count..], tiles_mat.t()),
                        )
                    });
                }
                let (Some(d_x), Some(weights)) = (&mut d_x, &weights) else { continue };
                let d_tiles = &mut tiles[..PLACES * channels * count];
                by_place(d_tiles, channels, count, Into::Replace, |place| {
                    (
                        (&weights[place * channels..], weights_mat.t()),
                        (&d_sums[place * count..], sums_mat),
                    )
                });
                self.scatter(d_tiles, block, d_x);
            }
            if let (Some(d_weight), Some(d_weights)) = (&mut d_weight, &d_weights) {
                let d_weight = &mut d_weight[group.start * channels * 9..group.end * channels * 9];
                self.d_weights(d_weights, d_weight);
            }
        }
    }

    /// `G g G^T` of a group's kernels, as (outputs, 16, channels).
    fn weights(self, kernels: &[f32], count: usize) -> Scratch {
        let channels = self.of.channels;
        let mut out = Scratch::new(PLACES * count * channels);
        out.par_chunks_mut(PLACES * channels).enumerate().for_each(|(output, out)| {
            let kernels = &kernels[output * channels * 9..(output + 1) * channels * 9];
            for (channel, g) in kernels.chunks_exact(9).enumerate() {
                // Columns of the kernel, then rows of the result.
                let mut half = [[0.0; 3]; 4];
                for column in 0..3 {
                    let (a, b, c) = (g[column], g[3 + column], g[6 + column]);
                    half[0][column] = a;
                    half[1][column] = 0.5 * (a + b + c);
                    half[2][column] = 0.5 * (a - b + c);
                    half[3][column] = c;
                }
                for (row, [a, b, c]) in half.into_iter().enumerate() {
                    let values = [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
                    for (column, value) in values.into_iter().enumerate() {
                        out[(4 * row + column) * channels + channel] = value;
                    }
                }
            }
        });
        out
    }

    /// The transpose of [`Winograd::weights`], written, of (16, outputs, channels).
    fn d_weights(self, d_weights: &[f32], d_kernels: &mut [f32]) {
        let channels = self.of.channels;
        d_kernels.par_chunks_mut(channels * 9).enumerate().for_each(|(output, d_kernels)| {
            let group = d_weights.len() / (PLACES * channels);
            for (channel, d_kernel) in d_kernels.chunks_exact_mut(9).enumerate() {
                let at = |place: usize| d_weights[(place * group + output) * channels + channel];
                let mut half = [[0.0; 3]; 4];
                for (row, half) in half.iter_mut().enumerate() {
                    *half = d_kernel_line([0, 1, 2, 3].map(|column| at(4 * row + column)));
                }
                for column in 0..3 {
                    let line = d_kernel_line(half.map(|row| row[column]));
                    for (row, value) in line.into_iter().enumerate() {
                        d_kernel[3 * row + column] = value;
                    }
                }
            }
        });
    }

    /// `B^T d B` of every tile of a block, as (channels, 16, tiles).
    fn gather(self, x: &[f32], (first, rows): (usize, usize), tiles: &mut [f32]) {
        let (across, padded) = (self.across, self.padded());
        let count = rows * across;
        tiles.par_chunks_mut(PLACES * count).enumerate().for_each(|(channel, tiles)| {
            let area = self.of.height * self.of.width;
            let mut input = vec![0.0; 4 * padded];
            let mut mixed = vec![0.0; 4 * padded];
            for row in 0..rows {
                let (image, row_of) = ((first + row) / self.down, (first + row) % self.down);
                let image = &x[(image * self.of.channels + channel) * area..][..area];
                input.fill(0.0);
                for (line, input) in input.chunks_exact_mut(padded).enumerate() {
                    let Some(from) = self.input_row(row_of, line) else { continue };
                    let to = self.of.padding.width..self.of.padding.width + self.of.width;
                    input[to].copy_from_slice(&image[from..from + self.of.width]);
                }
                mix_rows(&mut mixed, &input, padded);
                for (line, mixed) in mixed.chunks_exact(padded).enumerate() {
                    let out = &mut tiles[4 * line * count..4 * (line + 1) * count];
                    mix_columns(out, mixed, count, row * across, across);
                }
            }
        });
    }

    /// The transpose of [`Winograd::gather`], of (16, channels, tiles), added to the images.
    fn scatter(self, tiles: &[f32], block: (usize, usize), x: &mut [f32]) {
        let (across, padded) = (self.across, self.padded());
        let (channels, count) = (self.of.channels, block.1 * across);
        let area = self.of.height * self.of.width;
        let images = self.images(block);
        let planes = &mut x[images.start * channels * area..images.end * channels * area];
        planes.par_chunks_mut(area).enumerate().for_each(|(index, image)| {
            let (index, channel) = (images.start + index / channels, index % channels);
            let place = |place: usize| (place * channels + channel) * count;
            let mut mixed = vec![0.0; 4 * padded];
            let mut lines = vec![0.0; 4 * padded];
            for (row, row_of) in self.rows_of(index, block) {
                for (line, mixed) in mixed.chunks_exact_mut(padded).enumerate() {
                    let at = |column: usize| {
                        let from = place(4 * line + column) + row * across;
                        &tiles[from..from + across]
                    };
                    unmix_columns(mixed, at(0), at(1), at(2), at(3));
                }
                unmix_rows(&mut lines, &mixed, padded);
                for (line, values) in lines.chunks_exact(padded).enumerate() {
                    let Some(to) = self.input_row(row_of, line) else { continue };
                    let from = self.of.padding.width..self.of.padding.width + self.of.width;
                    planes::add(&mut image[to..to + self.of.width], &values[from]);
                }
            }
        });
    }

    /// Where line `line` of a row of tiles begins in a channel, if it is inside.
    fn input_row(self, row: usize, line: usize) -> Option<usize> {
        let row = (2 * row + line).checked_sub(self.of.padding.width)?;
        (row < self.of.height).then_some(row * self.of.width)
    }

    /// `A^T m A` of every tile, of (16, outputs, tiles), added to the outputs.
    fn outputs(self, sums: &[f32], block: (usize, usize), group: &Range<usize>, y: &mut [f32]) {
        let (across, width) = (self.across, self.of.out_width());
        let (outputs, count) = (self.of.outputs, block.1 * across);
        let area = self.of.out_height() * width;
        let images = self.images(block);
        let planes = &mut y[images.start * outputs * area..images.end * outputs * area];
        planes.par_chunks_mut(area).enumerate().for_each(|(index, y)| {
            let (image, output) = (images.start + index / outputs, index % outputs);
            if !group.contains(&output) {
                return;
            }
            let (stride, from) = (group.len() * count, (output - group.start) * count);
            let mut mixed = vec![0.0; 4 * across];
            for (row, row_of) in self.rows_of(image, block) {
                for half in 0..2 {
                    let line = 2 * row_of + half;
                    if line >= self.of.out_height() {
                        continue;
                    }
                    sum_rows(&mut mixed, sums, stride, from + row * across, half);
                    let y = &mut y[line * width..(line + 1) * width];
                    sum_columns(y, &mixed, across);
                }
            }
        });
    }

    /// The transpose of [`Winograd::outputs`], as (outputs, 16, tiles).
    fn spread(
        self,
        d_y: &[f32],
        (first, rows): (usize, usize),
        group: &Range<usize>,
        d_sums: &mut [f32],
    ) {
        let (across, width) = (self.across, self.of.out_width());
        let count = rows * across;
        d_sums.par_chunks_mut(PLACES * count).enumerate().for_each(|(output, d_sums)| {
            let area = self.of.out_height() * width;
            let mut pair = vec![0.0; 4 * across];
            for row in 0..rows {
                let (image, row_of) = ((first + row) / self.down, (first + row) % self.down);
                let plane = image * self.of.outputs + group.start + output;
                let d_y = &d_y[plane * area..(plane + 1) * area];
                pair.fill(0.0);
                for (half, pair) in pair.chunks_exact_mut(2 * across).enumerate() {
                    let line = 2 * row_of + half;
                    if line < self.of.out_height() {
                        pair[..width].copy_from_slice(&d_y[line * width..(line + 1) * width]);
                    }
                }
                spread_pair(d_sums, &pair, count, row * across, across);
            }
        });
    }
}

/// A product for every place of `out` (16, rows, columns), in parallel, each on one thread.
fn by_place<'a>(
    out: &mut [f32],
    rows: usize,
    columns: usize,
    into: Into,
    operands: impl Fn(usize) -> ((&'a [f32], Mat), (&'a [f32], Mat)) + Send + Sync,
) {
    out.par_chunks_mut(rows * columns).enumerate().for_each(|(place, out)| {
        let (a, b) = operands(place);
        matmul((out, Mat::dense(rows, columns)), into, 1.0, a, b, Threads::One);
    });
}

/// `G^T` times four values.
fn d_kernel_line([a, b, c, d]: [f32; 4]) -> [f32; 3] {
    [a + 0.5 * (b + c), 0.5 * (b - c), 0.5 * (b + c) + d]
}

multiversioned! {
    /// `B^T` over four rows.
    fn mix_rows(out: &mut [f32], rows: &[f32], n: usize) {
        let (a, rest) = rows.split_at(n);
        let (b, rest) = rest.split_at(n);
        let (c, d) = rest.split_at(n);
        let d = &d[..n];
        let (w, rest) = out.split_at_mut(n);
        let (x, rest) = rest.split_at_mut(n);
        let (y, z) = rest.split_at_mut(n);
        let z = &mut z[..n];
        for i in 0..n {
            w[i] = a[i] - c[i];
            x[i] = b[i] + c[i];
            y[i] = c[i] - b[i];
            z[i] = b[i] - d[i];
        }
    }
}

multiversioned! {
    /// The transpose of `mix_rows`.
    fn unmix_rows(out: &mut [f32], rows: &[f32], n: usize) {
        let (w, rest) = rows.split_at(n);
        let (x, rest) = rest.split_at(n);
        let (y, z) = rest.split_at(n);
        let z = &z[..n];
        let (a, rest) = out.split_at_mut(n);
        let (b, rest) = rest.split_at_mut(n);
        let (c, d) = rest.split_at_mut(n);
        let d = &mut d[..n];
        for i in 0..n {
            a[i] = w[i];
            b[i] = x[i] - y[i] + z[i];
            c[i] = x[i] + y[i] - w[i];
            d[i] = -z[i];
        }
    }
}

multiversioned! {
    /// `B^T` over the columns of every tile of one row: four rows of `out`, `count` apart, from
    /// `at` on.
    fn mix_columns(out: &mut [f32], row: &[f32], count: usize, at: usize, n: usize) {
        let (w, rest) = out.split_at_mut(count);
        let (x, rest) = rest.split_at_mut(count);
        let (y, z) = rest.split_at_mut(count);
        let (w, x) = (&mut w[at..at + n], &mut x[at..at + n]);
        let (y, z) = (&mut y[at..at + n], &mut z[at..at + n]);
        let row = &row[..2 * n + 2];
        for i in 0..n {
            let (a, b, c, d) = (row[2 * i], row[2 * i + 1], row[2 * i + 2], row[2 * i + 3]);
            w[i] = a - c;
            x[i] = b + c;
            y[i] = c - b;
            z[i] = b - d;
        }
    }
}

multiversioned! {
    /// The transpose of `mix_columns`, written to `row`.
    fn unmix_columns(row: &mut [f32], w: &[f32], x: &[f32], y: &[f32], z: &[f32]) {
        let n = w.len();
        let (x, y, z) = (&x[..n], &y[..n], &z[..n]);
        let row = &mut row[..2 * n + 2];
        // What the tile to the left leaves for this one's first two columns.
        let (mut c, mut d) = (0.0, 0.0);
        for i in 0..n {
            row[2 * i] = c + w[i];
            row[2 * i + 1] = d + x[i] - y[i] + z[i];
            c = x[i] + y[i] - w[i];
            d = -z[i];
        }
        row[2 * n] = c;
        row[2 * n + 1] = d;
    }
}

multiversioned! {
    /// Row `half` of `A^T` over the rows of a row of tiles, whose places are `stride` apart: four
    /// rows of `out`.
    fn sum_rows(out: &mut [f32], sums: &[f32], stride: usize, at: usize, half: usize) {
        let n = out.len() / 4;
        for (column, out) in out.chunks_exact_mut(n).enumerate() {
            let from = |row: usize| (4 * row + column) * stride + at;
            let b = &sums[from(1)..from(1) + n];
            let c = &sums[from(2)..from(2) + n];
            if half == 0 {
                let a = &sums[from(0)..from(0) + n];
                for i in 0..n {
                    out[i] = a[i] + b[i] + c[i];
                }
            } else {
                let d = &sums[from(3)..from(3) + n];
                for i in 0..n {
                    out[i] = b[i] - c[i] - d[i];
                }
            }
        }
    }
}

multiversioned! {
    /// `A^T` over columns, added to a row of outputs; the last tile may stand out by one.
    fn sum_columns(y: &mut [f32], rows: &[f32], n: usize) {
        let (a, rest) = rows.split_at(n);
        let (b, rest) = rest.split_at(n);
        let (c, d) = rest.split_at(n);
        let d = &d[..n];
        let whole = y.len() / 2;
        let (pairs, last) = y.split_at_mut(2 * whole);
        for i in 0..whole.min(n) {
            pairs[2 * i] += a[i] + b[i] + c[i];
            pairs[2 * i + 1] += b[i] - c[i] - d[i];
        }
        if let Some(last) = last.first_mut() {
            *last += a[n - 1] + b[n - 1] + c[n - 1];
        }
    }
}

multiversioned! {
    /// `A y A^T` of a row of tiles from two rows of outputs.
    fn spread_pair(d_sums: &mut [f32], pair: &[f32], count: usize, at: usize, n: usize) {
        let (top, bottom) = pair.split_at(2 * n);
        let bottom = &bottom[..2 * n];
        for (place, out) in d_sums.chunks_exact_mut(count).enumerate() {
            let out = &mut out[at..at + n];
            // Row `place / 4` of A over rows, row `place % 4` over columns.
            let (up, low) = spread_factors(place / 4);
            let (left, right) = spread_factors(place % 4);
            for i in 0..n {
                let first = up * top[2 * i] + low * bottom[2 * i];
                let second = up * top[2 * i + 1] + low * bottom[2 * i + 1];
                out[i] = left * first + right * second;
            }
        }
    }
}

/// A row of `A`.
#[inline(always)]
fn spread_factors(row: usize) -> (f32, f32) {
    match row {
        0 => (1.0, 0.0),
        1 => (1.0, 1.0),
        2 => (1.0, -1.0),
        _ => (0.0, -1.0),
    }
}
