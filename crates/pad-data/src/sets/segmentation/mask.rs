//! Label files: the numbers of a PNG, or, where it has colours alone, the classes of these. TIFF and
//! BMP hold the same.

use std::{collections::BTreeMap, io::Cursor, path::Path};

use pad_ops::ImageSize;
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};

use super::{ClassMap, Classes};
use crate::{
    Error, Result,
    draw::Color,
    image::{
        DecodeOptions, Image, Pixels, RadiometricMode, damaged, label_bytes, png_palette_fault,
        read, upright_png, warn_once,
    },
};

/// The colour of pixels between objects in Pascal VOC's masks.
const VOC_BOUNDARY: Color = [224, 224, 192];

/// A PNG's samples as they are stored: palettes as indices, bits not widened.
struct Stored {
    size: ImageSize,
    color: ColorType,
    depth: BitDepth,
    samples: Vec<u8>,
    /// Colours of the indices, where there is a palette.
    palette: Vec<Color>,
}

fn stored(path: &Path, options: &DecodeOptions) -> Result<Stored> {
    stored_bytes(&read(path, options)?, path, options)
}

fn stored_bytes(bytes: &[u8], path: &Path, options: &DecodeOptions) -> Result<Stored> {
    let damaged = |what: String| damaged(path, ::image::ImageFormat::Png, what);
    if let Some(fault) = png_palette_fault(bytes) {
        return Err(damaged(fault));
    }
    let damaged = |error: png::DecodingError| damaged(error.to_string());
    let bytes_limit = usize::try_from(options.max_alloc_bytes).unwrap_or(usize::MAX);
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: bytes_limit });
    decoder.set_transformations(Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(damaged)?;
    let info = reader.info();
    let size = ImageSize::new(info.height as usize, info.width as usize);
    let (color, depth) = (info.color_type, info.bit_depth);
    let palette = info.palette.as_deref().filter(|_| color == ColorType::Indexed);
    let palette = palette.map_or_else(Vec::new, |bytes| bytes.as_chunks::<3>().0.to_vec());
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
    // As the orientation of an image is applied, so is that of a mask.
    let (size, samples) = upright_png(bytes, size, samples)?;
    Ok(Stored { size, color, depth, samples, palette })
}

/// What a label file holds.
pub(super) enum Held {
    /// Numbers, row-major.
    Numbers(Vec<u8>),
    /// Colours, row-major.
    Colors(Vec<Color>),
}

/// The numbers or colours of a label file, and its size. Grey stored as three equal channels is
/// numbers, unless every pixel has a colour of the classes and these are the set's own (a mask of black
/// and white of a set in colours) or its numbers are no classes. With `values` it is numbers in any
/// case. 16 bits, of which 8 are used, are numbers.
///
/// # Errors
/// [`Error::Label`] for a file of another kind; [`Error::Decode`], [`Error::Io`], [`Error::Limit`].
pub(super) fn held(
    path: &Path,
    options: &DecodeOptions,
    classes: &Classes,
    values: Option<&[u8]>,
) -> Result<(ImageSize, Held)> {
    let is_given = values.is_some();
    let bytes = read(path, options)?;
    if !bytes.starts_with(b"\x89PNG") {
        return of_another_kind(&bytes, path, options, classes.ignore, |colors| {
            by_color(colors, classes, is_given)
        });
    }
    let Stored { size, color, depth, samples, palette } = stored_bytes(&bytes, path, options)?;
    if !is_given && classes.has_own_palette() && color == ColorType::Indexed {
        warn_of_order(path, &samples, &palette, classes);
    }
    let samples = match depth {
        BitDepth::Sixteen => low_bytes(&samples).ok_or_else(|| Error::Label {
            path: path.into(),
            what: format!(
                "expected a mask of 8 bits, found values above 255 in 16 bits, {color:?}"
            ),
        })?,
        _ => samples,
    };
    let colors = |channels: usize| -> Held {
        let pixels = samples.chunks_exact(channels);
        let colors = pixels.map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        by_color(colors, classes, is_given)
    };
    let held = match color {
        ColorType::Grayscale | ColorType::Indexed => Held::Numbers(samples),
        ColorType::GrayscaleAlpha => {
            Held::Numbers(samples.chunks_exact(2).map(|pixel| pixel[0]).collect())
        }
        ColorType::Rgb => colors(3),
        ColorType::Rgba => colors(4),
    };
    Ok((size, held))
}

