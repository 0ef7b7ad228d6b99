//! The two passes.
//!
//! The pass along rows does not vectorise directly, because adjacent outputs start at irregular
//! inputs. So [`LANES`] rows are transposed into columns of lanes first; every output column is
//! then a weighted sum of whole columns, and the result is transposed back. The pass along columns
//! needs no transposition: its lanes are adjacent columns.

use pulp::{Arch, NullaryFnOnce};

use super::{
    Resampling,
    axis::{Axes, Axis, PRECISION_BITS, Weight},
};
use crate::image::Image;

/// Number of rows (first pass) or columns (second pass) that are summed together.
const LANES: usize = 32;

/// A sample that can be weighted. Overflow cannot occur (the magnitudes of the weights sum to less
/// than 2); wrapping operations are explicit, because checks would keep the loops from vectorising.
pub(super) trait Sample: Copy + Default {
    type Weight: Weight + Copy;
    type Sum: Copy;
    const START: Self::Sum;
    fn add(sum: Self::Sum, sample: Self, weight: Self::Weight) -> Self::Sum;
    fn finish(sum: Self::Sum) -> Self;
}

impl Sample for u8 {
    type Weight = i32;
    type Sum = i32;
    const START: i32 = 1 << (PRECISION_BITS - 1);
    #[inline(always)]
    fn add(sum: i32, sample: u8, weight: i32) -> i32 {
        sum.wrapping_add(i32::from(sample).wrapping_mul(weight))
    }
    #[inline(always)]
    fn finish(sum: i32) -> u8 {
        (sum >> PRECISION_BITS).clamp(0, 255) as u8
    }
}

impl Sample for f32 {
    type Weight = f32;
    type Sum = f32;
    const START: f32 = 0.0;
    #[inline(always)]
    fn add(sum: f32, sample: f32, weight: f32) -> f32 {
        sum + sample * weight
    }
    #[inline(always)]
    fn finish(sum: f32) -> f32 {
        sum.clamp(0.0, 255.0)
    }
}

/// Buffers of the passes.
#[derive(Default)]
pub(super) struct Scratch<T> {
    /// Input columns of one block of rows.
    lanes_in: Vec<[T; LANES]>,
    /// Output columns of one block of rows.
    lanes_out: Vec<[T; LANES]>,
    /// Between the passes: the rows that the second pass needs, kept columns only.
    middle: Vec<T>,
    /// The result, planar.
    planes: Vec<T>,
}

impl<T: Sample> Scratch<T> {
    /// Runs both passes over every channel. `resampling` was validated against `image`.
    pub(super) fn run(
        &mut self,
        image: &Image,
        samples: &[T],
        resampling: &Resampling,
        axes: &Axes<T::Weight>,
    ) -> &[T] {
        let kept = resampling.window;
        // Source rows (within the crop) that the kept output rows need.
        let (first, last) = match &axes.rows {
            None => (kept.top, kept.top + kept.height),
            Some(axis) => {
                let (first, _) = axis.at(kept.top);
                let (start, weights) = axis.at(kept.top + kept.height - 1);
                (first, start + weights.len())
            }
        };
        let area = kept.size().area();
        let channels = image.channels();
        self.planes.resize(channels * area, T::default());
        self.middle.resize((last - first) * kept.width, T::default());
        for channel in 0..channels {
            let source = Source {
                samples,
                row_stride: image.size().width * channels,
                step: channels,
                offset: (resampling.source.left) * channels + channel,
                first_row: resampling.source.top + first,
                width: resampling.source.width,
            };
            let plane = &mut self.planes[channel * area..][..area];
            // Without a second pass the first one writes the result.
            let middle = if axes.rows.is_some() { &mut self.middle[..] } else { &mut *plane };
            match &axes.columns {
                Some(axis) => Arch::new().dispatch(Columns {
                    source,
                    axis,
                    first_column: kept.left,
                    kept_width: kept.width,
                    lanes_in: &mut self.lanes_in,
                    lanes_out: &mut self.lanes_out,
                    out: middle,
                }),
                None => source.copy(kept.left, kept.width, middle),
            }
            if let Some(axis) = &axes.rows {
                Arch::new().dispatch(Rows {
                    middle: &self.middle,
                    width: kept.width,
                    first,
                    axis,
                    first_row: kept.top,
                    out: plane,
                });
            }
        }
        &self.planes
    }
}

