//! Matrices inside slices, and how a product treats them: what every matrix kernel agrees on.

/// A matrix inside a slice: `(rows, columns)`, and how far apart its rows and columns are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mat {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl Mat {
    /// A dense row-major matrix.
    pub(crate) fn dense(rows: usize, cols: usize) -> Self {
        Self { rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// A row-major matrix whose rows are `row_stride` apart.
    pub(crate) fn strided(rows: usize, cols: usize, row_stride: usize) -> Self {
        Self { rows, cols, row_stride, col_stride: 1 }
    }

    /// The transposed view of the same values.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// Values that the matrix spans, first to last; `usize::MAX`, which no slice has, if their
    /// number overflows: kernels compare it with the length of their slices.
    pub(crate) fn span(self) -> usize {
        if self.rows == 0 || self.cols == 0 {
            return 0;
        }
        let rows = (self.rows - 1).saturating_mul(self.row_stride);
        let cols = (self.cols - 1).saturating_mul(self.col_stride);
        rows.saturating_add(cols).saturating_add(1)
    }
}

/// The threads that work on one product.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Threads {
    /// The calling thread (products that are themselves spread over threads).
    One,
    /// The whole pool.
    All,
}

/// What happens to the values already in the destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Into {
    /// They are overwritten.
    Replace,
    /// The product is added to them.
    Add,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_never_wrap() {
        assert_eq!(Mat::dense(3, 4).span(), 12);
        assert_eq!(Mat::strided(3, 4, 10).span(), 24);
        assert_eq!(Mat::strided(3, 4, 10).t().span(), 24);
        assert_eq!(Mat::dense(0, usize::MAX).span(), 0);
        let half = 1 << (usize::BITS / 2);
        assert_eq!(Mat::dense(half, half).span(), usize::MAX);
        assert_eq!(Mat::strided(3, 1, usize::MAX).span(), usize::MAX);
    }
}