/// Pixels of three channels: colours, or the numbers that three equal channels stand for. They are
/// numbers if these are given; else, if all are colours of the classes, in a set with colours of its
/// own, or where the numbers are no classes, they are colours.
fn by_color(colors: Vec<Color>, classes: &Classes, is_given: bool) -> Held {
    let mut known = [false; 256];
    for &[red, green, blue] in &classes.palette {
        known[usize::from(red)] |= red == green && green == blue;
    }
    let is_number = |level: u8| {
        usize::from(level) < classes.len()
            || level == classes.ignore
            || classes.remap.contains_key(&level)
    };
    let grey = colors.iter().all(|[red, green, blue]| red == green && green == blue);
    let of_palette = || colors.iter().all(|[level, ..]| known[usize::from(*level)]);
    let numbers = || colors.iter().all(|[level, ..]| is_number(*level));
    let by_number = || is_given || !of_palette() || (!classes.has_own_palette() && numbers());
    match grey && by_number() {
        true => Held::Numbers(colors.into_iter().map(|[level, ..]| level).collect()),
        false => Held::Colors(colors),
    }
}

/// Warns of a file whose palette has the colours of the classes in another order than they: programs
/// that sort palettes leave such files, and the numbers in them are not the classes.
fn warn_of_order(path: &Path, samples: &[u8], palette: &[Color], classes: &Classes) {
    let mut used = [false; 256];
    samples.iter().for_each(|&index| used[usize::from(index)] = true);
    let pairs = palette.iter().enumerate().filter(|(index, _)| used[*index]);
    let mut others =
        pairs.clone().filter(|(index, color)| classes.palette.get(*index) != Some(*color));
    if pairs.clone().all(|(_, color)| classes.palette.contains(color))
        && let Some((index, color)) = others.next()
    {
        warn_once(path, "palettes in another order than the classes", || {
            format!(
                "index {index} has the colour {color:?} of another class: the numbers are taken, not the colours"
            )
        });
    }
}

/// The numbers or colours of a TIFF or BMP.
fn of_another_kind(
    bytes: &[u8],
    path: &Path,
    options: &DecodeOptions,
    ignore: u8,
    by_color: impl Fn(Vec<Color>) -> Held,
) -> Result<(ImageSize, Held)> {
    let fault = |what: String| Error::Label { path: path.into(), what };
    if bytes.starts_with(&[0xff, 0xd8]) {
        return Err(fault("a JPEG, which changes numbers and colours, expected a PNG".into()));
    }
    let options =
        DecodeOptions { radiometric: RadiometricMode::Raw, page: None, ..options.clone() };
    let (image, absent) = label_bytes(bytes, path, &options)?;
    let (size, channels) = (image.size(), image.channels());
    let mut held = match (image.into_pixels(), channels) {
        (Pixels::U8(numbers), 1) => Held::Numbers(numbers),
        (Pixels::U8(samples), 3) => by_color(samples.as_chunks::<3>().0.to_vec()),
        (Pixels::U16(samples), 1) => {
            let narrow = samples.into_iter().map(u8::try_from).collect::<Result<_, _>>();
            Held::Numbers(narrow.map_err(|_| {
                fault("expected a mask of 8 bits, found values above 255 in 16 bits".into())
            })?)
        }
        (_, channels) => {
            let what = "expected a mask of 8 bits in 1 or 3 channels, found";
            return Err(fault(format!("{what} {channels} channels of another type")));
        }
    };
    if absent.contains(&true) {
        let Held::Numbers(numbers) = &mut held else {
            return Err(fault("expected all strips or tiles of a mask in colours".into()));
        };
        let pixels = numbers.iter_mut().zip(absent).filter(|(_, absent)| *absent);
        pixels.for_each(|(number, _)| *number = ignore);
    }
    Ok((size, held))
}

