//! What a set of images is, and adaptors over any set.
//!
//! | type | what |
//! |---|---|
//! | [`Dataset`] | samples by index: of folders, shards, labelled sets, rendered scenes, or your own |
//! | [`Sample`] | what a set gives: an image, an image with a class map, an image with boxes |
//! | [`Subset`] | some samples of a set: the first, every n-th, a share, training and held out |
//! | [`Repeat`] | every sample several times in an epoch |
//! | [`Concat`] | several sets in a row |
//! | [`ReadAs`] | a set whose files are read in a chosen way: raw counts, a page, the picture |
//!
//! ```
//! use pad_data::{
//!     Dataset, Result,
//!     dataset::{Repeat, Subset, no_such_sample},
//!     image::{DecodeOptions, Image, Pixels},
//!     sets::ImageInfo,
//! };
//! use pad_ops::ImageSize;
//!
//! /// Ten images of one level each.
//! struct Levels;
//!
//! impl Dataset for Levels {
//!     type Sample = Image;
//!
//!     fn len(&self) -> usize {
//!         10
//!     }
//!
//!     fn name(&self, index: usize) -> String {
//!         format!("level_{index}")
//!     }
//!
//!     fn classes(&self) -> &() {
//!         &()
//!     }
//!
//!     fn info(&self, _: usize) -> Result<ImageInfo> {
//!         Ok(ImageInfo::default())
//!     }
//!
//!     fn get(&self, index: usize, _: &DecodeOptions) -> Result<Image> {
//!         let level = u8::try_from(index).ok().filter(|level| *level < 10);
//!         let level = level.ok_or_else(|| no_such_sample(index, self.len()))?;
//!         Image::new(ImageSize::square(16), 1, Pixels::U8(vec![level; 256]))
//!     }
//! }
//!
//! let (training, held_out) = Subset::all(Levels).split(0.3, Some(2), 7)?;
//! assert!(held_out.len() <= 2);
//! assert_eq!(training.len() + held_out.len(), 10);
//! assert_eq!(Repeat::new(training.clone(), 3).len(), 3 * training.len());
//! # Ok::<(), pad_data::Error>(())
//! ```

mod concat;
mod read_as;
mod repeat;
mod subset;
mod tolerance;

use std::sync::Arc;

pub use self::{
    concat::Concat, read_as::ReadAs, repeat::Repeat, subset::Subset, tolerance::tolerated,
};
use crate::{Error, Result, image::DecodeOptions};

/// A sample of a [`Dataset`]. Clones are cheap: images share their pixels.
///
/// ```
/// use pad_data::{ImageSize, Sample, image::{Image, Pixels}};
/// let image = Image::new(ImageSize::square(2), 1, Pixels::U16(vec![0; 4]))?;
/// assert_eq!(image.bytes(), 8); // what a loader's cache counts
/// # Ok::<(), pad_data::Error>(())
/// ```
pub trait Sample: Clone + Send + Sync + 'static {
    /// What the whole set says of its labels, such as the names of its classes; `()` without
    /// labels.
    type Classes: Send + Sync;

    /// What is known of one sample without decoding it.
    type Info;

    /// Memory of the sample, bytes.
    fn bytes(&self) -> u64;
}

/// A set of samples.
///
/// What a sample is depends on its index alone, never on the calls before: loaders call from
/// several threads, in any order. A set can be shared as `Arc<dyn Dataset<Sample = Image>>`, see
/// [`SharedDataset`].
///
/// The first page of [this module](self) implements it.
///
/// ```
/// use pad_data::{Dataset, ImageSize, draw::Canvas, sets::ImageFolder};
/// let folder = tempfile::tempdir().unwrap();
/// for name in ["day/a.png", "day/b.png", "night/c.png"] {
///     let path = folder.path().join(name);
///     std::fs::create_dir_all(path.parent().unwrap()).unwrap();
///     Canvas::new(ImageSize::square(16), [7; 3]).save_png(path)?;
/// }
/// let set = ImageFolder::open(folder.path())?;
/// assert_eq!((set.len(), set.name(2), set.source(2)), (3, "night/c.png".into(), "night".into()));
/// assert_eq!(set.get(0, &Default::default())?.size(), ImageSize::square(16));
/// let sources: Vec<usize> = set.sources().iter().map(|source| source.images).collect();
/// assert_eq!(sources, [2, 1]);
/// # Ok::<(), pad_data::Error>(())
/// ```
pub trait Dataset: Send + Sync {
    /// What it gives.
    type Sample: Sample;

    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether the set has no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name of a sample: its path below the root of the set, with `/` on every system. Any string
    /// for an index beyond the end.
    fn name(&self, index: usize) -> String;

