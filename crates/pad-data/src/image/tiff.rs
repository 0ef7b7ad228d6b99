//! TIFF: the one format that also carries floats (kelvin) and wide counts.

use std::{io::Cursor, path::Path};

use image::ImageFormat;
use pad_ops::ImageSize;
use tiff::{
    ColorType, TiffError,
    decoder::{Decoder, DecodingResult, Limits},
    tags::{PhotometricInterpretation, Tag},
};

use super::{
    Image, Pixels,
    limits::{DecodeOptions, damaged},
    without_alpha,
};
use crate::{Error, Result};

/// Reads the first page.
pub(super) fn decode(bytes: &[u8], path: &Path, options: &DecodeOptions) -> Result<Image> {
    let refused = |error| refused(path, error);
    let unsupported = |what: String| Error::Unsupported { path: path.into(), what };
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(refused)?;
    let (width, height) = decoder.dimensions().map_err(refused)?;
    let size = ImageSize::new(height as usize, width as usize);
    let samples: u16 =
        decoder.find_tag_unsigned(Tag::SamplesPerPixel).map_err(refused)?.unwrap_or(1);
    if samples > 4 {
        return Err(unsupported(format!("a {samples}-channel TIFF")));
    }
    let photometric: Option<u16> =
        decoder.find_tag_unsigned(Tag::PhotometricInterpretation).map_err(refused)?;
    if photometric == Some(PhotometricInterpretation::RGBPalette.to_u16()) {
        return Err(unsupported("a TIFF with a palette".into()));
    }
    let (channels, bits) = match decoder.colortype().map_err(refused)? {
        ColorType::Gray(bits) => (1, bits),
        ColorType::RGB(bits) | ColorType::RGBA(bits) => (3, bits),
        ColorType::Multiband { bit_depth, num_samples: 2 } if has_alpha(&mut decoder) => {
            (1, bit_depth)
        }
        ColorType::Multiband { num_samples, .. } => {
            return Err(unsupported(format!("a {num_samples}-channel TIFF")));
        }
        other => return Err(unsupported(format!("a TIFF of the colour type {other:?}"))),
    };
    if !matches!(bits, 8 | 16 | 32 | 64) {
        return Err(unsupported(format!("a TIFF of {bits} bits")));
    }
    let area = u64::from(height).saturating_mul(u64::from(width));
    let bytes = area.saturating_mul(u64::from(samples)).saturating_mul(u64::from(bits / 8));
    options.check(path, size, bytes)?;
    let max_alloc = usize::try_from(options.max_alloc_bytes).unwrap_or(usize::MAX);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = max_alloc;
    limits.intermediate_buffer_size = max_alloc;
    let mut decoder = decoder.with_limits(limits);

    let mut buffer = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut buffer).map_err(refused)?;
    let planar = layout.planes > 1;
    let arrange = Arrange { channels, stored: usize::from(samples), planar, area: size.area() };
    let floats = |values| (Pixels::F32(values), true);
    let (pixels, check_finite) = match buffer {
        DecodingResult::U8(values) => (Pixels::U8(arrange.run(values)), false),
        DecodingResult::U16(values) => (Pixels::U16(arrange.run(values)), false),
        DecodingResult::F32(values) => floats(arrange.run(values)),
        DecodingResult::F16(values) => {
            floats(arrange.run(values.iter().map(|value| value.to_f32()).collect()))
        }
        DecodingResult::F64(values) => {
            floats(arrange.run(values.iter().map(|&value| value as f32).collect()))
        }
        DecodingResult::I8(values) => {
            floats(arrange.run(values.iter().map(|&value| f32::from(value)).collect()))
        }
        DecodingResult::I16(values) => {
            floats(arrange.run(values.iter().map(|&value| f32::from(value)).collect()))
        }
        // Beyond 2^24 counts the lowest bits are lost; no detector has that many.
        DecodingResult::I32(values) => {
            floats(arrange.run(values.iter().map(|&value| value as f32).collect()))
        }
        DecodingResult::U32(values) => {
            floats(arrange.run(values.iter().map(|&value| value as f32).collect()))
        }
        DecodingResult::U64(_) | DecodingResult::I64(_) => {
            return Err(unsupported("a TIFF of 64-bit integers".into()));
        }
    };
    if pixels.len() != size.area().saturating_mul(channels) {
        return Err(damaged(path, ImageFormat::Tiff, "not all planes could be read"));
    }
    let image = Image::new(size, channels, pixels)?;
    match image.first_not_finite().filter(|_| check_finite) {
        Some((row, column, value)) => {
            Err(Error::NotFinite { path: path.into(), row, column, value })
        }
        None => Ok(image),
    }
}

/// Whether the extra sample is an alpha channel (associated or not), to be dropped, and not a
/// second band.
fn has_alpha<R: std::io::Read + std::io::Seek>(decoder: &mut Decoder<R>) -> bool {
    let kinds = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples);
    matches!(kinds.ok().flatten().as_deref(), Some([1 | 2, ..]))
}

/// From the file's order of samples to interleaved ones without alpha.
struct Arrange {
    channels: usize,
    stored: usize,
    planar: bool,
    area: usize,
}

impl Arrange {
    fn run<T: Copy>(&self, values: Vec<T>) -> Vec<T> {
        if self.planar {
            let planes: Vec<&[T]> = values.chunks_exact(self.area.max(1)).collect();
            let planes = planes.get(..self.channels).unwrap_or(&[]);
            let pixels = 0..if planes.is_empty() { 0 } else { self.area };
            return pixels.flat_map(|pixel| planes.iter().map(move |plane| plane[pixel])).collect();
        }
        match (self.stored, self.channels) {
            (2, 1) => without_alpha::<_, 2, 1>(&values),
            (4, 3) => without_alpha::<_, 4, 3>(&values),
            _ => values,
        }
    }
}

fn refused(path: &Path, error: TiffError) -> Error {
    match error {
        TiffError::UnsupportedError(what) => {
            Error::Unsupported { path: path.into(), what: format!("this kind of TIFF ({what})") }
        }
        other => damaged(path, ImageFormat::Tiff, other),
    }
}
