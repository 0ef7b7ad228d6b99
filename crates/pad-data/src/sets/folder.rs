//! The images of a folder: any folder, or one in the layout of MSIP.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use tracing::warn;

pub(crate) use super::walk::{is_image, list};
use super::{
    ImageInfo, StoredFile,
    layout::{ROI, RoiNames, THERMAL},
    natural, no_image,
    walk::{Again, Entry, Unreadable, Walk, joined},
};
use crate::{
    Error, Result,
    dataset::Dataset,
    error::shown_path,
    image::{DecodeOptions, Image, decode_collapsed},
};

/// How a folder is arranged.
///
/// ```
/// use pad_data::{ImageSize, draw::Canvas, sets::{ImageFolder, Layout}};
/// let folder = tempfile::tempdir().unwrap();
/// std::fs::create_dir_all(folder.path().join("KAIST/thermal")).unwrap();
/// Canvas::new(ImageSize::square(16), [7; 3]).save_png(folder.path().join("KAIST/thermal/a.png"))?;
/// assert_eq!(ImageFolder::open(folder.path())?.layout(), Layout::Msip);
/// # Ok::<(), pad_data::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// Images anywhere below the folder; every folder directly in it is a source.
    Plain,
    /// MSIP: `NAME/thermal/*`, each `NAME` a source; what stands beside `thermal` is not listed.
    Msip,
}

/// The list of a folder's images in natural order (`2.png` before `10.png`), by source.
///
/// ```
/// use pad_data::{Dataset, ImageSize, draw::Canvas, sets::{ImageFolder, Layout}};
/// let folder = tempfile::tempdir().unwrap();
/// for name in ["2.png", "10.png"] {
///     Canvas::new(ImageSize::square(16), [7; 3]).save_png(folder.path().join(name))?;
/// }
/// let images = ImageFolder::open(folder.path())?;
/// assert_eq!((images.root(), images.layout()), (folder.path(), Layout::Plain));
/// assert_eq!((images.relative(0), images.relative(2)), (Some("2.png"), None)); // natural order
/// assert_eq!(images.path(1), Some(folder.path().join("10.png").as_path()));
/// assert_eq!(images.roi_path(0), Some(folder.path().join("roi/2.txt")));
/// assert_eq!(images.roi_paths()?.len(), images.len());
/// # Ok::<(), pad_data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ImageFolder {
    root: PathBuf,
    layout: Layout,
    files: Vec<File>,
    roi_names: RoiNames,
}

#[derive(Clone, Debug)]
struct File {
    path: PathBuf,
    /// Below the root, with `/` on every system.
    relative: String,
    source: String,
}

const LOOKED_FOR: &str = "png, jpg, jpeg, bmp, tif, tiff, npy, seq, csq, fff";

