//! Regions of interest of whole sets: read from the files beside the images, or searched in the
//! images themselves.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use pad_ops::ImageSize;
use rayon::prelude::*;

use super::{ImageInfo, StoredFile};
use crate::{
    Error, Result,
    dataset::{Dataset, Sample},
    image::{DecodeOptions, Image, Pixels},
    roi::{self, Roi, RoiConfig, Workspace},
    window::Window,
};

/// Number of images that one thread searches with the same buffers.
const PER_WORKSPACE: usize = 16;

/// An image with its regions of interest.
#[derive(Clone, Debug, PartialEq)]
pub struct RoiImage {
    /// The image.
    pub image: Image,
    /// Its regions, inside the image; may be empty.
    pub rois: Vec<Roi>,
}

impl Sample for RoiImage {
    type Classes = ();
    type Info = ImageInfo;

    fn bytes(&self) -> u64 {
        self.image.bytes() + size_of_val(self.rois.as_slice()) as u64
    }
}

/// Images with regions of interest.
///
/// A region that leaves its image (which was replaced after its regions were found) makes that
/// image unreadable, with an error that names the file and the line, where the regions are from a
/// file. In the reference the crop silently skips such regions.
#[derive(Clone, Debug)]
pub struct WithRois<D> {
    images: D,
    rois: Arc<[Vec<Roi>]>,
}

impl<D: Dataset<Sample = Image>> WithRois<D> {
    /// `images` with one list of regions for each, in their order.
    ///
    /// # Errors
    /// [`Error::Setting`] for any other number of lists.
    pub fn new(images: D, rois: impl Into<Arc<[Vec<Roi>]>>) -> Result<Self> {
        let rois = rois.into();
        if rois.len() != images.len() {
            return Err(Error::Setting {
                name: "rois",
                expected: format!("one list for each of {} images", images.len()),
                found: format!("{} lists", rois.len()),
            });
        }
        Ok(Self { images, rois })
    }

    /// The regions of every image, in order.
    pub fn rois(&self) -> &Arc<[Vec<Roi>]> {
        &self.rois
    }

    /// Checks that the regions of an image are inside it.
    fn check(&self, index: usize, size: ImageSize, rois: &[Roi]) -> Result<()> {
        let Some(outside) = rois.iter().find(|roi| !roi.is_inside(size)) else { return Ok(()) };
        if let Some(file) = self.images.info(index)?.roi_file {
            // Read again for the number of the line.
            parse_rois(&file, Some(size))?;
        }
        Err(Error::Setting {
            name: "rois",
            expected: format!("rectangles inside {} of {size} pixels", self.images.name(index)),
            found: outside.to_string(),
        })
    }
}

impl<D: Dataset<Sample = Image>> Dataset for WithRois<D> {
    type Sample = RoiImage;

    fn len(&self) -> usize {
        self.images.len()
    }

    fn name(&self, index: usize) -> String {
        self.images.name(index)
    }

    fn classes(&self) -> &() {
        &()
    }

    fn info(&self, index: usize) -> Result<ImageInfo> {
        self.images.info(index)
    }

    fn get(&self, index: usize, options: &DecodeOptions) -> Result<RoiImage> {
        let image = self.images.get(index, options)?;
        let rois = self.rois.get(index).cloned().unwrap_or_default();
        self.check(index, image.size(), &rois)?;
        Ok(RoiImage { image, rois })
    }

    fn source(&self, index: usize) -> String {
        self.images.source(index)
    }
}

/// The regions in a file, `None` if the file is missing. Without a size rectangles may lie
/// anywhere.
fn parse_rois(file: &StoredFile, size: Option<ImageSize>) -> Result<Option<Vec<Roi>>> {
    file.read()?.map(|bytes| roi::parse_file(&bytes, file.path(), size)).transpose()
}

/// Reads the regions of interest of every image from their files, in order, on all cores; `None`
/// where an image has no file. [`WithRois`] checks that they lie inside their images when these are
/// decoded.
///
/// # Errors
/// [`Error::Line`] for the first file (in the order of images) with a malformed line, [`Error::Io`]
/// for one that exists and cannot be read, [`Error::SharedRoiFile`] if two images share one
/// although regions exist.
pub fn read_rois(
    images: &(impl Dataset<Sample = Image> + ?Sized),
) -> Result<Vec<Option<Vec<Roi>>>> {
    let read = |index: usize| match images.info(index)?.roi_file {
        Some(file) => parse_rois(&file, None),
        None => Ok(None),
    };
    let all: Vec<Result<Option<Vec<Roi>>>> = (0..images.len()).into_par_iter().map(read).collect();
    // The first fault by image, whichever thread was first.
    let rois = all.into_iter().collect::<Result<Vec<_>>>()?;
    if rois.iter().any(Option::is_some) {
        check_own_files(images)?;
    }
    Ok(rois)
}

/// Checks that no two images share a RoI file.
fn check_own_files(images: &(impl Dataset<Sample = Image> + ?Sized)) -> Result<()> {
    let mut first_with: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for index in 0..images.len() {
        let ImageInfo { file, roi_file: Some(roi_file) } = images.info(index)? else { continue };
        let second: PathBuf =
            file.map_or_else(|| images.name(index).into(), |file| file.path().into());
        let roi = roi_file.path().to_path_buf();
        if let Some(first) = first_with.insert(roi.clone(), second.clone()) {
            return Err(Error::SharedRoiFile { first, second, roi });
        }
    }
    Ok(())
}

/// The pixels that the region search uses: 8-bit grey, row by row. RGB becomes luma as PIL's mode
/// `L`; 16-bit and float images go through `window` and are rounded; 8-bit grey passes unchanged.
///
/// # Errors
/// [`Error::Setting`] for an invalid window.
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

/// Searches the regions of interest of every image of a set, in order, on all cores: about 20 ms of
/// one core for 640x512 pixels. For sets in memory; for folders, write files once (`pad roi`).
///
/// # Errors
/// The first image's (in order) that cannot be loaded or searched.
pub fn search_rois(
    images: &(impl Dataset<Sample = Image> + ?Sized),
    options: &DecodeOptions,
    window: &Window,
    config: &RoiConfig,
) -> Result<Vec<Vec<Roi>>> {
    let search = |workspace: &mut Workspace, index: usize| {
        let (gray, size) = gray_levels(images.get(index, options)?, window)?;
        workspace.rois(&gray, size, config)
    };
    let all: Vec<Result<Vec<Roi>>> = (0..images.len())
        .into_par_iter()
        .with_min_len(PER_WORKSPACE)
        .map_init(Workspace::new, search)
        .collect();
    all.into_iter().collect()
}
