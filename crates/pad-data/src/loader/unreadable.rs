//! Samples that could not be read.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tracing::warn;

use crate::{Error, Result, dataset::tolerated};

/// A sample that could not be read.
///
/// ```
/// use pad_data::loader::UnreadableImage;
/// let reason = "a.png: truncated".to_string();
/// let image = UnreadableImage { index: 7, name: "a.png".to_string(), reason };
/// assert_eq!(image.index, 7);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableImage {
    /// Its index.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// The text of the error.
    pub reason: String,
}

/// Samples that could not be read, over all epochs of a loader.
#[derive(Default)]
pub(super) struct Unreadable(Mutex<BTreeMap<usize, UnreadableImage>>);

impl Unreadable {
    pub(super) fn list(&self) -> Vec<UnreadableImage> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.values().cloned().collect()
    }

    /// Adds the failures of one batch.
    ///
    /// # Errors
    /// [`Error::TooManyUnreadable`] if their share of `images` is above `allowed` now (see
    /// [`tolerated`]).
    pub(super) fn add(
        &self,
        failed: Vec<UnreadableImage>,
        images: usize,
        allowed: f64,
    ) -> Result<()> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for failure in failed {
            files.entry(failure.index).or_insert_with(|| {
                warn!(
                    image = failure.name,
                    reason = failure.reason,
                    "unreadable image is left out"
                );
                failure
            });
        }
        let bad = files.len();
        match files.values().next() {
            Some(first) if !tolerated(bad, images, allowed) => Err(Error::TooManyUnreadable {
                bad,
                seen: images,
                allowed,
                first: first.reason.clone(),
            }),
            _ => Ok(()),
        }
    }
}
