//! Search of folders by pattern: names, `*` for one folder, `**` for any number.

use std::path::{Path, PathBuf};

pub(super) use crate::sets::walk::joined;
use crate::{
    Result,
    sets::walk::{Again, Unreadable, Walk, is_image},
};

/// An image in a matching folder.
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Its folder below the start, with `/` on every system; empty for the start itself.
    pub(super) folder: String,
    pub(super) name: String,
    /// Names of the folders matched by stars.
    pub(super) stars: Vec<String>,
}

/// How far a folder matches the pattern.
struct Matched {
    stars: Vec<String>,
    /// Number of matched segments of the pattern.
    done: usize,
}

/// Returns the images directly in the folders below `start` that match `pattern`, in arbitrary
/// order. Hidden files and folders are ignored, symbolic links are followed.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) for a folder that cannot be read or is reached twice.
pub(super) fn find(start: &Path, pattern: &str) -> Result<Vec<Found>> {
    let segments: Vec<&str> = pattern.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut found = Vec::new();
    let mut walk = Walk::new(Again::Refuse, Unreadable::Refuse);
    walk.start(start, "", Matched { stars: Vec::new(), done: 0 });
    while let Some((folder, entries)) = walk.next()? {
        // `**` also matches no folder: then the next segment applies.
        let mut ways = vec![folder.state.done];
        while let Some(&done) = ways.last()
            && segments.get(done) == Some(&"**")
        {
            ways.push(done + 1);
        }
        let complete = ways.contains(&segments.len());
        for entry in entries {
            let takes_image = complete && is_image(&entry.name);
            let next: Option<(usize, bool)> =
                ways.iter().rev().find_map(|&done| match segments.get(done) {
                    Some(&"**") => Some((done, true)),
                    Some(&"*") => Some((done + 1, true)),
                    Some(name) if name.eq_ignore_ascii_case(&entry.name) => Some((done + 1, false)),
                    _ => None,
                });
            if !takes_image && next.is_none() {
                continue;
            }
            let Some(metadata) = entry.metadata()? else { continue };
            if metadata.is_dir() {
                let Some((done, is_star)) = next else { continue };
                let mut stars = folder.state.stars.clone();
                if is_star {
                    stars.push(entry.name.clone());
                }
                walk.enter(&folder, entry, Matched { stars, done });
            } else if takes_image && metadata.is_file() {
                found.push(Found {
                    path: entry.path,
                    folder: folder.relative.clone(),
                    name: entry.name,
                    stars: folder.state.stars.clone(),
                });
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(start: &Path, pattern: &str) -> Vec<String> {
        let mut found: Vec<String> = find(start, pattern)
            .unwrap()
            .into_iter()
            .map(|one| format!("{} [{}]", joined(&one.folder, &one.name), one.stars.join(",")))
            .collect();
        found.sort();
        found
    }

    #[test]
    fn stars_stand_for_folders() {
        let root = tempfile::tempdir().unwrap();
        for path in ["0.png", "A/1.jpg", "A/b/2.PNG", "A/b/notes.txt", "A/c/d/3.bmp", ".h/4.png"] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        assert_eq!(found(root.path(), ""), ["0.png []"]);
        assert_eq!(found(root.path(), "a"), ["A/1.jpg []"]);
        assert_eq!(found(root.path(), "a/*"), ["A/b/2.PNG [b]"]);
        assert_eq!(found(root.path(), "*/*/*"), ["A/c/d/3.bmp [A,c,d]"]);
        assert_eq!(found(root.path(), "**").len(), 4);
        assert_eq!(found(root.path(), "**/d"), ["A/c/d/3.bmp [A,c]"]);
        assert_eq!(found(root.path(), "**/absent").len(), 0);
    }
}
