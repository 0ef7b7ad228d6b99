//! The images of a folder: any folder, or one in the layout of MSIP.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use pad_ops::rng::{Key, Purpose};
use tracing::warn;

use super::natural;
use crate::{Error, Result, image::EXTENSIONS};

/// How a folder is arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Images anywhere below the folder; every folder directly in it is a source.
    Plain,
    /// MSIP: `NAME/thermal/*`, each `NAME` a source; what stands beside `thermal` is not listed.
    Msip,
}

/// A named part of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name of its folder; `.` for images directly in the listed folder.
    pub name: String,
    /// Images in it.
    pub images: usize,
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
    /// already (a loop, or the same images twice, which would leak from one part of a [split](Self::split) to the
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

    /// Whether no image is left (after [`ImageFolder::split`]; a folder without images cannot be opened).
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

    /// The sources that have images, in order.
    pub fn sources(&self) -> Vec<Source> {
        let mut sources: Vec<Source> = Vec::new();
        for file in &self.files {
            match sources.iter_mut().find(|source| source.name == file.source) {
                Some(source) => source.images += 1,
                None => sources.push(Source { name: file.source.clone(), images: 1 }),
            }
        }
        sources
    }

    /// The images of the named sources alone.
    ///
    /// # Errors
    /// [`Error::Setting`] for a name that is no source.
    pub fn only(&self, names: &[&str]) -> Result<Self> {
        let sources = self.sources();
        if let Some(unknown) = names.iter().find(|&&name| sources.iter().all(|s| s.name != name)) {
            let known: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
            return Err(Error::Setting {
                name: "source",
                expected: format!("one of {}", known.join(", ")),
                found: (*unknown).to_string(),
            });
        }
        Ok(self.kept(|_, file| names.contains(&file.source.as_str())))
    }

    /// Every `n`-th image, from the first (all for 0).
    #[must_use]
    pub fn every(&self, n: usize) -> Self {
        self.kept(|index, _| index % n.max(1) == 0)
    }

    /// About `ratio` (above 0, up to 1) of each source: `ratio` times its images, rounded, but at least one. Which
    /// images are kept depends on `seed`, the path below the root and the other images of the source; a smaller ratio
    /// keeps a subset of what a larger one keeps. The order stays.
    ///
    /// # Errors
    /// [`Error::Setting`] if the ratio is out of range.
    pub fn share(&self, ratio: f64, seed: u64) -> Result<Self> {
        if !(ratio > 0.0 && ratio <= 1.0) {
            return Err(Error::Setting {
                name: "ratio",
                expected: "above 0, up to 1".into(),
                found: ratio.to_string(),
            });
        }
        // Not the purpose of `split`: a subset must not consist of those that are nearly held out.
        let key = Key::new(seed).purpose(Purpose::Sampler);
        let mut ranked: BTreeMap<&str, Vec<(u64, usize)>> = BTreeMap::new();
        for (index, file) in self.files.iter().enumerate() {
            let rank = key.named(&file.relative).stream().next_u64();
            ranked.entry(&file.source).or_default().push((rank, index));
        }
        let mut chosen = BTreeSet::new();
        for mut images in ranked.into_values() {
            images.sort_unstable();
            let count = ((images.len() as f64 * ratio).round() as usize).max(1);
            chosen.extend(images.into_iter().take(count).map(|(_, index)| index));
        }
        Ok(self.kept(|index, _| chosen.contains(&index)))
    }

    /// Splits into a training part and a held-out part of about `held_out_share` (0 to 1) of the images. Where an
    /// image goes depends on `seed` and its path below the root alone: images that are added later change nothing for
    /// those that were there. Either part may be empty.
    ///
    /// # Errors
    /// [`Error::Setting`] if the share is outside 0 to 1.
    pub fn split(&self, held_out_share: f64, seed: u64) -> Result<(Self, Self)> {
        if !(0.0..=1.0).contains(&held_out_share) {
            return Err(Error::Setting {
                name: "held_out_share",
                expected: "0 to 1".into(),
                found: held_out_share.to_string(),
            });
        }
        let key = Key::new(seed).purpose(Purpose::Split);
        let held_out = |file: &File| key.named(&file.relative).stream().bernoulli(held_out_share);
        Ok((self.kept(|_, file| !held_out(file)), self.kept(|_, file| held_out(file))))
    }

    fn kept(&self, keep: impl Fn(usize, &File) -> bool) -> Self {
        let files = self.files.iter().enumerate().filter(|&(index, file)| keep(index, file));
        Self {
            root: self.root.clone(),
            layout: self.layout,
            files: files.map(|(_, file)| file.clone()).collect(),
        }
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
