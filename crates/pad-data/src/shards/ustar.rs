//! The tar format, as far as shards need it: ustar headers of files (POSIX.1-1988).

use std::{
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use crate::{Error, Result};

pub(super) const BLOCK: usize = 512;

/// Largest file size of eleven octal digits.
pub(super) const MAX_BYTES: u64 = 0o77_777_777_777;

/// A file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its path, with `/` between the parts.
    pub name: String,
    /// Offset of its data from the start of the archive, bytes.
    pub at: u64,
    /// Size of its data, bytes.
    pub bytes: u64,
}

/// Lists the files of a tar archive by its headers, skipping their data. `path` names the archive
/// in errors.
///
/// # Errors
/// [`Error::Io`]; [`Error::Structure`] for a header with a wrong checksum, invalid numbers, names
/// that are empty or lead out of the folder, and a truncated archive; [`Error::Unsupported`] for
/// links, devices and the extensions of GNU tar and pax.
pub fn index(archive: &mut (impl Read + Seek), path: &Path) -> Result<Vec<Member>> {
    let io = |cause| Error::Io { path: path.into(), cause };
    let end = archive.seek(SeekFrom::End(0)).map_err(io)?;
    let mut members = Vec::new();
    let mut at = 0;
    loop {
        let refuse = |what: &str| Error::Structure { path: path.into(), at, what: what.into() };
        if end - at < BLOCK as u64 {
            return Err(refuse(
                "expected a header or the end of the archive, found the end of the file",
            ));
        }
        let mut block = [0; BLOCK];
        archive.seek(SeekFrom::Start(at)).map_err(io)?;
        archive.read_exact(&mut block).map_err(io)?;
        if block == [0; BLOCK] {
            return Ok(members);
        }
        let header = Header::parse(&block).map_err(|what| refuse(&what))?;
        let data = at + BLOCK as u64;
        let blocks = header.bytes.div_ceil(BLOCK as u64);
        if blocks > (end - data) / BLOCK as u64 {
            return Err(refuse(&format!(
                "expected {} bytes of {}, found {}",
                header.bytes,
                header.name,
                end - data
            )));
        }
        match header.kind {
            b'0' | 0 => {
                members.push(Member { name: header.name, at: data, bytes: header.bytes });
            }
            b'5' => {}
            kind => {
                let kind = char::from(kind);
                let what = format!(
                    "an archive with an entry of the type {kind:?} (tar --format=ustar makes none)"
                );
                return Err(Error::Unsupported { path: path.into(), what });
            }
        }
        at = data + blocks * BLOCK as u64;
    }
}

struct Header {
    name: String,
    bytes: u64,
    kind: u8,
}

impl Header {
    fn parse(block: &[u8; BLOCK]) -> Result<Self, String> {
        let sum = octal(&block[148..156], "checksum")?;
        if sum != checksum(block) {
            return Err(format!(
                "expected a header with the checksum {sum}, found {}",
                checksum(block)
            ));
        }
        if !block[257..].starts_with(b"ustar") {
            return Err("expected `ustar` in the header".into());
        }
        let text = |field: &[u8]| {
            let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
            String::from_utf8(field[..end].to_vec())
                .map_err(|_| "expected a name in UTF-8".to_string())
        };
        let (prefix, name) = (text(&block[345..500])?, text(&block[..100])?);
        // GNU's format stores times in the field of the prefix.
        let prefix = if block[257..].starts_with(b"ustar\0") { prefix } else { String::new() };
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let kind = block[156];
        let plain = name.strip_prefix("./").unwrap_or(&name);
        let plain = if kind == b'5' { plain.trim_end_matches('/') } else { plain };
        let inside = plain.split('/').all(|part| !matches!(part, "" | "." | ".."));
        // A backslash is a letter of a name here: nothing is unpacked.
        if kind != b'5' && !inside {
            return Err(format!("expected a path inside the archive, found {name:?}"));
        }
        Ok(Self { name: plain.into(), bytes: octal(&block[124..136], "size")?, kind })
    }
}

