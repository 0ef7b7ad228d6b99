//! The rectangle of a region.

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

/// A rectangle of pixels. As in the reference, `width` and `height` are last minus first pixel: one
/// less than the number of columns and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Roi {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns, less one.
    pub width: u32,
    /// Rows, less one.
    pub height: u32,
}

impl Roi {
    /// Returns whether the rectangle lies inside an image of `size`.
    pub fn is_inside(&self, size: ImageSize) -> bool {
        let inside = |first: u32, extent: u32, limit: usize| {
            u64::from(first) + u64::from(extent) <= limit as u64
        };
        inside(self.x, self.width, size.width) && inside(self.y, self.height, size.height)
    }
}

/// Formats a line of a RoI file: `x,y,width,height`.
impl std::fmt::Display for Roi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{},{},{}", self.x, self.y, self.width, self.height)
    }
}
