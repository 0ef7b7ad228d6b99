//! Decoded samples in memory.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::dataset::Sample;

/// Decoded samples, up to a number of bytes, by their origins. They are not replaced: an epoch
/// visits each sample once, so that the oldest is the one that is needed soonest.
pub(super) struct Cache<S> {
    limit: u64,
    kept: Mutex<Kept<S>>,
}

struct Kept<S> {
    bytes: u64,
    samples: BTreeMap<usize, S>,
}

impl<S: Sample> Cache<S> {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, kept: Mutex::new(Kept { bytes: 0, samples: BTreeMap::new() }) }
    }

    pub(super) fn get(&self, origin: usize) -> Option<S> {
        if self.limit == 0 {
            return None;
        }
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).samples.get(&origin).cloned()
    }

    /// Keeps a sample if it fits.
    pub(super) fn keep(&self, origin: usize, sample: &S) {
        if self.limit == 0 {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = kept.bytes.saturating_add(sample.bytes());
        // Two threads may have decoded the same sample.
        if bytes <= self.limit && !kept.samples.contains_key(&origin) {
            kept.bytes = bytes;
            kept.samples.insert(origin, sample.clone());
        }
    }
}