    /// Classes of the set.
    fn classes(&self) -> &<Self::Sample as Sample>::Classes;

    /// Returns what is known of a sample without decoding it.
    ///
    /// # Errors
    /// [`Error::Setting`] for an index beyond the end.
    fn info(&self, index: usize) -> Result<<Self::Sample as Sample>::Info>;

    /// Reads a sample.
    ///
    /// # Errors
    /// Faults of its file or its labels; [`Error::Setting`] for an index beyond the end.
    fn get(&self, index: usize, options: &DecodeOptions) -> Result<Self::Sample>;

    /// Name of the source that a sample is from: the first folder of its name, `.` without one.
    fn source(&self, index: usize) -> String {
        let name = self.name(index);
        name.split_once('/').map_or(".", |(first, _)| first).to_string()
    }

    /// The index under which a loader caches a sample: equal for indices that give the same one.
    fn origin(&self, index: usize) -> usize {
        index
    }

    /// Sources of the set, in the order of their first samples.
    fn sources(&self) -> Vec<Source> {
        let mut sources: Vec<Source> = Vec::new();
        for index in 0..self.len() {
            let name = self.source(index);
            // Samples of a source mostly follow each other.
            match sources.iter_mut().rev().find(|source| source.name == name) {
                Some(source) => source.images += 1,
                None => sources.push(Source { name, images: 1 }),
            }
        }
        sources
    }
}

/// A set behind a pointer.
///
/// ```
/// use std::sync::Arc;
/// use pad_data::{Dataset, ImageSize, SharedDataset, draw::Canvas, image::Image};
/// use pad_data::sets::ImageFolder;
/// let folder = tempfile::tempdir().unwrap();
/// Canvas::new(ImageSize::square(16), [7; 3]).save_png(folder.path().join("a.png"))?;
/// // Which kind of set it is, is known at run time alone.
/// let set: SharedDataset<Image> = Arc::new(ImageFolder::open(folder.path())?);
/// assert_eq!(set.len(), 1);
/// # Ok::<(), pad_data::Error>(())
/// ```
pub type SharedDataset<S> = Arc<dyn Dataset<Sample = S>>;

/// A named part of a set.
///
/// ```
/// use pad_data::dataset::Source;
/// let night = Source { name: "night".to_string(), images: 120 };
/// assert_eq!(night.images, 120);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name of its folder; `.` for images directly in the listed folder.
    pub name: String,
    /// Number of images in it.
    pub images: usize,
}

impl<D: Dataset + ?Sized> Dataset for Arc<D> {
    type Sample = D::Sample;

    fn len(&self) -> usize {
        (**self).len()
    }

    fn name(&self, index: usize) -> String {
        (**self).name(index)
    }

    fn classes(&self) -> &<D::Sample as Sample>::Classes {
        (**self).classes()
    }

    fn info(&self, index: usize) -> Result<<D::Sample as Sample>::Info> {
        (**self).info(index)
    }

    fn get(&self, index: usize, options: &DecodeOptions) -> Result<D::Sample> {
        (**self).get(index, options)
    }

    fn source(&self, index: usize) -> String {
        (**self).source(index)
    }

    fn origin(&self, index: usize) -> usize {
        (**self).origin(index)
    }
}

/// The error of an index beyond the end of a set of `len` samples.
///
/// ```
/// use pad_data::dataset::no_such_sample;
/// let error = no_such_sample(10, 10).to_string();
/// assert!(error.contains("10"), "{error}");
/// ```
pub fn no_such_sample(index: usize, len: usize) -> Error {
    Error::Setting { name: "index", expected: format!("below {len}"), found: index.to_string() }
}
