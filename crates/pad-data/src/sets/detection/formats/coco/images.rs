//! The images that a file lists.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use pad_ops::ImageSize;

use super::{
    super::super::{
        LeftOut, Object,
        entry::{DetectionOptions, has_size, header_size},
        pictures::Pictures,
    },
    file::Image,
    key::{Key, Meanings},
    values::Scalar,
};
use crate::{Error, Result, sets::faults::Faults};

/// The images of a file, in the order of their numbers.
pub(super) struct Images {
    list: Vec<Listed>,
    /// Places in the list, by what annotations call them; `None` for one that cannot be used.
    places: BTreeMap<Key, Option<usize>>,
    meanings: Meanings,
}

/// An image of the file, and its boxes so far.
pub(super) struct Listed {
    pub(super) path: PathBuf,
    pub(super) id: i64,
    /// What the file calls it where that is not spelt as a number.
    pub(super) text_id: Option<String>,
    pub(super) name: String,
    pub(super) size: ImageSize,
    pub(super) objects: Vec<Object>,
}

impl Images {
    /// Finds the files of the images of `path` in the first of `folders` that has them.
    ///
    /// # Errors
    /// [`Error::Entry`] for two images of one number; [`Error::TooManyFaults`] for files that are
    /// missing, or the first such fault where none is tolerated.
    pub(super) fn of(
        path: &Path,
        images: Vec<Image>,
        folders: &[PathBuf],
        options: &DetectionOptions,
        left_out: &mut LeftOut,
    ) -> Result<Self> {
        let fault = |what: String| Error::Entry { path: path.into(), what };
        let names: Vec<Option<String>> = images.iter().map(Image::name).collect();
        let mut pictures = Pictures::best(folders, names.iter().flatten().map(String::as_str));
        let files = files(&names, &mut pictures);
        let all = images.len();
        let mut faults = Faults::new(options.max_faulty);
        let mut places: BTreeMap<Key, Option<usize>> = BTreeMap::new();
        let mut first_names: BTreeMap<Key, Option<&String>> = BTreeMap::new();
        let mut list: Vec<(Key, Listed)> = Vec::with_capacity(all);
        for ((image, name), file) in images.iter().zip(&names).zip(files) {
            let Some(key) = Key::of(&image.id) else {
                let name = name.as_deref().unwrap_or("an image without a name");
                let what = format!("{name}: expected `id`, a number or a text, found {}", image.id);
                faults.add(fault(what))?;
                continue;
            };
            if let Some(first) = first_names.insert(key.clone(), name.as_ref()) {
                if first != name.as_ref() {
                    return Err(fault(format!("image {key}: expected once, found again")));
                }
                // The same line twice says nothing new.
                continue;
            }
            places.insert(key.clone(), None);
            let listed = listed(image, name.as_deref(), file, pictures.folder(), options.masks);
            match listed {
                Ok(listed) => list.push((key, listed)),
                Err(what) => faults.add(fault(format!("image {key}: {what}")))?,
            }
        }
        left_out.images += faults.close(path, "images", all)?;
        warn_of_repeated(path, &list);
        let meanings = Meanings::of(places.keys());
        number(&mut list, &meanings);
        list.sort_by_key(|(_, image)| image.id);
        for (place, (key, _)) in list.iter().enumerate() {
            places.insert(key.clone(), Some(place));
        }
        Ok(Self { list: list.into_iter().map(|(_, image)| image).collect(), places, meanings })
    }

    /// The image that an annotation names: `None` for an unknown one, `Some(None)` for one that
    /// cannot be used. Where none is called exactly so, it is the only one of this number: `007` by
    /// 7, or 7 by `007`.
    pub(super) fn find(&mut self, key: &Scalar) -> Option<Option<&mut Listed>> {
        let key = Key::of(key)?;
        let by_meaning = || self.places.get(self.meanings.only(&key)?);
        let place = *self.places.get(&key).or_else(by_meaning)?;
        Some(place.and_then(|place| self.list.get_mut(place)))
    }

    /// The images with their boxes.
    pub(super) fn into_list(self) -> Vec<Listed> {
        self.list
    }
}

/// The file of each name. Files of exactly a name go first: another name that ends alike is not
/// theirs.
fn files(names: &[Option<String>], pictures: &mut Pictures) -> Vec<Option<PathBuf>> {
    let exact = |name: &Option<String>| pictures.exact(name.as_deref()?);
    let mut files: Vec<Option<PathBuf>> = names.iter().map(exact).collect();
    let mut taken: BTreeSet<PathBuf> = files.iter().flatten().cloned().collect();
    for (file, name) in files.iter_mut().zip(names) {
        if let (None, Some(name)) = (&file, name) {
            *file = pictures.alike(name).filter(|found| taken.insert(found.clone()));
        }
    }
    files
}

/// An image without its boxes. Its size, where the file does not hold it, is that of its header.
fn listed(
    image: &Image,
    name: Option<&str>,
    file: Option<PathBuf>,
    folder: &Path,
    masks: bool,
) -> Result<Listed, String> {
    let name = name.ok_or("expected `file_name`, found none")?;
    let path = file.ok_or_else(|| {
        format!(
            "expected the file {}, found none",
            folder.join(name.escape_debug().to_string()).display()
        )
    })?;
    let side = |side: &Scalar| {
        let side = side.whole().and_then(|side| usize::try_from(side).ok());
        side.filter(|side| *side > 0 && *side <= u32::MAX as usize)
    };
    let said = side(&image.height).zip(side(&image.width));
    let said = said.map(|(height, width)| ImageSize::new(height, width));
    let found = || header_size(&path).map_err(|error| error.to_string());
    let size = match said {
        // Masks take memory by the size of their image, which must be the file's.
        Some(size) if masks && !has_size(&path, size).map_err(|error| error.to_string())? => {
            return Err(format!("expected an image of {size}, found {}", found()?));
        }
        Some(size) => size,
        None => found()?,
    };
    Ok(Listed { path, id: 0, text_id: None, name: name.into(), size, objects: Vec::new() })
}

/// Numbers the images: by their own number, or, for one that is called by a text without one, after
/// the others in the order of the file. Results call it by its text.
fn number(list: &mut [(Key, Listed)], meanings: &Meanings) {
    let mut free = list.iter().filter_map(|(key, _)| key.meaning()).max().unwrap_or(0).max(0);
    for (key, image) in list {
        if let Key::Text(text) = &*key {
            image.text_id = Some(text.clone());
        }
        image.id = meanings.number(key).unwrap_or_else(|| {
            free = free.saturating_add(1);
            free
        });
    }
}

fn warn_of_repeated(path: &Path, list: &[(Key, Listed)]) {
    let mut seen = BTreeSet::new();
    let again = list.iter().filter(|(_, image)| !seen.insert(&image.path)).count();
    if again > 0 {
        let path = path.display();
        tracing::warn!("{path}: {again} images are listed more than once, under other numbers");
    }
}
