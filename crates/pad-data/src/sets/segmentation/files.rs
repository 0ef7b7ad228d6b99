//! Labelled images in folders.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{
    ClassMap, Classes, SegmentationSource,
    mask::{fourth_channel, read_mask},
};
use crate::{
    Error, Result,
    image::{DecodeOptions, Image, decode_collapsed},
    sets::{folder::is_image, no_image},
};

/// One image and its labels.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    image: PathBuf,
    mask: PathBuf,
}

/// Labelled images of a folder, those that a list names.
#[derive(Clone, Debug)]
pub struct SegmentationSet {
    entries: Vec<Entry>,
    classes: Classes,
    /// Whether the image is the fourth channel of its file.
    fourth_channel: bool,
}

impl SegmentationSet {
    /// The images that `ROOT/SPLIT.txt` names (one a line, with or without an extension), in the folder format:
    /// `ROOT/classes.toml` (see [`Classes`]), `ROOT/images/NAME.*`, `ROOT/masks/NAME.png`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Entry`] for a malformed `classes.toml` and an empty list; [`Error::Line`] for a name
    /// without an image or mask, or named twice.
    pub fn folder(root: impl AsRef<Path>, split: &str) -> Result<Self> {
        let root = root.as_ref();
        let (classes, images, masks) = Classes::read(&root.join("classes.toml"))?;
        let list = root.join(format!("{split}.txt"));
        let entries = entries(&list, &root.join(images), &root.join(masks))?;
        Ok(Self { entries, classes, fourth_channel: false })
    }

    /// SODA: `ROOT/ImageSets/Segmentation/SPLIT.txt`, `ROOT/JPEGImages`, `ROOT/SegmentationClass` (Pascal VOC).
    ///
    /// # Errors
    /// As [`SegmentationSet::folder`].
    pub fn soda(root: impl AsRef<Path>, split: &str) -> Result<Self> {
        let root = root.as_ref();
        let list = root.join("ImageSets/Segmentation").join(format!("{split}.txt"));
        let entries = entries(&list, &root.join("JPEGImages"), &root.join("SegmentationClass"))?;
        Ok(Self { entries, classes: Classes::soda(), fourth_channel: false })
    }

    /// MFNet: `ROOT/SPLIT.txt`, `ROOT/labels`, and the thermal images of `ROOT/thermal` if there is such a folder,
    /// else the fourth channel of the pictures in `ROOT/images`.
    ///
    /// # Errors
    /// As [`SegmentationSet::folder`].
    pub fn mfnet(root: impl AsRef<Path>, split: &str) -> Result<Self> {
        let root = root.as_ref();
        let thermal = root.join("thermal");
        let fourth_channel = !thermal.is_dir();
        let images = if fourth_channel { root.join("images") } else { thermal };
        let list = root.join(format!("{split}.txt"));
        let entries = entries(&list, &images, &root.join("labels"))?;
        Ok(Self { entries, classes: Classes::mfnet(), fourth_channel })
    }

    /// The file of image `index`, if there is one.
    pub fn image_path(&self, index: usize) -> Option<&Path> {
        self.entries.get(index).map(|entry| entry.image.as_path())
    }

    /// The first `count` images of the list.
    #[must_use]
    pub fn first(mut self, count: usize) -> Self {
        self.entries.truncate(count);
        self
    }
}

/// What `list` names.
fn entries(list: &Path, images: &Path, masks: &Path) -> Result<Vec<Entry>> {
    let text =
        fs::read_to_string(list).map_err(|source| Error::Io { path: list.into(), source })?;
    let (image_files, mask_files) = (by_stem(images)?, by_stem(masks)?);
    let mut entries = Vec::new();
    let mut lines = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let name = if is_image(line) { stem(line) } else { line };
        let fault = |what| Error::Line { path: list.into(), line: index + 1, what };
        let missing = |what: &str, folder: &Path| {
            fault(format!("expected {what} `{name}` in {}, found none", folder.display()))
        };
        if let Some(first) = lines.insert(name.to_string(), index + 1) {
            return Err(fault(format!("expected a new name, found `{name}` of line {first}")));
        }
        let image = image_files.get(name).ok_or_else(|| missing("an image", images))?;
        let mask = mask_files.get(name).ok_or_else(|| missing("a mask", masks))?;
        entries.push(Entry {
            name: name.into(),
            image: images.join(image),
            mask: masks.join(mask),
        });
    }
    if entries.is_empty() {
        let what = "expected names of images, found none".into();
        return Err(Error::Entry { path: list.into(), what });
    }
    Ok(entries)
}

/// The file name without its extension.
fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// The image files of a folder, by the name without its extension; the first in order, where several share it.
fn by_stem(folder: &Path) -> Result<BTreeMap<String, String>> {
    let io = |source| Error::Io { path: folder.into(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        if let Ok(name) = entry.map_err(io)?.file_name().into_string()
            && is_image(&name)
        {
            names.push(name);
        }
    }
    // Last to first, so that the first remains.
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names.into_iter().map(|name| (stem(&name).to_string(), name)).collect())
}

impl SegmentationSource for SegmentationSet {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn name(&self, index: usize) -> String {
        self.entries.get(index).map_or("(no such image)", |entry| &entry.name).to_string()
    }

    fn classes(&self) -> &Classes {
        &self.classes
    }

    fn load(&self, index: usize, options: &DecodeOptions) -> Result<(Image, ClassMap)> {
        let entry = self.entries.get(index).ok_or_else(|| no_image(index, self.entries.len()))?;
        let image = if self.fourth_channel {
            fourth_channel(&entry.image, options)?
        } else {
            decode_collapsed(&entry.image, options)?
        };
        let labels = read_mask(&entry.mask, image.size(), &self.classes, options)?;
        Ok((image, labels))
    }
}
