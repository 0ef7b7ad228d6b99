//! Columns first, row by row of what the box touches; then rows. Forward a task per box, backward a
//! task per plane of a map, which adds its boxes in their order: the same bits for any number of
//! threads.

use rayon::prelude::*;

use super::{
    boxes::RoiAlign,
    sampling::{Bin, Region},
};
use crate::planes;

pub(super) struct Kernel {
    pub(super) images: usize,
    pub(super) channels: usize,
    /// Height and width of each map.
    pub(super) sizes: Vec<(usize, usize)>,
    pub(super) options: RoiAlign,
    pub(super) regions: Vec<Region>,
}

impl Kernel {
    fn bins(&self) -> usize {
        self.options.height * self.options.width
    }

    pub(super) fn forward(&self, maps: &[&[f32]]) -> Vec<f32> {
        let width = self.options.width;
        let mut y = vec![0.0; self.regions.len() * self.channels * self.bins()];
        let per_region = self.channels * self.bins();
        y.par_chunks_mut(per_region).zip(&self.regions).for_each(|(y, region)| {
            let (map_height, map_width) = self.sizes[region.map];
            let area = map_height * map_width;
            let (top, bottom) = region.touched_rows();
            let mut wide = vec![0.0; (bottom - top) * width];
            let image = &maps[region.map][region.image * self.channels * area..];
            for (y, plane) in y.chunks_exact_mut(self.bins()).zip(image.chunks_exact(area)) {
                for (wide, row) in wide.chunks_exact_mut(width).zip(top..bottom) {
                    let row = &plane[row * map_width..(row + 1) * map_width];
                    for (wide, bin) in wide.iter_mut().zip(&region.columns) {
                        *wide = weighted(&row[bin.first..bin.end()], &bin.weights);
                    }
                }
                for (y, bin) in y.chunks_exact_mut(width).zip(&region.rows) {
                    for (row, &weight) in bin.weights.iter().enumerate() {
                        let from = (bin.first + row - top) * width;
                        for (y, wide) in y.iter_mut().zip(&wide[from..from + width]) {
                            *y += weight * wide;
                        }
                    }
                }
            }
        });
        y
    }

    /// The gradient of one map.
    pub(super) fn d_map(&self, map: usize, d_y: &[f32]) -> Vec<f32> {
        let (height, width) = self.sizes[map];
        let area = height * width;
        let per_image: Vec<Vec<usize>> = (0..self.images)
            .map(|image| {
                let ours = |&at: &usize| {
                    let region = &self.regions[at];
                    region.map == map && region.image == image
                };
                (0..self.regions.len()).filter(ours).collect()
            })
            .collect();
        let mut d_map = vec![0.0; self.images * self.channels * area];
        d_map.par_chunks_mut(area).enumerate().for_each_init(Vec::new, |line, (index, plane)| {
            let (image, channel) = (index / self.channels, index % self.channels);
            for &at in &per_image[image] {
                let from = (at * self.channels + channel) * self.bins();
                self.spread(&self.regions[at], &d_y[from..from + self.bins()], plane, width, line);
            }
        });
        d_map
    }

    /// Adds `rows^T d_y columns` to a plane. `line` is scratch.
    fn spread(
        &self,
        region: &Region,
        d_y: &[f32],
        plane: &mut [f32],
        map_width: usize,
        line: &mut Vec<f32>,
    ) {
        let taking = || region.columns.iter().filter(|bin| !bin.weights.is_empty());
        let Some(left) = taking().map(|bin| bin.first).min() else { return };
        let right = taking().map(Bin::end).max().unwrap_or(left);
        for (d_y, bin) in d_y.chunks_exact(self.options.width).zip(&region.rows) {
            if bin.weights.is_empty() {
                continue;
            }
            line.clear();
            line.resize(right - left, 0.0);
            for (&d, column) in d_y.iter().zip(&region.columns) {
                for (i, weight) in column.weights.iter().enumerate() {
                    line[column.first - left + i] += d * weight;
                }
            }
            for (row, &weight) in bin.weights.iter().enumerate() {
                let from = (bin.first + row) * map_width;
                planes::add_scaled(&mut plane[from + left..from + right], line, weight);
            }
        }
    }
}

/// The sum of products; bins are a few pixels wide.
fn weighted(values: &[f32], weights: &[f32]) -> f32 {
    let mut sum = 0.0;
    for (value, weight) in values.iter().zip(weights) {
        sum += value * weight;
    }
    sum
}
