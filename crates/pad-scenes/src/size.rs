//! The size of an image.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The size of an image in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Size {
    /// The number of rows.
    pub height: usize,
    /// The number of columns.
    pub width: usize,
}

impl Size {
    /// A size from its numbers of rows and columns.
    pub const fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    /// A square size.
    pub const fn square(side: usize) -> Self {
        Self { height: side, width: side }
    }

    /// The number of pixels.
    pub const fn area(self) -> usize {
        self.height * self.width
    }
}

/// Height, then width: `512x640`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}
