//! Elements of a set that cannot be used: counted, named, and tolerated up to a share.

use std::path::Path;

use crate::{Error, Result, dataset::tolerated};

/// Number of faults that are named.
const NAMED: usize = 3;

/// Faults of one kind of elements.
pub(super) struct Faults {
    share: f64,
    count: usize,
    named: Vec<String>,
}

impl Faults {
    /// No faults yet, of elements of which `share` (0 to 1) may be unusable.
    pub(super) fn new(share: f64) -> Self {
        Self { share, count: 0, named: Vec::new() }
    }

    /// Adds one.
    ///
    /// # Errors
    /// The fault itself if none are tolerated, and one that is not of an element but of the machine.
    pub(super) fn add(&mut self, fault: Error) -> Result<()> {
        let of_the_machine = matches!(fault, Error::Io { .. }) && !fault.is_of_one_file();
        if self.share <= 0.0 || of_the_machine {
            return Err(fault);
        }
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(fault.to_string());
        }
        Ok(())
    }

    /// Reports the faults of `of` elements `what` of the file or folder `path`.
    ///
    /// # Errors
    /// [`Error::TooManyFaults`].
    pub(super) fn close(self, path: &Path, what: &'static str, of: usize) -> Result<usize> {
        let Self { share, count, named } = self;
        if count == 0 {
            return Ok(0);
        }
        let prefix = format!("{}: ", path.display());
        let short = named.iter().map(|text| text.strip_prefix(&prefix).unwrap_or(text));
        let first = short.collect::<Vec<_>>().join("; ");
        if !tolerated(count, of, share) {
            let (bad, path) = (count, path.into());
            return Err(Error::TooManyFaults { path, what, bad, of, allowed: share, first });
        }
        tracing::warn!("{prefix}{count} of {of} {what} cannot be used and are left out: {first}");
        Ok(count)
    }
}
