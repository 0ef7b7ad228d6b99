//! Conversion of checkpoints from one set of names to another.

use std::collections::{BTreeMap, btree_map::Entry};

use candle_core::Tensor;
use pad_ops::text::shown;

use super::{
    format::{Format, NAMES, wrapper},
    ours,
    report::{Change, ConversionReport},
    rule::{Fate, fate},
};
use crate::{Error, Result, Scale, checkpoint::Checkpoint, vit::ViTConfig};

impl Checkpoint {
    /// Renames the tensors to this project's names, and reports what became of each. `format` is
    /// detected from the names if it is not given. Where the file tells its model
    /// ([`Checkpoint::vit_config`]) and its input statistics ([`Checkpoint::input_stats`]), the
    /// metadata hold them afterwards.
    ///
    /// Tensors that the format's table does not know keep their names, so that strict loading names
    /// them.
    ///
    /// # Errors
    /// [`Error::Format`] for names of no known format or of another one than `format`, for two
    /// tensors that get the same name, for queries, keys and values that are incomplete or do not
    /// fit each other.
    pub fn to_ours(self, format: Option<Format>) -> Result<(Self, ConversionReport)> {
        self.to_ours_with(format, None)
    }

    /// [`Checkpoint::to_ours`] with the scale of adapters for files that do not tell it.
    ///
    /// # Errors
    /// As [`Checkpoint::to_ours`].
    pub fn to_ours_with(
        self,
        format: Option<Format>,
        scale: Option<Scale>,
    ) -> Result<(Self, ConversionReport)> {
        let (file, names) = self.unwrapped(format)?;
        let format = format.map_or_else(|| Format::of_plain(&file), Ok)?;
        let table = format.table();
        let wrapper = wrapper(&file);
        let prefix = format.prefix_in(&file).unwrap_or("");
        let outside = table.outside.unwrap_or(table.groups);
        let title = format!("{format} -> {}", Format::Ours);
        let (mut converted, mut report) = file.renamed(title, |name| {
            let name = name.strip_prefix(wrapper).unwrap_or(name);
            match name.strip_prefix(prefix) {
                Some(inside) => (fate(table.groups, inside), prefix),
                None => (fate(outside, name), ""),
            }
        })?;
        if report.unknown().len() == report.changes.len() {
            let first = report.unknown().into_iter().take(4).map(|name| shown(name).to_string());
            let first = first.collect::<Vec<_>>().join(", ");
            return Err(Error::Format {
                path: converted.path().to_path_buf(),
                what: format!("no name is one of the format {format} (found {first}, ..)"),
            });
        }
        names.complete(&mut converted, &mut report, format);
        converted.remove_metadata(NAMES);
        let has_layer_scale = converted.get("blocks.0.ls1.gamma").is_some();
        let stats = converted.input_stats()?;
        if let Some(stats) = stats.or_else(|| format.input_stats(has_layer_scale)) {
            converted.set_input_stats(&stats);
        }
        // The file's own description takes precedence.
        if converted.metadata().contains_key("vit") {
            return Ok((converted, report));
        }
        match converted.inferred_config(format, scale) {
            Ok(config) => {
                converted.describe(&config)?;
                if let Some(heads) = converted.decoder_heads() {
                    converted.set_metadata("decoder_num_heads", heads.to_string());
                }
            }
            Err(error) => report.unresolved = Some(error.to_string()),
        }
        Ok((converted, report))
    }

    /// Renames the tensors to the original PAD repository's names, so that its pre-training code
    /// loads them; with `prefix` (`backbone.` for its segmentation, `backbone.net.` for its
    /// detection) in front of the encoder's and the adapters' names, and without the decoder, for
    /// the downstream code. [`Checkpoint::to_ours`] is the way back.
    ///
    /// # Errors
    /// [`Error::Format`] for two tensors that get the same name.
    pub fn to_original(self, prefix: &str) -> Result<(Self, ConversionReport)> {
        let title = format!(
            "{} -> {}{}{prefix}",
            Format::Ours,
            Format::Original,
            if prefix.is_empty() { "" } else { " " }
        );
        let (mut converted, report) = self.renamed(title, |name| {
            let role = crate::params::Role::of(name);
            let fate = match fate(ours::TO_ORIGINAL, name) {
                Some(_) if role.is_decoder() && !prefix.is_empty() => {
                    Some(Fate::Dropped("the decoder's"))
                }
                Some(Fate::Name(new)) if role.is_backbone() || role.is_adapter() => {
                    Some(Fate::Name(format!("{prefix}{new}")))
                }
                other => other,
            };
            (fate, "")
        })?;
        converted.set_metadata(NAMES, Format::Original.name());
        Ok((converted, report))
    }

