//! The FFF file, alone or in segments of a JPEG file: its directory and its records.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use pad_ops::ImageSize;

use super::{
    super::{endian::Order, jpeg::segments},
    calibration::{Atmosphere, Calibration, Planck},
};
use crate::{Error, Result};

/// Begins the payload of a segment: name, zero, version.
const SEGMENT: &[u8] = b"FLIR\0\x01";
const RAW: u16 = 1;
const CAMERA: u16 = 0x20;
/// Bytes of a directory entry, and of the raw record before the image.
const ENTRY: usize = 32;
const RAW_HEADER: usize = 32;
/// Records are few (about ten); more is damage.
const MAX_RECORDS: u32 = 4096;

/// Begins an FFF file; the second in sequences of older cameras.
pub(super) const MAGICS: [&[u8]; 2] = [b"FFF\0", b"AFF\0"];

/// The order of the bytes of an FFF file: the version is 100 and a bit in one of both.
pub(super) fn order_of_file(file: &[u8]) -> Option<Order> {
    let known =
        |order: &Order| order.u32(file, 0x14).is_some_and(|version| (100..200).contains(&version));
    [Order::Big, Order::Little].into_iter().find(known)
}

/// Whether a JPEG file has a thermal part.
pub(crate) fn contains(bytes: &[u8]) -> bool {
    segments(bytes).any(|(marker, _, body)| marker == 0xE1 && body.starts_with(SEGMENT))
}

/// The order in which the first two bytes are the number 2, as they are in both records.
fn order_of(record: &[u8]) -> Option<Order> {
    [Order::Little, Order::Big].into_iter().find(|order| order.u16(record, 0) == Some(2))
}

/// An FFF file.
pub(super) struct Records<'a> {
    path: PathBuf,
    file: Cow<'a, [u8]>,
    /// Kind, offset and length of each.
    directory: Vec<(u16, usize, usize)>,
}

/// The raw image as it is stored.
pub(super) struct Raw<'a> {
    records: &'a Records<'a>,
    pub(super) size: ImageSize,
    pub(super) data: &'a [u8],
    order: Order,
    at: usize,
}

impl<'a> Records<'a> {
    /// Reads the directory of an FFF file.
    pub(super) fn of_file(file: &'a [u8], path: &Path) -> Result<Self> {
        let mut records = Self { path: path.into(), file: file.into(), directory: Vec::new() };
        records.directory = records.read_directory()?;
        Ok(records)
    }

    /// Joins the segments and reads the directory.
    pub(super) fn of_jpeg(bytes: &[u8], path: &Path) -> Result<Self> {
        let refuse = |at: usize, what: String| {
            Err(Error::Structure { path: path.into(), at: at as u64, what })
        };
        let mut file = Vec::new();
        let (mut joined, mut total) = (0_usize, None);
        for (_, at, body) in
            segments(bytes).filter(|(marker, _, body)| *marker == 0xE1 && body.starts_with(SEGMENT))
        {
            let &[number, last, ref data @ ..] = &body[SEGMENT.len()..] else {
                return refuse(
                    at,
                    format!("expected 8 bytes of a FLIR segment, found {}", body.len()),
                );
            };
            if usize::from(number) != joined || *total.get_or_insert(last) != last || number > last
            {
                return refuse(
                    at,
                    format!(
                        "expected FLIR segment {joined} of 0 to {}, found {number} of 0 to {last}",
                        total.unwrap_or(last)
                    ),
                );
            }
            file.extend_from_slice(data);
            joined += 1;
        }
        let segments = usize::from(total.unwrap_or(0)) + 1;
        if joined != segments {
            return refuse(
                bytes.len(),
                format!("expected {segments} FLIR segments, found {joined}"),
            );
        }
        let mut records = Self { path: path.into(), file: file.into(), directory: Vec::new() };
        records.directory = records.read_directory()?;
        Ok(records)
    }

    /// A fault at byte `at` of the FFF file.
    fn refuse<T>(&self, at: usize, what: impl Into<String>) -> Result<T> {
        let what = format!("(of the FFF file) {}", what.into());
        Err(Error::Structure { path: self.path.clone(), at: at as u64, what })
    }

