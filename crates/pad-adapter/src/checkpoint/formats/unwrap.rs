//! Checkpoints without what programs put around their names, and the format that is then left.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;
use pad_ops::text::shown;

use super::{
    format::Format,
    report::{Change, ConversionReport},
    wrappers::Names,
};
use crate::{Error, Result, checkpoint::Checkpoint};

impl Format {
    /// Detects the format of a checkpoint from its names; of files that this project wrote, from
    /// their metadata. What programs put around names (`module.`, `_orig_mod.`, one prefix in front
    /// of all) makes no difference.
    ///
    /// # Errors
    /// [`Error::Format`] with some of the names if they are of no known format, and with the
    /// prefixes of several networks; [`Error::UnknownName`] for metadata with an unknown format.
    pub fn detect(checkpoint: &Checkpoint) -> Result<Self> {
        Self::of_plain(&checkpoint.unwrapped(None)?.0)
    }

    /// The names behind the one prefix in front of the format's; `None` for another format.
    ///
    /// # Errors
    /// [`Error::Format`] with the prefixes, if there are several.
    fn behind_a_prefix(self, file: &Checkpoint, names: &Names) -> Result<Option<Names>> {
        const WHY: &str = "not under the prefix of the network";
        /// Networks that are listed.
        const MAX_NAMED: usize = 8;
        let table = self.table();
        let Some(mark) = table.marks.first() else { return Ok(None) };
        let mut places: Vec<&str> = Vec::new();
        for prefix in names.prefixes_of(mark) {
            // A prefix of the format's own stays.
            let mut own = table.prefixes.iter().chain(&[""]);
            let outer = own.find_map(|own| prefix.strip_suffix(own)).unwrap_or(prefix);
            if places.contains(&outer) {
                continue;
            }
            let inside = names.only_under(outer).without_heads();
            if self.prefix_in(&file.named(&inside)).is_some() {
                places.push(outer);
            }
            if places.len() > MAX_NAMED {
                break;
            }
        }
        if places.len() > 1 {
            let listed: Vec<String> = places
                .iter()
                .take(MAX_NAMED)
                .map(|prefix| format!("`{}`", shown(prefix)))
                .collect();
            return Err(Error::Format {
                path: file.path().to_path_buf(),
                what: format!(
                    "several networks, under the prefixes {}; expected the option `prefix` with one",
                    listed.join(", ")
                ),
            });
        }
        Ok(places.pop().map(|prefix| names.under(prefix, WHY).without_heads()))
    }
}

impl Checkpoint {
    /// The tensors whose names begin with `prefix` (with or without its last dot), without it, for
    /// a file with several networks. Wrappers of training and compilers in front of it are taken
    /// off first.
    ///
    /// # Errors
    /// [`Error::Format`] if no name begins so, with the prefixes that there are.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use pad_adapter::checkpoint::Checkpoint;
    /// let tensor = Tensor::zeros(4, DType::F32, &Device::Cpu)?;
    /// let names = ["student.norm.weight", "teacher.norm.weight", "teacher.norm.bias"];
    /// let tensors = names.map(|name| (name.to_string(), tensor.clone()));
    /// let file = Checkpoint::from_tensors("run.safetensors", tensors.into());
    /// let teacher = file.under_prefix("teacher")?;
    /// assert_eq!(teacher.names().collect::<Vec<_>>(), ["norm.bias", "norm.weight"]);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn under_prefix(&self, prefix: &str) -> Result<Self> {
        let names = Names::of(self.names()).under_given(prefix);
        let names =
            names.map_err(|what| Error::Format { path: self.path().to_path_buf(), what })?;
        let path = self.path().display();
        tracing::info!("{path}: {} tensors are not under the prefix", names.dropped.len());
        Ok(self.named(&names))
    }

    /// The tensors under names without wrappers, and those names: what stands around the names of
    /// `format`, or of the first format that they are of.
    ///
    /// # Errors
    /// [`Error::Format`] if several networks of a format lie in the file.
    pub(super) fn unwrapped(&self, format: Option<Format>) -> Result<(Self, Names)> {
        let plain = Names::of(self.names());
        let names = plain.clone().without_heads();
        let file = self.named(&names);
        let fits = match format {
            Some(format) => format.prefix_in(&file).is_some(),
            None => Format::of_plain(&file).is_ok(),
        };
        if fits {
            return Ok((file, names));
        }
        let formats = match format {
            Some(format) => vec![format],
            None => Format::TRIED.to_vec(),
        };
        for format in formats {
            if let Some(inside) = format.behind_a_prefix(self, &plain)? {
                return Ok((self.named(&inside), inside));
            }
        }
        Ok((file, names))
    }

    /// The tensors of `names`, under the names without wrappers.
    fn named(&self, names: &Names) -> Self {
        let tensors: BTreeMap<String, Tensor> = names
            .pairs()
            .filter_map(|(plain, file)| Some((plain.to_string(), self.get(file)?.clone())))
            .collect();
        self.like(tensors)
    }
}

