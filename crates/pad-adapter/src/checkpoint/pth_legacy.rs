//! PyTorch's files before 1.6: five pickles (a number that tells the format, its version, facts of
//! the machine, the objects, the keys of the storages), then the storages one after the other, each
//! behind the number of its elements.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    ops::Range,
};

use pad_ops::text::shown;

use super::{
    pickle::CUT,
    pickle_objects::Pickle,
    state_dict::find,
    storages::{Source, Tensors, read},
};

/// The only version of the format.
const VERSION: usize = 1001;

/// Bytes that are read at first; pickles are a small part of a file.
const FIRST: u64 = 1 << 20;

/// Reads the tensors of the state dictionary: those under `key`, or of the one dictionary with
/// weights.
///
/// # Errors
/// A description of the fault.
pub(super) fn read_legacy(mut file: File, key: Option<&str>) -> Result<Tensors, String> {
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let mut bytes = Vec::new();
    let mut wanted = FIRST.min(length);
    loop {
        let more = wanted - bytes.len() as u64;
        (&mut file).take(more).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        match pickles(&bytes) {
            Ok(([_, version, machine, objects, keys], start)) => {
                check(&version, &machine)?;
                let places = places(&objects, &keys, &mut file, start..length)?;
                let mut storages = Storages { file, places, length };
                return read(find(&objects, key)?, &mut storages);
            }
            Err(error) if error == CUT && wanted < length && bytes.len() as u64 == wanted => {
                wanted = wanted.saturating_mul(4).min(length);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The five pickles at the start, and the number of their bytes.
fn pickles(bytes: &[u8]) -> Result<([Pickle<'_>; 5], u64), String> {
    let mut found: [Pickle; 5] = Default::default();
    let mut length = 0;
    for pickle in &mut found {
        *pickle = Pickle::read(&bytes[length..])?;
        length += pickle.length();
    }
    Ok((found, length as u64))
}

fn check(version: &Pickle<'_>, machine: &Pickle<'_>) -> Result<(), String> {
    let found = version.count(version.root());
    if found != Some(VERSION) {
        let found = found.map_or("no number".to_string(), |found| found.to_string());
        return Err(format!("version {found} of PyTorch's format before 1.6, expected {VERSION}"));
    }
    let facts = machine.entries(machine.root());
    match facts.get("little_endian").and_then(|&id| machine.count(id)) {
        Some(0) => {
            Err("written by a big-endian machine, by PyTorch before 1.6: not read here".into())
        }
        _ => Ok(()),
    }
}

/// Where each storage's values lie: first byte, and their number.
type Places = BTreeMap<String, (u64, u64)>;

/// Walks over the storages behind the pickles.
fn places(
    objects: &Pickle<'_>,
    keys: &Pickle<'_>,
    file: &mut File,
    bytes: Range<u64>,
) -> Result<Places, String> {
    let mut widths: BTreeMap<&str, u64> = BTreeMap::new();
    for facts in objects.all_stored() {
        // ("storage", class, key, device, elements, view)
        let &[_, class, key, ..] = facts else { continue };
        if let (Some((_, class)), Some(key)) = (objects.global(class), objects.text(key)) {
            widths.insert(key, width(class)?);
        }
    }
    let keys_of = keys.sequence(keys.root()).ok_or("the list of its storages is missing")?;
    let mut places = Places::new();
    let mut at = bytes.start;
    for &key in keys_of {
        let key = keys.text(key).ok_or("the key of a storage is not a string")?;
        let unknown = || format!("no tensor in the file uses the storage `{}`", shown(key));
        let width = *widths.get(key).ok_or_else(unknown)?;
        let cut = || format!("cut off in the storage `{}`", shown(key));
        file.seek(SeekFrom::Start(at)).map_err(|error| error.to_string())?;
        let mut count = [0; 8];
        file.read_exact(&mut count).map_err(|_| cut())?;
        let size = u64::from_le_bytes(count).checked_mul(width).ok_or_else(cut)?;
        let start = at + 8;
        at = start.checked_add(size).filter(|&end| end <= bytes.end).ok_or_else(cut)?;
        if places.insert(key.to_string(), (start, size)).is_some() {
            return Err(format!("the storage `{}` is there twice", shown(key)));
        }
    }
    Ok(places)
}

/// Bytes of an element of a storage class.
fn width(class: &str) -> Result<u64, String> {
    Ok(match class.strip_suffix("Storage").unwrap_or(class) {
        "Byte" | "Bool" | "Char" | "QInt8" | "QUInt8" | "QUInt4x2" | "QUInt2x4" | "Untyped" => 1,
        "Half" | "BFloat16" | "Short" => 2,
        "Float" | "Int" | "QInt32" => 4,
        "Double" | "Long" | "ComplexFloat" => 8,
        "ComplexDouble" => 16,
        other => return Err(format!("a storage of the type {}, not known here", shown(other))),
    })
}

/// The storages of a file.
struct Storages {
    file: File,
    places: Places,
    length: u64,
}

impl Source for Storages {
    /// These files are little-endian on every machine.
    fn is_big_endian(&self) -> bool {
        false
    }

    fn len(&self) -> u64 {
        self.length
    }

    fn with_storage(
        &mut self,
        key: &str,
        read: &mut dyn FnMut(&mut dyn Read, u64) -> Result<(), String>,
    ) -> Result<(), String> {
        let named = |what: String| format!("the storage `{}`: {what}", shown(key));
        let found = self.places.get(key).copied();
        let (start, bytes) = found.ok_or_else(|| named("it is absent".into()))?;
        self.file.seek(SeekFrom::Start(start)).map_err(|error| named(error.to_string()))?;
        read(&mut BufReader::new(&self.file).take(bytes), bytes).map_err(named)
    }
}
