//! Label files: the numbers of an 8-bit PNG, not its colours.

use std::{io::Cursor, path::Path};

use pad_ops::ImageSize;
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};

use super::{ClassMap, Classes};
use crate::{
    Error, Result,
    image::{DecodeOptions, Image, Pixels, damaged, read},
};

/// A PNG's samples as they are stored: palettes as indices, bits not widened.
struct Stored {
    size: ImageSize,
    color: ColorType,
    depth: BitDepth,
    samples: Vec<u8>,
}

fn stored(path: &Path, options: &DecodeOptions) -> Result<Stored> {
    let bytes = read(path, options)?;
    let damaged =
        |error: png::DecodingError| damaged(path, ::image::ImageFormat::Png, error.to_string());
    let bytes_limit = usize::try_from(options.max_alloc_bytes).unwrap_or(usize::MAX);
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: bytes_limit });
    decoder.set_transformations(Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(damaged)?;
    let info = reader.info();
    let size = ImageSize::new(info.height as usize, info.width as usize);
    let (color, depth) = (info.color_type, info.bit_depth);
    let need = reader.output_buffer_size().unwrap_or(usize::MAX);
    options.check(path, size, need as u64)?;
    let mut samples = vec![0; need];
    let frame = reader.next_frame(&mut samples).map_err(damaged)?;
    let width_bytes = frame.line_size;
    // Fewer than 8 bits: one byte for each pixel.
    let bits = match depth {
        BitDepth::One => 1,
        BitDepth::Two => 2,
        BitDepth::Four => 4,
        BitDepth::Eight | BitDepth::Sixteen => 8,
    };
    if bits < 8 {
        samples = samples
            .chunks_exact(width_bytes)
            .flat_map(|row| {
                (0..size.width).map(move |x| {
                    let shift = 8 - bits - (x * bits) % 8;
                    (row[x * bits / 8] >> shift) & ((1 << bits) - 1)
                })
            })
            .collect();
    }
    Ok(Stored { size, color, depth, samples })
}

/// Reads the labels of an image of `size` from an 8-bit PNG (or one of fewer bits), grey or with a
/// palette, whose numbers are classes; `classes.remap` is applied.
///
/// # Errors
/// [`Error::Entry`] for a PNG of another kind or size, and for a number that is neither a class nor
/// the ignored label (naming the first pixel): faults of the set, which a loader does not pass
/// over. [`Error::Decode`] for a damaged file, [`Error::Io`], [`Error::Limit`].
pub fn read_mask(
    path: &Path,
    size: ImageSize,
    classes: &Classes,
    options: &DecodeOptions,
) -> Result<ClassMap> {
    let fault = |what: String| Err(Error::Entry { path: path.into(), what });
    let Stored { size: found, color, depth, samples: mut labels } = stored(path, options)?;
    let is_index = matches!(color, ColorType::Grayscale | ColorType::Indexed);
    if !is_index || depth == BitDepth::Sixteen {
        let bits = if depth == BitDepth::Sixteen { 16 } else { 8 };
        return fault(format!(
            "expected a mask of 8 bits, grey or with a palette, found {bits} bits, {color:?}"
        ));
    }
    if found != size {
        return fault(format!("expected a mask of {size}, the size of its image, found {found}"));
    }
    let mut table: [u8; 256] = std::array::from_fn(|value| value as u8);
    classes.remap.iter().for_each(|(&from, &to)| table[usize::from(from)] = to);
    let mut fine: [bool; 256] = [false; 256];
    for (value, fine) in fine.iter_mut().enumerate() {
        let label = table[value];
        *fine = usize::from(label) < classes.len() || label == classes.ignore;
    }
    for (pixel, value) in labels.iter_mut().enumerate() {
        if !fine[usize::from(*value)] {
            let (row, column) = (pixel / size.width, pixel % size.width);
            return fault(format!(
                "pixel (row {row}, column {column}) is {value}, expected a class below {} or {}",
                classes.len(),
                classes.ignore
            ));
        }
        *value = table[usize::from(*value)];
    }
    ClassMap::new(size, labels)
}

/// The fourth channel of an 8-bit picture of four channels: in MFNet, the thermal image.
pub(super) fn fourth_channel(path: &Path, options: &DecodeOptions) -> Result<Image> {
    let Stored { size, color, depth, samples } = stored(path, options)?;
    if (color, depth) != (ColorType::Rgba, BitDepth::Eight) {
        return Err(Error::Entry {
            path: path.into(),
            what: format!(
                "expected four channels of 8 bits, found {color:?} of {} bits",
                depth as u8
            ),
        });
    }
    let thermal = samples.chunks_exact(4).map(|pixel| pixel[3]).collect();
    Image::new(size, 1, Pixels::U8(thermal))
}
