//! Directories of a TIFF file (also of the 64-bit kind), and of an EXIF block, which has the same
//! form.

use super::super::endian::Order;

/// Entries and directories are few; more is damage.
const MAX_ENTRIES: u64 = 4096;
const MAX_DIRECTORIES: usize = 65_536;

/// A file in memory, as a chain of directories.
#[derive(Clone, Copy)]
pub(in crate::image) struct Directories<'a> {
    bytes: &'a [u8],
    pub(in crate::image) order: Order,
    /// Whether offsets have 64 bits (BigTIFF).
    big: bool,
    first: u64,
}

/// One directory: its entries, and where the next one is.
#[derive(Clone)]
pub(in crate::image) struct Directory<'a> {
    entries: Vec<Entry<'a>>,
    next: u64,
}

/// An entry with its values.
#[derive(Clone, Copy)]
pub(in crate::image) struct Entry<'a> {
    tag: u16,
    kind: u16,
    count: usize,
    /// The values; `None` if they lie outside of the file.
    values: Option<&'a [u8]>,
    order: Order,
}

impl<'a> Directories<'a> {
    /// Reads the first bytes; `None` for another kind of file.
    pub(in crate::image) fn of(bytes: &'a [u8]) -> Option<Self> {
        let order = match bytes.get(..2)? {
            b"II" => Order::Little,
            b"MM" => Order::Big,
            _ => return None,
        };
        let (big, first) = match order.u16(bytes, 2)? {
            42 => (false, u64::from(order.u32(bytes, 4)?)),
            43 if order.u16(bytes, 4)? == 8 => (true, order.u64(bytes, 8)?),
            _ => return None,
        };
        Some(Self { bytes, order, big, first })
    }

    /// The directories of the chain, in order. Ends early where the chain leaves the file, comes
    /// back, or is longer than any real one.
    pub(in crate::image) fn iter(self) -> impl Iterator<Item = Directory<'a>> {
        let mut seen = std::collections::BTreeSet::new();
        let mut at = self.first;
        std::iter::from_fn(move || {
            if at == 0 || seen.len() >= MAX_DIRECTORIES || !seen.insert(at) {
                return None;
            }
            let directory = self.directory(at)?;
            at = directory.next;
            Some(directory)
        })
    }

    fn offset(&self, at: usize) -> Option<u64> {
        match self.big {
            true => self.order.u64(self.bytes, at),
            false => self.order.u32(self.bytes, at).map(u64::from),
        }
    }

    /// The directory at an offset; `None` outside of the file.
    pub(in crate::image) fn directory(&self, at: u64) -> Option<Directory<'a>> {
        let at = usize::try_from(at).ok()?;
        let (count, mut at) = match self.big {
            true => (self.order.u64(self.bytes, at)?, at.checked_add(8)?),
            false => (u64::from(self.order.u16(self.bytes, at)?), at.checked_add(2)?),
        };
        if count > MAX_ENTRIES {
            return None;
        }
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(self.entry(at)?);
            at = at.checked_add(if self.big { 20 } else { 12 })?;
        }
        // Some writers leave the last offset out.
        Some(Directory { entries, next: self.offset(at).unwrap_or(0) })
    }

    fn entry(&self, at: usize) -> Option<Entry<'a>> {
        let (tag, kind) = (self.order.u16(self.bytes, at)?, self.order.u16(self.bytes, at + 2)?);
        let count = usize::try_from(self.offset(at + 4)?).ok()?;
        let (place, inline) = if self.big { (at + 12, 8) } else { (at + 8, 4) };
        let stored = self.bytes.get(place..place.checked_add(inline)?)?;
        let values = count.checked_mul(width(kind)).and_then(|bytes| {
            if bytes <= inline {
                return stored.get(..bytes);
            }
            let start = usize::try_from(self.offset(place)?).ok()?;
            self.bytes.get(start..start.checked_add(bytes)?)
        });
        Some(Entry { tag, kind, count, values, order: self.order })
    }
}

