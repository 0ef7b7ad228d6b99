//! The manifest of a source: a tab-separated table of its files, and verification against it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Component, Path},
};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::likeness::Likeness;
use crate::{Error, Result, sets::folder::list};

/// The name of the manifest in the folder of each source.
pub const MANIFEST: &str = "manifest.tsv";

const FIRST_LINE: &str = "# MSIP manifest 1";
const COLUMNS: [&str; 7] = ["path", "original", "bytes", "sha256", "likeness", "near", "state"];

/// One image of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path below the set's folder, with `/` on every system.
    pub path: String,
    /// Original path below the folder of the source's download.
    pub original: String,
    /// Size of the file, bytes.
    pub bytes: u64,
    /// SHA-256 of the file, 64 hexadecimal digits.
    pub sha256: String,
    /// Hash of its appearance.
    pub likeness: Likeness,
    /// Path of an earlier image that looks alike.
    pub near: Option<String>,
    /// Whether it was removed from the set because of [`Entry::near`].
    pub removed: bool,
}

/// The images of one source, in the order of their frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The images.
    pub entries: Vec<Entry>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Line`] as [`Manifest::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        let io = |cause| Error::Io { path: path.into(), cause };
        Self::parse(&pad_ops::fs::read(path).map_err(io)?, path)
    }

    /// Reads a manifest from memory; `path` names it in errors.
    ///
    /// # Errors
    /// [`Error::Line`] with the line's number for anything that [`Manifest::to_text`] does not
    /// write: another header, missing columns, invalid numbers, paths that leave the set, a
    /// repeated path, a missing last line end.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let refuse = |line: usize, what: String| Error::Line { path: path.into(), line, what };
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n');
            refuse(before.count() + 1, "not UTF-8 text".into())
        })?;
        let mut lines = text.split('\n');
        let mut header = |number: usize, expected: String| match lines.next() {
            Some(found) if found == expected => Ok(()),
            Some(found) => Err(refuse(number, format!("expected {expected:?}, found {found:?}"))),
            // The first line always exists, possibly empty; the error names an existing line.
            None => Err(refuse(
                number - 1,
                format!("expected a line {expected:?} after it, found the end"),
            )),
        };
        header(1, FIRST_LINE.into())?;
        header(2, COLUMNS.join("\t"))?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut paths = BTreeSet::new();
        let mut number = 2;
        let mut ended = false;
        for line in lines {
            number += 1;
            if ended {
                return Err(refuse(number - 1, "expected no empty line".into()));
            }
            if line.is_empty() {
                ended = true;
                continue;
            }
            let entry = Entry::parse(line).map_err(|what| refuse(number, what))?;
            if !paths.insert(entry.path.clone()) {
                return Err(refuse(
                    number,
                    format!("expected each path once, found {} again", entry.path),
                ));
            }
            entries.push(entry);
        }
        if !ended {
            return Err(refuse(
                number,
                "expected a line end after the last line (a part is missing)".into(),
            ));
        }
        Ok(Self { entries })
    }

    /// Returns the manifest as text, as [`Manifest::parse`] reads it.
    pub fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n{}\n", COLUMNS.join("\t"));
        for entry in &self.entries {
            let near = entry.near.as_deref().unwrap_or("-");
            let state = if entry.removed { "removed" } else { "kept" };
            let Entry { path, original, bytes, sha256, likeness, .. } = entry;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{path}\t{original}\t{bytes}\t{sha256}\t{:032x}\t{near}\t{state}",
                likeness.0
            );
        }
        text
    }

    /// Writes the manifest atomically.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        pad_ops::fs::write_atomic_bytes(path, self.to_text().as_bytes())
            .map_err(|cause| Error::Io { path: path.into(), cause })
    }
}

