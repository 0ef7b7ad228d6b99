//! What the directory of a page says of its pixels.

use std::path::Path;

use image::ImageFormat;
use pad_ops::ImageSize;

use super::{
    super::{
        endian::Order,
        limits::damaged,
        options::{DecodeOptions, RadiometricMode, limit},
        orientation::Orientation,
    },
    ifd::{Directories, Directory},
    metadata::{Scale, nodata, scales},
};
use crate::{Error, Result};

/// Tags.
mod tag {
    pub(super) const NEW_SUBFILE_TYPE: u16 = 254;
    pub(super) const SUBFILE_TYPE: u16 = 255;
    pub(super) const WIDTH: u16 = 256;
    pub(super) const LENGTH: u16 = 257;
    pub(super) const BITS: u16 = 258;
    pub(super) const COMPRESSION: u16 = 259;
    pub(super) const PHOTOMETRIC: u16 = 262;
    pub(super) const FILL_ORDER: u16 = 266;
    pub(super) const STRIP_OFFSETS: u16 = 273;
    pub(super) const ORIENTATION: u16 = 274;
    pub(super) const SAMPLES: u16 = 277;
    pub(super) const ROWS_PER_STRIP: u16 = 278;
    pub(super) const STRIP_COUNTS: u16 = 279;
    pub(super) const PLANAR: u16 = 284;
    pub(super) const PREDICTOR: u16 = 317;
    pub(super) const PALETTE: u16 = 320;
    pub(super) const TILE_WIDTH: u16 = 322;
    pub(super) const TILE_LENGTH: u16 = 323;
    pub(super) const TILE_OFFSETS: u16 = 324;
    pub(super) const TILE_COUNTS: u16 = 325;
    pub(super) const SUB_DIRECTORIES: u16 = 330;
    pub(super) const EXTRA: u16 = 338;
    pub(super) const FORMAT: u16 = 339;
    pub(super) const GDAL_METADATA: u16 = 42_112;
    pub(super) const GDAL_NODATA: u16 = 42_113;
}

/// What a directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Full,
    Reduced,
    Mask,
    ReducedMask,
}

/// The kind of a sample's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Unsigned,
    Signed,
    Float,
}

/// What samples mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Color {
    /// Grey or bands, as stored.
    Stored,
    /// 8 bits (or fewer) whose largest value is black.
    Inverted,
    Rgb,
    /// Indices of these 16-bit colours: all reds, all greens, all blues.
    Palette(Vec<u16>),
    Cmyk,
    /// Of the kinds that JPEG stores.
    YCbCr,
}

/// A page: where its samples lie, and what they mean.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) order: Order,
    /// As stored.
    pub(super) size: ImageSize,
    pub(super) orientation: Orientation,
    /// Samples of a pixel, with alpha.
    pub(super) samples: usize,
    /// Which of them are kept.
    pub(super) kept: Vec<usize>,
    /// The opacity of a pixel, if it is not kept: one of 0 has no data.
    pub(super) alpha: Option<usize>,
    pub(super) bits: usize,
    pub(super) number: Number,
    pub(super) color: Color,
    pub(super) compression: u64,
    pub(super) predictor: u64,
    /// Whether the bits of each byte are in reverse.
    pub(super) reversed: bool,
    pub(super) planar: bool,
    /// Rows and columns of a strip or tile.
    pub(super) chunk: ImageSize,
    pub(super) tiled: bool,
    /// Offset and bytes of the chunks.
    pub(super) chunks: Vec<(u64, u64)>,
    pub(super) nodata: Option<f64>,
    /// Of the kept samples; empty if all are stored as they are.
    pub(super) scales: Vec<Scale>,
}

/// A page in the list of a file.
#[derive(Clone)]
pub(super) struct Listed<'a> {
    pub(super) directory: Directory<'a>,
    /// Position in the file's chain; `None` for one below another directory.
    pub(super) place: Option<usize>,
    pub(super) mask: Option<Directory<'a>>,
}

