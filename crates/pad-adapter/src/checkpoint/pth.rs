//! PyTorch's files: a zip archive of one pickle and the storages (1.6 and later), or pickles and
//! storages one after the other (before). Nothing in them is executed.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
};

use pad_ops::text::shown;
use zip::{
    ZipArchive, ZipReadOptions,
    read::{ArchiveOffset, Config},
};

use super::{
    pickle_objects::Pickle,
    state_dict::find,
    storages::{Source, Tensors, read},
};

/// The most members of an archive. The largest published checkpoints have some thousands.
const MAX_MEMBERS: u64 = 1 << 18;

/// Reads the tensors of the state dictionary in an archive: those under `key`, or of the one
/// dictionary with weights.
///
/// # Errors
/// A description of the fault.
pub(super) fn read_zip(mut file: File, key: Option<&str>) -> Result<Tensors, String> {
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    if let Some(members) = members(&mut file, length).filter(|&members| members > MAX_MEMBERS) {
        return Err(format!("an archive of {members} members, expected at most {MAX_MEMBERS}"));
    }
    // Left to look for the archive's start, the zip crate (9.8) takes the second entry of some
    // sound files for the first: torch.save writes zip64 records that the archive does not need,
    // and where the first entry's record is as long as they are (76 bytes), both places look alike.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let archive = ZipArchive::with_config(config, BufReader::new(file))
        .map_err(|error| format!("not a PyTorch file: {error}"))?;
    let folder = archive
        .file_names_raw()
        .filter_map(|name| std::str::from_utf8(name).ok())
        .find_map(|name| name.strip_suffix("data.pkl"))
        .map(str::to_string);
    let folder = folder.ok_or("not a PyTorch file: the archive holds no data.pkl")?;
    let mut archive = Archive { archive, folder, big_endian: false, length };
    if archive.has("byteorder") {
        archive.big_endian = archive.bytes("byteorder")?.starts_with(b"big");
    }
    let bytes = archive.bytes("data.pkl")?;
    let pickle = Pickle::read(&bytes)?;
    read(find(&pickle, key)?, &mut archive)
}

/// The number of members that the end of an archive states.
fn members(file: &mut File, length: u64) -> Option<u64> {
    let tail = length.min((1 << 16) + 22);
    file.seek(SeekFrom::End(-i64::try_from(tail).ok()?)).ok()?;
    let mut bytes = Vec::new();
    file.take(tail).read_to_end(&mut bytes).ok()?;
    file.seek(SeekFrom::Start(0)).ok()?;
    let at = bytes.windows(4).rposition(|window| window == b"PK\x05\x06")?;
    let of_zip = u16::from_le_bytes(bytes.get(at + 10..at + 12)?.try_into().ok()?);
    let of_zip64 = || {
        let at = bytes[..at].windows(4).rposition(|window| window == b"PK\x06\x06")?;
        Some(u64::from_le_bytes(bytes.get(at + 32..at + 40)?.try_into().ok()?))
    };
    Some(of_zip64().unwrap_or(of_zip.into()))
}

/// An archive of torch.save.
struct Archive {
    archive: ZipArchive<BufReader<File>>,
    /// The folder of all its members, with its slash.
    folder: String,
    big_endian: bool,
    length: u64,
}

impl Archive {
    fn has(&self, name: &str) -> bool {
        self.archive.index_for_name_raw(format!("{}{name}", self.folder).as_bytes()).is_some()
    }

    /// Passes the reader of a member, and its bytes, to `read`, and reads what is left, so that its
    /// checksum is compared.
    fn with_member(
        &mut self,
        name: &str,
        read: &mut dyn FnMut(&mut dyn Read, u64) -> Result<(), String>,
    ) -> Result<(), String> {
        let full = format!("{}{name}", self.folder);
        let damaged = |what: &dyn std::fmt::Display| {
            let what = what.to_string();
            let what =
                if what == "Invalid checksum" { "damaged: its checksum differs" } else { &what };
            format!("`{}` in the archive: {what}", shown(&full))
        };
        let index = self.archive.index_for_name_raw(full.as_bytes());
        let index = index.ok_or_else(|| damaged(&"it is absent"))?;
        let (size, checksum) = {
            let member = self.archive.by_index_raw(index).map_err(|error| damaged(&error))?;
            // torch.save stores; a compressed member could claim any size.
            if member.size() != member.compressed_size() {
                let what = "compressed, expected stored bytes as torch.save writes them";
                return Err(damaged(&what));
            }
            (member.size(), member.crc32())
        };
        if size > self.length {
            return Err(damaged(&format_args!("{size} bytes in a file of {}", self.length)));
        }
        // Without checksums, `torch.serialization.set_crc32_options(False)`, it is 0.
        let options = ZipReadOptions::new().ignore_crc32(checksum == 0);
        let mut member =
            self.archive.by_index_with_options(index, options).map_err(|error| damaged(&error))?;
        read(&mut member, size).map_err(|error| damaged(&error))?;
        std::io::copy(&mut member, &mut std::io::sink()).map_err(|error| damaged(&error))?;
        Ok(())
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        self.with_member(name, &mut |member, _| {
            member.read_to_end(&mut bytes).map(drop).map_err(|error| error.to_string())
        })?;
        Ok(bytes)
    }
}

impl Source for Archive {
    fn is_big_endian(&self) -> bool {
        self.big_endian
    }

    fn len(&self) -> u64 {
        self.length
    }

    fn with_storage(
        &mut self,
        key: &str,
        read: &mut dyn FnMut(&mut dyn Read, u64) -> Result<(), String>,
    ) -> Result<(), String> {
        self.with_member(&format!("data/{key}"), read)
    }
}
