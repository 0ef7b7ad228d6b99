//! A folder of labelled images: a folder per class, with or without `train` and `val` above.

use std::path::Path;

use pad_data::sets::{ImageFolder, ImageList};

use super::fault;
use crate::Result;

/// Images and the number of each one's class.
#[derive(Clone, Debug)]
pub struct LabelledPart {
    /// The images.
    pub images: ImageFolder,
    /// Number of each image's class in [`Labelled::classes`].
    pub labels: Vec<usize>,
}

/// A labelled set in the layout of torchvision's `ImageFolder`.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// Names of the classes, sorted.
    pub classes: Vec<String>,
    /// What a probe learns from.
    pub train: LabelledPart,
    /// What it is asked.
    pub val: LabelledPart,
}

impl Labelled {
    /// Opens `root/train/CLASS/..` and `root/val/CLASS/..`, or `root/CLASS/..` split by `seed`: a share `val_share` of
    /// the images is asked, the others are learnt from. Hidden folders are passed over.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) without classes, for one class alone, for a class without (training)
    /// images, for a class of `val` that `train` has not, or where a part is empty;
    /// [`Error::Data`](crate::Error::Data) for folders that cannot be read.
    pub fn open(root: impl AsRef<Path>, val_share: f64, seed: u64) -> Result<Self> {
        let root = root.as_ref();
        let (train_root, val_root) = (root.join("train"), root.join("val"));
        let set = if train_root.is_dir() && val_root.is_dir() {
            let classes = classes_of(&train_root)?;
            let asked = classes_of(&val_root)?;
            if let Some(name) = asked.iter().find(|name| !classes.contains(name)) {
                let folder = val_root.join(name);
                return Err(fault(format!(
                    "{}: class `{name}` is not in {}",
                    folder.display(),
                    train_root.display()
                )));
            }
            let train = every_class(&train_root, &classes)?;
            let val = labelled(ImageFolder::open(&val_root)?, &classes)?;
            Self { classes, train, val }
        } else {
            let classes = classes_of(root)?;
            let (train, val) = every_class(root, &classes)?.images.split(val_share, seed)?;
            let (train, val) = (labelled(train, &classes)?, labelled(val, &classes)?);
            Self { classes, train, val }
        };
        set.check(root)
    }

    fn check(self, root: &Path) -> Result<Self> {
        for (class, name) in self.classes.iter().enumerate() {
            if !self.train.labels.contains(&class) {
                return Err(fault(format!(
                    "{}: no training image of class `{name}`, expected some (another seed or a smaller share of \
                     validation images)",
                    root.display()
                )));
            }
        }
        if self.val.labels.is_empty() {
            let root = root.display();
            return Err(fault(format!("{root}: no validation image, expected some")));
        }
        Ok(self)
    }
}

/// The folders in `root`, sorted: at least two.
fn classes_of(root: &Path) -> Result<Vec<String>> {
    let io = |source| pad_data::Error::Io { path: root.into(), source };
    let mut classes = Vec::new();
    for entry in std::fs::read_dir(root).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && entry.path().is_dir() {
            classes.push(name);
        }
    }
    classes.sort();
    match classes.as_slice() {
        [] => Err(fault(format!("{}: no folder in it, expected one per class", root.display()))),
        [only] => {
            let root = root.display();
            Err(fault(format!("{root}: one class alone (`{only}`), expected at least two")))
        }
        _ => Ok(classes),
    }
}

/// The images of `root`, some in each class.
fn every_class(root: &Path, classes: &[String]) -> Result<LabelledPart> {
    let part = labelled(ImageFolder::open(root)?, classes)?;
    for (class, name) in classes.iter().enumerate() {
        if !part.labels.contains(&class) {
            let folder = root.join(name);
            return Err(fault(format!(
                "{}: no image in it, expected some of class `{name}`",
                folder.display()
            )));
        }
    }
    Ok(part)
}

fn labelled(images: ImageFolder, classes: &[String]) -> Result<LabelledPart> {
    let mut labels = Vec::with_capacity(images.len());
    for index in 0..images.len() {
        let name = images.name(index).unwrap_or_default();
        let class = name
            .split_once('/')
            .and_then(|(class, _)| classes.iter().position(|known| known == class));
        labels.push(class.ok_or_else(|| {
            let root = images.root().display();
            fault(format!("{root}: `{name}` is in no class's folder"))
        })?);
    }
    Ok(LabelledPart { images, labels })
}
