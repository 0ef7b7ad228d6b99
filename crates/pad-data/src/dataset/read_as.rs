//! A set whose files are read in a chosen way.

use super::{Dataset, Sample};
use crate::{Result, image::DecodeOptions};

/// A set whose samples are read with its own choice of image, unit, page and bands
/// ([`DecodeOptions::radiometric`], [`DecodeOptions::page`], [`DecodeOptions::alpha_is_band`]).
/// The limits stay the caller's.
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
