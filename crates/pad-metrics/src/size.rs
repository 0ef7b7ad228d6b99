//! The size of an image, which all crates share.

use serde::{Deserialize, Serialize};

/// Height and width of an image, in pixels. A named pair, because a bare one gets swapped.
///
/// ```
/// use pad_metrics::ImageSize;
/// let size = ImageSize::new(512, 640);
/// assert_eq!((size.area(), size.to_string()), (327_680, "512x640".to_string()));
/// assert_eq!(ImageSize::square(8), ImageSize { height: 8, width: 8 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageSize {
    /// Creates a size from its rows and columns.
    pub const fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    /// Creates a square size.
    pub const fn square(side: usize) -> Self {
        Self { height: side, width: side }
    }

    /// Returns the number of pixels, `usize::MAX` where it is larger.
    pub const fn area(self) -> usize {
        self.height.saturating_mul(self.width)
    }
}

/// Height, then width: `512x640`.
impl std::fmt::Display for ImageSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}