impl Entry {
    fn parse(line: &str) -> Result<Self, String> {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[path, original, bytes, sha256, likeness, near, state] = fields.as_slice() else {
            return Err(format!(
                "expected {} columns `{}`, found {}",
                COLUMNS.len(),
                COLUMNS.join(" "),
                fields.len()
            ));
        };
        // Downloads may have any layout that fits into a line.
        if original.is_empty() || original.contains('\r') {
            return Err(format!("expected a path for original, found {original:?}"));
        }
        for (name, text) in [("path", path), ("near", near)] {
            let inside = !text.is_empty()
                && !text.contains(['\\', '\r'])
                && Path::new(text).components().all(|part| matches!(part, Component::Normal(_)));
            // `a//b` and `a/./b` have only normal components, but are never written.
            let plain = text.split('/').all(|part| !part.is_empty() && part != ".");
            if !(inside && plain) {
                return Err(format!("expected a path below the set for {name}, found {text:?}"));
            }
        }
        let hexadecimal = |text: &str, digits: usize| {
            text.len() == digits
                && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !hexadecimal(sha256, 64) {
            return Err(format!("expected 64 hexadecimal digits for sha256, found `{sha256}`"));
        }
        let likeness = hexadecimal(likeness, 32)
            .then(|| u128::from_str_radix(likeness, 16).ok())
            .flatten()
            .ok_or_else(|| {
                format!("expected 32 hexadecimal digits for likeness, found `{likeness}`")
            })?;
        let count = bytes.parse::<u64>().ok().filter(|count| count.to_string() == bytes);
        let removed = match (state, near) {
            ("kept", _) => false,
            ("removed", "-") => {
                return Err("expected a path in near for a removed image, found -".into());
            }
            ("removed", _) => true,
            _ => return Err(format!("expected kept or removed for state, found `{state}`")),
        };
        Ok(Self {
            path: path.into(),
            original: original.into(),
            bytes: count
                .ok_or_else(|| format!("expected a whole number for bytes, found `{bytes}`"))?,
            sha256: sha256.into(),
            likeness: Likeness(likeness),
            near: (near != "-").then(|| near.into()),
            removed,
        })
    }
}

/// Returns the SHA-256 of bytes, 64 hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Checks a set against its manifests: every image exists with its size and hash, and no other
/// file. Returns the number of compared images and the errors, in the order of the manifests.
///
/// # Errors
/// [`Error::NoImages`] without a manifest; the error of a manifest or folder that cannot be read.
pub fn verify(set: &Path) -> Result<(usize, Vec<Error>)> {
    let (mut images, mut faults, mut manifests) = (0, Vec::new(), 0);
    for source in list(set)? {
        let manifest = source.path.join(MANIFEST);
        if !manifest.is_file() {
            continue;
        }
        manifests += 1;
        let manifest = Manifest::read(&manifest)?;
        let kept: Vec<&Entry> = manifest.entries.iter().filter(|entry| !entry.removed).collect();
        images += kept.len();
        let found: Vec<Error> =
            kept.par_iter().filter_map(|entry| entry.compare(set).err()).collect();
        faults.extend(found);
        let known: BTreeSet<&str> = kept.iter().map(|entry| entry.path.as_str()).collect();
        faults.extend(
            foreign(&source.path.join("thermal"), &source.name, |path| known.contains(path)).err(),
        );
    }
    if manifests == 0 {
        return Err(Error::NoImages { path: set.into(), looked_for: "NAME/manifest.tsv" });
    }
    Ok((images, faults))
}

/// Checks that the folder of a source holds only files whose paths below the set are `known`.
pub(super) fn foreign(thermal: &Path, source: &str, known: impl Fn(&str) -> bool) -> Result<()> {
    if !thermal.exists() {
        return Ok(());
    }
    let mut others = list(thermal)?;
    others.retain(|entry| !known(&format!("{source}/thermal/{}", entry.name)));
    match others.first() {
        None => Ok(()),
        Some(first) => Err(Error::Foreign {
            path: thermal.into(),
            files: others.len(),
            first: first.name.clone(),
        }),
    }
}

impl Entry {
    /// Checks that the file matches its entry.
    pub(super) fn compare(&self, set: &Path) -> Result<()> {
        let path = set.join(&self.path);
        let io = |cause| Error::Io { path: path.clone(), cause };
        let changed = |what, expected: &dyn ToString, found: &dyn ToString| Error::Changed {
            path: path.clone(),
            what,
            expected: expected.to_string(),
            found: found.to_string(),
        };
        let length = std::fs::metadata(&path).map_err(io)?.len();
        if length != self.bytes {
            return Err(changed("bytes", &self.bytes, &length));
        }
        let found = sha256(&pad_ops::fs::read(&path).map_err(io)?);
        if found != self.sha256 {
            return Err(changed("sha256", &self.sha256, &found));
        }
        Ok(())
    }
}

/// Indexes entries by path.
pub(super) fn by_path(manifest: Manifest) -> BTreeMap<String, Entry> {
    manifest.entries.into_iter().map(|entry| (entry.path.clone(), entry)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let entry = |path: &str, near: Option<&str>, removed| Entry {
            path: path.into(),
            original: "videos/a b/1.jpg".into(),
            bytes: 12,
            sha256: sha256(path.as_bytes()),
            likeness: Likeness(0x1234),
            near: near.map(Into::into),
            removed,
        };
        Manifest {
            entries: vec![
                entry("s/thermal/1.jpg", None, false),
                entry("s/thermal/2.jpg", Some("s/thermal/1.jpg"), false),
                entry("s/thermal/3.jpg", Some("s/thermal/1.jpg"), true),
            ],
        }
    }

    #[test]
    fn goes_out_and_comes_back() {
        let text = manifest().to_text();
        assert_eq!(Manifest::parse(text.as_bytes(), Path::new("m.tsv")).unwrap(), manifest());
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        // No part of it is a whole one, but for those that end with a line: the images before.
        for end in 0..text.len() {
            let part = Manifest::parse(&text.as_bytes()[..end], Path::new("m.tsv"));
            match part {
                Err(Error::Line { .. }) => {}
                Ok(part) => {
                    assert!(text.as_bytes()[end - 1] == b'\n' && part.entries.len() < 3, "{end}")
                }
                Err(other) => panic!("{end}: {other}"),
            }
        }
    }

    #[test]
    fn refusals_name_the_line() {
        let good = manifest().to_text();
        let refused = |from: &str, to: &str| {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good);
            Manifest::parse(text.as_bytes(), Path::new("m.tsv")).unwrap_err().to_string()
        };
        assert_eq!(
            refused("manifest 1", "manifest 2"),
            "m.tsv:1: expected \"# MSIP manifest 1\", found \"# MSIP manifest 2\""
        );
        assert!(refused("path\t", "").starts_with("m.tsv:2: expected \"path\\toriginal"));
        assert_eq!(
            refused("\t12\t", "\t012\t"),
            "m.tsv:3: expected a whole number for bytes, found `012`"
        );
        assert_eq!(
            refused("\t12\t", "\t"),
            "m.tsv:3: expected 7 columns `path original bytes sha256 likeness near state`, found 6"
        );
        assert_eq!(
            refused("s/thermal/1.jpg\t", "../1.jpg\t"),
            "m.tsv:3: expected a path below the set for path, found \"../1.jpg\""
        );
        assert_eq!(
            refused("s/thermal/2.jpg\t", "s/thermal/1.jpg\t"),
            "m.tsv:4: expected each path once, found s/thermal/1.jpg again"
        );
        assert_eq!(
            refused("1234", "123G"),
            "m.tsv:3: expected 32 hexadecimal digits for likeness, found `0000000000000000000000000000123G`"
        );
        assert_eq!(
            refused("-\tkept", "-\tremoved"),
            "m.tsv:3: expected a path in near for a removed image, found -"
        );
        assert_eq!(
            refused("kept", "gone"),
            "m.tsv:3: expected kept or removed for state, found `gone`"
        );
        assert_eq!(refused("kept\n", "kept\n\n"), "m.tsv:4: expected no empty line");
        // Found by the fuzz target: a missing line has no number.
        let error = Manifest::parse(b"# MSIP manifest 1", Path::new("m.tsv")).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("m.tsv:1: expected a line {:?} after it, found the end", COLUMNS.join("\t"))
        );
        let digits = &manifest().entries[0].sha256;
        assert!(
            refused(digits, "ab")
                .ends_with(":3: expected 64 hexadecimal digits for sha256, found `ab`")
        );
        let bytes = [b"# MSIP manifest 1\n\xFF".as_slice()].concat();
        let error = Manifest::parse(&bytes, Path::new("m.tsv")).unwrap_err();
        assert_eq!(error.to_string(), "m.tsv:2: not UTF-8 text");
    }
}
