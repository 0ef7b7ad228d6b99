//! Checks that the weights in a file are numbers.

use super::{Checkpoint, finite::not_finite};
use crate::{Error, Result};

impl Checkpoint {
    /// Checks that every value of the tensors that `wanted` accepts is finite.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for the first tensor with NaN or infinite values.
    pub(super) fn expect_finite(&self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        for (name, tensor) in self.tensors().iter().filter(|(name, _)| wanted(name)) {
            if let Some(found) = not_finite(tensor)? {
                return Err(Error::not_finite(self.path(), name, tensor, found));
            }
        }
        Ok(())
    }
}