/// The pages of a file: directories that hold an image of their own, and the mask behind each.
pub(super) struct Pages<'a> {
    pub(super) order: Order,
    /// Directory, position in the file's chain, and directory of its mask.
    pub(super) full: Vec<Listed<'a>>,
    /// Number of masks that fit no page.
    pub(super) lone_masks: usize,
}

impl<'a> Pages<'a> {
    /// Lists the pages. Thumbnails (other resolutions) and masks are not counted. In a file whose
    /// chain holds nothing else, the pages are those below its directories (as in DNG), else the
    /// largest image.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, String> {
        let file = Directories::of(bytes).ok_or("expected the header of a TIFF")?;
        let (mut full, mut others) = (Vec::<Listed<'a>>::new(), Vec::new());
        let mut masks = Vec::new();
        for (place, directory) in file.iter().enumerate() {
            let listed = |directory| Listed { directory, place: Some(place), mask: None };
            match role(&directory)? {
                Role::Full => full.push(listed(directory)),
                Role::Reduced => others.push(listed(directory)),
                Role::Mask => masks.push((full.len(), directory)),
                Role::ReducedMask => {}
            }
        }
        if full.is_empty() {
            for listed in &others {
                for at in listed.directory.numbers(tag::SUB_DIRECTORIES)?.unwrap_or_default() {
                    if let Some(directory) = file.directory(at)
                        && role(&directory)? == Role::Full
                    {
                        full.push(Listed { directory, place: None, mask: None });
                    }
                }
            }
        }
        if full.is_empty() {
            others.sort_by_key(|listed| {
                std::cmp::Reverse(sides(&listed.directory).map_or(0, ImageSize::area))
            });
            full.extend(others.into_iter().next());
        }
        // A mask belongs to the page before it; if that has one, or another size, to the first page
        // of its size.
        let mut lone_masks = 0;
        for (behind, mask) in masks {
            let fits = |page: &Listed<'_>| {
                page.mask.is_none() && sides(&page.directory).ok() == sides(&mask).ok()
            };
            let before = behind.checked_sub(1).filter(|&at| full.get(at).is_some_and(fits));
            match before.or_else(|| full.iter().position(fits)) {
                Some(at) => full[at].mask = Some(mask),
                None => lone_masks += 1,
            }
        }
        match full.is_empty() {
            true => Err("expected a directory with an image, found none".into()),
            false => Ok(Self { order: file.order, full, lone_masks }),
        }
    }
}

fn role(directory: &Directory<'_>) -> Result<Role, String> {
    if let Some(kind) = directory.number(tag::NEW_SUBFILE_TYPE)? {
        return Ok(match kind {
            // Of another resolution.
            _ if kind & 5 == 5 => Role::ReducedMask,
            _ if kind & 4 != 0 => Role::Mask,
            _ if kind & 1 != 0 => Role::Reduced,
            _ => Role::Full,
        });
    }
    // The tag that it replaces.
    Ok(match directory.number(tag::SUBFILE_TYPE)? {
        Some(2) => Role::Reduced,
        _ => Role::Full,
    })
}

/// Height and width as stored.
fn sides(directory: &Directory<'_>) -> Result<ImageSize, String> {
    let side = |tag, name: &str| {
        let side = directory.number(tag)?.filter(|&side| side > 0 && side <= u64::from(u32::MAX));
        let missing = || format!("expected the {name} of the image in the directory");
        side.map(|side| side as usize).ok_or_else(missing)
    };
    Ok(ImageSize::new(side(tag::LENGTH, "height")?, side(tag::WIDTH, "width")?))
}

/// Height and width of the upright image of a directory.
pub(super) fn upright_size(directory: &Directory<'_>) -> Result<ImageSize, String> {
    let orientation = Orientation::of_tag(directory.number(tag::ORIENTATION)?);
    sides(directory).map(|size| orientation.size(size))
}