impl ImageFolder {
    /// Lists the images below `root`, in any depth. If `root` holds folders `NAME/thermal`, or
    /// `thermal` itself, only these are listed ([`Layout::Msip`]); images in folders without one are
    /// counted in a warning. Hidden files and folders (of a
    /// name that begins with a dot) are ignored; symbolic links are followed.
    ///
    /// # Errors
    /// [`Error::Io`] for a folder that cannot be read, and for a symbolic link that leads to a
    /// folder which is listed already (a loop, or the same images twice, which would leak from one
    /// part of a [split](crate::dataset::Subset::split) to the other); [`Error::NoImages`].
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        let children = list(root)?;
        let mut walk = Walk::new(Again::Refuse, Unreadable::Refuse);
        let mut layout = Layout::Plain;
        if root.join(THERMAL).is_dir() {
            layout = Layout::Msip;
            let source = root.file_name().map_or(".".into(), |name| name.to_string_lossy());
            walk.start(&root.join(THERMAL), THERMAL, Some(source.into_owned()));
        } else {
            for child in children.iter().filter(|child| child.path.join(THERMAL).is_dir()) {
                layout = Layout::Msip;
                let relative = joined(&child.name, THERMAL);
                walk.start(&child.path.join(THERMAL), &relative, Some(child.name.clone()));
            }
        }
        if layout == Layout::Plain {
            walk.start(root, "", None);
        }
        let mut others = OtherKinds::default();
        let mut files = files_of(walk, &mut others)?;
        others.warn(root);
        if files.is_empty() {
            return Err(Error::NoImages { path: root.into(), looked_for: LOOKED_FOR });
        }
        if layout == Layout::Msip {
            warn_of_unlisted(root, &children, files.len());
        }
        files.sort_by(|a, b| natural::compare(&a.relative, &b.relative));
        let roi_names = RoiNames::of(files.iter().map(|file| file.relative.as_str()));
        Ok(Self { root: root.into(), layout, files, roi_names })
    }

    /// The folder that was listed.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How it is arranged.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Path of image `index`; `None` beyond the end.
    pub fn path(&self, index: usize) -> Option<&Path> {
        self.files.get(index).map(|file| file.path.as_path())
    }

    /// Path of image `index` below [`ImageFolder::root`], with `/` on every system; `None` beyond
    /// the end.
    pub fn relative(&self, index: usize) -> Option<&str> {
        self.files.get(index).map(|file| file.relative.as_str())
    }

    /// Path and [relative path](ImageFolder::relative) of every image.
    pub(super) fn files(&self) -> impl ExactSizeIterator<Item = (&Path, &str)> {
        self.files.iter().map(|file| (file.path.as_path(), file.relative.as_str()))
    }

    /// Path of the file that keeps the regions of interest of image `index`. The file need not
    /// exist.
    ///
    /// In MSIP's layout `NAME/roi/FOLDERS/STEM.txt` for `NAME/thermal/FOLDERS/FILE`, else
    /// `ROOT/roi/FOLDERS/STEM.txt` for `ROOT/FOLDERS/FILE`. As in the reference
    /// (`pre-training/mae/util/msip_dataset.py`), `STEM` is the file's name up to its *first* dot,
    /// unless several images share it (`frame.01.png` and `frame.02.png`) or a file of the whole
    /// name exists (`frame.01.txt`): then it is the name without its extension.
    pub fn roi_path(&self, index: usize) -> Option<PathBuf> {
        let exists = |name: &str| self.root.join(name).is_file();
        Some(self.root.join(self.roi_names.name(self.relative(index)?, exists)?))
    }

    /// [`ImageFolder::roi_path`] of all images, in order.
    ///
    /// # Errors
    /// [`Error::SharedRoiFile`] if two images have the same one (`a.png` and `a.jpg`): the regions
    /// of one would be used for the other.
    pub fn roi_paths(&self) -> Result<Vec<PathBuf>> {
        let mut first_with: BTreeMap<&Path, usize> = BTreeMap::new();
        let paths: Vec<PathBuf> =
            (0..self.files.len()).filter_map(|index| self.roi_path(index)).collect();
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

impl Dataset for ImageFolder {
    type Sample = Image;

    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, index: usize) -> String {
        self.relative(index).unwrap_or("(no such image)").to_string()
    }

    fn classes(&self) -> &() {
        &()
    }

    fn info(&self, index: usize) -> Result<ImageInfo> {
        let path = self.path(index).ok_or_else(|| no_image(index, self.files.len()))?;
        Ok(ImageInfo {
            file: Some(StoredFile::on_disk(path)),
            roi_file: self.roi_path(index).map(StoredFile::on_disk),
        })
    }

    /// Image `index`, with one channel where all are equal.
    fn get(&self, index: usize, options: &DecodeOptions) -> Result<Image> {
        decode_collapsed(
            self.path(index).ok_or_else(|| no_image(index, self.files.len()))?,
            options,
        )
    }

    fn source(&self, index: usize) -> String {
        self.files.get(index).map_or(".", |file| &file.source).to_string()
    }
}