impl Names {
    /// Completes the report of a conversion that began with these names: the names as they are in
    /// the file; tensors that were left out, because of their names, because they cannot be read,
    /// and because they are whole numbers (counters, masks, indices) that no table knows. Our own
    /// files hold what their models need.
    pub(super) fn complete(
        &self,
        converted: &mut Checkpoint,
        report: &mut ConversionReport,
        format: Format,
    ) {
        const WHOLE: &str = "whole numbers of a name that is not known";
        const BESIDE: &str = "beside the network";
        let unknown = report.changes.iter().filter_map(|change| match change {
            Change::Unknown(name) if format != Format::Ours => Some(name.as_str()),
            _ => None,
        });
        let beside = self.beside_the_network(&unknown.collect(), format);
        if !beside.is_empty() {
            let named: Vec<String> = beside.iter().take(8).map(|n| shown(n).to_string()).collect();
            tracing::warn!(
                "{}: {} tensors beside the network are left out: {}{}",
                converted.path().display(),
                beside.len(),
                named.join(", "),
                if beside.len() > named.len() { ", .." } else { "" }
            );
        }
        let mut changes = Vec::with_capacity(report.changes.len());
        for change in std::mem::take(&mut report.changes) {
            let whole = match &change {
                Change::Unknown(name) if format != Format::Ours => {
                    converted.get(name).is_some_and(|tensor| !tensor.dtype().is_float())
                }
                _ => false,
            };
            let change = match change {
                Change::Unknown(name) if whole => {
                    converted.remove(&name);
                    Change::Dropped { name, why: WHOLE }
                }
                Change::Unknown(name) if beside.contains(&name) => {
                    converted.remove(&name);
                    Change::Dropped { name, why: BESIDE }
                }
                // A tensor that keeps its name keeps the one that the file has.
                Change::Unknown(name) if self.in_file(&name) != name => {
                    if let Some(tensor) = converted.remove(&name) {
                        converted.insert(self.in_file(&name), tensor);
                    }
                    Change::Unknown(name)
                }
                change => change,
            };
            changes.push(change.with_sources(|name| self.in_file(name).to_string()));
        }
        let dropped = self.dropped.iter().map(|(name, why)| (name.clone(), *why));
        changes.extend(dropped.map(|(name, why)| Change::Dropped { name, why }));
        let unread = converted.unread().iter().map(|(name, why)| (name.clone(), why.clone()));
        changes.extend(unread.map(|(name, why)| Change::Unread { name, why }));
        changes.sort_by(|a, b| a.source().cmp(b.source()));
        report.changes = changes;
    }

    /// Of the names that no table knows, those that cannot be a part of the network: what losses,
    /// heads, queues and counters of operations leave. A name under the network's own first segments
    /// may be, and so may one that speaks of its parts. Those of a second network stay, as an error.
    fn beside_the_network(&self, unknown: &BTreeSet<&str>, format: Format) -> BTreeSet<String> {
        /// What names of parts of a vision transformer hold.
        const PARTS: [&str; 18] = [
            "norm",
            "embed",
            "token",
            "pos",
            "block",
            "layer",
            "attn",
            "attention",
            "mlp",
            "patch",
            "rope",
            "gamma",
            "reg",
            "adapt",
            "lora",
            "conv",
            "stem",
            "prompt",
        ];
        let first = |name: &str| name.split('.').next().unwrap_or(name).to_lowercase();
        let known = self.pairs().map(|(plain, _)| plain).filter(|name| !unknown.contains(name));
        let own: BTreeSet<String> = known.map(first).collect();
        let marks = format.table().marks;
        let second = |of: &str| {
            let inside = |name: &&&str| first(name) == of;
            let mut inside = unknown.iter().filter(inside);
            inside.any(|name| marks.iter().any(|mark| name.ends_with(mark)))
        };
        let is_beside = |name: &&&str| {
            let first = first(name);
            let counts = name.ends_with("total_ops") || name.ends_with("total_params");
            let is_part = own.contains(&first) || PARTS.iter().any(|part| first.contains(part));
            counts || !(is_part || second(&first))
        };
        unknown.iter().filter(is_beside).map(ToString::to_string).collect()
    }
}