/// A TIFF that is not what it claims to be.
pub(super) fn damaged_tiff(path: &Path, what: String) -> Error {
    damaged(path, ImageFormat::Tiff, what)
}

/// What prevents a page from being read.
pub(super) enum Fault {
    /// It is damaged: expected before found.
    Damaged(String),
    /// It is of a kind that is not read, e.g. "a TIFF of 3 bits".
    Kind(String),
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self::Damaged(what)
    }
}

impl Page {
    /// Reads what a directory says. The size is checked before lists of its chunks are read.
    pub(super) fn of(
        directory: &Directory<'_>,
        order: Order,
        path: &Path,
        options: &DecodeOptions,
    ) -> Result<Self> {
        let size = sides(directory).map_err(|what| damaged_tiff(path, what))?;
        // The size alone, before anything is counted by it.
        options.check(path, size, 0)?;
        let parsed = Self::parse(directory, order, size, options);
        let page = parsed.map_err(|fault| match fault {
            Fault::Damaged(what) => damaged_tiff(path, what),
            Fault::Kind(what) => Error::Unsupported { path: path.into(), what },
        })?;
        let width = (page.bits as u64).div_ceil(8);
        let area = (size.height as u64).saturating_mul(size.width as u64);
        let samples = area.saturating_mul(page.samples as u64);
        options.check(path, size, samples.saturating_mul(width))?;
        // A tile may be wider than the image; one of words needs twice the bytes at most.
        // Of bits between 8 and 16 all rows of a tile are unpacked.
        let rows = match page.tiled && matches!(page.bits, 9..=15) {
            true => page.chunk.height as u64,
            false => page.chunk.height.min(size.height) as u64,
        };
        let bytes = (page.row_bytes() as u64).saturating_mul(rows);
        limit(path, "bytes of a tile", options.max_alloc_bytes, bytes)?;
        Ok(page)
    }

