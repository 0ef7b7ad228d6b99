//! TIFF and BigTIFF: the format that also carries floats (kelvin), wide counts, several bands and
//! pages, and, as GeoTIFF, pixels without data.
//!
//! Directories and plain, LZW, deflate, PackBits and Zstandard data are read here, since pixels must be
//! neither invented nor turned round: absent chunks, nodata and the photometric kind decide what a
//! number means. JPEG and fax inside of TIFF are the `tiff` crate's.

mod chunk;
pub(super) mod ifd;
mod metadata;
mod page;
mod samples;

use std::{io::Cursor, path::Path};

use image::ImageFormat;
use pad_ops::ImageSize;
use tiff::decoder::{Decoder, DecodingResult, Limits};

use self::{
    ifd::Directory,
    metadata::is_nodata,
    page::{Color, Listed, Number, Page, Pages, damaged_tiff, upright_size},
};
use super::{
    Image, Pixels,
    limits::{damaged, finished},
    notice::warn_once,
    options::DecodeOptions,
};
use crate::{Error, Result};

/// Number of pages, without thumbnails and masks.
pub(super) fn pages(bytes: &[u8], path: &Path) -> Result<usize> {
    Ok(opened(bytes, path)?.full.len())
}

fn opened<'a>(bytes: &'a [u8], path: &Path) -> Result<Pages<'a>> {
    Pages::of(bytes).map_err(|what| damaged_tiff(path, what))
}

/// Height and width of the page that the options choose, upright.
pub(super) fn size(bytes: &[u8], path: &Path, options: &DecodeOptions) -> Result<ImageSize> {
    let pages = opened(bytes, path)?;
    let listed = &pages.full[options.page_of(path, pages.full.len())?];
    upright_size(&listed.directory).map_err(|what| damaged_tiff(path, what))
}

/// Reads the page that the options choose, upright.
pub(super) fn decode(bytes: &[u8], path: &Path, options: &DecodeOptions) -> Result<Image> {
    let pages = opened(bytes, path)?;
    let count = pages.full.len();
    let index = options.page_of(path, count)?;
    if options.page.is_none() && count > 1 {
        warn_once(path, "several pages", || {
            format!("the first of {count} pages is read (see the page option)")
        });
    }
    let Listed { directory, place, mask } = &pages.full[index];
    if let Some(images) = described(directory).filter(|&images| images > count as u64) {
        warn_once(path, "images without a directory", || {
            format!(
                "{images} images by its description, of which {count} have a directory and are read"
            )
        });
    }
    let page = Page::of(directory, pages.order, path, options)?;
    let (pixels, mut masked) = match chunk::is_known(page.compression) {
        true => own(bytes, path, &page)?,
        false => foreign(bytes, path, &page, *place, options)?,
    };
    if pages.lone_masks > 0 {
        warn_once(path, "masks that fit no page", || {
            format!("{} masks have the size of no page and are not applied", pages.lone_masks)
        });
    }
    if let Some(mask) = mask {
        let mask = Page::of(mask, pages.order, path, options)?;
        if !chunk::is_known(mask.compression) {
            warn_once(path, "masks that are not read", || {
                format!("its mask of compression {} is not applied", mask.compression)
            });
        } else if mask.size == page.size {
            // Zero stands for a pixel without data.
            let (Pixels::U8(levels), _) = own(bytes, path, &mask)? else {
                let what = "a TIFF whose mask has more than 8 bits".into();
                return Err(Error::Unsupported { path: path.into(), what });
            };
            masked.iter_mut().zip(levels).for_each(|(masked, level)| *masked |= level == 0);
        }
    }
    let (channels, pixels) = colored(&page, pixels);
    let image = finished(path, Image::new(page.size, channels, pixels)?, masked)?;
    page.orientation.apply(image)
}

