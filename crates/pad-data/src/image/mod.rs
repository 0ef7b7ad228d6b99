//! An image in memory: one or three channels, 8 bits, 16 bits or floats.

mod convert;
mod decode;
pub mod flir;
mod jpeg;
mod limits;
mod plain;
mod tiff;

use std::sync::Arc;

use pad_ops::ImageSize;

pub use self::{
    decode::{EXTENSIONS, decode, decode_bytes},
    limits::DecodeOptions,
};
pub(crate) use self::{
    decode::{decode_bytes_collapsed, decode_collapsed},
    limits::{damaged, panic_text, read},
};
use crate::{Error, Result};

/// Samples of an image, interleaved: row after row, in a row pixel after pixel, in a pixel channel
/// after channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// 8-bit levels, 0 to 255.
    U8(Vec<u8>),
    /// 16-bit counts of a detector, 0 to 65535.
    U16(Vec<u16>),
    /// Floats: kelvin, counts of another width, or levels of 0 to 255 after a
    /// [`Window`](crate::window::Window).
    F32(Vec<f32>),
}

impl Pixels {
    /// Samples (pixels times channels).
    pub fn len(&self) -> usize {
        match self {
            Pixels::U8(values) => values.len(),
            Pixels::U16(values) => values.len(),
            Pixels::F32(values) => values.len(),
        }
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory of the samples, bytes.
    pub fn bytes(&self) -> u64 {
        let each = match self {
            Pixels::U8(_) => 1,
            Pixels::U16(_) => 2,
            Pixels::F32(_) => 4,
        };
        self.len() as u64 * each
    }
}

/// An image of `size.height x size.width` pixels with one channel (grey) or three (red, green,
/// blue).
///
/// An `Image` always holds at least one pixel, and exactly `height * width * channels` samples.
/// Clones share them.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    size: ImageSize,
    channels: usize,
    pixels: Arc<Pixels>,
}

/// Checks a number of channels: 1 (grey) or 3 (RGB).
pub(crate) fn expect_channels(channels: usize) -> Result<()> {
    match channels {
        1 | 3 => Ok(()),
        _ => Err(Error::Setting {
            name: "channels",
            expected: "1 or 3".into(),
            found: channels.to_string(),
        }),
    }
}

impl Image {
    /// An image from its samples in `(height, width, channel)` order.
    ///
    /// # Errors
    /// [`Error::Setting`] if `channels` is neither 1 nor 3, a side is 0, or the number of samples
    /// does not fit.
    pub fn new(size: ImageSize, channels: usize, pixels: Pixels) -> Result<Self> {
        expect_channels(channels)?;
        let samples =
            size.height.checked_mul(size.width).and_then(|area| area.checked_mul(channels));
        if samples != Some(pixels.len()) || pixels.is_empty() {
            return Err(Error::Setting {
                name: "pixels",
                expected: format!("at least one and exactly {size}x{channels} samples"),
                found: format!("{} samples", pixels.len()),
            });
        }
        Ok(Self { size, channels, pixels: Arc::new(pixels) })
    }

    /// Height and width, pixels.
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// 1 (grey) or 3 (red, green, blue).
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The samples, `(height, width, channel)`.
    pub fn pixels(&self) -> &Pixels {
        &self.pixels
    }

    /// The samples, without a copy unless a clone shares them.
    pub fn into_pixels(self) -> Pixels {
        Arc::unwrap_or_clone(self.pixels)
    }

    /// The same image as one channel: the luma of ITU-R BT.601 in 16-bit fixed point, which for
    /// 8-bit images is what PIL's mode `L` holds: `(19595 R + 38470 G + 7471 B + 32768) >> 16`.
    /// Floats are not rounded.
    #[must_use]
    pub fn to_gray(self) -> Self {
        if self.channels == 1 {
            return self;
        }
        let pixels = match self.pixels() {
            Pixels::U8(values) => {
                Pixels::U8(values.as_chunks().0.iter().map(|&rgb| luma(rgb) as u8).collect())
            }
            Pixels::U16(values) => {
                Pixels::U16(values.as_chunks().0.iter().map(|&rgb| luma(rgb) as u16).collect())
            }
            Pixels::F32(values) => {
                Pixels::F32(values.as_chunks().0.iter().map(|&rgb| luma_f32(rgb)).collect())
            }
        };
        Self { channels: 1, pixels: Arc::new(pixels), ..self }
    }

    /// The same image as three channels; a grey one is repeated.
    #[must_use]
    pub fn to_rgb(self) -> Self {
        if self.channels == 3 {
            return self;
        }
        let pixels = match self.pixels() {
            Pixels::U8(values) => Pixels::U8(tripled(values)),
            Pixels::U16(values) => Pixels::U16(tripled(values)),
            Pixels::F32(values) => Pixels::F32(tripled(values)),
        };
        Self { channels: 3, pixels: Arc::new(pixels), ..self }
    }

