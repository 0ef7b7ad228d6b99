//! A set whose files are read in a chosen way.

use super::{Dataset, Sample};
use crate::{Result, image::DecodeOptions};

/// A set whose samples are read with its own choice of image, unit, page and bands
/// ([`DecodeOptions::radiometric`], [`DecodeOptions::page`], [`DecodeOptions::alpha_is_band`]).
/// The limits stay the caller's.
///
/// ```
/// use pad_data::{Dataset, ImageSize, dataset::ReadAs, draw::Canvas, sets::ImageFolder};
/// use pad_data::image::{DecodeOptions, RadiometricMode};
/// let folder = tempfile::tempdir().unwrap();
/// Canvas::new(ImageSize::square(16), [7; 3]).save_png(folder.path().join("a.png"))?;
/// // Radiometric files as their pictures for people; a PNG is what it is.
/// let choice = DecodeOptions { radiometric: RadiometricMode::Picture, ..Default::default() };
/// let pictures = ReadAs::new(ImageFolder::open(folder.path())?, choice);
/// let image = pictures.get(0, &DecodeOptions::default())?;
/// assert_eq!((image.size(), image.channels()), (ImageSize::square(16), 1)); // equal channels
/// # Ok::<(), pad_data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReadAs<D> {
    dataset: D,
    choice: DecodeOptions,
}

impl<D: Dataset> ReadAs<D> {
    /// `dataset`, read as `choice` says.
    pub fn new(dataset: D, choice: DecodeOptions) -> Self {
        Self { dataset, choice }
    }
}

impl<D: Dataset> Dataset for ReadAs<D> {
    type Sample = D::Sample;

    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn name(&self, index: usize) -> String {
        self.dataset.name(index)
    }

    fn classes(&self) -> &<D::Sample as Sample>::Classes {
        self.dataset.classes()
    }

    fn info(&self, index: usize) -> Result<<D::Sample as Sample>::Info> {
        self.dataset.info(index)
    }

    fn get(&self, index: usize, options: &DecodeOptions) -> Result<D::Sample> {
        let options = DecodeOptions {
            radiometric: self.choice.radiometric,
            page: self.choice.page,
            alpha_is_band: self.choice.alpha_is_band,
            ..options.clone()
        };
        self.dataset.get(index, &options)
    }

    fn source(&self, index: usize) -> String {
        self.dataset.source(index)
    }

    fn origin(&self, index: usize) -> usize {
        self.dataset.origin(index)
    }
}
