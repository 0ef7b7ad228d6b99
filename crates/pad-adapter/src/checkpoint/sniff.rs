//! What a file is, by its first bytes: names of files do not tell, since programs save the same
//! weights as `.pth`, `.pth.tar`, `.ckpt`, `.th`, `.pkl` or without any extension.

use std::path::Path;

/// The first bytes that [`kind`] looks at.
pub(super) const START: usize = 512;

/// The first pickle of a file of PyTorch before 1.6, behind its protocol: the number that tells
/// such a file.
const MAGIC: [u8; 13] =
    [0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A safetensors file.
    Safetensors,
    /// A zip archive, as PyTorch writes since 1.6.
    Zip,
    /// Pickles and storages one after the other, as PyTorch before 1.6 wrote.
    Legacy,
    /// An index of shards.
    Index,
    /// Anything else; with what it is.
    Other(&'static str),
}

/// What a file of `length` bytes that begins with `start` is.
pub(super) fn kind(start: &[u8], length: u64, path: &Path) -> Kind {
    let begins = |with: &[u8]| start.starts_with(with);
    let has_extension =
        |name: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(name));
    // The length of a header, and the header, which is JSON.
    if let Some((header, rest)) = start.split_first_chunk::<8>()
        && rest.first() == Some(&b'{')
        && (u64::from_le_bytes(*header) <= length || has_extension("safetensors"))
    {
        return Kind::Safetensors;
    }
    if begins(b"PK\x03\x04") || begins(b"PK\x05\x06") {
        return Kind::Zip;
    }
    if begins(&[0x80]) {
        // From protocol 4 on, a frame's mark and length stand in front.
        let behind = if start.get(2) == Some(&0x95) { 11 } else { 2 };
        return match start.get(behind..).is_some_and(|rest| rest.starts_with(&MAGIC)) {
            true => Kind::Legacy,
            false => Kind::Other(
                "a pickle, but not one of torch.save: load it in Python and save its tensors",
            ),
        };
    }
    let is_tar = start.get(257..262) == Some(b"ustar")
        || ["sys_info\0", "storages\0", "tensors\0", "pickle\0"]
            .iter()
            .any(|name| begins(name.as_bytes()));
    if is_tar {
        return Kind::Other(
            "a tar archive, as PyTorch before 0.1.10 wrote: load it in PyTorch and save it again",
        );
    }
    let text = start.trim_ascii_start();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii_start();
    if text.starts_with(b"{") {
        return Kind::Index;
    }
    let lower = text[..text.len().min(32)].to_ascii_lowercase();
    if lower.starts_with(b"<!doctype") || lower.starts_with(b"<html") || lower.starts_with(b"<?xml")
    {
        return Kind::Other("a web page, not weights: download the file itself");
    }
    if text.starts_with(b"version https://git-lfs") {
        return Kind::Other(
            "a pointer of Git LFS, not weights: fetch the file with `git lfs pull`",
        );
    }
    let other = [
        (&b"GGUF"[..], "a GGUF file, which is not read here"),
        (b"\x89HDF", "an HDF5 file, which is not read here"),
        (b"\x1f\x8b", "a gzip file: unpack it first"),
        (b"BZh", "a bzip2 file: unpack it first"),
        (b"\xfd7zXZ", "an xz file: unpack it first"),
        (b"\x28\xb5\x2f\xfd", "a zstd file: unpack it first"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
        (b"Rar!", "a RAR archive: unpack it first"),
        (b"\x93NUMPY", "a NumPy array, which is not read here"),
    ];
    if let Some((_, what)) = other.iter().find(|(with, _)| begins(with)) {
        return Kind::Other(what);
    }
    if has_extension("safetensors") {
        return Kind::Safetensors; // its reader says what is wrong
    }
    if length == 0 {
        return Kind::Other("an empty file");
    }
    Kind::Other(
        "not a checkpoint: expected safetensors, a file of torch.save or an index of shards",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_decide() {
        let of = |start: &[u8], name: &str| kind(start, 1 << 20, Path::new(name));
        let safetensors = b"\x40\0\0\0\0\0\0\0{\"a\":";
        for name in ["a.safetensors", "pytorch_model.bin", "a.pth", "a"] {
            assert_eq!(of(safetensors, name), Kind::Safetensors, "{name}");
        }
        // Lengths of headers that look like the start of a pickle and of an archive.
        assert_eq!(of(b"\x80\x02\0\0\0\0\0\0{\"a\":", "a.bin"), Kind::Safetensors);
        assert_eq!(of(b"PK\x03\0\0\0\0\0{\"a\":", "a.bin"), Kind::Safetensors);
        for name in ["a.pth.tar", "a.ckpt", "a.th", "a.pkl", "a.safetensors", "a"] {
            assert_eq!(of(b"PK\x03\x04....", name), Kind::Zip, "{name}");
        }
        let legacy = [&[0x80, 2][..], &MAGIC].concat();
        assert_eq!(of(&legacy, "a.pth"), Kind::Legacy);
        assert_eq!(of(b"  {\"weight_map\": {}}", "a.json"), Kind::Index);
        let says = |start: &[u8], word: &str| {
            let found = of(start, "a.pth");
            assert!(matches!(found, Kind::Other(what) if what.contains(word)), "{found:?}");
        };
        says(b"\x80\x04\x95.", "pickle");
        let mut tar = vec![0; START];
        tar[257..262].copy_from_slice(b"ustar");
        says(&tar, "tar archive");
        says(b"sys_info\0\0\0", "tar archive");
        says(b"\n<!DOCTYPE html>", "web page");
        says(b"version https://git-lfs.github.com/spec/v1\n", "Git LFS");
        says(b"\x1f\x8b\x08", "gzip");
        says(b"\x93NUMPY\x01", "NumPy");
        says(b"hello", "not a checkpoint");
        assert_eq!(kind(b"", 0, Path::new("a")), Kind::Other("an empty file"));
    }
}
