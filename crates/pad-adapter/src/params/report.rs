//! Differences between a checkpoint and a model, and counts of a model's parameters.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use pad_ops::text::{near_name, shown, shown_up_to};

use super::Role;

/// A tensor whose shape in the file is not the model's.
///
/// ```
/// # use std::collections::BTreeMap;
/// # use candle_core::{DType, Device, Tensor};
/// # use pad_adapter::{Error, checkpoint::Checkpoint, params::ParamStore};
/// # use pad_ops::rng::Key;
/// let weight = Tensor::zeros((3, 5), DType::F32, &Device::Cpu)?;
/// let file = Checkpoint::from_tensors("FILE", BTreeMap::from([("weight".to_string(), weight)]));
/// let store = ParamStore::from_checkpoint(file, &Device::Cpu, Key::new(0));
/// let built = store.build(|vb| Ok::<_, Error>(candle_nn::linear_no_bias(4, 3, vb)?));
/// let Err(Error::Tensors(report)) = built else { panic!("expected a report") };
/// assert_eq!((&report.misshapen[0].expected[..], &report.misshapen[0].found[..]), (&[3, 4][..], &[3, 5][..]));
/// # Ok::<(), candle_core::Error>(())
/// ```
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
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::{Error, checkpoint::Checkpoint, params::ParamStore};
/// use pad_ops::rng::Key;
/// let file = Checkpoint::from_tensors("FILE", Default::default());
/// let store = ParamStore::from_checkpoint(file, &Device::Cpu, Key::new(0));
/// let built = store.build(|vb| Ok::<_, Error>(candle_nn::linear(4, 3, vb)?));
/// let Err(Error::Tensors(report)) = built else { panic!("expected a report") };
/// assert_eq!(report.missing, ["bias", "weight"]);
/// ```
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
    ///
    /// ```
    /// assert!(pad_adapter::params::LoadReport::default().is_clean());
    /// ```
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

/// Parameters whose names no rule knows ([`Role::Other`]), when a plan that was not made with them
/// in mind trains or freezes all of them. A store warns of it when its model has been built.
///
/// [`ParamStore::with_roles`](super::ParamStore::with_roles) gives them roles,
/// [`Plan::with_other`](super::Plan::with_other) confirms what the plan does.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::params::{ParamStore, Role};
/// use pad_ops::rng::Key;
///
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_trained(Role::is_adapter);
/// store.build(|vb| Ok::<_, pad_adapter::Error>(candle_nn::linear(4, 3, vb.pp("mixer"))?))?;
/// let unplanned = store.unplanned().unwrap();
/// assert_eq!((unplanned.tensors, unplanned.values, unplanned.trained), (2, 15, false));
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnplannedRoles {
    /// The number of tensors.
    pub tensors: usize,
    /// The number of values in them.
    pub values: usize,
    /// Whether the plan trains all of them; else it freezes them.
    pub trained: bool,
    /// The first of their names.
    pub examples: Vec<String>,
}

impl UnplannedRoles {
    /// Of the names and numbers of values of all parameters of unknown role; `None` without any.
    pub(super) fn new<'a>(
        params: impl Iterator<Item = (&'a str, usize)>,
        trained: bool,
    ) -> Option<Self> {
        const EXAMPLES: usize = 3;
        let mut all = Self { tensors: 0, values: 0, trained, examples: Vec::new() };
        for (name, values) in params {
            all.tensors += 1;
            all.values += values;
            if all.examples.len() < EXAMPLES {
                all.examples.push(name.to_string());
            }
        }
        (all.tensors > 0).then_some(all)
    }
}

/// One line, with what to do about it.
impl fmt::Display for UnplannedRoles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the plan {} all {} tensors ({} values) whose role is unknown: {}{} (roles: `with_roles`; to \
             confirm: `Plan::with_other`)",
            if self.trained { "trains" } else { "freezes" },
            self.tensors,
            self.values,
            self.examples.join(", "),
            if self.tensors > self.examples.len() { ", .." } else { "" },
        )
    }
}

/// The number of values that a model trains and keeps frozen, by role.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::{Adapter, AdapterConfig, params::{ParamStore, Role}};
/// use pad_ops::rng::Key;
///
/// let config = AdapterConfig { bottleneck: 2, ..Default::default() };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0))
///     .with_trained(|role| matches!(role, Role::Adapter(_)));
/// store.build(|vb| Adapter::new(8, &config, vb))?;
/// let summary = store.summary();
/// assert_eq!((summary.trained, summary.frozen), (58, 16)); // the gate of 16 values is frozen
/// assert!(summary.to_string().ends_with("(78.38% trains)"));
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreSummary {
    /// (trained, frozen) values of each role's family, in the order of a network.
    pub families: BTreeMap<(usize, &'static str), (usize, usize)>,
    /// The number of values that train.
    pub trained: usize,
    /// The number of values that never change.
    pub frozen: usize,
    /// Parameters of unknown role, if the plan trains or freezes all of them unasked.
    pub unplanned: Option<UnplannedRoles>,
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

/// A table: role, trained, frozen; below it [`UnplannedRoles`], if there are some.
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
        )?;
        match &self.unplanned {
            Some(unplanned) => write!(f, "\n{unplanned}"),
            None => Ok(()),
        }
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
