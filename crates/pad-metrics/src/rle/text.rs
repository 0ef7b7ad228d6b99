//! COCO's compressed runs. From the fourth run on, the difference to the last run of the same kind
//! is stored. A character holds five bits, lowest first; its sixth bit says that more follow; the
//! highest of the last five bits is the sign.

use super::Rle;
use crate::{ImageSize, MaskError};

type Result<T> = std::result::Result<T, MaskError>;

/// The character of the value 0.
const ZERO: u8 = b'0';

impl Rle {
    /// Reads compressed runs.
    ///
    /// # Errors
    /// [`MaskError`] for characters outside `0` to `o`, a text that ends inside a number, a
    /// negative length, and as [`Rle::new`].
    pub fn parse(size: ImageSize, text: &str) -> Result<Self> {
        let refuse = |expected: &str, found: String| MaskError {
            what: "counts",
            expected: expected.into(),
            found,
        };
        let mut counts: Vec<u32> = Vec::new();
        let (mut value, mut shift) = (0_i64, 0);
        for letter in text.bytes() {
            let bits = letter.wrapping_sub(ZERO);
            if bits > 0x3f {
                return Err(refuse("characters from `0` to `o`", format!("byte {letter}")));
            }
            // 2^30 pixels take six characters, and one for the sign.
            if shift > 30 {
                return Err(refuse("numbers of at most 7 characters", "a longer number".into()));
            }
            value |= i64::from(bits & 0x1f) << shift;
            shift += 5;
            if bits & 0x20 > 0 {
                continue;
            }
            if bits & 0x10 > 0 {
                value |= -1 << shift;
            }
            let before = match counts.len() {
                place @ 3.. => i64::from(counts[place - 2]),
                _ => 0,
            };
            let count = u32::try_from(value + before);
            counts.push(count.map_err(|_| {
                refuse("lengths of at least 0", format!("a length of {}", value + before))
            })?);
            (value, shift) = (0, 0);
        }
        if shift > 0 {
            return Err(refuse("whole numbers", "cut off inside a number".into()));
        }
        Self::new(size, counts)
    }

    /// Returns the compressed runs.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (place, &count) in self.counts().iter().enumerate() {
            let before = if place > 2 { i64::from(self.counts()[place - 2]) } else { 0 };
            let mut value = i64::from(count) - before;
            loop {
                let bits = (value & 0x1f) as u8;
                value >>= 5;
                let done = value == if bits & 0x10 > 0 { -1 } else { 0 };
                text.push(char::from(ZERO + if done { bits } else { bits | 0x20 }));
                if done {
                    break;
                }
            }
        }
        text
    }
}
