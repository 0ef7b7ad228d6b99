//! JPEG of HIKMICRO cameras: behind the picture stands a block `HDRI` with the detector's counts.
//! Its layout is known from public readers of such files; what turns counts into temperatures is
//! not public.
//!
//! | byte | what |
//! |---|---|
//! | 0 | `HDRI` |
//! | 4 | 0x1028, low byte first |
//! | 12, 16 | width and height, 32 bits, low byte first |
//! | 44 | counts, 16 bits, low byte first, row after row |

use std::path::Path;

use pad_ops::ImageSize;

use super::endian::Order;
use crate::{Error, Result};

const NAME: &[u8] = b"HDRI";
const VERSION: u16 = 0x1028;
const HEADER: usize = 44;

/// Size and bytes of the counts; `None` for another file.
///
/// # Errors
/// [`Error::Structure`] if the file ends within them.
pub(super) fn find<'a>(bytes: &'a [u8], path: &Path) -> Result<Option<(ImageSize, &'a [u8])>> {
    // Every JPEG is searched to its end: a plain loop took a twentieth of the loader's time.
    for start in memchr::memmem::find_iter(bytes, NAME) {
        let header = &bytes[start..];
        let (Some(VERSION), Some(width), Some(height)) = (
            Order::Little.u16(header, 4),
            Order::Little.u32(header, 12),
            Order::Little.u32(header, 16),
        ) else {
            continue;
        };
        // Sides are those of detectors; other numbers mean that these four letters are no block.
        if !(1..=8192).contains(&width) || !(1..=8192).contains(&height) {
            continue;
        }
        let size = ImageSize::new(height as usize, width as usize);
        let expected = size.area() * 2;
        let Some(samples) = header.get(HEADER..HEADER + expected) else {
            let found = header.len().saturating_sub(HEADER);
            let what =
                format!("expected {expected} bytes of a thermal image of {size}, found {found}");
            return Err(Error::Structure { path: path.into(), at: (start + HEADER) as u64, what });
        };
        return Ok(Some((size, samples)));
    }
    Ok(None)
}
