//! Storages of a PyTorch file, and the tensors that are views of them.
//!
//! Each storage is read once, whatever the number of its views; views whose values follow each
//! other share it. What is held at any time is at most the size of the file and [`ROOM`].

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use candle_core::{DType, Device, Tensor, WithDType};
use half::{bf16, f16};
use pad_ops::text::shown;

use super::state_dict::{Entry, Place};

/// What may be held beside as many bytes as the file has: values of views that must be copied.
pub(super) const ROOM: u64 = 64 << 20;

/// A file with storages.
pub(super) trait Source {
    /// Whether numbers of several bytes begin with the highest one.
    fn is_big_endian(&self) -> bool;

    /// The size of the file in bytes.
    fn len(&self) -> u64;

    /// Passes the reader of one storage, and the number of its bytes, to `read`. What `read` leaves
    /// is read to the end, with whatever checksum the file has.
    fn with_storage(
        &mut self,
        key: &str,
        read: &mut dyn FnMut(&mut dyn Read, u64) -> Result<(), String>,
    ) -> Result<(), String>;
}

/// The tensors of a state dictionary.
#[derive(Debug, Default)]
pub(super) struct Tensors {
    /// By name.
    pub(super) tensors: BTreeMap<String, Tensor>,
    /// Those that cannot be read, with why.
    pub(super) unread: BTreeMap<String, String>,
    /// The most bytes of values that were held at one time.
    pub(super) peak: u64,
}

/// Bytes in use, within a limit.
struct Account {
    used: u64,
    peak: u64,
    limit: u64,
}

impl Account {
    fn take(&mut self, bytes: u64) -> Result<(), String> {
        let used = self.used.saturating_add(bytes);
        if used > self.limit {
            return Err(format!(
                "{used} bytes of values from a file of {}: more than it holds",
                self.limit - ROOM
            ));
        }
        self.used = used;
        self.peak = self.peak.max(used);
        Ok(())
    }

    fn give_back(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }
}

/// Reads the tensors that `entries` describe.
///
/// # Errors
/// A description of the fault: a storage that is absent, damaged or too short; tensors that would
/// take more than the file's size and [`ROOM`].
pub(super) fn read(
    entries: BTreeMap<&str, Entry<'_>>,
    source: &mut dyn Source,
) -> Result<Tensors, String> {
    let mut found = Tensors::default();
    // The views of each storage. DType has no order; its name has.
    let mut storages: BTreeMap<(&str, &str), Vec<(&str, Place<'_>)>> = BTreeMap::new();
    for (name, entry) in entries {
        match entry {
            Ok(place) => {
                let of = (place.key, place.dtype.as_str());
                storages.entry(of).or_default().push((name, place));
            }
            Err(why) => drop(found.unread.insert(name.to_string(), why)),
        }
    }
    let limit = source.len().saturating_add(ROOM);
    let mut account = Account { used: 0, peak: 0, limit };
    for ((key, _), views) in storages {
        let Some((_, first)) = views.first() else { continue };
        let result = match first.dtype {
            DType::F32 => of_type(source, key, views, &mut account, &mut found, f32::from_le_bytes),
            DType::F64 => of_type(source, key, views, &mut account, &mut found, f64::from_le_bytes),
            DType::F16 => of_type(source, key, views, &mut account, &mut found, f16::from_le_bytes),
            DType::BF16 => {
                of_type(source, key, views, &mut account, &mut found, bf16::from_le_bytes)
            }
            DType::U8 => of_type(source, key, views, &mut account, &mut found, u8::from_le_bytes),
            DType::I16 => of_type(source, key, views, &mut account, &mut found, i16::from_le_bytes),
            DType::I32 => of_type(source, key, views, &mut account, &mut found, i32::from_le_bytes),
            DType::I64 => of_type(source, key, views, &mut account, &mut found, i64::from_le_bytes),
            DType::U32 => of_type(source, key, views, &mut account, &mut found, u32::from_le_bytes),
            other => {
                let why = format!("of the type {}", other.as_str());
                found
                    .unread
                    .extend(views.into_iter().map(|(name, _)| (name.to_string(), why.clone())));
                Ok(())
            }
        };
        result?;
    }
    found.peak = account.peak;
    Ok(found)
}

/// Reads one storage and makes its views.
fn of_type<T: WithDType, const N: usize>(
    source: &mut dyn Source,
    key: &str,
    views: Vec<(&str, Place<'_>)>,
    account: &mut Account,
    found: &mut Tensors,
    decode: fn([u8; N]) -> T,
) -> Result<(), String> {
    let big_endian = source.is_big_endian();
    let mut values: Vec<T> = Vec::new();
    let mut held = 0;
    source.with_storage(key, &mut |reader, bytes| {
        account.take(bytes)?;
        held = bytes;
        values = decoded(reader, bytes, big_endian, decode)?;
        Ok(())
    })?;
    let mut shared = Vec::new();
    for (name, place) in views {
        let named = |what: String| format!("tensor `{}`: {what}", shown(name));
        let (span, count) = extent(&place)
            .ok_or_else(|| named(format!("shape {:?} is beyond any file", place.shape)))?;
        let end = place.offset.checked_add(span).filter(|&end| end <= values.len() || span == 0);
        if end.is_none() {
            return Err(named(format!(
                "{} bytes expected in the storage `{}`, found {held}",
                place.offset.saturating_add(span).saturating_mul(N),
                shown(key)
            )));
        }
        if count == 0 || Order::of(&place).is_some() {
            shared.push((name, place, count));
            continue;
        }
        // Values that do not follow each other are copied.
        let bytes = (count as u64).saturating_mul(N as u64);
        if count > span && bytes > ROOM {
            let why = format!("{count} values over {span} stored ones: an expanded view");
            found.unread.insert(name.to_string(), why);
            continue;
        }
        account.take(bytes).map_err(named)?;
        let copy = gathered(&values, &place, count);
        let tensor = Tensor::from_vec(copy, place.shape.as_slice(), &Device::Cpu);
        let tensor = tensor.map_err(|error| named(error.to_string()))?;
        found.tensors.insert(name.to_string(), tensor);
    }
    if shared.is_empty() {
        account.give_back(held);
        return Ok(());
    }
    let length = values.len();
    let whole = Tensor::from_vec(values, length, &Device::Cpu).map_err(|e| e.to_string())?;
    for (name, place, count) in shared {
        let tensor = match Order::of(&place).filter(|_| count > 0) {
            Some(order) => order.view(&whole, &place, count),
            None => Tensor::zeros(place.shape.as_slice(), place.dtype, &Device::Cpu),
        };
        let tensor = tensor.map_err(|error| format!("tensor `{}`: {error}", shown(name)))?;
        found.tensors.insert(name.to_string(), tensor);
    }
    Ok(())
}

/// The numbers in `bytes` bytes of `reader`.
fn decoded<T, const N: usize>(
    reader: &mut dyn Read,
    bytes: u64,
    big_endian: bool,
    decode: fn([u8; N]) -> T,
) -> Result<Vec<T>, String> {
    /// Bytes read at a time, a multiple of every element's size.
    const PIECE: usize = 1 << 16;
    let count = usize::try_from(bytes / N as u64).map_err(|error| error.to_string())?;
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| format!("{bytes} bytes: not enough memory"))?;
    let mut piece = vec![0_u8; PIECE];
    let mut left = count * N;
    while left > 0 {
        let part = &mut piece[..left.min(PIECE)];
        reader.read_exact(part).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => format!("cut off {left} bytes before its end"),
            _ => error.to_string(),
        })?;
        left -= part.len();
        let (numbers, _) = part.as_chunks_mut::<N>();
        values.extend(numbers.iter_mut().map(|number| {
            if big_endian {
                number.reverse();
            }
            decode(*number)
        }));
    }
    Ok(values)
}