/// One channel of the rows to be read.
#[derive(Clone, Copy)]
struct Source<'a, T> {
    samples: &'a [T],
    row_stride: usize,
    /// Distance of adjacent pixels in a row, and offset of the first.
    step: usize,
    offset: usize,
    first_row: usize,
    width: usize,
}

impl<T: Sample> Source<'_, T> {
    #[inline(always)]
    fn row(&self, row: usize) -> &[T] {
        let start = (self.first_row + row) * self.row_stride + self.offset;
        &self.samples[start..start + (self.width - 1) * self.step + 1]
    }

    /// No scaling along the rows.
    fn copy(&self, first_column: usize, kept_width: usize, out: &mut [T]) {
        for (row, out) in out.chunks_exact_mut(kept_width).enumerate() {
            let samples = self.row(row).iter().step_by(self.step).skip(first_column);
            for (out, &sample) in out.iter_mut().zip(samples) {
                *out = sample;
            }
        }
    }
}

/// First pass: weighted sums along the rows.
struct Columns<'a, T: Sample> {
    source: Source<'a, T>,
    axis: &'a Axis<T::Weight>,
    first_column: usize,
    kept_width: usize,
    lanes_in: &'a mut Vec<[T; LANES]>,
    lanes_out: &'a mut Vec<[T; LANES]>,
    out: &'a mut [T],
}

impl<T: Sample> NullaryFnOnce for Columns<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { source, axis, first_column, kept_width, lanes_in, lanes_out, out } = self;
        lanes_in.resize(source.width, [T::default(); LANES]);
        lanes_out.resize(kept_width, [T::default(); LANES]);
        for (block, out) in out.chunks_mut(LANES * kept_width).enumerate() {
            let rows = out.len() / kept_width;
            for lane in 0..rows {
                let row = source.row(block * LANES + lane);
                for (column, &sample) in lanes_in.iter_mut().zip(row.iter().step_by(source.step)) {
                    column[lane] = sample;
                }
            }
            for (position, result) in lanes_out.iter_mut().enumerate() {
                let (start, weights) = axis.at(first_column + position);
                let mut sums = [T::START; LANES];
                for (column, &weight) in lanes_in[start..][..weights.len()].iter().zip(weights) {
                    for (sum, &sample) in sums.iter_mut().zip(column) {
                        *sum = T::add(*sum, sample, weight);
                    }
                }
                for (result, &sum) in result.iter_mut().zip(&sums) {
                    *result = T::finish(sum);
                }
            }
            for (lane, out) in out.chunks_exact_mut(kept_width).enumerate() {
                for (out, column) in out.iter_mut().zip(lanes_out.iter()) {
                    *out = column[lane];
                }
            }
        }
    }
}

/// Second pass: weighted sums of whole rows.
struct Rows<'a, T: Sample> {
    middle: &'a [T],
    width: usize,
    /// Source row of the first row of `middle`.
    first: usize,
    axis: &'a Axis<T::Weight>,
    first_row: usize,
    out: &'a mut [T],
}

impl<T: Sample> NullaryFnOnce for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { middle, width, first, axis, first_row, out } = self;
        for (position, out) in out.chunks_exact_mut(width).enumerate() {
            let (start, weights) = axis.at(first_row + position);
            let rows = &middle[(start - first) * width..][..weights.len() * width];
            let (whole, rest) = out.as_chunks_mut::<LANES>();
            for (chunk, out) in whole.iter_mut().enumerate() {
                let mut sums = [T::START; LANES];
                for (row, &weight) in rows.chunks_exact(width).zip(weights) {
                    for (sum, &sample) in sums.iter_mut().zip(&row[chunk * LANES..][..LANES]) {
                        *sum = T::add(*sum, sample, weight);
                    }
                }
                for (out, &sum) in out.iter_mut().zip(&sums) {
                    *out = T::finish(sum);
                }
            }
            let done = width - rest.len();
            for (column, out) in rest.iter_mut().enumerate() {
                let samples = rows.chunks_exact(width).map(|row| row[done + column]);
                let sum = samples
                    .zip(weights)
                    .fold(T::START, |sum, (sample, &weight)| T::add(sum, sample, weight));
                *out = T::finish(sum);
            }
        }
    }
}
