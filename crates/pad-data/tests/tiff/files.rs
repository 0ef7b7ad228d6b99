//! TIFF files made here, and how they are read.

use std::path::Path;

use pad_data::image::{DecodeOptions, Image, Pixels, decode_bytes, image_size_bytes};
use pad_ops::ImageSize;

pub(crate) const HEIGHT: usize = 20;
pub(crate) const WIDTH: usize = 24;
pub(crate) const SIZE: ImageSize = ImageSize::new(HEIGHT, WIDTH);

/// A directory to be written, with the data of its strips or tiles.
#[derive(Clone, Default)]
pub(crate) struct Page {
    /// Tag, type and values: 2 for text, 3 and 4 for numbers.
    pub(crate) tags: Vec<(u16, u16, Vec<u64>)>,
    pub(crate) text: Vec<(u16, String)>,
    /// Data of each chunk; `None` for an absent one.
    pub(crate) chunks: Vec<Option<Vec<u8>>>,
}

impl Page {
    /// One strip of `bits` bits.
    pub(crate) fn strip(bits: u64, format: u64, data: Vec<u8>) -> Self {
        Self::default()
            .with(256, WIDTH as u64)
            .with(257, HEIGHT as u64)
            .with(258, bits)
            .with(259, 1)
            .with(262, 1)
            .with(277, 1)
            .with(278, HEIGHT as u64)
            .with(339, format)
            .chunk(Some(data))
    }

    pub(crate) fn with(self, tag: u16, value: u64) -> Self {
        self.with_all(tag, vec![value])
    }

    /// Replaces a tag that is there.
    pub(crate) fn with_all(mut self, tag: u16, values: Vec<u64>) -> Self {
        self.tags.retain(|(found, ..)| *found != tag);
        self.tags.push((tag, if values.iter().any(|&v| v > 65_535) { 4 } else { 3 }, values));
        self
    }

    pub(crate) fn with_text(mut self, tag: u16, text: &str) -> Self {
        self.text.push((tag, format!("{text}\0")));
        self
    }

    pub(crate) fn chunk(mut self, data: Option<Vec<u8>>) -> Self {
        self.chunks.push(data);
        self
    }
}

/// The order of bytes, and whether offsets have 64 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) big_endian: bool,
    pub(crate) big_tiff: bool,
}

pub(crate) const CLASSIC: Kind = Kind { big_endian: false, big_tiff: false };
pub(crate) const KINDS: [Kind; 4] = [
    CLASSIC,
    Kind { big_endian: true, big_tiff: false },
    Kind { big_endian: false, big_tiff: true },
    Kind { big_endian: true, big_tiff: true },
];

impl Kind {
    pub(crate) fn number(self, value: u64, bytes: usize) -> Vec<u8> {
        let mut all = value.to_le_bytes()[..bytes].to_vec();
        if self.big_endian {
            all.reverse();
        }
        all
    }

    pub(crate) fn file(self, pages: &[Page]) -> Vec<u8> {
        let offset = if self.big_tiff { 8 } else { 4 };
        let mut file = if self.big_endian { b"MM".to_vec() } else { b"II".to_vec() };
        file.extend(self.number(if self.big_tiff { 43 } else { 42 }, 2));
        if self.big_tiff {
            file.extend(self.number(8, 2));
            file.extend(self.number(0, 2));
        }
        let mut link = file.len();
        file.extend(self.number(0, offset));
        for page in pages {
            let mut places = (Vec::new(), Vec::new());
            for chunk in &page.chunks {
                let length = chunk.as_ref().map_or(0, Vec::len);
                places.0.push(if length > 0 { file.len() as u64 } else { 0 });
                places.1.push(length as u64);
                file.extend(chunk.iter().flatten());
            }
            let tiled = page.tags.iter().any(|(tag, ..)| *tag == 322);
            let (offsets, counts) = if tiled { (324, 325) } else { (273, 279) };
            let mut entries: Vec<(u16, u16, usize, Vec<u8>)> = Vec::new();
            let long = |tag, values: &[u64]| {
                let bytes = values.iter().flat_map(|&value| self.number(value, 4)).collect();
                (tag, 4, values.len(), bytes)
            };
            entries.push(long(offsets, &places.0));
            entries.push(long(counts, &places.1));
            for (tag, kind, values) in &page.tags {
                let width = if *kind == 3 { 2 } else { 4 };
                let bytes = values.iter().flat_map(|&v| self.number(v, width)).collect();
                entries.push((*tag, *kind, values.len(), bytes));
            }
            for (tag, text) in &page.text {
                entries.push((*tag, 2, text.len(), text.as_bytes().to_vec()));
            }
            entries.sort_by_key(|entry| entry.0);
            for entry in &mut entries {
                if entry.3.len() > offset {
                    let at = file.len() as u64;
                    file.extend(&entry.3);
                    entry.3 = self.number(at, offset);
                }
                entry.3.resize(offset, 0);
            }
            let at = self.number(file.len() as u64, offset);
            file[link..link + offset].copy_from_slice(&at);
            file.extend(self.number(entries.len() as u64, if self.big_tiff { 8 } else { 2 }));
            for (tag, kind, count, bytes) in entries {
                file.extend(self.number(u64::from(tag), 2));
                file.extend(self.number(u64::from(kind), 2));
                file.extend(self.number(count as u64, offset));
                file.extend(bytes);
            }
            link = file.len();
            file.extend(self.number(0, offset));
        }
        file
    }

    /// The bytes of numbers of `width` bytes.
    pub(crate) fn data(self, values: impl IntoIterator<Item = u64>, width: usize) -> Vec<u8> {
        values.into_iter().flat_map(|value| self.number(value, width)).collect()
    }
}

pub(crate) fn read(bytes: &[u8]) -> pad_data::Result<Image> {
    read_with(bytes, &DecodeOptions::default())
}

pub(crate) fn read_with(bytes: &[u8], options: &DecodeOptions) -> pad_data::Result<Image> {
    let image = decode_bytes(bytes, Path::new("a.tif"), options)?;
    assert_eq!(image_size_bytes(bytes, Path::new("a.tif"), options).unwrap(), image.size());
    Ok(image)
}

pub(crate) fn said(bytes: &[u8]) -> String {
    let text = read(bytes).unwrap_err().to_string();
    text.replace("a.tif: cannot decode: Format error decoding Tiff: ", "")
}

pub(crate) fn floats(image: &Image) -> Vec<f64> {
    match image.pixels() {
        Pixels::U8(values) => values.iter().map(|&value| f64::from(value)).collect(),
        Pixels::U16(values) => values.iter().map(|&value| f64::from(value)).collect(),
        Pixels::F32(values) => values.iter().map(|&value| f64::from(value)).collect(),
    }
}

pub(crate) fn masked(image: &Image) -> Vec<usize> {
    let masked = image.masked().unwrap_or_default().iter().enumerate();
    masked.filter(|(_, masked)| **masked).map(|(pixel, _)| pixel).collect()
}
