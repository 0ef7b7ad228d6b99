//! Baseline JPEG, fast, with the samples of libjpeg (and so of PIL) bit for bit.
//!
//! Thermal frames are mostly stored as baseline JPEG, and decoding them is most of a loader's work.
//! This decoder takes the common ones: Huffman-coded, 8 bits, one scan; grey, or YCbCr with chroma
//! in full, half or quarter resolution. Everything else (progressive, CMYK, damaged) is
//! [left](decode) to the general decoder.
//!
//! The entropy-coded bytes are unstuffed first, so that the bit reader knows no markers; one table
//! look-up gives run, value and length of most coefficients; the inverse transform is libjpeg's
//! accurate integer one, run on as many blocks at a time as there are vector lanes.

mod color;
mod complete;
mod header;
mod huffman;
mod idct;
mod order;
mod plane;
mod segments;

use std::path::Path;

use pulp::{Arch, NullaryFnOnce};

pub(super) use self::{
    complete::is_complete,
    segments::{Facts, as_libjpeg, segments},
};
use self::{
    header::{Component, Header},
    huffman::{Bits, Next},
    idct::LANES,
    order::ORDER,
    plane::Plane,
};
use super::{DecodeOptions, Image, Pixels};
use crate::Result;

/// An image and what its file calls it: `channels` is 3 for a YCbCr file whose chroma is exactly
/// neutral and which therefore came out as one channel.
pub(super) struct Decoded {
    pub(super) image: Image,
    pub(super) channels: usize,
}

/// Decodes a baseline file. `None` for a file of another kind, or one that is damaged: the general
/// decoder may know more, and words the error.
///
/// # Errors
/// Those of the limits.
pub(super) fn decode(
    bytes: &[u8],
    path: &Path,
    options: &DecodeOptions,
) -> Result<Option<Decoded>> {
    let Some(header) = Header::parse(bytes) else { return Ok(None) };
    let channels = header.components.len();
    let samples = header.size.area() as u64 * channels as u64;
    options.check(path, header.size, samples)?;
    let Some(scan) = Scan::unstuffed(bytes, &header) else { return Ok(None) };
    let mut planes: Vec<Plane> = header.planes();
    let decoded =
        Arch::new().dispatch(Blocks { header: &header, scan: &scan, planes: &mut planes });
    if decoded.is_none() {
        return Ok(None);
    }
    let size = header.size;
    let mut planes = planes.into_iter();
    let (Some(luma), blue, red) = (planes.next(), planes.next(), planes.next()) else {
        return Ok(None);
    };
    let image = match (blue, red) {
        (Some(blue), Some(red)) if blue.coloured || red.coloured => {
            let rgb = color::rgb(&luma, &blue, &red, size);
            Image::new(size, 3, Pixels::U8(rgb))?
        }
        _ => Image::new(size, 1, Pixels::U8(luma.into_samples(size)))?,
    };
    Ok(Some(Decoded { image, channels }))
}

/// The entropy-coded bytes without stuffing and restart markers.
struct Scan {
    bytes: Vec<u8>,
    /// End of each restart segment in `bytes`; zeros follow it, as many as the bit reader looks
    /// ahead.
    segments: Vec<std::ops::Range<usize>>,
}

impl Scan {
    fn unstuffed(file: &[u8], header: &Header) -> Option<Self> {
        let mut rest = file.get(header.scan_at..)?;
        let mut bytes = Vec::with_capacity(rest.len() + Bits::PADDING);
        let mut segments = Vec::new();
        let mut start = 0;
        loop {
            let plain = rest.iter().position(|&byte| byte == 0xFF)?;
            bytes.extend_from_slice(&rest[..plain]);
            // Fill bytes before a marker are allowed.
            let marker_at = plain + rest[plain..].iter().position(|&byte| byte != 0xFF)?;
            let marker = rest[marker_at];
            rest = &rest[marker_at + 1..];
            match marker {
                0x00 => bytes.push(0xFF),
                0xD0..=0xD7 | 0xD9 => {
                    segments.push(start..bytes.len());
                    bytes.extend([0; Bits::PADDING]);
                    start = bytes.len();
                    if marker == 0xD9 {
                        break;
                    }
                }
                _ => return None, // another scan, or another number of lines
            }
        }
        let mcus = header.mcus.area();
        let expected = if header.restart == 0 { 1 } else { mcus.div_ceil(header.restart) };
        (segments.len() == expected).then_some(Self { bytes, segments })
    }
}

/// Entropy decoding and inverse transform of all blocks, one row of units after the other.
struct Blocks<'a> {
    header: &'a Header,
    scan: &'a Scan,
    planes: &'a mut [Plane],
}

impl NullaryFnOnce for Blocks<'_> {
    /// `None` if the bits are not a sequence of blocks.
    type Output = Option<()>;

    #[inline(always)]
    fn call(self) -> Option<()> {
        let Self { header, scan, planes } = self;
        let mcus = header.mcus;
        let mut rows: Vec<Row> =
            header.components.iter().map(|component| Row::new(component, mcus.width)).collect();
        let mut segments = scan.segments.iter();
        let mut bits = Bits::new(&[]);
        let mut predictions = [0_i32; 3];
        // Units until the next restart.
        let mut left = 0;
        for mcu_row in 0..mcus.height {
            for mcu_column in 0..mcus.width {
                if left == 0 {
                    (!bits.overrun()).then_some(())?;
                    let range = segments.next()?;
                    bits = Bits::new(&scan.bytes[range.start..range.end + Bits::PADDING]);
                    predictions = [0; 3];
                    left = if header.restart == 0 { mcus.area() } else { header.restart };
                }
                left -= 1;
                for ((component, row), prediction) in
                    header.components.iter().zip(&mut rows).zip(&mut predictions)
                {
                    for down in 0..component.vertical {
                        for right in 0..component.horizontal {
                            let column = mcu_column * component.horizontal + right;
                            let (group, lane) = row.place(down, column);
                            coefficients(component, &mut bits, prediction, group, lane)?;
                        }
                    }
                }
            }
            for ((component, row), plane) in
                header.components.iter().zip(&mut rows).zip(planes.iter_mut())
            {
                row.transform(component, plane, mcu_row * component.vertical);
            }
        }
        (!bits.overrun()).then_some(())
    }
}

