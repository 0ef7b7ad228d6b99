//! Files of labels as text, whatever their encoding says.

use std::{fs, io::Read, path::Path};

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use crate::{Error, Result};

/// Maximum size of a file with the labels of a whole set, bytes.
pub(super) const SET_BYTES: u64 = 8 << 30;

/// Maximum size of a file with names or with the labels of one image, bytes.
pub(super) const PAGE_BYTES: u64 = 16 << 20;

/// Reads a text file of at most `limit` bytes: UTF-8, or UTF-16 with a byte order mark. A mark is
/// not part of the text.
///
/// # Errors
/// [`Error::Io`], [`Error::Limit`], [`Error::Unsupported`] for what is not a regular file,
/// [`Error::Entry`] for other encodings, naming the first byte that does not fit.
pub(super) fn read_text(path: &Path, limit: u64) -> Result<String> {
    let bytes = read_bytes(path, limit)?;
    let (encoding, mark) = Encoding::for_bom(&bytes).unwrap_or((UTF_8, 0));
    if encoding != UTF_8 {
        return decoded(path, &bytes[mark..], encoding);
    }
    let text = match mark {
        0 => String::from_utf8(bytes),
        mark => String::from_utf8(bytes[mark..].to_vec()),
    };
    text.map_err(|error| not_utf8(path, error.as_bytes(), error.utf8_error().valid_up_to()))
}

/// Reads an XML file as text: in the encoding of its byte order mark, of its declaration, or UTF-8.
///
/// # Errors
/// As [`read_text`]; [`Error::Entry`] for an unknown encoding.
pub(super) fn read_xml(path: &Path, limit: u64) -> Result<String> {
    let bytes = read_bytes(path, limit)?;
    if let Some((encoding, mark)) = Encoding::for_bom(&bytes) {
        return decoded(path, &bytes[mark..], encoding);
    }
    let encoding = match bytes.as_slice() {
        [b'<', 0, ..] => UTF_16LE,
        [0, b'<', ..] => UTF_16BE,
        _ => match declared(&bytes) {
            None => UTF_8,
            Some(label) => Encoding::for_label(label).ok_or_else(|| {
                let label = String::from_utf8_lossy(label);
                let what = format!("expected a known encoding, found `{}`", label.escape_debug());
                Error::Entry { path: path.into(), what }
            })?,
        },
    };
    // A declaration of UTF-16 that is read byte by byte is not in UTF-16.
    let wide = encoding == UTF_16LE || encoding == UTF_16BE;
    let encoding = if wide && bytes.first() != Some(&0) && bytes.get(1) != Some(&0) {
        UTF_8
    } else {
        encoding
    };
    decoded(path, &bytes, encoding)
}

/// The bytes of a regular file within a limit.
fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |cause| Error::Io { path: path.into(), cause };
    let metadata = fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        // Opening a pipe would wait for ever.
        let what = if metadata.is_dir() { "a folder" } else { "a file that is not a regular file" };
        return Err(Error::Unsupported { path: path.into(), what: what.into() });
    }
    let too_long = |found| Error::Limit { path: path.into(), what: "bytes of file", limit, found };
    if metadata.len() > limit {
        return Err(too_long(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    // It may grow meanwhile, and the files of some systems have no size.
    let file = pad_ops::fs::open(path).map_err(io)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    match bytes.len() as u64 > limit {
        true => Err(too_long(bytes.len() as u64)),
        false => Ok(bytes),
    }
}

fn decoded(path: &Path, bytes: &[u8], encoding: &'static Encoding) -> Result<String> {
    if let Some(text) = encoding.decode_without_bom_handling_and_without_replacement(bytes) {
        return Ok(text.into_owned());
    }
    if encoding == UTF_8 {
        let valid = std::str::from_utf8(bytes).err().map_or(0, |error| error.valid_up_to());
        return Err(not_utf8(path, bytes, valid));
    }
    let what = format!("expected text in {}, found other bytes", encoding.name());
    Err(Error::Entry { path: path.into(), what })
}

fn not_utf8(path: &Path, bytes: &[u8], at: usize) -> Error {
    let found = bytes.get(at).copied().unwrap_or_default();
    let what = format!(
        "expected text in UTF-8, or UTF-16 with a byte order mark, found byte {found:#04x} at {at}"
    );
    Error::Entry { path: path.into(), what }
}

/// The encoding that an XML declaration names; `None` without one.
fn declared(bytes: &[u8]) -> Option<&[u8]> {
    let start = bytes.trim_ascii_start();
    let declaration = start.strip_prefix(b"<?xml")?;
    let end = declaration.windows(2).take(512).position(|pair| pair == b"?>")?;
    let declaration = &declaration[..end];
    let name = b"encoding";
    let place = declaration.windows(name.len()).position(|word| word == name)?;
    let value = declaration[place + name.len()..].trim_ascii_start().strip_prefix(b"=")?;
    let (&quote, value) = value.trim_ascii_start().split_first()?;
    let end = value.iter().position(|&byte| byte == quote)?;
    matches!(quote, b'"' | b'\'').then_some(&value[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn text(bytes: &[u8]) -> String {
        let (folder, path) = written(bytes);
        let read = read_text(&path, 100);
        read.unwrap_or_else(|e| e.to_string().replace(folder.path().to_str().unwrap(), "ROOT"))
    }

    fn xml(bytes: &[u8]) -> String {
        let (folder, path) = written(bytes);
        let read = read_xml(&path, 100);
        read.unwrap_or_else(|e| e.to_string().replace(folder.path().to_str().unwrap(), "ROOT"))
    }

    #[test]
    fn marks_are_not_part_of_the_text() {
        let utf16 = |swap: bool| -> Vec<u8> {
            let units = "\u{feff}hü".encode_utf16();
            units.flat_map(|u| if swap { u.to_be_bytes() } else { u.to_le_bytes() }).collect()
        };
        assert_eq!(text("hü".as_bytes()), "hü");
        assert_eq!(text("\u{feff}hü".as_bytes()), "hü");
        assert_eq!(text(&utf16(false)), "hü");
        assert_eq!(text(&utf16(true)), "hü");
        assert_eq!(text(b""), "");
        assert_eq!(
            text(b"ab\xfc"),
            "ROOT/a.txt: expected text in UTF-8, or UTF-16 with a byte order mark, found byte 0xfc at 2"
        );
        assert_eq!(text(&[b'a'; 101]), "ROOT/a.txt: bytes of file is 101, the limit is 100");
        let folder = read_text(std::env::temp_dir().as_path(), 9).unwrap_err().to_string();
        assert!(folder.ends_with(": a folder is not supported"), "{folder}");
    }

    #[test]
    fn declarations_name_encodings() {
        assert_eq!(
            xml(b"<?xml version='1.0' encoding='latin1'?>\xfc"),
            "<?xml version='1.0' encoding='latin1'?>ü"
        );
        assert!(xml(b"<?xml encoding = \"GB2312\" ?>\xc8\xc8").ends_with('热'));
        assert_eq!(xml("<a>ü</a>".as_bytes()), "<a>ü</a>");
        assert_eq!(
            xml(b"<?xml encoding=\"x-none\"?>"),
            "ROOT/a.txt: expected a known encoding, found `x-none`"
        );
        let units: Vec<u8> = "<a/>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(xml(&units), "<a/>");
        assert!(xml(b"<?xml encoding='utf-8'?>\xfc").contains("found byte 0xfc at 24"));
    }
}
