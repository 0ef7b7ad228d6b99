//! From unpacked bytes to the samples of an image.

use super::{
    super::{Pixels, endian::Order},
    chunk::{unpacked, unpredicted},
    metadata::is_nodata,
    page::{Color, Number, Page},
};

/// The samples of an image as they are read, and which pixels are without data.
pub(super) struct Samples {
    values: Pixels,
    /// Kept samples of a pixel that are nodata.
    hits: Vec<u8>,
    /// Pixels of absent chunks.
    absent: Vec<bool>,
    /// Pixels without opacity.
    clear: Vec<bool>,
    /// Chunks that are absent.
    pub(super) absent_chunks: usize,
}

impl Samples {
    fn new(page: &Page) -> Self {
        let (area, kept) = (page.size.area(), page.kept.len());
        let count = area * kept;
        let values = match (page.number, page.bits) {
            _ if !page.scales.is_empty() => Pixels::F32(vec![0.0; count]),
            (Number::Unsigned, 1..=8) => Pixels::U8(vec![0; count]),
            (Number::Unsigned, 9..=16) => Pixels::U16(vec![0; count]),
            _ => Pixels::F32(vec![0.0; count]),
        };
        let hits = if page.nodata.is_some() { vec![0; area] } else { Vec::new() };
        Self { values, hits, absent: Vec::new(), clear: Vec::new(), absent_chunks: 0 }
    }

    /// The samples, and for every pixel whether it is without data.
    pub(super) fn finish(self, page: &Page) -> (Pixels, Vec<bool>) {
        let mut masked = self.absent;
        masked.resize(page.size.area(), false);
        let is_opaque = |(clear, absent): (&bool, &bool)| !clear && !absent;
        let any_opaque = self.clear.iter().zip(&masked).any(is_opaque);
        for (masked, hits) in masked.iter_mut().zip(&self.hits) {
            // A pixel of several bands is without data if all of them are.
            *masked |= usize::from(*hits) == page.kept.len();
        }
        // Where nothing is opaque, the channel was never filled in.
        if any_opaque {
            masked.iter_mut().zip(&self.clear).for_each(|(masked, clear)| *masked |= clear);
        }
        (self.values, masked)
    }
}

/// Reads all chunks of a page that lies in `file`.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn read(file: &[u8], page: &Page) -> Result<Samples, String> {
    let mut samples = Samples::new(page);
    let grid = page.grid();
    let name = if page.tiled { "tile" } else { "strip" };
    // Bits between 8 and 16 are packed, or stand in words of 16: as the first chunk tells.
    let mut in_words = None;
    for (index, &(offset, bytes)) in page.chunks.iter().enumerate() {
        let (plane, place) = (index / grid.area(), index % grid.area());
        let kept = kept_of(page, plane);
        let alpha = match page.planar {
            true => page.alpha.filter(|&alpha| alpha == plane).map(|_| 0),
            false => page.alpha,
        };
        if kept.is_empty() && alpha.is_none() {
            continue;
        }
        let top = place / grid.width * page.chunk.height;
        let left = place % grid.width * page.chunk.width;
        let height = page.chunk.height.min(page.size.height - top);
        let window =
            Window { top, left, height, width: page.chunk.width.min(page.size.width - left) };
        if offset == 0 || bytes == 0 {
            // GDAL's sparse files: a chunk that was never written.
            samples.absent_chunks += 1;
            samples.absent.resize(page.size.area(), false);
            for row in window.top..window.top + window.height {
                samples.absent[row * page.size.width + window.left..][..window.width].fill(true);
            }
            continue;
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = usize::try_from(bytes).ok().and_then(|bytes| start.checked_add(bytes));
        let packed = end.and_then(|end| file.get(start..end)).ok_or_else(|| {
            format!("expected the {bytes} bytes of {name} {index} at {offset}, found the end")
        })?;
        let row_words = page.chunk.width * page.planes().1 * 2;
        let row_packed = page.row_bytes();
        // A tile has all its rows, whatever the image needs of it.
        let rows = match page.tiled && matches!(page.bits, 9..=15) {
            true => page.chunk.height,
            false => height,
        };
        let most = match in_words {
            Some(false) => row_packed * height,
            Some(true) => row_words.max(row_packed) * height,
            None => row_words.max(row_packed) * rows,
        };
        let fault = |what| format!("{name} {index}: {what}");
        let mut data = unpacked(page, packed, most).map_err(fault)?;
        let words = *in_words.get_or_insert_with(|| {
            let is_cut = data.len() < row_packed * rows;
            let fits = data.len() >= row_words * if is_cut { height } else { rows };
            matches!(page.bits, 9..=15) && fits
        });
        let row_bytes = if words { row_words } else { row_packed };
        if data.len() < row_bytes * height {
            let (expected, found) = (row_bytes * height, data.len());
            return Err(format!("expected {expected} bytes in {name} {index}, found {found}"));
        }
        for (down, row) in data.chunks_exact_mut(row_bytes).take(height).enumerate() {
            let order = unpredicted(page, row, page.chunk.width);
            let target = Target { row: window.top + down, left: window.left, width: window.width };
            let row = Row { page, bytes: row, order, words };
            row.put(&mut samples, &kept, &target);
            if let Some(alpha) = alpha {
                row.put_alpha(&mut samples, alpha, &target);
            }
        }
    }
    Ok(samples)
}

