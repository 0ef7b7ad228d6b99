//! An image in memory: one channel or several, 8 bits, 16 bits or floats; pixels without data are
//! masked.

mod convert;
mod decode;
mod dji;
mod endian;
mod exif;
pub mod flir;
mod format;
mod hikmicro;
mod jpeg;
mod limits;
mod notice;
mod npy;
mod options;
mod orientation;
mod plain;
mod png;
mod thermal;
mod tiff;
mod units;

use std::sync::Arc;

use pad_ops::ImageSize;

pub use self::{
    decode::{decode, decode_bytes, frame_count, image_size, image_size_bytes},
    format::EXTENSIONS,
    options::{DecodeOptions, RadiometricMode},
};
pub(crate) use self::{
    decode::{decode_bytes_collapsed, decode_collapsed, frame_places, label_bytes},
    limits::{damaged, panic_text, read},
    notice::warn_once,
    png::{palette_fault as png_palette_fault, upright as upright_png},
};
use crate::{Error, Result};

/// Samples of an image, interleaved: row after row, in a row pixel after pixel, in a pixel channel
/// after channel.
///
/// ```
/// use pad_data::image::Pixels;
/// let counts = Pixels::U16(vec![7000, 7100, 7200]);
/// assert_eq!((counts.len(), counts.bytes(), counts.is_empty()), (3, 6, false));
/// ```
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

/// The largest number of channels of an [`Image`].
pub const MAX_CHANNELS: usize = 64;

/// An image of `size.height x size.width` pixels with one channel (grey), three (red, green, blue)
/// or any other number of bands up to [`MAX_CHANNELS`].
///
/// An `Image` always holds at least one pixel, and exactly `height * width * channels` samples.
/// Clones share them. Pixels without data (nodata of a GeoTIFF, NaN, an absent tile, a dead pixel)
/// are [masked](Image::masked).
///
/// ```
/// use pad_data::{ImageSize, image::{Image, Pixels}};
/// // One row of two pixels: red, green and blue of each in turn.
/// let image = Image::new(ImageSize::new(1, 2), 3, Pixels::U8(vec![255, 0, 0, 9, 9, 9]))?;
/// assert_eq!((image.size(), image.channels()), (ImageSize::new(1, 2), 3));
/// assert_eq!(image.clone().to_gray().into_pixels(), Pixels::U8(vec![76, 9])); // BT.601
/// // A thermal image is often stored as three equal channels.
/// let gray = Image::new(ImageSize::new(1, 2), 1, Pixels::U8(vec![3, 4]))?;
/// assert_eq!(gray.clone().to_rgb().pixels().len(), 6);
/// assert_eq!(gray.clone().to_rgb().collapse_gray(), gray);
/// assert!(gray.masked().is_none() && gray.first_not_finite().is_none());
/// // A size of the picture beside a thermal image, on which labels may have been made.
/// let thermal = gray.with_companion(Some(ImageSize::new(2, 4)));
/// assert_eq!(thermal.companion_size(), Some(ImageSize::new(2, 4)));
/// # Ok::<(), pad_data::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    size: ImageSize,
    channels: usize,
    pixels: Arc<Pixels>,
    masked: Option<Arc<Vec<bool>>>,
    companion: Option<ImageSize>,
}

/// Checks the channels of samples that are made of grey levels: 1 or 3 equal ones.
pub(crate) fn expect_gray_channels(channels: usize) -> Result<()> {
    match channels {
        1 | 3 => Ok(()),
        _ => Err(Error::Setting {
            name: "channels",
            expected: "1 or 3".into(),
            found: channels.to_string(),
        }),
    }
}

/// Checks that an image is grey or RGB, for what knows no other bands.
pub(crate) fn expect_gray_or_rgb(image: &Image) -> Result<()> {
    match image.channels() {
        1 | 3 => Ok(()),
        found => Err(Error::Setting {
            name: "image",
            expected: "1 or 3 channels".into(),
            found: format!("of {found} channels"),
        }),
    }
}

/// Checks a number of channels: 1 to [`MAX_CHANNELS`].
pub(crate) fn expect_channels(channels: usize) -> Result<()> {
    match channels {
        1..=MAX_CHANNELS => Ok(()),
        _ => Err(Error::Setting {
            name: "channels",
            expected: format!("1 to {MAX_CHANNELS}"),
            found: channels.to_string(),
        }),
    }
}

