//! What the masks of a set hold, before anything is trained on them.

use std::collections::BTreeMap;

use super::Classes;
use crate::{Error, Result};

/// Pixels of a set's masks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSurvey {
    /// Number of pixels of each class.
    pub pixels: Vec<u64>,
    /// Number of pixels of the ignored label.
    pub ignored: u64,
    /// Number of pixels of each value in the files; nothing of masks in colours.
    pub values: BTreeMap<u8, u64>,
    /// Number of masks.
    pub masks: usize,
    /// What is wrong with the masks that cannot be used, in the order of the set.
    pub faults: Vec<String>,
}

impl LabelSurvey {
    /// Checks that there is something to learn: pixels of two classes, or of the only one.
    ///
    /// # Errors
    /// [`Error::Setting`] that says what the masks hold and, for masks of 0 and 255, what to do.
    pub fn check(&self, classes: &Classes) -> Result<()> {
        let occur = self.pixels.iter().filter(|&&pixels| pixels > 0).count();
        if occur >= classes.len().min(2) {
            return Ok(());
        }
        let found = match occur {
            0 => {
                format!("without one among {} ignored pixels of {} masks", self.ignored, self.masks)
            }
            _ => {
                let (missing, hint) = (self.missing(classes).join(", "), self.hint(classes));
                format!("without a pixel of {missing} in {} masks{hint}", self.masks)
            }
        };
        let expected = "labelled pixels of at least two classes".into();
        Err(Error::Setting { name: "masks", expected, found })
    }

    /// Names of the classes without a pixel.
    pub fn missing(&self, classes: &Classes) -> Vec<String> {
        let pairs = classes.names.iter().zip(&self.pixels);
        pairs.filter(|(_, pixels)| **pixels == 0).map(|(name, _)| format!("`{name}`")).collect()
    }

    /// What to do about masks whose values are background and the ignored label alone; empty for
    /// others.
    fn hint(&self, classes: &Classes) -> String {
        let ignore = classes.ignore;
        let two = self.values.len() == 2 && self.values.contains_key(&0);
        if !(two && self.values.contains_key(&ignore) && classes.len() == 2) {
            return String::new();
        }
        format!(
            " (they hold 0 and {ignore} alone, and {ignore} is ignored: for {ignore} as class 1, set mask values \
             to 0,{ignore} or write `{ignore} = 1` below `[remap]` in classes.toml)"
        )
    }

    /// Adds a part of the set that follows.
    pub(super) fn add(&mut self, other: Self) {
        self.pixels.resize(self.pixels.len().max(other.pixels.len()), 0);
        self.pixels.iter_mut().zip(&other.pixels).for_each(|(sum, pixels)| *sum += pixels);
        for (value, pixels) in other.values {
            *self.values.entry(value).or_default() += pixels;
        }
        self.ignored += other.ignored;
        self.masks += other.masks;
        self.faults.extend(other.faults);
    }
}
