//! Images of classes: a folder for each class, in the layout of torchvision's `ImageFolder`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    ImageFolder,
    layout::{ROI, THERMAL},
};
use crate::{
    Error, Result,
    dataset::{Dataset, Sample, Subset},
    image::{DecodeOptions, Image},
};

/// An image with its class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassifiedImage {
    /// The image.
    pub image: Image,
    /// Its class: an index into the names of the set.
    pub class: usize,
}

impl Sample for ClassifiedImage {
    /// Names of the classes.
    type Classes = Vec<String>;
    /// The class.
    type Info = usize;

    fn bytes(&self) -> u64 {
        self.image.bytes()
    }
}

/// Images of classes, a folder for each class.
#[derive(Clone, Debug)]
pub struct ClassFolder {
    images: Subset<ImageFolder>,
    classes: Arc<Vec<String>>,
    /// Class of each image.
    labels: Vec<usize>,
}

impl ClassFolder {
    /// Opens `root/CLASS/..`: at least two classes, sorted by name, each with images. Hidden
    /// folders, and a folder `roi` of regions of interest, are not classes.
    ///
    /// # Errors
    /// [`Error::Entry`] for fewer than two classes, a class without images, and an image outside of
    /// the classes; [`Error::Io`] for folders that cannot be read.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = image_root(root.as_ref());
        let folder = ImageFolder::open(&root);
        let classes = classes_of(&root, folder.as_ref().ok())?;
        let set = Self::of(Subset::all(folder?), classes)?;
        for (class, name) in set.classes.iter().enumerate() {
            if !set.labels.contains(&class) {
                let what = format!("no image in it, expected some of class `{name}`");
                return Err(Error::Entry { path: root.join(name), what });
            }
        }
        Ok(set)
    }

    /// Opens `root/train/CLASS/..` and `root/val/CLASS/..`; without these folders `root/CLASS/..`,
    /// of which a share `val_share` is validated on, chosen by `seed`.
    ///
    /// # Errors
    /// As [`ClassFolder::open`]; [`Error::Entry`] for a class of `val` that `train` does not have,
    /// a class without training images, and no validation images.
    pub fn open_split(root: impl AsRef<Path>, val_share: f64, seed: u64) -> Result<(Self, Self)> {
        let root = root.as_ref();
        let (train_root, val_root) = (root.join("train"), root.join("val"));
        let (train, val) = if train_root.is_dir() && val_root.is_dir() {
            let train = Self::open(&train_root)?;
            let val_root = image_root(&val_root);
            let folder = ImageFolder::open(&val_root)?;
            let classes = classes_of(&val_root, Some(&folder))?;
            if let Some(name) = classes.iter().find(|&name| !train.has(name)) {
                let what = format!("class `{name}` is not in {}", train_root.display());
                return Err(Error::Entry { path: val_root.join(name), what });
            }
            let val = Self::of(Subset::all(folder), Arc::clone(&train.classes))?;
            (train, val)
        } else {
            let all = Self::open(root)?;
            let (train, val) = all.images.split(val_share, None, seed)?;
            let classes = || Arc::clone(&all.classes);
            (Self::of(train, classes())?, Self::of(val, classes())?)
        };
        let missing = train.classes.iter().enumerate().find(|(at, _)| !train.labels.contains(at));
        if let Some((_, name)) = missing {
            let what = format!(
                "no training image of class `{name}`, expected some (another seed or a smaller share of validation \
                 images)"
            );
            return Err(Error::Entry { path: root.into(), what });
        }
        if val.is_empty() {
            let what = "no validation image, expected some".into();
            return Err(Error::Entry { path: root.into(), what });
        }
        Ok((train, val))
    }

    /// Classes of all images, in order.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    fn has(&self, class: &str) -> bool {
        self.classes.iter().any(|known| known == class)
    }

    /// Images with the classes of their folders.
    fn of(images: Subset<ImageFolder>, classes: Arc<Vec<String>>) -> Result<Self> {
        let mut labels = Vec::with_capacity(images.len());
        for index in 0..images.len() {
            let name = images.name(index);
            let folder = name.split_once('/').map(|(folder, _)| folder);
            let class = folder.and_then(|folder| classes.iter().position(|known| known == folder));
            labels.push(class.ok_or_else(|| Error::Entry {
                path: images.dataset().root().into(),
                what: format!("`{name}` is not in the folder of a class"),
            })?);
        }
        Ok(Self { images, classes, labels })
    }
}

/// The folder that holds the folders of classes: `thermal` where regions of interest may stand
/// beside it.
fn image_root(root: &Path) -> PathBuf {
    let thermal = root.join(THERMAL);
    if thermal.is_dir() { thermal } else { root.to_path_buf() }
}

/// The folders in `root`, sorted: at least two. A folder `roi` is one of them only if it has
/// `images`.
fn classes_of(root: &Path, images: Option<&ImageFolder>) -> Result<Arc<Vec<String>>> {
    let io = |cause| Error::Io { path: root.into(), cause };
    let is_in_roi = |name: &str| name.split_once('/').is_some_and(|(folder, _)| folder == ROI);
    let has_roi = images.is_some_and(|images| images.files().any(|(_, name)| is_in_roi(name)));
    let mut classes = Vec::new();
    for entry in fs::read_dir(root).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && (name != ROI || has_roi) && entry.path().is_dir() {
            classes.push(name);
        }
    }
    classes.sort();
    let fault = |what| Err(Error::Entry { path: root.into(), what });
    match classes.as_slice() {
        [] => fault("no folder in it, expected one per class".into()),
        [only] => fault(format!("one class alone (`{only}`), expected at least two")),
        _ => Ok(Arc::new(classes)),
    }
}

impl Dataset for ClassFolder {
    type Sample = ClassifiedImage;

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn name(&self, index: usize) -> String {
        self.images.name(index)
    }

    fn classes(&self) -> &Vec<String> {
        &self.classes
    }

    fn info(&self, index: usize) -> Result<usize> {
        let class = self.labels.get(index).copied();
        class.ok_or_else(|| super::no_image(index, self.labels.len()))
    }

    fn get(&self, index: usize, options: &DecodeOptions) -> Result<ClassifiedImage> {
        let class = self.info(index)?;
        Ok(ClassifiedImage { image: self.images.get(index, options)?, class })
    }

    fn origin(&self, index: usize) -> usize {
        self.images.origin(index)
    }
}