impl Image {
    /// An image from its samples in `(height, width, channel)` order.
    ///
    /// # Errors
    /// [`Error::Setting`] if `channels` is not 1 to [`MAX_CHANNELS`], a side is 0, or the number of
    /// samples does not fit.
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
        Ok(Self { size, channels, pixels: Arc::new(pixels), masked: None, companion: None })
    }

    /// The same image with pixels marked as being without data. `masked` has an entry for each
    /// pixel, row-major; true for a pixel without data, whose samples become the smallest of the
    /// others in their channel, so that no later step meets a value that means nothing. A mask
    /// without a true entry is left out.
    ///
    /// # Errors
    /// [`Error::Setting`] for another number of entries, and if all pixels are masked.
    ///
    /// ```
    /// use pad_data::image::{Image, Pixels};
    /// use pad_ops::ImageSize;
    ///
    /// let kelvin = Pixels::F32(vec![290.0, 295.0, f32::NAN, 280.0]);
    /// let image = Image::new(ImageSize::new(1, 4), 1, kelvin)?;
    /// let image = image.with_mask(vec![false, false, true, false])?;
    /// assert_eq!(image.pixels(), &Pixels::F32(vec![290.0, 295.0, 280.0, 280.0]));
    /// assert_eq!(image.masked().unwrap(), [false, false, true, false]);
    /// # Ok::<(), pad_data::Error>(())
    /// ```
    pub fn with_mask(self, masked: Vec<bool>) -> Result<Self> {
        let count = masked.iter().filter(|&&masked| masked).count();
        if masked.len() != self.size.area() || count == masked.len() {
            return Err(Error::Setting {
                name: "masked",
                expected: format!("an entry for each pixel of {}, not all of them true", self.size),
                found: format!("{} entries, {count} of them true", masked.len()),
            });
        }
        if count == 0 {
            return Ok(Self { masked: None, ..self });
        }
        let channels = self.channels;
        let mut pixels = self.pixels;
        match Arc::make_mut(&mut pixels) {
            Pixels::U8(values) => fill_masked(values, channels, &masked, |a, b| a < b),
            Pixels::U16(values) => fill_masked(values, channels, &masked, |a, b| a < b),
            Pixels::F32(values) => fill_masked(values, channels, &masked, |a, b| a < b),
        }
        Ok(Self { pixels, masked: Some(Arc::new(masked)), ..self })
    }

    /// Which pixels are without data, row-major; `None` if all have some.
    pub fn masked(&self) -> Option<&[bool]> {
        self.masked.as_ref().map(|masked| masked.as_slice())
    }

    /// The same image with the [size of the other image](Image::companion_size) of its file.
    #[must_use]
    pub fn with_companion(self, companion: Option<ImageSize>) -> Self {
        Self { companion, ..self }
    }

    /// Size of the other image of a radiometric file, upright: of the picture if this is the
    /// thermal image, of the thermal image if this is the picture. Labels may have been made on
    /// either; they are scaled by the ratio of the sizes. `None` for all other files.
    pub fn companion_size(&self) -> Option<ImageSize> {
        self.companion
    }

    /// This image with other samples and the same mask and companion.
    pub(crate) fn with_pixels(&self, channels: usize, pixels: Pixels) -> Result<Self> {
        let image = Self::new(self.size, channels, pixels)?;
        Ok(Self { masked: self.masked.clone(), companion: self.companion, ..image })
    }

    /// Height and width, pixels.
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// 1 (grey), 3 (red, green, blue) or another number of bands.
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
    /// Floats are not rounded. Bands that are not red, green and blue (2, 4 or more) give their
    /// mean.
    #[must_use]
    pub fn to_gray(self) -> Self {
        match self.channels {
            1 => return self,
            3 => {}
            channels => {
                let pixels = match self.pixels() {
                    Pixels::U8(values) => Pixels::U8(means(values, channels, |mean| mean as u8)),
                    Pixels::U16(values) => Pixels::U16(means(values, channels, |mean| mean as u16)),
                    Pixels::F32(values) => Pixels::F32(
                        values
                            .chunks_exact(channels)
                            .map(|bands| {
                                let sum: f64 = bands.iter().map(|&band| f64::from(band)).sum();
                                (sum / channels as f64) as f32
                            })
                            .collect(),
                    ),
                };
                return Self { channels: 1, pixels: Arc::new(pixels), ..self };
            }
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

    /// The same image as three channels: a grey one is repeated, of four and more bands the first
    /// three are taken, of two the first.
    #[must_use]
    pub fn to_rgb(self) -> Self {
        let channels = self.channels;
        if channels == 3 {
            return self;
        }
        let pixels = match self.pixels() {
            Pixels::U8(values) => Pixels::U8(tripled(values, channels)),
            Pixels::U16(values) => Pixels::U16(tripled(values, channels)),
            Pixels::F32(values) => Pixels::F32(tripled(values, channels)),
        };
        Self { channels: 3, pixels: Arc::new(pixels), ..self }
    }

    /// The same image with one channel if all are equal everywhere (thermal images are often stored
    /// so), else unchanged. Nothing is lost: every later step treats the channels alike and
    /// apart.
    #[must_use]
    pub fn collapse_gray(self) -> Self {
        if self.channels == 1 {
            return self;
        }
        let channels = self.channels;
        let pixels = match self.pixels() {
            Pixels::U8(values) => first_if_equal(values, channels).map(Pixels::U8),
            Pixels::U16(values) => first_if_equal(values, channels).map(Pixels::U16),
            Pixels::F32(values) => first_if_equal(values, channels).map(Pixels::F32),
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

fn tripled<T: Copy>(values: &[T], channels: usize) -> Vec<T> {
    let color = |bands: &[T]| match *bands {
        [r, g, b, ..] => Some([r, g, b]),
        [first, ..] => Some([first; 3]),
        [] => None,
    };
    values.chunks_exact(channels).filter_map(color).flatten().collect()
}

/// The rounded mean of the bands of each pixel.
fn means<T: Copy + Into<u32>>(values: &[T], channels: usize, back: fn(u32) -> T) -> Vec<T> {
    let count = channels as u32;
    let mean = |bands: &[T]| {
        let sum: u32 = bands.iter().map(|&band| band.into()).sum();
        back((sum + count / 2) / count)
    };
    values.chunks_exact(channels).map(mean).collect()
}

fn first_if_equal<T: Copy + PartialEq>(values: &[T], channels: usize) -> Option<Vec<T>> {
    let pixels = || values.chunks_exact(channels);
    let equal = pixels().all(|bands| bands.iter().all(|band| *band == bands[0]));
    equal.then(|| pixels().map(|bands| bands[0]).collect())
}

/// Gives masked pixels the smallest value of the others, for each channel.
fn fill_masked<T: Copy>(
    values: &mut [T],
    channels: usize,
    masked: &[bool],
    less: fn(T, T) -> bool,
) {
    for channel in 0..channels {
        let others = values.iter().skip(channel).step_by(channels).zip(masked);
        let smallest = others
            .filter(|(_, masked)| !**masked)
            .map(|(&value, _)| value)
            .reduce(|a, b| if less(b, a) { b } else { a });
        let Some(smallest) = smallest else { continue };
        for (value, &masked) in values.iter_mut().skip(channel).step_by(channels).zip(masked) {
            if masked {
                *value = smallest;
            }
        }
    }
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
        let refused = Image::new(ImageSize::new(2, 3), 65, Pixels::U8(vec![0; 390])).unwrap_err();
        assert_eq!(refused.to_string(), "`channels` is 65, expected 1 to 64");
        assert!(Image::new(ImageSize::new(2, 3), 0, Pixels::U8(vec![])).is_err());
        assert!(Image::new(ImageSize::new(0, 3), 1, Pixels::U8(vec![])).is_err());
        assert!(Image::new(ImageSize::new(usize::MAX, 3), 1, Pixels::U8(vec![0])).is_err());
    }

    #[test]
    fn bands_are_kept_and_summarised() {
        let size = ImageSize::new(1, 2);
        let four = Image::new(size, 4, Pixels::U8(vec![1, 2, 3, 8, 4, 4, 4, 5])).unwrap();
        assert_eq!(four.clone().to_rgb().pixels(), &Pixels::U8(vec![1, 2, 3, 4, 4, 4]));
        // Means 3.5 and 4.25.
        assert_eq!(four.clone().to_gray().pixels(), &Pixels::U8(vec![4, 4]));
        assert_eq!(four.clone().collapse_gray(), four);
        let two = Image::new(size, 2, Pixels::U16(vec![9, 9, 7, 7])).unwrap();
        assert_eq!(two.clone().to_rgb().pixels(), &Pixels::U16(vec![9, 9, 9, 7, 7, 7]));
        assert_eq!(two.collapse_gray().pixels(), &Pixels::U16(vec![9, 7]));
    }

    #[test]
    fn masks_are_kept_by_other_samples_and_checked() {
        let size = ImageSize::new(1, 3);
        let image = Image::new(size, 1, Pixels::U16(vec![0, 900, 700])).unwrap();
        let masked = image.clone().with_mask(vec![true, false, false]).unwrap();
        assert_eq!(masked.pixels(), &Pixels::U16(vec![700, 900, 700]));
        assert_eq!(masked.clone().to_rgb().masked().unwrap(), [true, false, false]);
        assert_eq!(image.clone().with_mask(vec![false; 3]).unwrap(), image);
        for (wrong, found) in [(vec![true; 3], "3 entries, 3"), (vec![false; 2], "2 entries, 0")] {
            assert_eq!(
                image.clone().with_mask(wrong).unwrap_err().to_string(),
                format!(
                    "`masked` is {found} of them true, expected an entry for each pixel of 1x3, \
                     not all of them true"
                )
            );
        }
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
