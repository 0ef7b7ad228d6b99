//! The sizes of a convolution, and where kernel and image meet.

use crate::ImageSize;

/// The sizes of one convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) batch: usize,
    /// Of one group.
    pub(super) channels: usize,
    /// Of one group.
    pub(super) outputs: usize,
    pub(super) groups: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) kernel: ImageSize,
    pub(super) padding: ImageSize,
    pub(super) stride: ImageSize,
    pub(super) dilation: ImageSize,
    pub(super) out: ImageSize,
}

impl Geometry {
    pub(super) fn out_height(self) -> usize {
        self.out.height
    }

    pub(super) fn out_width(self) -> usize {
        self.out.width
    }

    /// Values in a column.
    pub(super) fn taps(self) -> usize {
        self.channels * self.kernel.area()
    }

    /// Whether every pixel is under every value of the kernel in turn: no stride, no dilation.
    pub(super) fn is_dense(self) -> bool {
        self.stride == ImageSize::square(1) && self.dilation == ImageSize::square(1)
    }

    /// Whether the image itself is the matrix of columns.
    pub(super) fn is_plain(self) -> bool {
        let unpadded = self.padding == ImageSize::square(0);
        self.kernel.area() == 1 && unpadded && self.stride == ImageSize::square(1)
    }

    /// The part of an output row that has a pixel under kernel column `tap`:
    /// `(first output, first pixel, count)`; pixels are `stride.width` apart.
    pub(super) fn overlap(self, tap: usize) -> (usize, usize, usize) {
        let (stride, reach) = (self.stride.width, tap * self.dilation.width);
        let first = self.padding.width.saturating_sub(reach).div_ceil(stride);
        let end = (self.width + self.padding.width).saturating_sub(reach).div_ceil(stride);
        let end = end.min(self.out_width());
        let pixel = (first * stride + reach).saturating_sub(self.padding.width);
        (first.min(self.out_width()), pixel, end.saturating_sub(first))
    }

    /// The input row under output row `row` and kernel row `tap`, if it is inside.
    pub(super) fn input_row(self, row: usize, tap: usize) -> Option<usize> {
        let place = row * self.stride.height + tap * self.dilation.height;
        place.checked_sub(self.padding.height).filter(|&row| row < self.height)
    }
}
