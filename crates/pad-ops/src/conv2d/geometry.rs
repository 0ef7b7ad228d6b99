//! The sizes of a convolution, and where kernel and image meet.

/// The sizes of one convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) batch: usize,
    pub(super) channels: usize,
    pub(super) outputs: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) kernel: usize,
    pub(super) padding: usize,
}

impl Geometry {
    pub(super) fn out_height(self) -> usize {
        self.height + 2 * self.padding - self.kernel + 1
    }

    pub(super) fn out_width(self) -> usize {
        self.width + 2 * self.padding - self.kernel + 1
    }

    /// Values in a column.
    pub(super) fn taps(self) -> usize {
        self.channels * self.kernel * self.kernel
    }

    /// Whether the image itself is the matrix of columns.
    pub(super) fn is_plain(self) -> bool {
        self.kernel == 1 && self.padding == 0
    }

    /// The part of an output row that has a pixel `tap` columns to the right:
    /// `(first output, first pixel, count)`.
    pub(super) fn overlap(self, tap: usize) -> (usize, usize, usize) {
        let first = self.padding.saturating_sub(tap);
        let end = (self.width + self.padding).saturating_sub(tap).min(self.out_width());
        (first, (first + tap).saturating_sub(self.padding), end.saturating_sub(first))
    }

    /// The input row under output row `row` and kernel row `tap`, if it is inside.
    pub(super) fn input_row(self, row: usize, tap: usize) -> Option<usize> {
        (row + tap).checked_sub(self.padding).filter(|&row| row < self.height)
    }
}
