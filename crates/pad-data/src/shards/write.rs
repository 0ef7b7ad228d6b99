//! Writes a folder as shards.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use pad_ops::fs::write_atomic;

use super::ustar::{BLOCK, header};
use crate::{
    Error, Result,
    dataset::Dataset,
    sets::{ImageFolder, folder::list},
};

/// Writes the images of `folder` and their RoI files into `shards` tar files `NUMBER.tar` in `out`,
/// images in turn (the first into the first shard, the second into the second), so that all shards
/// have equal lengths. Equal folders give equal files. Shards are written atomically; `progress` is
/// called with the number of finished images.
///
/// # Errors
/// [`Error::Setting`] for no shards, or more than images; [`Error::Foreign`] if `out` holds other
/// tar files; [`Error::Unsupported`] for a path that is too long for the format (about 100 bytes of
/// name, 155 of folders); [`Error::Io`].
pub fn write(
    folder: &ImageFolder,
    out: &Path,
    shards: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<PathBuf>> {
    if shards == 0 || shards > folder.len() {
        return Err(Error::Setting {
            name: "shards",
            expected: format!("1 to {}, the number of images", folder.len()),
            found: shards.to_string(),
        });
    }
    fs::create_dir_all(out).map_err(|cause| Error::Io { path: out.into(), cause })?;
    let digits = (shards - 1).to_string().len();
    let paths: Vec<PathBuf> =
        (0..shards).map(|shard| out.join(format!("{shard:0digits$}.tar"))).collect();
    let mut others = list(out)?;
    others.retain(|entry| entry.name.ends_with(".tar") && !paths.contains(&entry.path));
    if let Some(first) = others.first() {
        return Err(Error::Foreign {
            path: out.into(),
            files: others.len(),
            first: first.name.clone(),
        });
    }
    let mut done = 0;
    for (shard, path) in paths.iter().enumerate() {
        // The closure can only return an `io::Error`; this keeps the error of this crate.
        let mut fault = None;
        let written = write_atomic(path, |archive| {
            for index in (shard..folder.len()).step_by(shards) {
                for (name, from) in files_of(folder, index) {
                    if let Err(error) = append(archive, path, &name, &from) {
                        fault = Some(error);
                        return Err(io::Error::other("not written"));
                    }
                }
                done += 1;
                progress(done);
            }
            archive.write_all(&[0; 2 * BLOCK])
        });
        if let Some(fault) = fault {
            return Err(fault);
        }
        written.map_err(|cause| Error::Io { path: path.clone(), cause })?;
    }
    Ok(paths)
}

/// An image and its RoI file, if it exists: name in the archive, path.
fn files_of(folder: &ImageFolder, index: usize) -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    if let (Some(name), Some(path)) = (folder.relative(index), folder.path(index)) {
        files.push((name.to_string(), path.to_path_buf()));
        // Under the name that it has: the reference's name stays the reference's.
        if let Some(path) = folder.roi_path(index)
            && let Some(name) = below(folder.root(), &path)
            && path.is_file()
        {
            files.push((name, path));
        }
    }
    files
}

/// A path below a folder, with `/` between the parts; `None` elsewhere.
fn below(root: &Path, path: &Path) -> Option<String> {
    let parts = path.strip_prefix(root).ok()?.iter();
    let parts: Vec<_> = parts.map(|part| part.to_string_lossy()).collect();
    Some(parts.join("/"))
}

fn append(archive: &mut impl Write, shard: &Path, name: &str, from: &Path) -> Result<()> {
    let bytes = pad_ops::fs::read(from).map_err(|cause| Error::Io { path: from.into(), cause })?;
    let Some(header) = header(name, bytes.len() as u64) else {
        let what = "a path or size that is too long for a tar file".into();
        return Err(Error::Unsupported { path: from.into(), what });
    };
    let padding = bytes.len().next_multiple_of(BLOCK) - bytes.len();
    [header.as_slice(), &bytes, &[0; BLOCK][..padding]]
        .into_iter()
        .try_for_each(|part| archive.write_all(part))
        .map_err(|cause| Error::Io { path: shard.into(), cause })
}