    /// The encoder under timm's names, without adapters and decoder. Of the metadata, only those of
    /// the encoder stay.
    ///
    /// # Errors
    /// [`Error::Format`] for two tensors that get the same name, and for metadata that cannot be
    /// read.
    pub fn to_timm(self) -> Result<(Self, ConversionReport)> {
        let title = format!("{} -> {}", Format::Ours, Format::Timm);
        let (config, stats) = (self.vit_config().ok(), self.input_stats()?);
        let (mut converted, report) =
            self.renamed(title, |name| (fate(ours::TO_TIMM, name), ""))?;
        converted.clear_metadata();
        converted.set_metadata(NAMES, Format::Timm.name());
        if let Some(stats) = stats {
            converted.set_input_stats(&stats);
        }
        if let Some(config) = config {
            converted.describe(&ViTConfig { adapter: None, ..config })?;
        }
        Ok((converted, report))
    }

    /// Writes `config` into the metadata, as `vit`.
    ///
    /// # Errors
    /// [`Error::Format`] if it cannot be written as JSON.
    pub fn describe(&mut self, config: &ViTConfig) -> Result<()> {
        let json = serde_json::to_string(config).map_err(|error| Error::Format {
            path: self.path().to_path_buf(),
            what: error.to_string(),
        })?;
        self.set_metadata("vit", json);
        Ok(())
    }

    /// Applies to every tensor the fate that `of` returns; with the fate comes the prefix of its
    /// parts' names in the file.
    fn renamed(
        self,
        title: String,
        of: impl Fn(&str) -> (Option<Fate>, &'static str),
    ) -> Result<(Self, ConversionReport)> {
        let refuse = |what: String| Error::Format { path: self.path().to_path_buf(), what };
        let mut target = Target::default();
        let mut changes = Vec::with_capacity(self.tensors().len());
        let mut parts: BTreeMap<String, [Option<(String, Tensor)>; 3]> = BTreeMap::new();
        let mut sources: BTreeMap<String, [String; 3]> = BTreeMap::new();
        for (name, tensor) in self.tensors() {
            let (fate, prefix) = of(name);
            let (new, tensor) = match fate {
                Some(Fate::Name(new)) => (new, tensor.clone()),
                Some(Fate::Token(new)) => (new, with_rank_three(tensor)?),
                Some(Fate::Transposed(new)) => (
                    new,
                    if tensor.rank() == 2 { tensor.t()?.contiguous()? } else { tensor.clone() },
                ),
                Some(Fate::Part(new, part, all)) => {
                    let slots = parts.entry(new.clone()).or_default();
                    slots[part] = Some((name.clone(), tensor.clone()));
                    sources.insert(new, all.map(|part| format!("{prefix}{part}")));
                    continue;
                }
                Some(Fate::Dropped(why)) => {
                    changes.push(Change::Dropped { name: name.clone(), why });
                    continue;
                }
                None => {
                    changes.push(Change::Unknown(name.clone()));
                    target.insert(name.clone(), name, tensor.clone()).map_err(refuse)?;
                    continue;
                }
            };
            changes.push(if new == *name {
                Change::Kept(new.clone())
            } else {
                Change::Renamed { from: name.clone(), to: new.clone() }
            });
            target.insert(new, name, tensor).map_err(refuse)?;
        }
        for (new, slots) in parts {
            let all = sources.remove(&new).unwrap_or_default();
            let absent: Vec<&str> = all
                .iter()
                .zip(&slots)
                .filter_map(|(name, slot)| slot.is_none().then_some(name.as_str()))
                .collect();
            let [Some(first), Some(second), Some(third)] = slots else {
                let what = format!("`{new}` cannot be joined: {} is missing", absent.join(", "));
                return Err(refuse(what));
            };
            let joined = Tensor::cat(&[&first.1, &second.1, &third.1], 0).map_err(|_| {
                refuse(format!(
                    "`{new}` cannot be joined: shapes {:?}, {:?}, {:?}",
                    first.1.dims(),
                    second.1.dims(),
                    third.1.dims()
                ))
            })?;
            let from = [first.0, second.0, third.0];
            target.insert(new.clone(), &from[0], joined).map_err(refuse)?;
            changes.push(Change::Joined { from, to: new });
        }
        changes.sort_by(|a, b| a.source().cmp(b.source()));
        let report = ConversionReport { title, changes, unresolved: None };
        Ok((self.with(target.tensors), report))
    }
}

/// New tensors, and where each came from.
#[derive(Default)]
struct Target {
    tensors: BTreeMap<String, Tensor>,
    origins: BTreeMap<String, String>,
}

impl Target {
    fn insert(&mut self, new: String, from: &str, tensor: Tensor) -> Result<(), String> {
        match self.origins.entry(new) {
            Entry::Occupied(taken) => {
                Err(format!("`{}` and `{from}` both get the name `{}`", taken.get(), taken.key()))
            }
            Entry::Vacant(free) => {
                self.tensors.insert(free.key().clone(), tensor);
                free.insert(from.to_string());
                Ok(())
            }
        }
    }
}

/// Adds leading axes of length one up to rank three.
fn with_rank_three(tensor: &Tensor) -> Result<Tensor> {
    let mut tensor = tensor.clone();
    while tensor.rank() < 3 {
        tensor = tensor.unsqueeze(0)?;
    }
    Ok(tensor)
}
