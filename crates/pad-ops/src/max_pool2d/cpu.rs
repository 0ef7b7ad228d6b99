//! Maxima plane by plane.

use rayon::prelude::*;

#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
}

impl Windows {
    pub(super) fn out_height(self) -> usize {
        (self.height - self.kernel) / self.stride + 1
    }

    pub(super) fn out_width(self) -> usize {
        (self.width - self.kernel) / self.stride + 1
    }

    fn area(self) -> usize {
        self.height * self.width
    }

    fn out_area(self) -> usize {
        self.out_height() * self.out_width()
    }

    /// Where the largest value of output `index`'s window is: the first of equals, or a NaN.
    fn place(self, plane: &[f32], index: usize) -> usize {
        let (row, column) = (index / self.out_width(), index % self.out_width());
        let corner = row * self.stride * self.width + column * self.stride;
        let mut best = corner;
        for row in 0..self.kernel {
            let from = corner + row * self.width;
            for place in from..from + self.kernel {
                if plane[place] > plane[best] || plane[place].is_nan() {
                    best = place;
                }
            }
        }
        best
    }

    pub(super) fn forward(self, x: &[f32]) -> Vec<f32> {
        let (area, out) = (self.area(), self.out_area());
        let mut y = vec![0.0; x.len() / area * out];
        y.par_chunks_mut(out).zip(x.par_chunks(area)).for_each(|(y, x)| {
            y.iter_mut().enumerate().for_each(|(index, y)| *y = x[self.place(x, index)]);
        });
        y
    }

    pub(super) fn backward(self, x: &[f32], d_y: &[f32]) -> Vec<f32> {
        let (area, out) = (self.area(), self.out_area());
        let mut d_x = vec![0.0; x.len()];
        let planes = d_x.par_chunks_mut(area).zip(x.par_chunks(area)).zip(d_y.par_chunks(out));
        planes.for_each(|((d_x, x), d_y)| {
            for (index, d_y) in d_y.iter().enumerate() {
                d_x[self.place(x, index)] += d_y;
            }
        });
        d_x
    }
}