/// The number of elements that a tensor spans in its storage, and the number that it has; `None`
/// where one of them, or the product of the sides that are not 0, is beyond any memory.
fn extent(place: &Place<'_>) -> Option<(usize, usize)> {
    let mut last = 0_usize;
    let mut count = 1_usize;
    for (&side, &stride) in place.shape.iter().zip(&place.stride) {
        count = count.checked_mul(side.max(1))?;
        last = last.checked_add(side.saturating_sub(1).checked_mul(stride)?)?;
    }
    count.checked_mul(size_of::<u64>()).filter(|&bytes| isize::try_from(bytes).is_ok())?;
    if place.shape.contains(&0) { Some((0, 0)) } else { Some((last.checked_add(1)?, count)) }
}

/// The order of axes in which a tensor's values follow each other.
struct Order(Vec<usize>);

impl Order {
    /// `None` for values with gaps between them or that are used several times.
    fn of(place: &Place<'_>) -> Option<Self> {
        let mut axes: Vec<usize> = (0..place.shape.len()).collect();
        // Axes of one element may have any stride: they stay where they are among equals.
        axes.sort_by_key(|&axis| std::cmp::Reverse((place.stride[axis], place.shape[axis])));
        let moved: Vec<usize> = axes.iter().copied().filter(|&a| place.shape[a] != 1).collect();
        let mut expected = 1_usize;
        for &axis in moved.iter().rev() {
            if place.stride[axis] != expected {
                return None;
            }
            expected = expected.checked_mul(place.shape[axis])?;
        }
        Some(Self(axes))
    }

    /// The tensor over the values of `whole`, which it shares.
    fn view(&self, whole: &Tensor, place: &Place<'_>, count: usize) -> candle_core::Result<Tensor> {
        let stored: Vec<usize> = self.0.iter().map(|&axis| place.shape[axis]).collect();
        let tensor = whole.narrow(0, place.offset, count)?.reshape(stored)?;
        let mut back = vec![0; self.0.len()];
        for (at, &axis) in self.0.iter().enumerate() {
            back[axis] = at;
        }
        if back.is_sorted() { Ok(tensor) } else { tensor.permute(back) }
    }
}

/// The values of a strided view, row major.
fn gathered<T: Copy>(values: &[T], place: &Place<'_>, count: usize) -> Vec<T> {
    let mut copy = Vec::with_capacity(count);
    let mut index = vec![0_usize; place.shape.len()];
    for _ in 0..count {
        let at: usize = index.iter().zip(&place.stride).map(|(i, stride)| i * stride).sum();
        copy.extend(values.get(place.offset + at).copied());
        for (i, &side) in index.iter_mut().zip(&place.shape).rev() {
            *i += 1;
            if *i < side {
                break;
            }
            *i = 0;
        }
    }
    copy
}