    fn parse(
        directory: &Directory<'_>,
        order: Order,
        size: ImageSize,
        options: &DecodeOptions,
    ) -> Result<Self, Fault> {
        let number = |tag, default| Ok::<_, String>(directory.number(tag)?.unwrap_or(default));
        let samples = number(tag::SAMPLES, 1)?;
        if samples == 0 || samples > super::super::MAX_CHANNELS as u64 {
            return Err(Fault::Kind(format!("a {samples}-channel TIFF")));
        }
        let samples = samples as usize;
        let equal = |tag: u16, name: &str, default: u64| {
            let all = directory.numbers(tag)?.filter(|all| !all.is_empty());
            let all = all.unwrap_or_else(|| vec![default]);
            match all.iter().all(|one| *one == all[0]) {
                true => Ok(all[0]),
                false => Err(Fault::Kind(format!("a TIFF whose channels differ in {name}"))),
            }
        };
        let bits = equal(tag::BITS, "bits", 1)? as usize;
        let format = equal(tag::FORMAT, "the kind of numbers", 1)?;
        let kind = match format {
            1 | 4 => Number::Unsigned,
            2 => Number::Signed,
            3 => Number::Float,
            _ => return Err(Fault::Kind("a TIFF of complex numbers".into())),
        };
        match (kind, bits) {
            (Number::Unsigned, 1..=16 | 32)
            | (Number::Signed, 8 | 16 | 32)
            | (Number::Float, 16 | 32 | 64) => {}
            (Number::Unsigned | Number::Signed, 64) => {
                return Err(Fault::Kind("a TIFF of 64-bit integers".into()));
            }
            _ => return Err(Fault::Kind(format!("a TIFF of {bits} bits"))),
        }
        let photometric = directory.number(tag::PHOTOMETRIC)?;
        let extra = directory.numbers(tag::EXTRA)?;
        let color = match photometric {
            Some(0) if kind == Number::Unsigned && bits <= 8 => Color::Inverted,
            // 16 bits, floats and signed numbers are measurements, and no shades of a print.
            Some(0 | 1 | 4 | 34_892) => Color::Stored,
            Some(2) => Color::Rgb,
            Some(3) => Color::Palette(palette(directory, bits, kind)?),
            Some(5) if kind == Number::Unsigned && bits == 8 && samples >= 4 => Color::Cmyk,
            Some(6) => Color::YCbCr,
            None if samples >= 3 => Color::Rgb,
            None => Color::Stored,
            Some(5) => return Err(Fault::Kind(format!("a CMYK TIFF of {bits} bits"))),
            Some(8..=10) => return Err(Fault::Kind("a TIFF in CIELab".into())),
            Some(32_803) => return Err(Fault::Kind("a TIFF of a Bayer pattern".into())),
            Some(other) => {
                return Err(Fault::Kind(format!("a TIFF of the photometric kind {other}")));
            }
        };
        let of_color = match color {
            Color::Rgb | Color::YCbCr => 3,
            Color::Cmyk => 4,
            Color::Palette(_) | Color::Inverted | Color::Stored => 1,
        };
        if samples < of_color {
            return Err(Fault::Kind(format!("a {samples}-channel TIFF of {of_color} colours")));
        }
        let kept = match color {
            Color::Palette(_) => vec![0],
            Color::Cmyk => vec![0, 1, 2, 3],
            _ => kept(samples, of_color, extra.as_deref(), options.alpha_is_band),
        };
        // Inks and indices may be followed by anything.
        let dropped = (0..samples).find(|sample| !kept.contains(sample));
        let alpha = dropped.filter(|_| !matches!(color, Color::Palette(_) | Color::Cmyk));
        let predictor = number(tag::PREDICTOR, 1)?;
        match (predictor, kind, bits) {
            (1, ..) | (2, _, 8 | 16 | 32 | 64) | (3, Number::Float, _) => {}
            _ => {
                return Err(Fault::Kind(format!(
                    "a TIFF of {bits} bits with the predictor {predictor}"
                )));
            }
        }
        let planar = number(tag::PLANAR, 1)? == 2 && samples > 1;
        let compression = number(tag::COMPRESSION, 1)?;
        let (tiled, chunk) = chunk_size(directory, size)?;
        let scales = match options.radiometric {
            RadiometricMode::Raw => Vec::new(),
            _ => scales(directory.text(tag::GDAL_METADATA).as_deref(), &kept)?,
        };
        // A number is against the specification, and written all the same.
        let nodata = match directory.lone_byte(tag::GDAL_NODATA) {
            Some(number) => Some(number),
            None => match directory.text(tag::GDAL_NODATA) {
                Some(text) => nodata(&text)?,
                None => directory.real(tag::GDAL_NODATA)?,
            },
        };
        let mut page = Self {
            order,
            size,
            orientation: Orientation::of_tag(directory.number(tag::ORIENTATION)?),
            samples,
            kept,
            alpha,
            bits,
            number: kind,
            color,
            compression,
            predictor,
            reversed: number(tag::FILL_ORDER, 1)? == 2,
            planar,
            chunk,
            tiled,
            chunks: Vec::new(),
            nodata,
            scales,
        };
        page.chunks = page.places(directory)?;
        Ok(page)
    }

    /// Strips or tiles of one plane, in rows and columns.
    pub(super) fn grid(&self) -> ImageSize {
        ImageSize::new(
            self.size.height.div_ceil(self.chunk.height),
            self.size.width.div_ceil(self.chunk.width),
        )
    }

    /// Number of planes, and samples of a pixel in each.
    pub(super) fn planes(&self) -> (usize, usize) {
        if self.planar { (self.samples, 1) } else { (1, self.samples) }
    }

    /// Bytes of a row of a chunk.
    pub(super) fn row_bytes(&self) -> usize {
        (self.chunk.width * self.planes().1 * self.bits).div_ceil(8)
    }

