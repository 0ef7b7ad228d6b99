//! Averages plane by plane.

use std::ops::Range;

use rayon::prelude::*;

use crate::ImageSize;

/// PyTorch's windows along one axis.
pub(super) fn bins(from: usize, to: usize) -> Vec<Range<usize>> {
    (0..to).map(|i| i * from / to..((i + 1) * from).div_ceil(to)).collect()
}

/// The windows along both axes.
pub(super) struct Bins {
    from: ImageSize,
    rows: Vec<Range<usize>>,
    columns: Vec<Range<usize>>,
}

impl Bins {
    pub(super) fn new(from: ImageSize, to: ImageSize) -> Self {
        let rows = bins(from.height, to.height);
        Self { from, rows, columns: bins(from.width, to.width) }
    }

    fn out_area(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Row and column ranges of every value of the result, row major.
    fn windows(&self) -> impl Iterator<Item = (&Range<usize>, &Range<usize>)> {
        self.rows.iter().flat_map(|rows| self.columns.iter().map(move |columns| (rows, columns)))
    }

    pub(super) fn forward(&self, x: &[f32]) -> Vec<f32> {
        let (area, width) = (self.from.area(), self.from.width);
        let mut y = vec![0.0; x.len() / area * self.out_area()];
        y.par_chunks_mut(self.out_area()).zip(x.par_chunks(area)).for_each(|(y, x)| {
            for (y, (rows, columns)) in y.iter_mut().zip(self.windows()) {
                let row = |row: usize| &x[row * width + columns.start..row * width + columns.end];
                let sum: f32 = rows.clone().map(|r| row(r).iter().sum::<f32>()).sum();
                *y = sum / (rows.len() * columns.len()) as f32;
            }
        });
        y
    }

    pub(super) fn backward(&self, d_y: &[f32]) -> Vec<f32> {
        let (area, width) = (self.from.area(), self.from.width);
        let mut d_x = vec![0.0; d_y.len() / self.out_area() * area];
        let planes = d_x.par_chunks_mut(area).zip(d_y.par_chunks(self.out_area()));
        planes.for_each(|(d_x, d_y)| {
            for (d_y, (rows, columns)) in d_y.iter().zip(self.windows()) {
                let share = d_y / (rows.len() * columns.len()) as f32;
                for row in rows.clone() {
                    let pixels = row * width + columns.start..row * width + columns.end;
                    d_x[pixels].iter_mut().for_each(|d_x| *d_x += share);
                }
            }
        });
        d_x
    }
}