/// Bytes of a value of a type; 0 for an unknown one.
fn width(kind: u16) -> usize {
    match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 0,
    }
}

impl<'a> Directory<'a> {
    fn entry(&self, tag: u16) -> Option<&Entry<'a>> {
        self.entries.iter().find(|entry| entry.tag == tag)
    }

    /// The whole numbers of a tag; `Ok(None)` without the tag.
    ///
    /// # Errors
    /// What is wrong with the entry.
    pub(in crate::image) fn numbers(&self, tag: u16) -> Result<Option<Vec<u64>>, String> {
        let Some(entry) = self.entry(tag) else { return Ok(None) };
        let Some(values) = entry.values else {
            return Err(format!("expected the {} values of tag {tag} in the file", entry.count));
        };
        let order = entry.order;
        let number = |index: usize| match entry.kind {
            1 | 7 => values.get(index).map(|&byte| u64::from(byte)),
            // Signed ones, which other readers take as well where they are not negative.
            6 => values.get(index).and_then(|&byte| byte.cast_signed().try_into().ok()),
            8 => order.u16(values, 2 * index).and_then(|n| n.cast_signed().try_into().ok()),
            9 => order.u32(values, 4 * index).and_then(|n| n.cast_signed().try_into().ok()),
            3 => order.u16(values, 2 * index).map(u64::from),
            4 | 13 => order.u32(values, 4 * index).map(u64::from),
            16 | 18 => order.u64(values, 8 * index),
            _ => None,
        };
        let numbers: Option<Vec<u64>> = (0..entry.count).map(number).collect();
        let wrong = || format!("expected whole numbers for tag {tag}, found type {}", entry.kind);
        numbers.ok_or_else(wrong).map(Some)
    }

    /// The first whole number of a tag; `Ok(None)` without the tag, or without a value.
    pub(in crate::image) fn number(&self, tag: u16) -> Result<Option<u64>, String> {
        Ok(self.numbers(tag)?.and_then(|numbers| numbers.first().copied()))
    }

    /// The first number of a tag, of any type; `None` without the tag.
    ///
    /// # Errors
    /// A tag without a number.
    pub(in crate::image) fn real(&self, tag: u16) -> Result<Option<f64>, String> {
        let Some(entry) = self.entry(tag) else { return Ok(None) };
        let order = entry.order;
        let number = entry.values.and_then(|values| match entry.kind {
            1 | 7 => values.first().map(|&byte| f64::from(byte)),
            6 => values.first().map(|&byte| f64::from(byte.cast_signed())),
            3 => order.u16(values, 0).map(f64::from),
            8 => order.u16(values, 0).map(|n| f64::from(n.cast_signed())),
            4 => order.u32(values, 0).map(f64::from),
            9 => order.u32(values, 0).map(|n| f64::from(n.cast_signed())),
            11 => order.f32(values, 0),
            12 => order.u64(values, 0).map(f64::from_bits),
            _ => None,
        });
        let wrong = || format!("expected a number for tag {tag}, found type {}", entry.kind);
        number.ok_or_else(wrong).map(Some)
    }

    /// The number of a tag of one byte that spells no digit: a number, and no text.
    pub(in crate::image) fn lone_byte(&self, tag: u16) -> Option<f64> {
        let entry = self.entry(tag).filter(|one| matches!(one.kind, 1 | 7) && one.count == 1)?;
        entry.values?.first().filter(|byte| !byte.is_ascii_digit()).map(|&byte| f64::from(byte))
    }

    /// The text of a tag, up to its first zero; `None` without the tag.
    pub(in crate::image) fn text(&self, tag: u16) -> Option<String> {
        let entry = self.entry(tag).filter(|entry| matches!(entry.kind, 1 | 2 | 7))?;
        let bytes = entry.values?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).trim().to_string())
    }
}
