//! Segments of the JPEG file, the directory of the FFF file, its records.

use std::path::{Path, PathBuf};

use pad_ops::ImageSize;

use super::calibration::{Atmosphere, Calibration, Planck};
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

/// The segments before the picture: marker, offset and body of each.
fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, usize, &[u8])> {
    let mut at = if bytes.starts_with(&[0xFF, 0xD8]) { 2 } else { bytes.len() };
    std::iter::from_fn(move || {
        while bytes.get(at..at + 2)? == [0xFF, 0xFF] {
            at += 1;
        }
        let &[0xFF, marker, high, low] = bytes.get(at..at + 4)? else { return None };
        let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
        // The picture begins: no segments follow.
        if marker == 0xDA || marker == 0xD9 {
            return None;
        }
        let body_at = at + 4;
        let body = bytes.get(body_at..end)?;
        at = end;
        Some((marker, body_at, body))
    })
}

/// Whether a JPEG file has a thermal part.
pub(crate) fn contains(bytes: &[u8]) -> bool {
    segments(bytes).any(|(marker, _, body)| marker == 0xE1 && body.starts_with(SEGMENT))
}

/// The order of the bytes of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Big,
    Little,
}

impl Order {
    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Order::Big => u16::from_be_bytes(bytes),
            Order::Little => u16::from_le_bytes(bytes),
        })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Order::Big => u32::from_be_bytes(bytes),
            Order::Little => u32::from_le_bytes(bytes),
        })
    }

    fn f32(self, bytes: &[u8], at: usize) -> Option<f64> {
        self.u32(bytes, at).map(|bits| f64::from(f32::from_bits(bits)))
    }

    /// The order in which the first two bytes are the number 2, as they are in both records.
    fn of_record(record: &[u8]) -> Option<Self> {
        [Order::Little, Order::Big].into_iter().find(|order| order.u16(record, 0) == Some(2))
    }
}

/// An FFF file.
pub(super) struct Records {
    path: PathBuf,
    file: Vec<u8>,
    /// Kind, offset and length of each.
    directory: Vec<(u16, usize, usize)>,
}

/// The raw image as it is stored.
pub(super) struct Raw<'a> {
    records: &'a Records,
    pub(super) size: ImageSize,
    pub(super) data: &'a [u8],
    order: Order,
    at: usize,
}

impl Records {
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
        let mut records = Self { path: path.into(), file, directory: Vec::new() };
        records.directory = records.read_directory()?;
        Ok(records)
    }

    /// A fault at byte `at` of the FFF file.
    fn refuse<T>(&self, at: usize, what: impl Into<String>) -> Result<T> {
        let what = format!("(of the FFF file) {}", what.into());
        Err(Error::Structure { path: self.path.clone(), at: at as u64, what })
    }

    fn read_directory(&self) -> Result<Vec<(u16, usize, usize)>> {
        let file = self.file.as_slice();
        if !file.starts_with(b"FFF\0") {
            return self.refuse(0, "expected \"FFF\" and a zero");
        }
        // The version is 100 and a bit in one of both orders.
        let order = [Order::Big, Order::Little].into_iter().find(|order| {
            order.u32(file, 0x14).is_some_and(|version| (100..200).contains(&version))
        });
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
        let Some(order) = Order::of_record(record) else {
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

    pub(super) fn raw(&self) -> Result<Raw<'_>> {
        let (record, at) = self.record(RAW, "raw image")?;
        let Some(order) = Order::of_record(record) else {
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
        let order = self.order;
        let sample = |pair: &[u8; 2]| match order {
            Order::Big => u16::from_be_bytes(*pair),
            Order::Little => u16::from_le_bytes(*pair),
        };
        Ok(self.data.as_chunks().0.iter().map(sample).collect())
    }
}
