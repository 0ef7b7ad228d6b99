//! The images of a folder: any folder, or one in the layout of MSIP.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use tracing::warn;

use super::{ImageList, natural, no_image, rois};
use crate::{Error, Result, image::EXTENSIONS, roi::Roi};

/// How a folder is arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Images anywhere below the folder; every folder directly in it is a source.
    Plain,
    /// MSIP: `NAME/thermal/*`, each `NAME` a source; what stands beside `thermal` is not listed.
    Msip,
}

/// The list of a folder's images in natural order (`2.png` before `10.png`), by source.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    root: PathBuf,
    layout: Layout,
    files: Vec<File>,
}

#[derive(Clone, Debug)]
struct File {
    path: PathBuf,
    /// Below the root, with `/` on every system.
    relative: String,
    source: String,
}

const LOOKED_FOR: &str = "png, jpg, jpeg, bmp, tif, tiff";
pub(super) const THERMAL: &str = "thermal";

impl ImageFolder {
    /// Lists the images below `root`, in any depth. If `root` holds folders `NAME/thermal`, or `thermal` itself, only
    /// these are listed ([`Layout::Msip`]). Hidden files and folders (of a name that begins with a dot) are ignored;
    /// symbolic links are followed.
    ///
    /// # Errors
    /// [`Error::Io`] for a folder that cannot be read, and for a symbolic link that leads to a folder which is listed
    /// already (a loop, or the same images twice, which would leak from one part of a [split](ImageList::split) to the
    /// other); [`Error::NoImages`].
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        let mut walk = Walk { files: Vec::new(), folders: Visited::default() };
        let children = list(root)?;
        let mut layout = Layout::Msip;
        if root.join(THERMAL).is_dir() {
            let source = root.file_name().map_or(".".into(), |name| name.to_string_lossy());
            walk.below(&root.join(THERMAL), THERMAL, Some(&source))?;
        } else {
            for child in children.iter().filter(|child| child.path.join(THERMAL).is_dir()) {
                let relative = format!("{}/{THERMAL}", child.name);
                walk.below(&child.path.join(THERMAL), &relative, Some(&child.name))?;
            }
        }
        if walk.folders.0.is_empty() {
            layout = Layout::Plain;
            walk.below(root, "", None)?;
        }
        if walk.files.is_empty() {
            return Err(Error::NoImages { path: root.into(), looked_for: LOOKED_FOR });
        }
        let mut files = walk.files;
        files.sort_by(|a, b| natural::compare(&a.relative, &b.relative));
        Ok(Self { root: root.into(), layout, files })
    }

    /// The folder that was listed.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How it is arranged.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether no image is left (after [`ImageList::split`]; a folder without images cannot be opened).
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Path of image `index`, if there is one.
    pub fn path(&self, index: usize) -> Option<&Path> {
        self.files.get(index).map(|file| file.path.as_path())
    }

    /// Path of image `index` below [`ImageFolder::root`], with `/` on every system, if there is one.
    pub fn name(&self, index: usize) -> Option<&str> {
        self.files.get(index).map(|file| file.relative.as_str())
    }
}

impl ImageList for ImageFolder {
    fn relative(&self, index: usize) -> &str {
        self.name(index).unwrap_or_default()
    }

    fn source_of(&self, index: usize) -> &str {
        self.files.get(index).map_or("", |file| &file.source)
    }

    fn kept(&self, indices: &[usize]) -> Self {
        let files = indices.iter().filter_map(|&index| self.files.get(index).cloned());
        Self { root: self.root.clone(), layout: self.layout, files: files.collect() }
    }

    fn bytes(&self, index: usize) -> Result<u64> {
        let path = self.path(index).ok_or_else(|| no_image(index, self.len()))?;
        let metadata = fs::metadata(path);
        Ok(metadata.map_err(|source| Error::Io { path: path.into(), source })?.len())
    }

    fn read_rois(&self) -> Result<Vec<Option<Vec<Roi>>>> {
        rois::read_all(self)
    }
}

/// An entry of a folder that is not hidden.
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    is_link: bool,
}

impl Entry {
    /// What it is, links followed; `None` for a link to nowhere that is no image.
    pub(crate) fn metadata(&self) -> Result<Option<fs::Metadata>> {
        match fs::metadata(&self.path) {
            Ok(metadata) => Ok(Some(metadata)),
            // A link to nowhere is a fault where an image is expected, and nobody's business elsewhere.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && self.is_link
                    && !is_image(&self.name) =>
            {
                warn!(path = %self.path.display(), "symbolic link leads nowhere, ignored");
                Ok(None)
            }
            Err(source) => Err(Error::Io { path: self.path.clone(), source }),
        }
    }
}

/// The entries of a folder that are not hidden, by name.
pub(crate) fn list(folder: &Path) -> Result<Vec<Entry>> {
    let io = |source| Error::Io { path: folder.into(), source };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            let is_link = entry.file_type().map_err(io)?.is_symlink();
            entries.push(Entry { path: entry.path(), name, is_link });
        }
    }
    // The order in which a disk lists is nobody's; errors should not depend on it either.
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

struct Walk {
    files: Vec<File>,
    folders: Visited,
}

/// Real paths of the folders that were listed.
#[derive(Default)]
pub(crate) struct Visited(BTreeSet<PathBuf>);

impl Walk {
    /// Lists `start`, which lies at `relative` below the root; the source is the first folder if not given.
    fn below(&mut self, start: &Path, relative: &str, source: Option<&str>) -> Result<()> {
        // Not recursive: a deep tree must not end the stack.
        let mut open = vec![(start.to_path_buf(), relative.to_string())];
        while let Some((folder, relative)) = open.pop() {
            self.folders.enter(&folder)?;
            for entry in list(&folder)? {
                let below = match relative.as_str() {
                    "" => entry.name.clone(),
                    above => format!("{above}/{}", entry.name),
                };
                let is_image = is_image(&entry.name);
                let Some(metadata) = entry.metadata()? else { continue };
                if metadata.is_dir() {
                    open.push((entry.path, below));
                } else if is_image && metadata.is_file() {
                    let first = below.split_once('/').map_or(".", |(first, _)| first);
                    let source = source.unwrap_or(first).to_string();
                    self.files.push(File { path: entry.path, relative: below, source });
                }
            }
        }
        Ok(())
    }
}

impl Visited {
    /// Asks that `folder` was not listed before, by this name or by another.
    pub(crate) fn enter(&mut self, folder: &Path) -> Result<()> {
        let io = |source| Error::Io { path: folder.into(), source };
        let real = folder.canonicalize().map_err(io)?;
        if self.0.contains(&real) {
            let what = format!("leads to {}, which is listed already", real.display());
            return Err(io(io::Error::other(what)));
        }
        self.0.insert(real);
        Ok(())
    }
}

/// Whether a file of this name should be an image.
pub(crate) fn is_image(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|found| EXTENSIONS.iter().any(|known| found.eq_ignore_ascii_case(known)))
}