    fn places(&self, directory: &Directory<'_>) -> Result<Vec<(u64, u64)>, Fault> {
        let (offsets, counts, name) = match self.tiled {
            true => (tag::TILE_OFFSETS, tag::TILE_COUNTS, "tiles"),
            false => (tag::STRIP_OFFSETS, tag::STRIP_COUNTS, "strips"),
        };
        let expected = self.grid().area().saturating_mul(self.planes().0);
        let offsets = directory.numbers(offsets)?.unwrap_or_default();
        let counts = match directory.numbers(counts)? {
            Some(counts) => counts,
            // Some writers leave it out where it follows from the size.
            None if self.compression == 1 => {
                (0..offsets.len().min(expected)).map(|index| self.bytes_of(index)).collect()
            }
            None => Vec::new(),
        };
        if offsets.len() < expected || counts.len() < expected {
            let found = offsets.len().min(counts.len());
            return Err(Fault::Damaged(format!(
                "expected the places of {expected} {name}, found {found}"
            )));
        }
        let places = offsets.into_iter().zip(counts).take(expected).enumerate();
        let place = |(index, (offset, bytes))| match (offset, bytes) {
            // A size that was left at 0, which follows from that of the image.
            (1.., 0) if self.compression == 1 => (offset, self.bytes_of(index)),
            place => place,
        };
        Ok(places.map(place).collect())
    }

    /// Bytes of a strip or tile that is not compressed.
    fn bytes_of(&self, index: usize) -> u64 {
        let rows = match self.tiled {
            true => self.chunk.height,
            false => {
                let first = index % self.grid().area().max(1) * self.chunk.height;
                self.chunk.height.min(self.size.height - first)
            }
        };
        (rows * self.row_bytes()) as u64
    }
}

/// Whether there are tiles, and rows and columns of a tile or strip.
fn chunk_size(directory: &Directory<'_>, size: ImageSize) -> Result<(bool, ImageSize), Fault> {
    let side = |tag| Ok::<_, String>(directory.number(tag)?.map(|side| side as usize));
    if let (Some(width), Some(height)) = (side(tag::TILE_WIDTH)?, side(tag::TILE_LENGTH)?) {
        let most = 1 << 16;
        if width == 0 || height == 0 || width > most || height > most {
            return Err(Fault::Damaged(format!(
                "expected tiles of 1x1 to {most}x{most}, found {height}x{width}"
            )));
        }
        return Ok((true, ImageSize::new(height, width)));
    }
    let rows = side(tag::ROWS_PER_STRIP)?.filter(|&rows| rows > 0).unwrap_or(size.height);
    Ok((false, ImageSize::new(rows.min(size.height), size.width)))
}

/// The samples that are not alpha.
fn kept(samples: usize, of_color: usize, extra: Option<&[u64]>, alpha_is_band: bool) -> Vec<usize> {
    let is_alpha = |sample: usize| match extra {
        _ if alpha_is_band || sample < of_color => false,
        Some(extra) => {
            let first = samples.saturating_sub(extra.len());
            let kind = sample.checked_sub(first).and_then(|index| extra.get(index));
            matches!(kind, Some(1 | 2))
        }
        // Unsaid: the fourth of RGB is alpha, as other readers take it.
        None => of_color == 3 && samples == 4,
    };
    (0..samples).filter(|&sample| !is_alpha(sample)).collect()
}

fn palette(directory: &Directory<'_>, bits: usize, kind: Number) -> Result<Vec<u16>, Fault> {
    if kind != Number::Unsigned || bits > 16 {
        return Err(Fault::Kind(format!("a palette TIFF of {bits} bits")));
    }
    let colors = directory.numbers(tag::PALETTE)?.unwrap_or_default();
    let expected = 3 << bits;
    if colors.len() != expected {
        return Err(Fault::Damaged(format!(
            "expected a palette of {expected} numbers, found {}",
            colors.len()
        )));
    }
    Ok(colors.into_iter().map(|color| color.min(u64::from(u16::MAX)) as u16).collect())
}
