//! The image that regions are searched in.

use pad_ops::ImageSize;

use super::graph::MAX_PIXELS;
use crate::{Error, Result};

/// Checks that `gray` is an image of `size`.
pub(super) fn check_image(gray: &[u8], size: ImageSize) -> Result<()> {
    let area = size.height.checked_mul(size.width);
    let Some(area @ 1..=MAX_PIXELS) = area else {
        return Err(Error::Setting {
            name: "size",
            expected: format!("1 to {} pixels", MAX_PIXELS),
            found: size.to_string(),
        });
    };
    if gray.len() != area {
        return Err(Error::Setting {
            name: "gray",
            expected: format!("{area} bytes for {size} pixels"),
            found: format!("{} bytes", gray.len()),
        });
    }
    Ok(())
}