/// The part of the image that a chunk covers.
struct Window {
    top: usize,
    left: usize,
    height: usize,
    width: usize,
}

/// Where a row of a chunk goes.
struct Target {
    row: usize,
    left: usize,
    width: usize,
}

/// The samples of a plane that are kept: place in a pixel of the plane, and of the image.
fn kept_of(page: &Page, plane: usize) -> Vec<(usize, usize)> {
    let all = page.kept.iter().enumerate();
    match page.planar {
        true => all.filter(|(_, kept)| **kept == plane).map(|(to, _)| (0, to)).collect(),
        false => all.map(|(to, &from)| (from, to)).collect(),
    }
}

/// An unpacked row of a chunk.
struct Row<'a> {
    page: &'a Page,
    bytes: &'a [u8],
    order: Order,
    /// Whether bits between 8 and 16 stand in words of 16.
    words: bool,
}

impl Row<'_> {
    /// The number at a place.
    fn number(&self, index: usize) -> f64 {
        let (row, order) = (self.bytes, self.order);
        let number = match (self.page.number, self.page.bits) {
            (Number::Unsigned, 8) => row.get(index).map(|&byte| f64::from(byte)),
            (Number::Unsigned, 16) => order.u16(row, 2 * index).map(f64::from),
            (Number::Unsigned, 32) => order.u32(row, 4 * index).map(f64::from),
            (Number::Unsigned, _) if self.words => order.u16(row, 2 * index).map(f64::from),
            (Number::Unsigned, bits) => Some(f64::from(packed(row, index * bits, bits))),
            (Number::Signed, 8) => row.get(index).map(|&byte| f64::from(byte.cast_signed())),
            (Number::Signed, 16) => order.u16(row, 2 * index).map(|n| f64::from(n.cast_signed())),
            (Number::Signed, _) => order.u32(row, 4 * index).map(|n| f64::from(n.cast_signed())),
            (Number::Float, 16) => {
                order.u16(row, 2 * index).map(|bits| half::f16::from_bits(bits).to_f64())
            }
            (Number::Float, 32) => order.f32(row, 4 * index),
            (Number::Float, _) => order.u64(row, 8 * index).map(f64::from_bits),
        };
        number.unwrap_or(f64::NAN)
    }

    /// Notes the pixels without opacity.
    fn put_alpha(&self, samples: &mut Samples, alpha: usize, target: &Target) {
        let (each, width) = (self.page.planes().1, self.page.size.width);
        samples.clear.resize(self.page.size.area(), false);
        let start = target.row * width + target.left;
        for column in 0..target.width {
            samples.clear[start + column] = self.number(column * each + alpha) == 0.0;
        }
    }

    /// Writes the kept samples.
    fn put(&self, samples: &mut Samples, kept: &[(usize, usize)], target: &Target) {
        let page = self.page;
        let (each, all) = (page.planes().1, page.kept.len());
        // The value in the type of the file: a float of 32 bits is near the text, not equal to it.
        let nodata = page.nodata.map(|nodata| match (page.number, page.bits) {
            (Number::Float, 16) => half::f16::from_f64(nodata).to_f64(),
            (Number::Float, 32) => f64::from(nodata as f32),
            _ => nodata,
        });
        let inverted = page.color == Color::Inverted;
        let top = (1_u32 << page.bits.min(16)) - 1;
        // Fewer than 8 bits of grey use the whole range, as in PNG; indices stay as they are.
        let stretched = page.bits < 8 && !matches!(page.color, Color::Palette(_));
        let start = target.row * page.size.width + target.left;
        for column in 0..target.width {
            for &(from, to) in kept {
                let value = self.number(column * each + from);
                if let Some(nodata) = nodata
                    && is_nodata(value, nodata)
                {
                    samples.hits[start + column] += 1;
                }
                let at = (start + column) * all + to;
                match &mut samples.values {
                    Pixels::U8(values) => {
                        let value = value as u32;
                        let value = if inverted { top - value } else { value };
                        let level = if stretched { (value * 255 + top / 2) / top } else { value };
                        values[at] = level as u8;
                    }
                    Pixels::U16(values) => values[at] = value as u16,
                    Pixels::F32(values) => {
                        let value = if inverted { f64::from(top) - value } else { value };
                        values[at] = match page.scales.get(to) {
                            Some(scale) => (value * scale.scale + scale.offset) as f32,
                            None => value as f32,
                        };
                    }
                }
            }
        }
    }
}

/// `bits` bits from bit `at` on, the highest first.
fn packed(row: &[u8], at: usize, bits: usize) -> u32 {
    let mut value = 0;
    for place in at..at + bits {
        let byte = row.get(place / 8).copied().unwrap_or(0);
        value = value << 1 | u32::from(byte >> (7 - place % 8) & 1);
    }
    value
}
