//! Fingerprints of data sets, by which a resumed run notices that its data changed.

use std::{fmt, path::Path};

use sha2::{Digest, Sha256};

use crate::{
    Error, Result,
    dataset::Dataset,
    image::Image,
    roi::Roi,
    sets::walk::{Again, Unreadable, Walk, is_image},
};

/// A digest of a list of files with their sizes or contents. Files must be added in the order of
/// their names; the location of the set does not matter.
///
/// ```
/// use pad_data::fingerprint::Fingerprint;
///
/// let mut images = Fingerprint::new();
/// images.add("a/thermal/1.png", 4711);
/// assert_eq!(images.to_string(), "1 file, 4711 bytes, sha256 d19098981bee0c9e");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Fingerprint {
    hash: Sha256,
    files: usize,
    bytes: u64,
}

impl Fingerprint {
    /// Returns the fingerprint of no files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file by its name and size.
    pub fn add(&mut self, name: &str, bytes: u64) {
        // The length comes first, so that different lists give different bytes.
        self.hash.update((name.len() as u64).to_le_bytes());
        self.hash.update(name.as_bytes());
        self.hash.update(bytes.to_le_bytes());
        self.files += 1;
        self.bytes += bytes;
    }

    /// Adds a file by its name, size and contents.
    pub fn add_contents(&mut self, name: &str, contents: &[u8]) {
        self.add(name, contents.len() as u64);
        self.hash.update(contents);
    }

    /// Returns the fingerprint of all files below a folder that are not hidden: images by name and
    /// size, all others (labels, lists) by their contents. Run folders (with `config.toml` and
    /// `checkpoints`) are skipped.
    ///
    /// # Errors
    /// [`Error::Io`] for a file or folder that cannot be read.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        let mut all = Self::new();
        all.below(folder)?;
        Ok(all)
    }

    /// Names and sizes of the files of all images, in order: whether two sets are the same, without reading the images.
    /// Images that are not from files count by their names.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that is missing.
    pub fn of_images(images: &(impl Dataset<Sample = Image> + ?Sized)) -> Result<Self> {
        let mut all = Self::new();
        for index in 0..images.len() {
            let bytes = images.info(index)?.file.map_or(Ok(0), |file| file.bytes())?;
            all.add(&images.name(index), bytes);
        }
        Ok(all)
    }

    /// Regions of interest of all images, in order, as a run uses them.
    pub fn of_rois(images: &(impl Dataset + ?Sized), rois: &[Vec<Roi>]) -> Self {
        let mut all = Self::new();
        for (index, rois) in rois.iter().enumerate() {
            let line = |roi: &Roi| format!("{},{},{},{}\n", roi.x, roi.y, roi.width, roi.height);
            let text: String = rois.iter().map(line).collect();
            all.add_contents(&images.name(index), text.as_bytes());
        }
        all
    }

    /// [`Fingerprint::add_contents`] of a file that may be larger than the memory: an archive beside
    /// the images.
    fn add_file(&mut self, name: &str, path: &Path) -> std::io::Result<()> {
        let mut file = pad_ops::fs::open(path)?;
        let expected = file.metadata()?.len();
        self.add(name, expected);
        match std::io::copy(&mut file, &mut self.hash)? {
            found if found == expected => Ok(()),
            _ => Err(std::io::Error::other("the file changes while it is read")),
        }
    }

    fn below(&mut self, folder: &Path) -> Result<()> {
        // A folder that a link leads to counts under that name too.
        let mut walk = Walk::new(Again::List, Unreadable::Refuse);
        walk.start(folder, "", ());
        let mut files = Vec::new();
        while let Some((folder, entries)) = walk.next()? {
            let has = |name: &str| folder.path.join(name);
            if has("config.toml").is_file() && has("checkpoints").is_dir() {
                continue; // a run
            }
            for entry in entries {
                let Some(metadata) = entry.metadata()? else { continue };
                match metadata.is_dir() {
                    true => walk.enter(&folder, entry, ()),
                    false => files.push((folder.relative(&entry), entry.path, metadata)),
                }
            }
        }
        // Runs of all versions have them by the names of folder in folder.
        files.sort_by(|(a, ..), (b, ..)| a.split('/').cmp(b.split('/')));
        for (name, path, metadata) in files {
            if is_image(&name) {
                self.add(&name, metadata.len());
            } else if metadata.is_file() {
                self.add_file(&name, &path).map_err(|cause| Error::Io { path, cause })?;
            }
        }
        Ok(())
    }
}

/// The number of files, their bytes, and the first 16 digits of the list's SHA-256.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.files == 1 { "" } else { "s" };
        write!(f, "{} file{plural}, {} bytes, sha256 ", self.files, self.bytes)?;
        self.hash.clone().finalize().iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_change_shows_and_the_place_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |root: &str, name: &str, text: &str| {
            let path = folder.path().join(root).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let print =
            |root: &str| Fingerprint::of_folder(&folder.path().join(root)).unwrap().to_string();
        for root in ["a", "b"] {
            write(root, "images/1.png", "12345");
            write(root, "labels.json", "{}");
            write(root, ".cache/x", root);
            write(root, "run/config.toml", root);
            write(root, "run/checkpoints/best", root);
        }
        let first = print("a");
        assert_eq!(first, print("b"));
        assert!(first.starts_with("2 files, 7 bytes, sha256 "), "{first}");
        write("b", "images/1.png", "54321");
        assert_eq!(first, print("b"), "images count by their sizes");
        write("b", "labels.json", "[]");
        let second = print("b");
        assert_ne!(first, second, "labels count by their contents");
        write("b", "images/2.png", "");
        assert_ne!(second, print("b"));
        // Files and folders by the parts of their paths, as earlier versions had them.
        for name in ["a/2.png", "a.json", "a b.png", "b.png/3.png", "a/c/1.png"] {
            write("d", name, "");
        }
        let mut by_hand = Fingerprint::new();
        by_hand.add("a/2.png", 0);
        by_hand.add("a/c/1.png", 0);
        by_hand.add("a b.png", 0);
        by_hand.add_contents("a.json", b"");
        by_hand.add("b.png/3.png", 0);
        assert_eq!(print("d"), by_hand.to_string());
        #[cfg(unix)]
        {
            // Links to folders above, several of them, and one to a folder beside.
            let link = |to: &str, at: &str| {
                std::os::unix::fs::symlink(folder.path().join(to), folder.path().join(at)).unwrap();
            };
            link("d", "d/up");
            link("d", "d/a/c/up");
            assert_eq!(print("d"), by_hand.to_string());
            link("d/a/c", "d/z");
            by_hand.add("z/1.png", 0);
            assert_eq!(print("d"), by_hand.to_string());
        }
        let absent = Fingerprint::of_folder(&folder.path().join("c")).unwrap_err();
        assert!(absent.to_string().contains("c: "), "{absent}");
    }
}
