//! What a forward pass may do, and the size of an image: the two small types that all crates above
//! share.

use serde::{Deserialize, Serialize};

use crate::rng::Key;

/// What a forward pass may do. `Copy`, passed down, never stored in a layer: it replaces a `train`
/// flag and every hidden random number generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No dropout, no randomness.
    Eval,
    /// Dropout and drop path draw from this place.
    Train(Key),
}

impl Mode {
    /// Returns the mode inside layer `layer`, so that no two layers drop the same units.
    #[must_use]
    pub fn layer(self, layer: u32) -> Self {
        match self {
            Mode::Eval => Mode::Eval,
            Mode::Train(key) => Mode::Train(key.layer(layer)),
        }
    }
}

/// Height and width of an image, in pixels. A named pair, because a bare one gets swapped.
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

    /// Returns the number of pixels.
    pub const fn area(self) -> usize {
        self.height * self.width
    }
}

/// Height, then width: `512x640`.
impl std::fmt::Display for ImageSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}
