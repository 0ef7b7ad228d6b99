//! Conversion of checkpoints from one set of names to another.

use std::collections::{BTreeMap, btree_map::Entry};

use candle_core::Tensor;
use pad_ops::text::shown;

use super::{
    format::{Format, NAMES, wrapper},
    origin::Origin,
    ours,
    report::{Change, ConversionReport},
    rule::{Fate, Group, fate},
    timm, transformers,
};
use crate::{
    Error, Result, Scale,
    checkpoint::{Checkpoint, pooling::Pooling},
    vit::ViTConfig,
};

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
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{checkpoint::{Checkpoint, Format}, params::ParamStore};
    /// use pad_adapter::vit::{ViT, ViTConfig};
    /// use pad_ops::rng::Key;
    ///
    /// let config = ViTConfig { layer_scale: Some(0.1), ..ViTConfig::new(8, 64, 2, 1) };
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// store.build(|vb| ViT::new(&config, vb))?;
    /// let mut ours = Checkpoint::from_tensors("mine", store.tensors(|_| true));
    /// ours.describe(&config)?;
    ///
    /// // To the original's names, where the layer scales are `gamma_1` and `gamma_2`, and back.
    /// let (original, report) = ours.clone().to_original("backbone.")?;
    /// assert!(original.get("backbone.blocks.1.gamma_2").is_some());
    /// assert_eq!(report.summary().split(':').next(), Some("ours -> original backbone."));
    /// let (back, report) = original.to_ours(Some(Format::Original))?;
    /// assert_eq!(back.names().collect::<Vec<_>>(), ours.names().collect::<Vec<_>>());
    /// let [kept, renamed, joined, dropped, unknown] = report.counts();
    /// assert_eq!((kept, joined, dropped, unknown), (0, 0, 0, 0));
    /// assert_eq!(renamed, ours.names().count());
    ///
    /// // To timm's, and back with what the tensors would not tell.
    /// let (timm, _) = ours.clone().to_timm()?;
    /// let (back, _) = timm.clone().to_ours_with(None, None)?;
    /// assert_eq!(back.vit_config()?, config);
    /// let two_heads = ViTConfig { num_heads: 2, ..config };
    /// let mut bare = timm;
    /// bare.remove_metadata("vit");
    /// let (back, _) = bare.to_ours_known(Some(Format::Timm), None, Some(two_heads))?;
    /// assert_eq!(back.vit_config()?.num_heads, 2);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
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
        self.to_ours_known(format, scale, None)
    }

    /// [`Checkpoint::to_ours_with`] with the model in the file, for what its tensors do not tell:
    /// heads, eps of the norms, activation, rotary positions, the grid of rectangular tables and
    /// how tables become those of other grids.
    ///
    /// # Errors
    /// As [`Checkpoint::to_ours`].
    pub fn to_ours_known(
        self,
        format: Option<Format>,
        scale: Option<Scale>,
        model: Option<ViTConfig>,
    ) -> Result<(Self, ConversionReport)> {
        let (converted, report, _) = self.into_ours_pooled(format, scale, model)?;
        Ok((converted, report))
    }

    /// [`Checkpoint::to_ours_known`], and the layers that pool the encoder's tokens, which the
    /// result leaves out.
    pub(in crate::checkpoint) fn into_ours_pooled(
        self,
        format: Option<Format>,
        scale: Option<Scale>,
        model: Option<ViTConfig>,
    ) -> Result<(Self, ConversionReport, Option<Pooling>)> {
        let (file, names) = self.unwrapped(format)?;
        let format = format.map_or_else(|| Format::of_plain(&file), Ok)?;
        let table = format.table();
        let wrapper = wrapper(&file);
        let prefix = format.prefix_in(&file).unwrap_or("");
        let origin = Origin::of(&file, format, model);
        let pooling = Pooling::of(&file, &format!("{wrapper}{prefix}"))?;
        let outside = table.outside.unwrap_or(table.groups);
        let title = format!("{format} -> {}", Format::Ours);
        let gate = format!("{wrapper}{prefix}layer.0.mlp.gate_proj.weight");
        let first: &[Group] = match format {
            Format::Dinov3 if file.get(&gate).is_none() => transformers::DINOV3_PLAIN,
            _ => &[],
        };
        let (converted, mut report) = file.renamed(title, |name| {
            let name = name.strip_prefix(wrapper).unwrap_or(name);
            match name.strip_prefix(prefix) {
                Some(inside) => {
                    (fate(first, inside).or_else(|| fate(table.groups, inside)), prefix)
                }
                None => (fate(outside, name), ""),
            }
        })?;
        let channels = converted.input_channels().or(origin.known.map(|known| known.in_channels));
        let mut converted = converted.reworked(channels)?;
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
        let stats = converted.input_stats()?;
        if let Some(stats) = stats.or_else(|| format.input_stats(&converted, origin.attention_pool))
        {
            converted.set_input_stats(&stats);
        }
        // The file's own description takes precedence.
        if converted.metadata().contains_key("vit") {
            return Ok((converted, report, pooling));
        }
        match converted.inferred_config(&origin, scale) {
            Ok(config) => {
                converted.describe(&config)?;
                if let Some(heads) = converted.decoder_heads() {
                    converted.set_metadata("decoder_num_heads", heads.to_string());
                }
            }
            Err(error) => report.unresolved = Some(error.to_string()),
        }
        Ok((converted, report, pooling))
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

    /// The encoder under timm's names and in timm's form (gate and value apart, the class token's
    /// position in the token, as timm has each family), without adapters and decoder. Of the
    /// metadata, only those of the encoder stay.
    ///
    /// # Errors
    /// [`Error::Format`] for two tensors that get the same name, and for metadata that cannot be
    /// read.
    pub fn to_timm(self) -> Result<(Self, ConversionReport)> {
        let title = format!("{} -> {}", Format::Ours, Format::Timm);
        let (config, stats) = (self.vit_config().ok(), self.input_stats()?);
        let (mut converted, mut report) =
            self.renamed(title, |name| (fate(ours::TO_TIMM, name), ""))?;
        if let Some(config) = &config {
            let tensors = converted.tensors().clone();
            converted = converted.with(timm::arranged(tensors, config, &mut report)?);
        }
        converted.clear_metadata();
        converted.set_metadata(NAMES, Format::Timm.name());
        if let Some(stats) = stats {
            converted.set_input_stats(&stats);
        }
        if let Some(config) = config {
            let plain = ViTConfig { adapter: None, lora: None, ..config };
            converted.describe(&timm::described(plain))?;
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
        let mut parts: BTreeMap<String, Vec<Option<(String, Tensor)>>> = BTreeMap::new();
        let mut sources: BTreeMap<String, Vec<String>> = BTreeMap::new();
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
                    let slots = parts.entry(new.clone()).or_insert_with(|| vec![None; all.len()]);
                    slots[part] = Some((name.clone(), tensor.clone()));
                    let all = all.iter().map(|part| format!("{prefix}{part}"));
                    sources.insert(new, all.collect());
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
            let found: Vec<(String, Tensor)> = slots.into_iter().flatten().collect();
            if !absent.is_empty() {
                let what = format!("`{new}` cannot be joined: {} is missing", absent.join(", "));
                return Err(refuse(what));
            }
            let (from, tensors): (Vec<String>, Vec<Tensor>) = found.into_iter().unzip();
            let joined = Tensor::cat(&tensors, 0).map_err(|_| {
                let shapes = tensors.iter().map(|tensor| format!("{:?}", tensor.dims()));
                refuse(format!(
                    "`{new}` cannot be joined: shapes {}",
                    shapes.collect::<Vec<_>>().join(", ")
                ))
            })?;
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

/// Adds leading axes of length one up to rank three; makes one axis of a grid's two.
fn with_rank_three(tensor: &Tensor) -> Result<Tensor> {
    if let [1, height, width, dim] = *tensor.dims() {
        return Ok(tensor.reshape((1, height * width, dim))?);
    }
    let mut tensor = tensor.clone();
    while tensor.rank() < 3 {
        tensor = tensor.unsqueeze(0)?;
    }
    Ok(tensor)
}
