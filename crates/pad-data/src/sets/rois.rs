//! Regions of interest of whole sets: read from the files beside the images, or searched in the images themselves.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use pad_ops::ImageSize;
use rayon::prelude::*;

use super::{ImageFolder, ImageSource, folder::THERMAL};
use crate::{
    Error, Result,
    image::{DecodeOptions, Image, Pixels},
    roi::{self, Roi, RoiConfig, Workspace},
    window::Window,
};

/// Images that one thread searches with the same buffers.
const PER_WORKSPACE: usize = 16;

/// The name of the RoI file of an image of this name below the root; see [`ImageFolder::roi_path`]. That `thermal` is
/// the first folder or the second tells MSIP's layout.
pub(crate) fn roi_name(image: &str) -> Option<String> {
    let mut folders: Vec<&str> = image.split('/').collect();
    let stem = folders.pop()?.split('.').next().unwrap_or_default();
    let file = format!("{stem}.txt");
    match folders.as_mut_slice() {
        [first, ..] if *first == THERMAL => *first = "roi",
        [_, second, ..] if *second == THERMAL => *second = "roi",
        _ => folders.insert(0, "roi"),
    }
    folders.push(&file);
    Some(folders.join("/"))
}

impl ImageFolder {
    /// Where the regions of interest of image `index` are kept. The file need not exist.
    ///
    /// In MSIP's layout `NAME/roi/FOLDERS/STEM.txt` for `NAME/thermal/FOLDERS/FILE`, else `ROOT/roi/FOLDERS/STEM.txt`
    /// for `ROOT/FOLDERS/FILE`. As in the reference (`pre-training/mae/util/msip_dataset.py`), `STEM` is the file's
    /// name up to its *first* dot: `frame.01.png` and `frame.02.png` share `frame.txt`, which
    /// [`ImageFolder::roi_paths`] refuses.
    pub fn roi_path(&self, index: usize) -> Option<PathBuf> {
        Some(self.root().join(roi_name(self.name(index)?)?))
    }

    /// [`ImageFolder::roi_path`] of all images, in order.
    ///
    /// # Errors
    /// [`Error::SharedRoiFile`] if two images have the same one (`a.png` and `a.jpg`): the regions of one would be
    /// used for the other.
    pub fn roi_paths(&self) -> Result<Vec<PathBuf>> {
        let mut first_with: BTreeMap<&Path, usize> = BTreeMap::new();
        let paths: Vec<PathBuf> =
            (0..self.len()).filter_map(|index| self.roi_path(index)).collect();
        for (index, path) in paths.iter().enumerate() {
            if let Some(first) = first_with.insert(path, index) {
                let image = |index| self.path(index).unwrap_or(Path::new("")).to_path_buf();
                return Err(Error::SharedRoiFile {
                    first: image(first),
                    second: image(index),
                    roi: path.clone(),
                });
            }
        }
        Ok(paths)
    }
}

/// The files of a folder, read on all cores.
pub(super) fn read_all(folder: &ImageFolder) -> Result<Vec<Option<Vec<Roi>>>> {
    let absent = |error: &Error| {
        let Error::Io { source, .. } = error else { return false };
        matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    };
    let read = |index: usize| {
        let Some(path) = folder.roi_path(index) else { return Ok(None) };
        match roi::read_unbounded(&path) {
            Err(error) if absent(&error) => Ok(None),
            other => other.map(Some),
        }
    };
    let all: Vec<Result<Option<Vec<Roi>>>> = (0..folder.len()).into_par_iter().map(read).collect();
    // The first fault by image, whichever thread was first.
    let rois = all.into_iter().collect::<Result<Vec<_>>>()?;
    if rois.iter().any(Option::is_some) {
        folder.roi_paths()?;
    }
    Ok(rois)
}

/// What the region search sees of an image: 8-bit grey, row by row. RGB becomes luma as PIL's mode `L`; 16-bit and
/// float images go through `window` and are rounded; 8-bit grey passes unchanged.
///
/// # Errors
/// [`Error::Setting`] for an impossible window.
pub fn gray_levels(image: Image, window: &Window) -> Result<(Vec<u8>, ImageSize)> {
    let size = image.size();
    let levels = match window.apply(image.to_gray())?.into_pixels() {
        Pixels::U8(levels) => levels,
        Pixels::F32(levels) => levels.iter().map(|level| level.round() as u8).collect(),
        // A window leaves no counts; their high byte is what they would be.
        Pixels::U16(counts) => counts.iter().map(|count| (count >> 8) as u8).collect(),
    };
    Ok((levels, size))
}

/// Searches the regions of interest of every image of a source, in order, on all cores: about 20 ms of one core for
/// 640x512 pixels. Meant for sets in memory; for folders, write files once (`examples/roi.rs`).
///
/// # Errors
/// The first image's (in order) that cannot be loaded or searched.
pub fn search_rois(
    source: &dyn ImageSource,
    options: &DecodeOptions,
    window: &Window,
    config: &RoiConfig,
) -> Result<Vec<Vec<Roi>>> {
    let search = |workspace: &mut Workspace, index: usize| {
        let (gray, size) = gray_levels(source.load(index, options)?, window)?;
        workspace.rois(&gray, size, config)
    };
    let all: Vec<Result<Vec<Roi>>> = (0..source.len())
        .into_par_iter()
        .with_min_len(PER_WORKSPACE)
        .map_init(Workspace::new, search)
        .collect();
    all.into_iter().collect()
}