/// Reads the numbers or colours of a label file as they are stored, upright: neither stretched,
/// inverted nor masked by a value without data or by opacity; with the pixels of absent chunks.
pub(super) fn labels(
    bytes: &[u8],
    path: &Path,
    options: &DecodeOptions,
) -> Result<(Image, Vec<bool>)> {
    let pages = opened(bytes, path)?;
    let Listed { directory, place, .. } = &pages.full[options.page_of(path, pages.full.len())?];
    let mut page = Page::of(directory, pages.order, path, options)?;
    (page.nodata, page.alpha) = (None, None);
    if page.kept.len() == 1 && page.number == Number::Unsigned && page.bits <= 8 {
        // Indices, which stay as they are.
        page.color = Color::Palette(Vec::new());
    }
    let (pixels, absent) = match chunk::is_known(page.compression) {
        true => own(bytes, path, &page)?,
        false => foreign(bytes, path, &page, *place, options)?,
    };
    let pixels = match pixels {
        // Bits of a fax.
        Pixels::U8(levels) if page.bits == 1 => {
            Pixels::U8(levels.into_iter().map(|level| u8::from(level > 0)).collect())
        }
        pixels => pixels,
    };
    let (channels, pixels) = match &page.color {
        Color::Palette(colors) if colors.is_empty() => (1, pixels),
        _ => colored(&page, pixels),
    };
    let image = page.orientation.apply(Image::new(page.size, channels, pixels)?)?;
    let absent = absent.into_iter().map(u8::from).collect();
    let absent = page.orientation.apply(Image::new(page.size, 1, Pixels::U8(absent))?)?;
    let Pixels::U8(absent) = absent.into_pixels() else { return Ok((image, Vec::new())) };
    Ok((image, absent.into_iter().map(|absent| absent == 1).collect()))
}

/// Images that a description of ImageJ or tifffile counts: in large files they lie one behind the
/// other, and only the first has a directory.
fn described(directory: &Directory<'_>) -> Option<u64> {
    const DESCRIPTION: u16 = 270;
    const SAMPLES: u16 = 277;
    let text = directory.text(DESCRIPTION)?;
    if text.starts_with("ImageJ=") {
        return text.lines().find_map(|line| line.strip_prefix("images=")?.trim().parse().ok());
    }
    let (_, shape) = text.strip_prefix('{')?.split_once("\"shape\": [")?;
    let (shape, rest) = shape.split_once(']')?;
    let sides: Option<Vec<u64>> = shape.split(',').map(|side| side.trim().parse().ok()).collect();
    let all = sides?.into_iter().fold(1_u64, u64::saturating_mul);
    let area = upright_size(directory).ok()?.area() as u64;
    let each = area.saturating_mul(directory.number(SAMPLES).ok()?.unwrap_or(1));
    rest.contains("\"truncated\": true").then(|| all / each.max(1))
}

/// Reads a page of a compression that is known here.
fn own(bytes: &[u8], path: &Path, page: &Page) -> Result<(Pixels, Vec<bool>)> {
    if page.color == Color::YCbCr {
        let what = "a TIFF in YCbCr without JPEG".into();
        return Err(Error::Unsupported { path: path.into(), what });
    }
    let samples = samples::read(bytes, page).map_err(|what| damaged_tiff(path, what))?;
    let absent = samples.absent_chunks;
    if absent > 0 {
        warn_once(path, "absent chunks", || {
            let kind = if page.tiled { "tiles" } else { "strips" };
            format!("{absent} of {} {kind} are absent; their pixels are masked", page.chunks.len())
        });
    }
    Ok(samples.finish(page))
}

