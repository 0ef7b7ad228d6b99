//! What a branch keeps between its forward and its backward.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a forward leaves for its backward. The first backward takes it, so that its memory is free
/// for what comes next; another one computes it again.
pub(super) struct Saved<T>(Mutex<Option<T>>);

impl<T> Saved<T> {
    pub(super) fn new(saved: Option<T>) -> Self {
        Self(Mutex::new(saved))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was saved, or what `again` computes.
    pub(super) fn take_or(
        &self,
        again: impl FnOnce() -> candle_core::Result<T>,
    ) -> candle_core::Result<T> {
        let saved = self.lock().take();
        saved.map_or_else(again, Ok)
    }
}