/// Numbers of files with pictures or measurements of kinds that are not read, by extension.
#[derive(Debug, Default)]
pub(crate) struct OtherKinds(BTreeMap<&'static str, usize>);

impl OtherKinds {
    const ENDINGS: [&str; 20] = [
        "webp", "gif", "pgm", "ppm", "pnm", "pfm", "jp2", "j2k", "heic", "heif", "avif", "jxl",
        "npz", "mat", "h5", "hdf5", "raw", "dng", "exr", "svg",
    ];

    /// Counts a file, if it is one.
    pub(crate) fn add(&mut self, name: &str) {
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        let known = Self::ENDINGS.iter().find(|known| ending.eq_ignore_ascii_case(known));
        if let Some(ending) = known {
            *self.0.entry(ending).or_default() += 1;
        }
    }

    /// Warns of them.
    pub(crate) fn warn(&self, root: &Path) {
        let all: usize = self.0.values().sum();
        if all > 0 {
            let kinds: Vec<String> =
                self.0.iter().map(|(ending, count)| format!("{count} .{ending}")).collect();
            warn!(
                "{}: {all} files of kinds that are not read are left out ({})",
                shown_path(root),
                kinds.join(", ")
            );
        }
    }
}

/// Warns of sources whose images are not listed because others have a folder `thermal`. What stands
/// beside such a folder belongs to its source.
fn warn_of_unlisted(root: &Path, children: &[Entry], listed: usize) {
    let whole = root.join(THERMAL).is_dir();
    let own = [THERMAL, ROI];
    let mut unlisted = Vec::new();
    let mut images = 0;
    for child in children {
        let is_source = child.path.join(THERMAL).is_dir() && !whole;
        if is_source || (whole && own.contains(&child.name.as_str())) {
            continue;
        }
        let found = match child.path.is_dir() {
            true => images_below(&child.path),
            false => usize::from(child.is_image()),
        };
        if found > 0 {
            images += found;
            unlisted.push(child.name.as_str());
        }
    }
    if images > 0 {
        let named = unlisted.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        let more = if unlisted.len() > 5 { ", .." } else { "" };
        let all = images + listed;
        warn!(
            "{}: {images} of {all} images are not used: only those in folders `{THERMAL}` are, which \
             {named}{more} lack",
            root.display()
        );
    }
}

/// Number of image files below a folder; folders that cannot be read have none.
fn images_below(folder: &Path) -> usize {
    let mut walk = Walk::new(Again::Skip, Unreadable::Skip);
    walk.start(folder, "", ());
    let mut images = 0;
    while let Ok(Some((folder, entries))) = walk.next() {
        for entry in entries {
            match entry.path.is_dir() {
                true => walk.enter(&folder, entry, ()),
                false => images += usize::from(is_image(&entry.name)),
            }
        }
    }
    images
}

/// The images below the starts of a walk, each with its source: that of its start, or else the first
/// folder of its path.
fn files_of(mut walk: Walk<Option<String>>, others: &mut OtherKinds) -> Result<Vec<File>> {
    let mut files = Vec::new();
    while let Some((folder, entries)) = walk.next()? {
        for entry in entries {
            let Some(metadata) = entry.metadata()? else { continue };
            if metadata.is_dir() {
                // What archives of macOS hold beside the files.
                if entry.name != "__MACOSX" {
                    walk.enter(&folder, entry, folder.state.clone());
                }
            } else if !is_image(&entry.name) {
                others.add(&entry.name);
            } else if metadata.is_file() {
                let relative = folder.relative(&entry);
                let first = || relative.split_once('/').map_or(".", |(first, _)| first);
                let source = folder.state.as_deref().unwrap_or_else(first).to_string();
                files.push(File { path: entry.path, relative, source });
            }
        }
    }
    Ok(files)
}
