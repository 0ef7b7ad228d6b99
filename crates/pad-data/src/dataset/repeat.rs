//! A set several times over.

use super::{Dataset, Sample, no_such_sample};
use crate::{Result, image::DecodeOptions};

/// A set that is seen several times in an epoch, with other random decisions each time: for few
/// large images, from which many different crops can be cut.
///
/// ```
/// use pad_data::{Dataset, ImageSize, dataset::Repeat, draw::Canvas, sets::ImageFolder};
/// let folder = tempfile::tempdir().unwrap();
/// for name in ["a.png", "b.png"] {
///     Canvas::new(ImageSize::square(16), [7; 3]).save_png(folder.path().join(name))?;
/// }
/// let often = Repeat::new(ImageFolder::open(folder.path())?, 50);
/// assert_eq!(often.len(), 100);
/// assert_eq!(often.origin(0), often.origin(2) % 2); // one cached image for fifty samples
/// # Ok::<(), pad_data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Repeat<D> {
    dataset: D,
    times: usize,
}

impl<D: Dataset> Repeat<D> {
    /// `dataset`, `times` times over. A `times` of 0 is taken as 1.
    pub fn new(dataset: D, times: usize) -> Self {
        Self { dataset, times: times.max(1) }
    }

    fn index(&self, index: usize) -> usize {
        index % self.dataset.len().max(1)
    }
}

impl<D: Dataset> Dataset for Repeat<D> {
    type Sample = D::Sample;

    fn len(&self) -> usize {
        self.dataset.len().saturating_mul(self.times)
    }

    fn name(&self, index: usize) -> String {
        self.dataset.name(self.index(index))
    }

    fn classes(&self) -> &<D::Sample as Sample>::Classes {
        self.dataset.classes()
    }

    fn info(&self, index: usize) -> Result<<D::Sample as Sample>::Info> {
        match index < self.len() {
            true => self.dataset.info(self.index(index)),
            false => Err(no_such_sample(index, self.len())),
        }
    }

    fn get(&self, index: usize, options: &DecodeOptions) -> Result<D::Sample> {
        match index < self.len() {
            true => self.dataset.get(self.index(index), options),
            false => Err(no_such_sample(index, self.len())),
        }
    }

    fn source(&self, index: usize) -> String {
        self.dataset.source(self.index(index))
    }

    fn origin(&self, index: usize) -> usize {
        self.dataset.origin(self.index(index))
    }
}
