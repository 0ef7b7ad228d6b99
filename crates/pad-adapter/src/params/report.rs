//! What a strict load found, and what a model consists of.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use super::Role;

/// A tensor whose shape in the file is not the model's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshapen {
    /// The tensor.
    pub name: String,
    /// The model's shape.
    pub expected: Vec<usize>,
    /// The file's shape.
    pub found: Vec<usize>,
}

/// The difference between a checkpoint and a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// The checkpoint.
    pub file: PathBuf,
    /// Tensors of the model that are not in the file.
    pub missing: Vec<String>,
    /// Tensors of the file that the model never asked for.
    pub unexpected: Vec<String>,
    /// Tensors of another shape.
    pub misshapen: Vec<Misshapen>,
}

impl LoadReport {
    /// Whether file and model agree.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }
}

/// One line, every name in it.
impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the checkpoint is not this model's", self.file.display())?;
        if !self.missing.is_empty() {
            write!(f, "; missing {}: {}", self.missing.len(), self.missing.join(", "))?;
        }
        if !self.unexpected.is_empty() {
            write!(f, "; unexpected {}: {}", self.unexpected.len(), self.unexpected.join(", "))?;
        }
        if !self.misshapen.is_empty() {
            write!(f, "; wrong shape {}: ", self.misshapen.len())?;
            for (i, Misshapen { name, expected, found }) in self.misshapen.iter().enumerate() {
                let comma = if i > 0 { ", " } else { "" };
                write!(f, "{comma}{name} (expected {expected:?}, found {found:?})")?;
            }
        }
        Ok(())
    }
}

/// How many values a model trains and keeps, by role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// (trained, frozen) values of each role's family.
    pub families: BTreeMap<(usize, &'static str), (usize, usize)>,
    /// Values that train.
    pub trained: usize,
    /// Values that never move.
    pub frozen: usize,
}

impl Summary {
    pub(super) fn add(&mut self, role: Role, values: usize, trained: bool) {
        // Ordered as a network is: by the roles' own order.
        let order = match role {
            Role::PatchEmbed => 0,
            Role::ClassToken => 1,
            Role::PosTable => 2,
            Role::Block(_) => 3,
            Role::FinalNorm => 4,
            Role::Adapter(_) => 5,
            Role::Gate(_) => 6,
            Role::MaskToken => 7,
            Role::DecoderEmbed => 8,
            Role::DecoderPosTable => 9,
            Role::Decoder => 10,
            Role::Head => 11,
        };
        let family = self.families.entry((order, role.family())).or_default();
        if trained {
            family.0 += values;
            self.trained += values;
        } else {
            family.1 += values;
            self.frozen += values;
        }
    }
}

/// A table: role, trained, frozen.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((_, family), (trained, frozen)) in &self.families {
            writeln!(f, "{family:<24} {trained:>12} trained {frozen:>12} frozen")?;
        }
        let all = (self.trained + self.frozen).max(1) as f64;
        let share = 100.0 * self.trained as f64 / all;
        write!(
            f,
            "{:<24} {:>12} trained {:>12} frozen ({share:.2}% trains)",
            "all", self.trained, self.frozen
        )
    }
}
