//! Where the text file of an image's labels lies.

use std::path::{Component, Path, PathBuf};

use super::super::super::listed::Listed;

/// Places of the text files of a set.
pub(in super::super::super) struct Places {
    /// Folders that hold the files by the names of the images, best first.
    folders: Vec<PathBuf>,
    images: Images,
}

/// Where the images of a set come from.
enum Images {
    /// They were given together with the folder of their labels, which holds all of them.
    Given,
    /// From another folder than the set's.
    Elsewhere,
    /// From this folder of the set, or from where it says.
    OfSet(PathBuf),
}

impl Places {
    /// Of images whose labels all lie in `folder`.
    pub(in super::super::super) fn in_folder(folder: &Path) -> Self {
        Self { folders: vec![folder.into()], images: Images::Given }
    }

    /// Of the set `root`, whose text files may lie in `folders`.
    pub(super) fn of_set(root: &Path, folders: Vec<PathBuf>) -> Self {
        Self { folders, images: Images::OfSet(root.into()) }
    }

    /// Of images elsewhere than in the set, whose text files may lie in `folders`.
    pub(super) fn of_images_elsewhere(folders: Vec<PathBuf>) -> Self {
        Self { folders, images: Images::Elsewhere }
    }

    /// The folder that messages about all labels name.
    pub(super) fn folder(&self) -> &Path {
        self.folders.first().map_or(Path::new(""), PathBuf::as_path)
    }

    /// The file of an image's labels, or the first place where it was looked for.
    ///
    /// Where the last folder `images` of an image's path has a folder `labels` beside it, as
    /// Ultralytics has them, no other one counts: that would be another set's.
    pub(super) fn of(&self, image: &Listed) -> (Option<PathBuf>, Option<PathBuf>) {
        let below = Path::new(&image.name).with_extension("txt");
        let mut places: Vec<PathBuf> = Vec::new();
        match (&self.images, beside(&image.path, self.depth(image))) {
            (Images::OfSet(_), Some((labels, file))) if labels.is_dir() => {
                let inside = self.folders.iter().filter(|folder| folder.starts_with(&labels));
                places.push(file);
                places.extend(inside.map(|folder| folder.join(&below)));
                places.push(labels.join(&below));
            }
            _ => places.extend(self.folders.iter().map(|folder| folder.join(&below))),
        }
        let is_alone = match &self.images {
            Images::Given => true,
            Images::Elsewhere => self.folders.iter().any(|folder| folder.is_dir()),
            Images::OfSet(_) => false,
        };
        if !is_alone {
            places.extend(beside(&image.path, 0).map(|(_, file)| file));
        }
        if !matches!(self.images, Images::Given) {
            places.push(image.path.with_extension("txt"));
        }
        let found = places.iter().find(|place| place.is_file()).cloned();
        (found, places.into_iter().next())
    }

    /// Number of the folders of an image's path that are above its set: a folder `images` among
    /// them holds sets.
    fn depth(&self, image: &Listed) -> usize {
        match &self.images {
            Images::OfSet(root) if image.path.starts_with(root) => root.components().count(),
            _ => 0,
        }
    }
}

/// The folder `labels` beside the last folder `images` of an image's path, and the file in it;
/// `None` without one behind the first `depth` folders.
fn beside(image: &Path, depth: usize) -> Option<(PathBuf, PathBuf)> {
    let parts: Vec<Component<'_>> = image.components().collect();
    let folder = parts.iter().rposition(|part| part.as_os_str() == "images")?;
    if folder < depth {
        return None;
    }
    let labels = parts[..folder].iter().collect::<PathBuf>().join("labels");
    let below: PathBuf = parts[folder + 1..].iter().collect();
    let file = labels.join(below).with_extension("txt");
    Some((labels, file))
}