    /// The same image with one channel if its three are equal everywhere (thermal images are often
    /// stored so), else unchanged. Nothing is lost: every later step treats the channels alike and
    /// apart.
    #[must_use]
    pub fn collapse_gray(self) -> Self {
        if self.channels == 1 {
            return self;
        }
        let pixels = match self.pixels() {
            Pixels::U8(values) => first_if_equal(values).map(Pixels::U8),
            Pixels::U16(values) => first_if_equal(values).map(Pixels::U16),
            Pixels::F32(values) => first_if_equal(values).map(Pixels::F32),
        };
        match pixels {
            Some(pixels) => Self { channels: 1, pixels: Arc::new(pixels), ..self },
            None => self,
        }
    }

    /// The first sample that is NaN or infinite, as row, column and value.
    pub fn first_not_finite(&self) -> Option<(usize, usize, f32)> {
        let Pixels::F32(values) = self.pixels() else {
            return None;
        };
        let index = values.iter().position(|value| !value.is_finite())?;
        let pixel = index / self.channels;
        Some((pixel / self.size.width, pixel % self.size.width, values[index]))
    }
}

/// Luma of one pixel; fits its samples' width because the weights sum to 65536.
fn luma<T: Into<u32>>([r, g, b]: [T; 3]) -> u32 {
    (19595 * r.into() + 38470 * g.into() + 7471 * b.into() + 0x8000) >> 16
}

/// The same in f64, in which every product and sum is exact, rounded once.
fn luma_f32(rgb: [f32; 3]) -> f32 {
    let [r, g, b] = rgb.map(f64::from);
    ((19595.0 * r + 38470.0 * g + 7471.0 * b) / 65536.0) as f32
}

/// The first `KEPT` of every `ALL` samples.
fn without_alpha<T: Copy, const ALL: usize, const KEPT: usize>(samples: &[T]) -> Vec<T> {
    samples.as_chunks::<ALL>().0.iter().flat_map(|pixel| pixel[..KEPT].iter().copied()).collect()
}

fn tripled<T: Copy>(values: &[T]) -> Vec<T> {
    values.iter().flat_map(|&value| [value; 3]).collect()
}

fn first_if_equal<T: Copy + PartialEq>(values: &[T]) -> Option<Vec<T>> {
    let pixels = values.as_chunks::<3>().0;
    let equal = pixels.iter().all(|[r, g, b]| r == g && g == b);
    equal.then(|| pixels.iter().map(|[r, _, _]| *r).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rgb(values: Vec<u8>) -> Image {
        Image::new(ImageSize::new(1, values.len() / 3), 3, Pixels::U8(values)).unwrap()
    }

    #[test]
    fn luma_is_that_of_pil() {
        // Values of PIL 11.3: Image.fromarray(rgb).convert("L").
        let image = rgb(vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 12, 200, 31, 255, 255, 255]);
        let Pixels::U8(gray) = image.to_gray().into_pixels() else { panic!("still 8-bit") };
        assert_eq!(gray, [76, 150, 29, 125, 255]);
    }

    #[test]
    fn luma_of_equal_channels_is_that_value_at_every_width() {
        for value in [0_u16, 1, 127, 30_001, 65_535] {
            let size = ImageSize::square(1);
            let image = Image::new(size, 3, Pixels::U16(vec![value; 3])).unwrap();
            assert_eq!(image.to_gray().pixels(), &Pixels::U16(vec![value]));
            let image = Image::new(size, 3, Pixels::F32(vec![f32::from(value); 3])).unwrap();
            assert_eq!(image.to_gray().pixels(), &Pixels::F32(vec![f32::from(value)]));
        }
    }

    #[test]
    fn gray_and_rgb_go_both_ways() {
        let image = Image::new(ImageSize::new(2, 2), 1, Pixels::U8(vec![1, 2, 3, 4])).unwrap();
        let wide = image.clone().to_rgb();
        assert_eq!(wide.pixels(), &Pixels::U8(vec![1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]));
        assert_eq!(wide.clone().collapse_gray(), image);
        assert_eq!(wide.to_gray(), image);
        let coloured = rgb(vec![1, 1, 1, 2, 2, 3]);
        assert_eq!(coloured.clone().collapse_gray(), coloured);
    }

    #[test]
    fn samples_must_fit_the_size() {
        let refused = Image::new(ImageSize::new(2, 3), 3, Pixels::U8(vec![0; 17])).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`pixels` is 17 samples, expected at least one and exactly 2x3x3 samples"
        );
        let refused = Image::new(ImageSize::new(2, 3), 4, Pixels::U8(vec![0; 24])).unwrap_err();
        assert_eq!(refused.to_string(), "`channels` is 4, expected 1 or 3");
        assert!(Image::new(ImageSize::new(0, 3), 1, Pixels::U8(vec![])).is_err());
        assert!(Image::new(ImageSize::new(usize::MAX, 3), 1, Pixels::U8(vec![0])).is_err());
    }

    #[test]
    fn the_first_bad_float_is_found() {
        let mut values = vec![1.0; 24];
        values[13] = f32::NAN;
        values[20] = f32::INFINITY;
        let image = Image::new(ImageSize::new(2, 4), 3, Pixels::F32(values)).unwrap();
        let (row, column, value) = image.first_not_finite().unwrap();
        assert_eq!((row, column), (1, 0));
        assert!(value.is_nan());
    }
}
