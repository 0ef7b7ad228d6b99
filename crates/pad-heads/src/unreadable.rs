//! Images that an evaluation cannot read.

use pad_data::{
    Dataset,
    dataset::{Sample, tolerated},
    image::DecodeOptions,
};

use crate::error::Result;

/// Counts the images that cannot be read, up to a share.
pub(crate) struct Unreadable {
    images: usize,
    share: f64,
    reasons: Vec<String>,
}

impl Unreadable {
    /// None yet of `images`, of which `share` (0 to 1) is tolerated.
    pub(crate) fn new(images: usize, share: f64) -> Self {
        Self { images, share, reasons: Vec::new() }
    }

    /// The image; `None` if it is left out.
    ///
    /// # Errors
    /// A fault that is not of one file; [`pad_data::Error::TooManyUnreadable`], or the fault itself
    /// where none is tolerated.
    pub(crate) fn checked<S>(&mut self, read: pad_data::Result<S>) -> Result<Option<S>> {
        let error = match read {
            Ok(sample) => return Ok(Some(sample)),
            Err(error) if error.is_of_one_file() && self.share > 0.0 => error,
            Err(error) => return Err(error.into()),
        };
        tracing::warn!("left out of the evaluation: {error}");
        self.reasons.push(error.to_string());
        let (bad, seen, allowed) = (self.reasons.len(), self.images, self.share);
        match (tolerated(bad, seen, allowed), self.reasons.first()) {
            (false, Some(first)) => {
                let first = first.clone();
                Err(pad_data::Error::TooManyUnreadable { bad, seen, allowed, first }.into())
            }
            _ => Ok(None),
        }
    }

    /// Why each of them cannot be read.
    pub(crate) fn into_reasons(self) -> Vec<String> {
        self.reasons
    }
}

/// A sample for a picture; `None`, with a warning, if it cannot be read.
pub(crate) fn shown<S: Sample>(
    dataset: &(dyn Dataset<Sample = S> + '_),
    index: usize,
) -> Option<S> {
    match dataset.get(index, &DecodeOptions::default()) {
        Ok(sample) => Some(sample),
        Err(error) => {
            tracing::warn!("left out of the picture: {error}");
            None
        }
    }
}

/// A line of a report about images that were left out; empty without any.
pub(crate) fn line(reasons: &[String], images: usize) -> String {
    let count = reasons.len();
    match reasons.first() {
        Some(first) => {
            format!("\n{count} of {} images could not be read; first: {first}", images + count)
        }
        None => String::new(),
    }
}
