//! Several sets in a row.

use super::{Dataset, Sample, no_such_sample};
use crate::{Error, Result, image::DecodeOptions};

/// Several sets of the same classes in a row.
///
/// ```
/// use pad_data::{Dataset, ImageSize, dataset::Concat, draw::Canvas, sets::ImageFolder};
/// let folder = tempfile::tempdir().unwrap();
/// for (name, level) in [("day/a.png", 9), ("day/b.png", 99), ("night/c.png", 5)] {
///     let path = folder.path().join(name);
///     std::fs::create_dir_all(path.parent().unwrap()).unwrap();
///     Canvas::new(ImageSize::square(16), [level; 3]).save_png(path)?;
/// }
/// let part = |name: &str| ImageFolder::open(folder.path().join(name));
/// let both = Concat::new(vec![part("day")?, part("night")?])?;
/// assert_eq!((both.len(), both.name(2).as_str()), (3, "c.png"));
/// # Ok::<(), pad_data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Concat<D> {
    parts: Vec<D>,
}

impl<D: Dataset> Concat<D>
where
    <D::Sample as Sample>::Classes: PartialEq,
{
    /// The samples of `parts`, one part after the other.
    ///
    /// # Errors
    /// [`Error::Setting`] without parts, and for parts of different classes.
    pub fn new(parts: Vec<D>) -> Result<Self> {
        let fault = |expected: &str, found: &str| {
            Err(Error::Setting { name: "parts", expected: expected.into(), found: found.into() })
        };
        match parts.split_first() {
            None => fault("at least one set", "empty"),
            Some((first, rest)) if rest.iter().any(|part| part.classes() != first.classes()) => {
                fault("sets of the same classes", "different classes")
            }
            Some(_) => Ok(Self { parts }),
        }
    }
}

impl<D: Dataset> Concat<D> {
    /// The part that holds a sample, and the index in it.
    fn place(&self, mut index: usize) -> Option<(&D, usize)> {
        for part in &self.parts {
            if index < part.len() {
                return Some((part, index));
            }
            index -= part.len();
        }
        None
    }
}

// Origins stay those of the whole: two parts may be subsets of different sets with the same
// origins.
impl<D: Dataset> Dataset for Concat<D> {
    type Sample = D::Sample;

    fn len(&self) -> usize {
        self.parts.iter().map(Dataset::len).sum()
    }

    fn name(&self, index: usize) -> String {
        self.place(index).map_or_else(|| "(no such image)".into(), |(part, at)| part.name(at))
    }

    fn classes(&self) -> &<D::Sample as Sample>::Classes {
        self.parts[0].classes() // `new` takes at least one part
    }

    fn info(&self, index: usize) -> Result<<D::Sample as Sample>::Info> {
        let (part, at) = self.place(index).ok_or_else(|| no_such_sample(index, self.len()))?;
        part.info(at)
    }

    fn get(&self, index: usize, options: &DecodeOptions) -> Result<D::Sample> {
        let (part, at) = self.place(index).ok_or_else(|| no_such_sample(index, self.len()))?;
        part.get(at, options)
    }

    fn source(&self, index: usize) -> String {
        self.place(index).map_or_else(|| ".".into(), |(part, at)| part.source(at))
    }
}