/// The coefficients of [`LANES`] neighbouring blocks: for each place in a block (row-major), one of
/// every block.
type Group = [i16; 64 * LANES];

/// The coefficients of one component in one row of units.
struct Row {
    groups: Vec<Group>,
    /// Blocks across, and groups that hold them.
    blocks: usize,
    across: usize,
}

impl Row {
    fn new(component: &Component, mcus: usize) -> Self {
        let blocks = mcus * component.horizontal;
        let across = blocks.div_ceil(LANES);
        Self { groups: vec![[0; 64 * LANES]; across * component.vertical], blocks, across }
    }

    #[inline(always)]
    fn place(&mut self, down: usize, column: usize) -> (&mut Group, usize) {
        (&mut self.groups[down * self.across + column / LANES], column % LANES)
    }

    /// Writes the samples to `plane` from row of blocks `first` on, and clears the coefficients.
    #[inline(always)]
    fn transform(&mut self, component: &Component, plane: &mut Plane, first: usize) {
        for (index, group) in self.groups.iter_mut().enumerate() {
            let (down, across) = (index / self.across, index % self.across);
            let column = across * LANES;
            let count = (self.blocks - column).min(LANES);
            let at = (first + down) * 8 * plane.stride + column * 8;
            plane.coloured |= group.iter().fold(0, |any, &value| any | value) != 0;
            idct::blocks(
                group,
                &component.quantization,
                count,
                &mut plane.samples[at..],
                plane.stride,
            );
            group.fill(0);
        }
    }
}

/// Reads one block into `lane` of `group`.
#[inline(always)]
fn coefficients(
    component: &Component,
    bits: &mut Bits<'_>,
    prediction: &mut i32,
    group: &mut Group,
    lane: usize,
) -> Option<()> {
    *prediction = prediction.wrapping_add(component.direct.direct(bits)?);
    group[lane % LANES] = *prediction as i16;
    let mut at = 1;
    let mut set = |at: usize, value: i32| {
        // A run beyond the end lands in the padding of the order, and is found below.
        group[(usize::from(ORDER[at]) * LANES + lane) % (64 * LANES)] = value as i16;
    };
    'fill: while at < 64 {
        bits.fill();
        // As many short codes as fit into what was filled.
        for _ in 0..Bits::LOOKS {
            match component.alternating.short(bits) {
                Some((run, value)) => {
                    at += run;
                    set(at, value);
                    at += 1;
                    if at >= 64 {
                        break 'fill;
                    }
                }
                None => {
                    match component.alternating.long(bits)? {
                        Next::Coefficient { run, value } => {
                            at += run;
                            set(at, value);
                            at += 1;
                        }
                        Next::Zeros => at += 16,
                        Next::End => return Some(()),
                    }
                    continue 'fill;
                }
            }
        }
    }
    (at == 64).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coefficients_run_along_diagonals() {
        assert_eq!(ORDER[..12], [0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25]);
        assert_eq!(ORDER[60..], [&[47, 55, 62, 63][..], &[63; 16]].concat());
        let mut all = ORDER[..64].to_vec();
        all.sort_unstable();
        assert_eq!(all, (0..64).collect::<Vec<u8>>());
    }

    fn golden() -> Vec<(String, Vec<u8>)> {
        let folder = pad_testkit::golden_folder().join("data/jpeg");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "jpg"))
            .map(|path| {
                let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                (name, std::fs::read(path).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn baseline_files_are_taken_and_others_left() {
        let options = DecodeOptions::default();
        for (name, bytes) in golden() {
            let decoded = decode(&bytes, Path::new(&name), &options).unwrap();
            match decoded {
                None => assert_eq!(name, "progressive"),
                Some(decoded) => {
                    assert_eq!(decoded.channels, if name.starts_with("gray") { 1 } else { 3 });
                    let kept = if name.starts_with("color") { 3 } else { 1 };
                    assert_eq!(decoded.image.channels(), kept, "{name}");
                }
            }
        }
    }

    #[test]
    fn damage_is_left_to_the_general_decoder() {
        // Here no panic is caught.
        let options = DecodeOptions { max_pixels: 1 << 20, ..Default::default() };
        let mut left = 0;
        for (name, bytes) in golden() {
            for place in (0..bytes.len()).step_by(3) {
                for flip in [0xFF, 0x10, 0x01] {
                    let mut bytes = bytes.clone();
                    bytes[place] ^= flip;
                    if let Ok(None) = decode(&bytes, Path::new(&name), &options) {
                        left += 1;
                    }
                }
                assert!(!matches!(
                    decode(&bytes[..place], Path::new(&name), &options),
                    Ok(Some(_))
                ));
            }
        }
        assert!(left > 1000, "{left}");
    }
}