/// Parses octal digits, terminated by a space, a zero or the end of the field; leading spaces are
/// allowed.
fn octal(field: &[u8], name: &str) -> Result<u64, String> {
    let wrong = || format!("expected octal digits for the {name}");
    let text = std::str::from_utf8(field).map_err(|_| wrong())?;
    let text = text.trim_matches([' ', '\0']);
    if text.is_empty() || !text.bytes().all(|byte| matches!(byte, b'0'..=b'7')) {
        return Err(wrong());
    }
    u64::from_str_radix(text, 8).map_err(|_| wrong())
}

/// Returns the sum of all bytes, with those of the checksum itself replaced by spaces.
fn checksum(block: &[u8; BLOCK]) -> u64 {
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    let own: u64 = block[148..156].iter().map(|&byte| u64::from(byte)).sum();
    sum - own + 8 * u64::from(b' ')
}

/// Returns the header of a file, without time and owner, so that equal files give equal archives;
/// `None` for a name or size that does not fit.
pub(super) fn header(name: &str, bytes: u64) -> Option<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    let (prefix, rest) = match name.len() {
        0..=100 => ("", name),
        length => {
            // The first split at which the rest fits.
            let from = length.saturating_sub(101);
            let (at, _) = name.match_indices('/').find(|(at, _)| *at >= from)?;
            (&name[..at], &name[at + 1..])
        }
    };
    if name.is_empty() || rest.is_empty() || prefix.len() > 155 || bytes > MAX_BYTES {
        return None;
    }
    put(0, rest.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{bytes:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum = checksum(&block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(block)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in files {
            bytes.extend(header(name, content.len() as u64).unwrap());
            bytes.extend(*content);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        bytes
    }

    fn indexed(bytes: &[u8]) -> Result<Vec<Member>> {
        index(&mut Cursor::new(bytes), Path::new("a.tar"))
    }

    #[test]
    fn files_are_found_where_they_are() {
        let long = format!("{}/{}/x.png", "d".repeat(90), "e".repeat(80));
        let bytes = archive(&[("a/1.png", b"abc"), (&long, &[7; 600]), ("0.png", b"")]);
        let members = indexed(&bytes).unwrap();
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["a/1.png", &long, "0.png"]);
        let content = |member: &Member| &bytes[member.at as usize..][..member.bytes as usize];
        assert_eq!(content(&members[0]), b"abc");
        assert_eq!(content(&members[1]), [7; 600]);
        assert_eq!(header(&"x".repeat(101), 1), None);
        assert_eq!(header("x", MAX_BYTES + 1), None);
    }

    #[test]
    fn damage_is_named() {
        let good = archive(&[("a/1.png", b"abc"), ("2.png", b"d")]);
        let said = |bytes: &[u8]| indexed(bytes).unwrap_err().to_string();
        // Every part of it ends too early, but for one that has a block of the end.
        for end in 0..good.len() - BLOCK {
            assert!(indexed(&good[..end]).is_err(), "{end}");
        }
        assert_eq!(
            said(&good[..1024]),
            "a.tar: byte 1024: expected a header or the end of the archive, found the end of the file"
        );
        assert_eq!(said(&good[..700]), "a.tar: byte 0: expected 3 bytes of a/1.png, found 188");
        let changed = |at: usize, byte: u8, fix: bool| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            if fix {
                let sum = checksum(bytes.first_chunk().unwrap());
                bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
            said(&bytes)
        };
        let wrong = changed(3, b'x', false);
        assert!(
            wrong.starts_with("a.tar: byte 0: expected a header with the checksum "),
            "{wrong}"
        );
        assert_eq!(changed(124, b'9', true), "a.tar: byte 0: expected octal digits for the size");
        assert_eq!(changed(258, b'x', true), "a.tar: byte 0: expected `ustar` in the header");
        assert_eq!(
            changed(0, b'/', true),
            "a.tar: byte 0: expected a path inside the archive, found \"//1.png\""
        );
        assert_eq!(
            changed(156, b'2', true),
            "a.tar: an archive with an entry of the type '2' (tar --format=ustar makes none) is not supported"
        );
    }
}