    fn read_directory(&self) -> Result<Vec<(u16, usize, usize)>> {
        let file = &*self.file;
        if !MAGICS.iter().any(|magic| file.starts_with(magic)) {
            return self.refuse(0, "expected \"FFF\" and a zero");
        }
        let order = order_of_file(file);
        let header = order.and_then(|order| {
            Some((order, order.u32(file, 0x18)? as usize, order.u32(file, 0x1C)?))
        });
        let Some((order, start, count)) = header else {
            return self.refuse(0x14, "expected a version from 100 to 199 and a directory");
        };
        if count > MAX_RECORDS {
            return self
                .refuse(0x1C, format!("expected at most {MAX_RECORDS} records, found {count}"));
        }
        let mut directory = Vec::new();
        for index in 0..count as usize {
            let at = start.saturating_add(index * ENTRY);
            let entry = file.get(at..).and_then(|rest| rest.get(..ENTRY)).unwrap_or_default();
            let fields = (order.u16(entry, 0), order.u32(entry, 0x0C), order.u32(entry, 0x10));
            let (Some(kind), Some(offset), Some(length)) = fields else {
                return self.refuse(at, format!("expected directory entry {index}, found the end"));
            };
            directory.push((kind, offset as usize, length as usize));
        }
        Ok(directory)
    }

    /// The first record of a kind: its bytes and where they are.
    fn record(&self, kind: u16, name: &str) -> Result<(&[u8], usize)> {
        let Some(&(_, at, length)) = self.directory.iter().find(|(found, ..)| *found == kind)
        else {
            return self.refuse(0x1C, format!("expected a record of the {name}, found none"));
        };
        let bytes = at.checked_add(length).and_then(|end| self.file.get(at..end));
        match bytes {
            Some(bytes) => Ok((bytes, at)),
            None => self.refuse(
                at,
                format!(
                    "expected {length} bytes of the {name}, found the end at {}",
                    self.file.len()
                ),
            ),
        }
    }

    pub(super) fn calibration(&self) -> Result<Calibration> {
        let (record, at) = self.record(CAMERA, "camera")?;
        let Some(order) = order_of(record) else {
            return self.refuse(at, "expected the number 2 at the start of the camera's record");
        };
        let float = |place: usize| match order.f32(record, place) {
            Some(value) => Ok(value),
            None => self.refuse(
                at,
                format!("expected a camera record of {} bytes, found {}", place + 4, record.len()),
            ),
        };
        let planck = Planck {
            r1: float(0x58)?,
            b: float(0x5C)?,
            f: float(0x60)?,
            r2: float(0x30C)?,
            o: match order.u32(record, 0x308) {
                Some(bits) => f64::from(bits.cast_signed()),
                None => float(0x308)?,
            },
        };
        let air = Atmosphere {
            distance: float(0x24)?,
            temperature: float(0x2C)?,
            // Some cameras write per cent.
            humidity: match float(0x3C)? {
                percent if percent > 2.0 => percent / 100.0,
                share => share,
            },
            alpha: [float(0x70)?, float(0x74)?],
            beta: [float(0x78)?, float(0x7C)?],
            weight: float(0x80)?,
        };
        let known = air.distance > 0.0 && air.temperature > 0.0 && air.weight > 0.0;
        let calibration = Calibration {
            planck,
            emissivity: float(0x20)?,
            reflected: float(0x28)?,
            atmosphere: known.then_some(air),
        };
        match calibration.validate() {
            Ok(()) => Ok(calibration),
            Err(error) => self.refuse(at, error.to_string()),
        }
    }

    /// Bytes from the start of the file to the end of its last record that lies inside.
    pub(super) fn end(&self) -> usize {
        let ends = self.directory.iter().filter_map(|(_, at, length)| at.checked_add(*length));
        ends.filter(|&end| end <= self.file.len()).max().unwrap_or(0)
    }

    pub(super) fn raw(&self) -> Result<Raw<'_>> {
        let (record, at) = self.record(RAW, "raw image")?;
        let Some(order) = order_of(record) else {
            return self.refuse(at, "expected the number 2 at the start of the raw record");
        };
        let side = |place| order.u16(record, place).map(usize::from);
        let (Some(width), Some(height), Some(data)) = (side(2), side(4), record.get(RAW_HEADER..))
        else {
            let what =
                format!("expected a raw record of {RAW_HEADER} bytes, found {}", record.len());
            return self.refuse(at, what);
        };
        Ok(Raw { records: self, size: ImageSize::new(height, width), data, order, at })
    }
}

impl Raw<'_> {
    /// A fault of the samples.
    pub(super) fn refuse(&self, what: &str) -> Error {
        let what = format!("(of the FFF file) {what}");
        let at = (self.at + RAW_HEADER) as u64;
        Error::Structure { path: self.records.path.clone(), at, what }
    }

    /// The samples of an image that is stored plainly.
    pub(super) fn samples(&self) -> Result<Vec<u16>> {
        let expected = self.size.area() * 2;
        if self.data.len() != expected {
            return self.records.refuse(
                self.at + RAW_HEADER,
                format!(
                    "expected {expected} bytes of samples or a PNG, found {} bytes",
                    self.data.len()
                ),
            );
        }
        Ok(self.order.words(self.data))
    }
}
