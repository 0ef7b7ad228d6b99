//! Finds the files of images by the names that annotations have for them: names of other systems,
//! escaped ones, and paths of the machine that they were labelled on.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use percent_encoding::percent_decode_str;

use crate::sets::{
    splits::is_part,
    walk::{Again, Unreadable, Walk, is_image},
};

/// Number of names that decide between folders.
const TRIED: usize = 32;

/// A folder of images.
pub(super) struct Pictures {
    folder: PathBuf,
    listed: Option<Listing>,
}

/// The images below a folder, by their paths in lower case.
#[derive(Default)]
struct Listing {
    paths: BTreeMap<String, Vec<PathBuf>>,
    /// By file name, of those that are not in the folder of a part: there, an image of this name may
    /// be another part's.
    names: BTreeMap<String, Vec<PathBuf>>,
}

impl Pictures {
    /// The first of `folders` that holds the most of the first `names` exactly, and of those that
    /// hold as many the one that holds the most [alike](Pictures::alike); the first that exists, if
    /// none holds any. A folder above another one must not win by what lies in a third.
    pub(super) fn best<'a>(
        folders: &[PathBuf],
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> Self {
        let of = |folder: &PathBuf| Self { folder: folder.clone(), listed: None };
        let existing = || folders.iter().filter(|folder| folder.is_dir());
        let tried = names.clone().take(TRIED).count();
        let exactly = |folder: &PathBuf| {
            let pictures = of(folder);
            names.clone().take(TRIED).filter(|name| pictures.exact(name).is_some()).count()
        };
        let mut best: Option<(usize, &PathBuf)> = None;
        for folder in existing() {
            let held = exactly(folder);
            if held > best.map_or(0, |(most, _)| most) {
                best = Some((held, folder));
            }
            if held == tried {
                break;
            }
        }
        if let Some((_, folder)) = best {
            return of(folder);
        }
        let mut best: Option<(usize, Self)> = None;
        for folder in existing() {
            let mut pictures = of(folder);
            let held = names.clone().take(TRIED).filter(|name| pictures.alike(name).is_some());
            let held = held.count();
            if best.as_ref().is_none_or(|(most, _)| held > *most) {
                best = Some((held, pictures));
            }
            if held == tried {
                break;
            }
        }
        let otherwise = || of(folders.first().unwrap_or(&PathBuf::new()));
        best.map_or_else(otherwise, |(_, pictures)| pictures)
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of exactly this name, with `/` for `\` or escapes resolved. `None` if it is
    /// missing.
    pub(super) fn exact(&self, name: &str) -> Option<PathBuf> {
        let forms = forms(name);
        let inside = forms.iter().filter(|form| !form.split('/').any(|part| part == ".."));
        inside.map(|form| self.folder.join(&**form)).find(|path| path.is_file())
    }

    /// The file below the folder whose path is the longest end of the name, whatever its case; else
    /// the only one of this file name. `None` without such a file.
    pub(super) fn alike(&mut self, name: &str) -> Option<PathBuf> {
        let listing = self.listed.get_or_insert_with(|| Listing::of(&self.folder));
        forms(name).iter().find_map(|form| listing.find(form))
    }
}

/// The names that a name may stand for.
fn forms(name: &str) -> Vec<Cow<'_, str>> {
    let mut forms = vec![Cow::Borrowed(name)];
    let mut add = |form: Cow<'_, str>| {
        if !forms.contains(&form) {
            forms.push(Cow::Owned(form.into_owned()));
        }
    };
    let slashes = name.replace('\\', "/");
    add(Cow::Borrowed(&slashes));
    // Label Studio serves files as `/data/local-files/?d=folder/image.png`.
    let query = slashes.split_once("?d=").map_or(slashes.as_str(), |(_, path)| path);
    add(Cow::Borrowed(query));
    add(percent_decode_str(query).decode_utf8_lossy());
    // Other queries, and marks of a place, are not part of a name: `image.png?token=1`. A file may
    // have such a name all the same, and goes before.
    let end = query.find(['?', '#']).map(|end| &query[..end]).filter(|name| is_image(name));
    if let Some(name) = end {
        add(Cow::Borrowed(name));
        add(percent_decode_str(name).decode_utf8_lossy());
    }
    forms
}

impl Listing {
    /// The images below `folder`; folders that cannot be read have none.
    fn of(folder: &Path) -> Self {
        let mut listing = Self::default();
        let mut walk = Walk::new(Again::Skip, Unreadable::Skip);
        walk.start(folder, "", ());
        while let Ok(Some((folder, entries))) = walk.next() {
            for entry in entries {
                if entry.path.is_dir() {
                    walk.enter(&folder, entry, ());
                } else if is_image(&entry.name) {
                    let relative = folder.relative(&entry).to_lowercase();
                    if !folder.relative.split('/').any(is_part) {
                        let name = entry.name.to_lowercase();
                        listing.names.entry(name).or_default().push(entry.path.clone());
                    }
                    listing.paths.entry(relative).or_default().push(entry.path);
                }
            }
        }
        listing
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        let only = |files: &Vec<PathBuf>| match &files[..] {
            [file] => Some(file.clone()),
            _ => None,
        };
        let name = name.to_lowercase();
        let mut end = name.trim_start_matches(['/', '.']);
        loop {
            if let Some(file) = self.paths.get(end).and_then(only) {
                return Some(file);
            }
            match end.split_once('/') {
                Some((_, rest)) => end = rest,
                None => return self.names.get(end).and_then(only),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_of_other_systems_are_found() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, b"").unwrap();
        };
        let names = ["a/IM 1.PNG", "b/IM 1.PNG", "a/one.png", "top.jpg", "b/two/3.png"];
        for name in names.into_iter().chain(["q.png", "b/q.png#2.png", "n#1.png"]) {
            put(name);
        }
        let mut pictures = Pictures::best(&[root.path().into()], std::iter::empty());
        let mut found = |name: &str| {
            let path = pictures.exact(name).or_else(|| pictures.alike(name))?;
            Some(path.strip_prefix(root.path()).unwrap().to_str().unwrap().to_string())
        };
        let is = |name: &str| Some(name.to_string());
        assert_eq!(found("a/one.png"), is("a/one.png"));
        assert_eq!(found("a\\one.png"), is("a/one.png"));
        assert_eq!(found("a/im%201.png"), is("a/IM 1.PNG"));
        assert_eq!(found("C:\\Users\\x\\b\\IM 1.png"), is("b/IM 1.PNG"));
        assert_eq!(found("../../media/upload/one.png"), is("a/one.png"));
        assert_eq!(found("/data/local-files/?d=b%2Ftwo%2F3.png"), is("b/two/3.png"));
        assert_eq!(found("/home/me/TOP.jpg"), is("top.jpg"));
        // Queries, and names that look like such.
        assert_eq!(found("a/one.png?token=1&b=c.png"), is("a/one.png"));
        assert_eq!(found("https://host/x/a/im%201.png?X-Amz-Date=1#top"), is("a/IM 1.PNG"));
        assert_eq!(found("top.jpg#page"), is("top.jpg"));
        assert_eq!(found("/data/local-files/?d=b%2Ftwo%2F3.png?token=1"), is("b/two/3.png"));
        assert_eq!(found("n#1.png"), is("n#1.png"));
        assert_eq!(found("b/q.png#2.png"), is("b/q.png#2.png"));
        assert_eq!(found("none?one.png"), None);
        // Two files of this name.
        assert_eq!(found("im 1.png"), None);
        assert_eq!(found("none.png"), None);
        let folders = ["none", "b", "a"].map(|name| root.path().join(name));
        let names = ["one.png", "IM 1.PNG"];
        assert!(Pictures::best(&folders, names.into_iter()).folder().ends_with("a"));
    }
}
