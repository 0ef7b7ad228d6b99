//! The one walk over the folders below a folder, for all that list files.

use std::{
    collections::{BTreeSet, VecDeque},
    fs, io,
    path::{Path, PathBuf},
};

use tracing::warn;

use crate::{Error, Result, error::shown_path, image::EXTENSIONS};

/// An entry of a folder that is not hidden.
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    is_link: bool,
}

impl Entry {
    /// Its metadata, links followed; `None` for a link to nowhere without the name of an image.
    pub(crate) fn metadata(&self) -> Result<Option<fs::Metadata>> {
        match fs::metadata(&self.path) {
            Ok(metadata) => Ok(Some(metadata)),
            // A link to nowhere is a fault where an image is expected, and ignored elsewhere.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && self.is_link
                    && !is_image(&self.name) =>
            {
                warn!("{}: a symbolic link that leads nowhere is ignored", shown_path(&self.path));
                Ok(None)
            }
            Err(cause) => Err(Error::Io { path: self.path.clone(), cause }),
        }
    }

    /// Whether it is an image, as far as its name tells: no folder, whatever its name. One that
    /// cannot be read is found out when it is.
    pub(crate) fn is_image(&self) -> bool {
        is_image(&self.name) && !self.path.is_dir()
    }
}

/// The entries of a folder that are not hidden, by name.
pub(crate) fn list(folder: &Path) -> Result<Vec<Entry>> {
    let io = |cause| Error::Io { path: folder.into(), cause };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            let is_link = entry.file_type().map_err(io)?.is_symlink();
            entries.push(Entry { path: entry.path(), name, is_link });
        }
    }
    // The order of a directory is arbitrary; errors should not depend on it either.
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Whether a file of this name should be an image.
pub(crate) fn is_image(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|found| EXTENSIONS.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

/// The path with `/` between its components.
pub(crate) fn joined(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_string(),
        folder => format!("{folder}/{name}"),
    }
}

/// What becomes of a folder that is reached again, by a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It is an error: the same images twice would leak from one part of a set to another.
    Refuse,
    /// It is left out: it is listed under its own name before it is under that of a link.
    Skip,
    /// It is listed under this name too, unless it lies inside itself.
    List,
}

/// What becomes of a folder that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is an error.
    Refuse,
    /// It is left out, with a warning.
    Skip,
}

/// The folders below some folders, one after the other, as the caller [enters](Walk::enter) them.
/// Hidden files and folders are left out, symbolic links followed. Folders come in the order of their
/// names, each before those below it, and all before those that links lead to.
///
/// `T` is what a caller keeps of a folder.
pub(crate) struct Walk<T = ()> {
    again: Again,
    unreadable: Unreadable,
    /// Folders to be listed, the next one last.
    open: Vec<Open<T>>,
    /// Those of the folder that is being looked at, in order.
    below: Vec<Open<T>>,
    /// Those that links lead to.
    links: VecDeque<Open<T>>,
    /// Real paths of the folders that were listed.
    seen: BTreeSet<PathBuf>,
}

struct Open<T> {
    path: PathBuf,
    relative: String,
    state: T,
    /// Real paths of the folders above, where they matter.
    above: Vec<PathBuf>,
}

/// A folder of a walk.
pub(crate) struct Folder<T = ()> {
    pub(crate) path: PathBuf,
    /// Its path below the start, with `/` on every system; what the start was given for itself.
    pub(crate) relative: String,
    /// What the caller keeps of it.
    pub(crate) state: T,
    /// Real paths of it and the folders above, where they matter.
    above: Vec<PathBuf>,
}

impl<T> Folder<T> {
    /// The path of an entry below the start.
    pub(crate) fn relative(&self, entry: &Entry) -> String {
        joined(&self.relative, &entry.name)
    }
}