/// 16-bit samples that fit 8 bits.
fn low_bytes(samples: &[u8]) -> Option<Vec<u8>> {
    let pairs = samples.as_chunks::<2>().0;
    pairs.iter().map(|&[high, low]| (high == 0).then_some(low)).collect()
}

/// Reads the labels of an image of `size` from a PNG (or TIFF, BMP) of 8 bits or fewer, grey or with a
/// palette, whose numbers are classes; `classes.remap` is applied. A PNG of colours has the classes of these
/// colours in `classes.palette`.
///
/// # Errors
/// [`Error::Label`] for a PNG of another kind or size, and for a number or colour that is neither a
/// class nor the ignored label, naming the first pixel; [`Error::Decode`] for a damaged file,
/// [`Error::Io`], [`Error::Limit`].
pub fn read_mask(
    path: &Path,
    size: ImageSize,
    classes: &Classes,
    options: &DecodeOptions,
) -> Result<ClassMap> {
    let (found, held) = held(path, options, classes, None)?;
    if found != size {
        let what = format!("expected a mask of {size}, the size of its image, found {found}");
        return Err(Error::Label { path: path.into(), what });
    }
    ClassMap::new(size, labels(path, size, held, classes, None)?)
}

/// The classes of what a label file of `size` holds; `values`, if given, are the only numbers beside
/// the ignored label that it may hold.
///
/// # Errors
/// [`Error::Label`] for a pixel that has no class.
pub(super) fn labels(
    path: &Path,
    size: ImageSize,
    held: Held,
    classes: &Classes,
    values: Option<&[u8]>,
) -> Result<Vec<u8>> {
    let fault = |pixel: usize, found: String, expected: String| {
        let (row, column) = (pixel / size.width, pixel % size.width);
        let what = format!("pixel (row {row}, column {column}) is {found}, expected {expected}");
        Error::Label { path: path.into(), what }
    };
    let mut labels = match held {
        Held::Numbers(numbers) => numbers,
        Held::Colors(colors) => {
            let mut known: BTreeMap<Color, u8> = BTreeMap::from([(VOC_BOUNDARY, classes.ignore)]);
            known.extend(classes.palette.iter().copied().zip(0_u8..));
            let class = |(pixel, color): (usize, Color)| {
                let expected = || "a colour of the palette, or a number in grey".to_string();
                known
                    .get(&color)
                    .copied()
                    .ok_or_else(|| fault(pixel, format!("{color:?}"), expected()))
            };
            return colors.into_iter().enumerate().map(class).collect();
        }
    };
    let mut table: [u8; 256] = std::array::from_fn(|value| value as u8);
    classes.remap.iter().for_each(|(&from, &to)| table[usize::from(from)] = to);
    let mut fine: [bool; 256] = [false; 256];
    for (value, fine) in fine.iter_mut().enumerate() {
        let label = table[value];
        let is_known = usize::from(label) < classes.len() || label == classes.ignore;
        let is_given = values.is_none_or(|values| {
            values.contains(&(value as u8)) || value == usize::from(classes.ignore)
        });
        *fine = is_known && is_given;
    }
    for (pixel, value) in labels.iter_mut().enumerate() {
        if !fine[usize::from(*value)] {
            let expected = match values {
                Some(values) => format!("one of {values:?} or {}", classes.ignore),
                None => format!("a class below {} or {}", classes.len(), classes.ignore),
            };
            return Err(fault(pixel, value.to_string(), expected));
        }
        *value = table[usize::from(*value)];
    }
    Ok(labels)
}

/// The fourth channel of an 8-bit picture of four channels: in MFNet, the thermal image.
pub(super) fn fourth_channel(path: &Path, options: &DecodeOptions) -> Result<Image> {
    let Stored { size, color, depth, samples, .. } = stored(path, options)?;
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
