//! PyTorch's `.pth` files (1.6 and later): a zip of one pickle and the storages. Nothing in them is
//! executed.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use candle_core::{DType, Device, Tensor};
use zip::{
    ZipArchive,
    read::{ArchiveOffset, Config},
};

use super::pickle::{Id, Object, Pickle};
use crate::{Error, Result};

/// Keys under which PyTorch programs keep the weights.
const STATE_KEYS: [&str; 3] = ["model", "state_dict", "teacher"];

type Archive = ZipArchive<BufReader<File>>;

/// The layout of a tensor in its storage.
#[derive(Debug)]
struct Place {
    key: String,
    dtype: DType,
    /// First element.
    offset: usize,
    shape: Vec<usize>,
    stride: Vec<usize>,
}

/// All tensors of the state dictionary in `path`, at the top or under a key of [`STATE_KEYS`].
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] for anything but such a file.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let io = |cause| Error::Io { path: path.to_path_buf(), cause };
    let refuse = |what: String| Error::Format { path: path.to_path_buf(), what };
    let mut start = Vec::new();
    File::open(path).map_err(io)?.take(4).read_to_end(&mut start).map_err(io)?;
    if start.starts_with(&[0x80]) {
        return Err(refuse(
            "written by PyTorch before 1.6, or not by torch.save: load it in PyTorch and save it again".into(),
        ));
    }
    if !start.starts_with(b"PK") {
        return Err(refuse("not a PyTorch file: no zip archive".into()));
    }
    let file = File::open(path).map_err(io)?;
    // Left to look for the archive's start, the zip crate (9.8) takes the second entry of some
    // sound files for the first: torch.save writes zip64 records that the archive does not need,
    // and where the first entry's record is as long as they are (76 bytes), both places look alike.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ZipArchive::with_config(config, BufReader::new(file))
        .map_err(|error| refuse(format!("not a PyTorch file: {error}")))?;
    tensors(&mut archive).map_err(refuse)
}

fn tensors(archive: &mut Archive) -> Result<BTreeMap<String, Tensor>, String> {
    let names: Vec<String> =
        archive.file_names().filter_map(|name| name.ok().map(|name| name.into_owned())).collect();
    let folder = names
        .iter()
        .find_map(|name| name.strip_suffix("data.pkl"))
        .ok_or("not a PyTorch file: the archive holds no data.pkl")?;
    if names.iter().any(|name| name == &format!("{folder}byteorder")) {
        let order = entry(archive, &format!("{folder}byteorder"), 0, 16)?;
        if order.starts_with(b"big") {
            return Err("written by a big-endian machine: not read here".into());
        }
    }
    let pickle = Pickle::read(&entry(archive, &format!("{folder}data.pkl"), 0, u64::MAX)?)?;
    let mut tensors = BTreeMap::new();
    for (name, call) in state(&pickle)? {
        let named = |what: String| format!("tensor `{name}`: {what}");
        let place = place(&pickle, call).map_err(named)?;
        tensors.insert(name.to_string(), load(archive, folder, &place).map_err(named)?);
    }
    Ok(tensors)
}

/// The state dictionary's tensors: names, and the calls that would make them.
fn state(pickle: &Pickle) -> Result<Vec<(&str, Id)>, String> {
    let tensors = |id: Id| -> Vec<(&str, Id)> {
        let entries = pickle.entries(id).unwrap_or_default();
        entries.into_iter().filter_map(|(name, id)| Some((name, rebuild(pickle, id)?))).collect()
    };
    let top = pickle.entries(pickle.root()).unwrap_or_default();
    let nested = STATE_KEYS.iter().filter_map(|key| top.iter().find(|(name, _)| name == key));
    let found = nested.map(|&(_, id)| tensors(id)).find(|found| !found.is_empty());
    let found = found.unwrap_or_else(|| tensors(pickle.root()));
    if found.is_empty() {
        let keys: Vec<&str> = top.iter().take(12).map(|(name, _)| *name).collect();
        return Err(format!(
            "no tensor found at the top or under `model`, `state_dict` or `teacher`; keys at the top: {}",
            if keys.is_empty() { "none".into() } else { keys.join(", ") }
        ));
    }
    Ok(found)
}

/// The arguments of the `_rebuild_tensor_v2` call that `id` is or wraps.
fn rebuild(pickle: &Pickle, mut id: Id) -> Option<Id> {
    // A parameter wraps its tensor, a subclass wraps the call: a few layers at most.
    for _ in 0..4 {
        let Object::Call(callable, arguments) = *pickle.get(id) else { return None };
        let Object::Global(module, name) = pickle.get(callable) else { return None };
        let members = pickle.sequence(arguments)?;
        match (module.as_str(), name.as_str()) {
            ("torch._utils", "_rebuild_tensor_v2") => return Some(arguments),
            ("torch._utils", "_rebuild_parameter") => id = *members.first()?,
            ("torch._tensor", "_rebuild_from_type_v2") => {
                let &[callable, _, arguments, ..] = members else { return None };
                let is_tensor = matches!(
                    pickle.get(callable),
                    Object::Global(_, name) if name == "_rebuild_tensor_v2"
                );
                return is_tensor.then_some(arguments);
            }
            _ => return None,
        }
    }
    None
}

