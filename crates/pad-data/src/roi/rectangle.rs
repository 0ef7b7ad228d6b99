//! The rectangle of a region.

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

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
    /// The rectangle whose upper left pixel is at column `x` and row `y`, of a number of columns and
    /// rows of pixels. (The fields hold one less of each, as RoI files do.)
    ///
    /// # Errors
    /// [`Error::Setting`] without a column or a row.
    ///
    /// ```
    /// use pad_data::roi::Roi;
    /// let whole = Roi::of_columns_and_rows(0, 0, 640, 512)?; // an image of 512x640
    /// assert_eq!((whole.columns(), whole.rows()), (640, 512));
    /// assert_eq!((whole.width, whole.height, whole.to_string()), (639, 511, "0,0,639,511".into()));
    /// assert!(Roi::of_columns_and_rows(0, 0, 0, 512).is_err());
    /// # Ok::<(), pad_data::Error>(())
    /// ```
    pub fn of_columns_and_rows(x: u32, y: u32, columns: u32, rows: u32) -> Result<Self> {
        match (columns.checked_sub(1), rows.checked_sub(1)) {
            (Some(width), Some(height)) => Ok(Self { x, y, width, height }),
            _ => Err(Error::Setting {
                name: "roi",
                expected: "at least one column and one row".into(),
                found: format!("{columns} columns and {rows} rows"),
            }),
        }
    }

    /// Number of columns of pixels, `width` + 1.
    pub fn columns(&self) -> u64 {
        u64::from(self.width) + 1
    }

    /// Number of rows of pixels, `height` + 1.
    pub fn rows(&self) -> u64 {
        u64::from(self.height) + 1
    }

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
