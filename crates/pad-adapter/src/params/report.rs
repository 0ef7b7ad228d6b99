//! Differences between a checkpoint and a model, and counts of a model's parameters.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use pad_ops::text::{near_name, shown, shown_up_to};

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
#[non_exhaustive]
pub struct LoadReport {
    /// The checkpoint.
    pub file: PathBuf,
    /// Tensors of the model that are not in the file.
    pub missing: Vec<String>,
    /// Tensors of the file that the model does not have.
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

/// Names listed of each kind of difference.
const LISTED: usize = 10;

/// Writes `; {what} {count}: ` and the first entries, and how many more there are.
fn list(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    entries: impl ExactSizeIterator<Item = String>,
) -> fmt::Result {
    let count = entries.len();
    if count == 0 {
        return Ok(());
    }
    let shown: Vec<String> = entries.take(LISTED).collect();
    write!(f, "; {what} {count}: {}", shown.join(", "))?;
    if count > LISTED {
        write!(f, ", ... and {} more", count - LISTED)?;
    }
    Ok(())
}

impl LoadReport {
    /// The unexpected name that may be the missing tensor `name` under another name.
    fn near(&self, name: &str) -> Option<&str> {
        let unexpected = || self.unexpected.iter().map(String::as_str);
        let suffix = format!(".{name}");
        // A prefix in front of every name is the usual reason.
        if let Some(found) = unexpected().find(|other| other.ends_with(&suffix)) {
            return Some(found);
        }
        let last = |name: &str| name.rsplit('.').next().map(str::to_string);
        let depth = |name: &str| name.split('.').count();
        let alike = |other: &&str| last(other) == last(name) && depth(other) == depth(name);
        near_name(name, unexpected().filter(alike))
    }
}

/// One line: at most ten names of each kind, missing ones with the near name among the unexpected.
impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display().to_string();
        write!(f, "{}: the checkpoint is not this model's", shown_up_to(&file, 4000))?;
        list(
            f,
            "missing",
            self.missing.iter().map(|name| match self.near(name) {
                Some(near) => format!("{} (near `{}`)", shown(name), shown(near)),
                None => shown(name).to_string(),
            }),
        )?;
        list(f, "unexpected", self.unexpected.iter().map(|name| shown(name).to_string()))?;
        list(
            f,
            "wrong shape",
            self.misshapen.iter().map(|Misshapen { name, expected, found }| {
                format!("{} (expected {expected:?}, found {found:?})", shown(name))
            }),
        )
    }
}

/// The number of values that a model trains and keeps frozen, by role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreSummary {
    /// (trained, frozen) values of each role's family, in the order of a network.
    pub families: BTreeMap<(usize, &'static str), (usize, usize)>,
    /// The number of values that train.
    pub trained: usize,
    /// The number of values that never change.
    pub frozen: usize,
}

impl StoreSummary {
    pub(super) fn add(&mut self, role: Role, values: usize, trained: bool) {
        let order = Role::families().position(|one| one.family() == role.family());
        let order = order.unwrap_or(usize::MAX);
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
impl fmt::Display for StoreSummary {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_names_of_each_kind_and_near_ones() {
        let names = |count: usize, prefix: &str| -> Vec<String> {
            (0..count).map(|i| format!("{prefix}blocks.{i}.norm1.weight")).collect()
        };
        let report = LoadReport {
            file: "file".into(),
            missing: names(12, ""),
            unexpected: names(10, "module."),
            ..Default::default()
        };
        let text = report.to_string();
        let start = "file: the checkpoint is not this model's; missing 12: blocks.0.norm1.weight (near \
                     `module.blocks.0.norm1.weight`), ";
        assert!(text.starts_with(start), "{text}");
        assert!(text.contains(
            "norm1.weight (near `module.blocks.9.norm1.weight`), ... and 2 more; unexpected 10: "
        ));
        assert!(text.ends_with("module.blocks.9.norm1.weight"), "{text}");
        let report = LoadReport {
            missing: vec!["fc_norm.weight".into(), "blocks.0.mlp.fc1.bias".into()],
            unexpected: vec!["fcnorm.weight".into(), "decoder_blocks.0.mlp.fc1.weight".into()],
            ..report
        };
        let text = report.to_string();
        assert!(
            text.contains(
                "missing 2: fc_norm.weight (near `fcnorm.weight`), blocks.0.mlp.fc1.bias; "
            ),
            "{text}"
        );
    }
}