impl<T> Walk<T> {
    pub(crate) fn new(again: Again, unreadable: Unreadable) -> Self {
        Self {
            again,
            unreadable,
            open: Vec::new(),
            below: Vec::new(),
            links: VecDeque::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Adds a folder to start from, whose entries lie at `relative`.
    pub(crate) fn start(&mut self, path: &Path, relative: &str, state: T) {
        let (path, relative) = (path.to_path_buf(), relative.to_string());
        self.below.push(Open { path, relative, state, above: Vec::new() });
    }

    /// Adds an entry of `folder`, a folder, to those that are listed.
    pub(crate) fn enter(&mut self, folder: &Folder<T>, entry: Entry, state: T) {
        let relative = folder.relative(&entry);
        let open = Open { path: entry.path, relative, state, above: folder.above.clone() };
        match entry.is_link {
            true => self.links.push_back(open),
            false => self.below.push(open),
        }
    }

    /// Lists the next folder; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Io`] for a folder that cannot be read, and for one that is reached again, where that
    /// is refused.
    pub(crate) fn next(&mut self) -> Result<Option<(Folder<T>, Vec<Entry>)>> {
        loop {
            // Not recursive: a deep tree must not overflow the stack.
            self.open.extend(self.below.drain(..).rev());
            let Some(next) = self.open.pop().or_else(|| self.links.pop_front()) else {
                return Ok(None);
            };
            let Open { path, relative, state, mut above } = next;
            let io = |cause| Error::Io { path: path.clone(), cause };
            let listed = path.canonicalize().map_err(io).and_then(|real| {
                let is_again = match self.again {
                    Again::List => above.contains(&real),
                    _ => self.seen.contains(&real),
                };
                match is_again {
                    true if self.again == Again::Refuse => {
                        let what = format!("leads to {}, which is listed already", real.display());
                        Err(io(io::Error::other(what)))
                    }
                    true => Ok(None),
                    false => Ok(Some((list(&path)?, real))),
                }
            });
            match listed {
                Ok(Some((entries, real))) => {
                    match self.again {
                        Again::List => above.push(real),
                        _ => drop(self.seen.insert(real)),
                    }
                    return Ok(Some((Folder { path, relative, state, above }, entries)));
                }
                Ok(None) => {}
                Err(error)
                    if self.unreadable == Unreadable::Refuse || self.again == Again::Refuse =>
                {
                    return Err(error);
                }
                Err(error) => warn!("a folder is left out: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files below `start`, and those below it that are folders, by their relative paths.
    fn walked(start: &Path, again: Again, unreadable: Unreadable) -> Result<Vec<String>> {
        let mut walk = Walk::new(again, unreadable);
        walk.start(start, "", ());
        let mut found = Vec::new();
        while let Some((folder, entries)) = walk.next()? {
            for entry in entries {
                match entry.path.is_dir() {
                    true => walk.enter(&folder, entry, ()),
                    false => found.push(folder.relative(&entry)),
                }
            }
        }
        Ok(found)
    }

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    const ALL: [Again; 3] = [Again::Refuse, Again::Skip, Again::List];

    #[test]
    fn folders_come_in_order_and_hidden_ones_never() {
        let files = [
            "b/2.png",
            "b/1.png",
            "a.png",
            "a/z/3.png",
            "a/4.png",
            "c.png",
            ".h/5.png",
            "a/.6.png",
        ];
        let root = tree(&files);
        for again in ALL {
            assert_eq!(
                walked(root.path(), again, Unreadable::Refuse).unwrap(),
                ["a.png", "c.png", "a/4.png", "a/z/3.png", "b/1.png", "b/2.png"]
            );
        }
    }

    #[test]
    fn a_folder_may_have_the_name_of_an_image() {
        let root = tree(&["a.png/1.png"]);
        let entries = list(root.path()).unwrap();
        assert!(is_image(&entries[0].name) && !entries[0].is_image());
        assert!(list(&entries[0].path).unwrap()[0].is_image());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_above_never_ends_a_walk() {
        use std::os::unix::fs::symlink;
        let root = tree(&["b/1.png", "c/2.png"]);
        // By name before the folder that it leads to, and two ways into each other.
        symlink(root.path().join("b"), root.path().join("a")).unwrap();
        symlink(root.path(), root.path().join("c/up")).unwrap();
        let walked = |again| walked(root.path(), again, Unreadable::Refuse);
        let error = walked(Again::Refuse).unwrap_err().to_string();
        let real = root.path().join("b").canonicalize().unwrap();
        let link = root.path().join("a");
        let (link, real) = (link.display(), real.display());
        assert_eq!(error, format!("{link}: leads to {real}, which is listed already"));
        assert_eq!(walked(Again::Skip).unwrap(), ["b/1.png", "c/2.png"], "not by way of the link");
        assert_eq!(walked(Again::List).unwrap(), ["b/1.png", "c/2.png", "a/1.png"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_cannot_be_read_is_an_error_or_left_out() {
        use std::os::unix::fs::PermissionsExt;
        let root = tree(&["a/1.png", "b/2.png"]);
        let absent = root.path().join("absent");
        let locked = root.path().join("a");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
        // The superuser reads everything.
        let is_locked = fs::read_dir(&locked).is_err();
        for again in ALL {
            let error = walked(&absent, again, Unreadable::Refuse).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}: No such", absent.display())), "{error}");
            if is_locked {
                let error = walked(root.path(), again, Unreadable::Refuse).unwrap_err();
                assert!(error.to_string().starts_with(&locked.display().to_string()), "{error}");
            }
        }
        for again in [Again::Skip, Again::List] {
            assert!(walked(&absent, again, Unreadable::Skip).unwrap().is_empty());
            let left = walked(root.path(), again, Unreadable::Skip).unwrap();
            let expected: &[&str] = if is_locked { &["b/2.png"] } else { &["a/1.png", "b/2.png"] };
            assert_eq!(left, expected);
        }
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_deep_tree_does_not_overflow_the_stack() {
        let root = tempfile::tempdir().unwrap();
        let deep: PathBuf = std::iter::repeat_n("d", 100).collect();
        fs::create_dir_all(root.path().join(&deep)).unwrap();
        fs::write(root.path().join(&deep).join("1.png"), "").unwrap();
        for again in ALL {
            assert_eq!(walked(root.path(), again, Unreadable::Refuse).unwrap().len(), 1);
        }
    }
}
