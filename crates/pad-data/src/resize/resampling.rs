//! What is resampled, and by which filter.

use pad_ops::ImageSize;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, rect::Rect};

/// The resampling filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Triangle, support 1.
    Bilinear,
    /// Cubic convolution with a = -0.5, support 2.
    #[default]
    Bicubic,
}

/// A crop with a resize: `source` is cut out and scaled to `scaled`, of which `window` is kept.
/// Only the window is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resampling {
    /// The part of the image that is cut out first.
    pub source: Rect,
    /// The size to which it is scaled.
    pub scaled: ImageSize,
    /// The part of the scaled image that is kept.
    pub window: Rect,
}

impl Resampling {
    /// Returns the resampling of `source` to `size`, without a second crop.
    pub const fn new(source: Rect, size: ImageSize) -> Self {
        Self { source, scaled: size, window: Rect::whole(size) }
    }

    /// Returns the size of the result.
    pub const fn size(&self) -> ImageSize {
        self.window.size()
    }

    pub(super) fn validate(&self, image: ImageSize) -> Result<()> {
        for (name, rect, outer) in
            [("source", self.source, image), ("window", self.window, self.scaled)]
        {
            if !rect.is_inside(outer) {
                return Err(Error::Setting {
                    name,
                    expected: format!("at least one pixel inside {outer}"),
                    found: rect.to_string(),
                });
            }
        }
        Ok(())
    }
}