fn place(pickle: &Pickle, arguments: Id) -> Result<Place, String> {
    let damaged = || "its description is damaged".to_string();
    let members = pickle.sequence(arguments).ok_or_else(damaged)?;
    let &[storage, offset, shape, stride, ..] = members else { return Err(damaged()) };
    let Object::Stored(facts) = *pickle.get(storage) else { return Err(damaged()) };
    // ("storage", class, key, device, elements)
    let facts = pickle.sequence(facts).ok_or_else(damaged)?;
    let &[_, class, key, ..] = facts else { return Err(damaged()) };
    let Object::Global(_, class) = pickle.get(class) else { return Err(damaged()) };
    let dtype = match class.as_str() {
        "FloatStorage" => DType::F32,
        "DoubleStorage" => DType::F64,
        "HalfStorage" => DType::F16,
        "BFloat16Storage" => DType::BF16,
        "ByteStorage" | "BoolStorage" => DType::U8,
        "ShortStorage" => DType::I16,
        "IntStorage" => DType::I32,
        "LongStorage" => DType::I64,
        other => return Err(format!("storage of type {other}, which is not read here")),
    };
    let key = pickle.text(key).ok_or_else(damaged)?.to_string();
    let offset = pickle.count(offset).ok_or_else(damaged)?;
    let shape = pickle.counts(shape).ok_or_else(damaged)?;
    let stride = pickle.counts(stride).ok_or_else(damaged)?;
    if shape.len() != stride.len() {
        return Err(damaged());
    }
    Ok(Place { key, dtype, offset, shape, stride })
}

/// The number of elements that a tensor spans in its storage, and the number that it has.
fn extent(place: &Place) -> Option<(usize, usize)> {
    let mut last = 0_usize;
    let mut count = 1_usize;
    for (&side, &stride) in place.shape.iter().zip(&place.stride) {
        count = count.checked_mul(side)?;
        last = last.checked_add(side.saturating_sub(1).checked_mul(stride)?)?;
    }
    Some((if count == 0 { 0 } else { last.checked_add(1)? }, count))
}

fn load(archive: &mut Archive, folder: &str, place: &Place) -> Result<Tensor, String> {
    let width = place.dtype.size_in_bytes();
    let too_large = || format!("shape {:?} is beyond any file", place.shape);
    let (span, count) = extent(place).ok_or_else(too_large)?;
    if count > span {
        return Err(format!("{count} values over {span} stored ones: an expanded view"));
    }
    let bytes = |values: usize| values.checked_mul(width).ok_or_else(too_large);
    let name = format!("{folder}data/{}", place.key);
    let flat = entry(archive, &name, bytes(place.offset)? as u64, bytes(span)? as u64)?;
    if flat.len() != bytes(span)? {
        return Err(format!("{} bytes expected in `{name}`, found {}", bytes(span)?, flat.len()));
    }
    let values = if is_contiguous(place) { flat } else { gathered(&flat, place, width, count) };
    Tensor::from_raw_buffer(&values, place.dtype, &place.shape, &Device::Cpu)
        .map_err(|error| error.to_string())
}

fn is_contiguous(place: &Place) -> bool {
    let mut expected = 1;
    place.shape.iter().zip(&place.stride).rev().all(|(&side, &stride)| {
        let fits = side == 1 || stride == expected;
        expected = usize::saturating_mul(expected, side);
        fits
    })
}

/// The values of a strided view, row major.
fn gathered(flat: &[u8], place: &Place, width: usize, count: usize) -> Vec<u8> {
    let mut values = Vec::with_capacity(count * width);
    let mut index = vec![0_usize; place.shape.len()];
    for _ in 0..count {
        let at: usize = index.iter().zip(&place.stride).map(|(i, stride)| i * stride).sum();
        values.extend_from_slice(&flat[at * width..(at + 1) * width]);
        for (i, &side) in index.iter_mut().zip(&place.shape).rev() {
            *i += 1;
            if *i < side {
                break;
            }
            *i = 0;
        }
    }
    values
}

/// At most `count` bytes of one entry, from `offset` on.
fn entry(archive: &mut Archive, name: &str, offset: u64, count: u64) -> Result<Vec<u8>, String> {
    let damaged = |error: &dyn std::fmt::Display| format!("`{name}` in the archive: {error}");
    let mut reader = archive.by_name(name).map_err(|error| damaged(&error))?;
    // torch.save stores; a compressed entry could claim any size.
    if reader.size() != reader.compressed_size() {
        return Err(damaged(&"compressed, expected stored bytes as torch.save writes them"));
    }
    std::io::copy(&mut reader.by_ref().take(offset), &mut std::io::sink())
        .map_err(|error| damaged(&error))?;
    let mut bytes = Vec::new();
    reader.take(count).read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
    Ok(bytes)
}
