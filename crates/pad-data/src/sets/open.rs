//! Images of a folder or of shards.

use std::{fs, path::Path, sync::Arc};

use super::{
    folder::ImageFolder,
    walk::{Entry, is_image, list},
};
use crate::{
    Error, Result, dataset::SharedDataset, image::Image, sequence::Sequence, shards::ShardSet,
};

/// Opens the images of a folder, or of shards: a folder with files `*.tar` directly in it, or one
/// such file; or the frames of one image file, see [`Sequence`].
///
/// # Errors
/// As [`ImageFolder::open`], [`ShardSet::open`] and [`Sequence::open`].
pub fn open_images(path: impl AsRef<Path>) -> Result<SharedDataset<Image>> {
    let path = path.as_ref();
    if path.is_file() && path.file_name().is_some_and(|name| is_image(&name.to_string_lossy())) {
        return Ok(Arc::new(Sequence::open(path, &Default::default())?));
    }
    match holds_shards(path)? {
        true => {
            warn_of_loose(path);
            Ok(Arc::new(ShardSet::open(path)?))
        }
        false => Ok(Arc::new(ImageFolder::open(path)?)),
    }
}

/// Warns of images that lie beside shards: they are not used.
fn warn_of_loose(folder: &Path) {
    let loose = list(folder).unwrap_or_default().into_iter().filter(Entry::is_image);
    let loose = loose.count();
    if loose > 0 {
        let folder = folder.display();
        tracing::warn!("{folder}: {loose} image files are not used: only those in its shards are");
    }
}

fn holds_shards(path: &Path) -> Result<bool> {
    let is_tar = |path: &Path| path.extension().is_some_and(|found| found == "tar");
    if !path.is_dir() {
        return Ok(is_tar(path));
    }
    let entries = fs::read_dir(path).map_err(|cause| Error::Io { path: path.into(), cause })?;
    Ok(entries.flatten().any(|entry| is_tar(&entry.path())))
}
