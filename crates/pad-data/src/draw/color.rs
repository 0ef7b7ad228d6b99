//! Colours of pixels.

/// Red, green and blue, 0 to 255.
pub type Color = [u8; 3];

/// Returns the nearest level of 8 bits.
pub(super) fn to_level(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8 // NaN becomes 0
}