/// Reads a page whose data the `tiff` crate unpacks: JPEG and fax.
fn foreign(
    bytes: &[u8],
    path: &Path,
    page: &Page,
    place: Option<usize>,
    options: &DecodeOptions,
) -> Result<(Pixels, Vec<bool>)> {
    let unsupported = |what: String| Error::Unsupported { path: path.into(), what };
    let name = match page.compression {
        2..=4 => "fax",
        6 | 7 => "JPEG",
        34_712 | 33_003 | 33_005 => "JPEG 2000",
        34_887 => "LERC",
        34_925 => "LZMA",
        50_001 => "WebP",
        _ => "an unknown kind",
    };
    let what = || format!("a TIFF with the compression {} ({name})", page.compression);
    let jpeg = page.compression == 7 && page.bits == 8;
    let fax = matches!(page.compression, 2..=4) && page.bits == 1 && page.samples == 1;
    if !jpeg && !fax {
        return Err(unsupported(what()));
    }
    if page.chunks.iter().any(|&(offset, bytes)| offset == 0 || bytes == 0) {
        return Err(unsupported(format!("an absent tile or strip in {}", what())));
    }
    let refused = |error: tiff::TiffError| match error {
        tiff::TiffError::UnsupportedError(what) => {
            unsupported(format!("this kind of TIFF ({what})"))
        }
        other => damaged(path, ImageFormat::Tiff, other),
    };
    let place = place.ok_or_else(|| unsupported(format!("{} below another directory", what())))?;
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(refused)?;
    let mut limits = Limits::default();
    let most = usize::try_from(options.max_alloc_bytes).unwrap_or(usize::MAX);
    (limits.decoding_buffer_size, limits.intermediate_buffer_size) = (most, most);
    decoder = decoder.with_limits(limits);
    decoder.seek_to_image(place).map_err(refused)?;
    let DecodingResult::U8(values) = decoder.read_image().map_err(refused)? else {
        return Err(unsupported(what()));
    };
    let area = page.size.area();
    if fax {
        // Rows of bits; the decoder has turned white to ones where the file says so.
        let row_bytes = page.size.width.div_ceil(8);
        let level = |pixel: usize| {
            let (row, column) = (pixel / page.size.width, pixel % page.size.width);
            let byte = values.get(row * row_bytes + column / 8).copied().unwrap_or(0);
            if byte >> (7 - column % 8) & 1 == 1 { 255 } else { 0 }
        };
        return Ok((Pixels::U8((0..area).map(level).collect()), vec![false; area]));
    }
    if values.len() != area * page.samples {
        return Err(damaged_tiff(path, "expected all planes, found fewer".into()));
    }
    let at = |pixel: usize, sample: usize| match page.planar {
        true => values[sample * area + pixel],
        false => values[pixel * page.samples + sample],
    };
    let clear = |pixel: usize| page.alpha.is_some_and(|alpha| at(pixel, alpha) == 0);
    let any_opaque = !(0..area).all(clear);
    let is_without = |pixel: usize| {
        let is_value = |nodata| {
            page.kept.iter().all(|&sample| is_nodata(f64::from(at(pixel, sample)), nodata))
        };
        page.nodata.is_some_and(is_value) || (any_opaque && clear(pixel))
    };
    let masked = (0..area).map(is_without).collect();
    let samples = (0..area).flat_map(|pixel| page.kept.iter().map(move |&sample| (pixel, sample)));
    let pixels = match page.scales.is_empty() {
        true => Pixels::U8(samples.map(|(pixel, sample)| at(pixel, sample)).collect()),
        false => {
            let scales = page.scales.iter().cycle();
            let scaled = samples.zip(scales).map(|((pixel, sample), scale)| {
                (f64::from(at(pixel, sample)) * scale.scale + scale.offset) as f32
            });
            Pixels::F32(scaled.collect())
        }
    };
    Ok((pixels, masked))
}

/// Channels and samples in the colours of an image.
fn colored(page: &Page, pixels: Pixels) -> (usize, Pixels) {
    match (&page.color, pixels) {
        (Color::Palette(colors), pixels) => {
            let count = colors.len() / 3;
            // Some writers fill in 8 bits where 16 are due.
            let shift = if colors.iter().any(|&color| color > 255) { 8 } else { 0 };
            let color = |index: usize| {
                let index = index.min(count - 1);
                [0, 1, 2].map(|channel| (colors[channel * count + index] >> shift) as u8)
            };
            let colors = match pixels {
                Pixels::U8(values) => values.iter().flat_map(|&v| color(usize::from(v))).collect(),
                Pixels::U16(values) => values.iter().flat_map(|&v| color(usize::from(v))).collect(),
                Pixels::F32(values) => values.iter().flat_map(|&v| color(v as usize)).collect(),
            };
            (3, Pixels::U8(colors))
        }
        (Color::Cmyk, Pixels::U8(values)) => {
            let rgb = values.as_chunks::<4>().0.iter().flat_map(|&[c, m, y, k]| {
                let light = 255 - u32::from(k);
                // As Pillow: what the ink leaves of the light, rounded.
                [c, m, y].map(|ink| {
                    let product = u32::from(ink) * light + 128;
                    (light - ((product + (product >> 8)) >> 8)) as u8
                })
            });
            (3, Pixels::U8(rgb.collect()))
        }
        (Color::YCbCr, Pixels::U8(values)) if page.kept.len() == 3 => {
            let rgb = values.as_chunks::<3>().0.iter().flat_map(|&[luma, blue, red]| {
                // The full-range transform of JFIF.
                let (y, b, r) = (f32::from(luma), f32::from(blue) - 128.0, f32::from(red) - 128.0);
                [y + 1.402 * r, y - 0.344_136 * b - 0.714_136 * r, y + 1.772 * b]
                    .map(|level| level.round().clamp(0.0, 255.0) as u8)
            });
            (3, Pixels::U8(rgb.collect()))
        }
        (_, pixels) => (page.kept.len(), pixels),
    }
}
