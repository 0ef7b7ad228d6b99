//! One way to open pre-trained weights: files, folders, the hub, runs, adapters on the backbone
//! that they name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use candle_core::Device;
use pad_ops::text::near_name;

use super::{
    AdapterFile, Checkpoint, ConversionReport, Format, InputStats, PeftAdapter, index::FILES,
    pooling::Pooling,
};
use crate::{
    Error, Result, Scale,
    params::{DEFAULT_ADAPTER, Role},
    vit::{PoolHead, ViTConfig},
};

/// The settings of a run, in its folder.
const RUN: &str = "config.toml";

/// The adapters of a run, in its folder.
const ADAPTER: &str = "adapter.safetensors";

/// Reads a file that another crate wrote, with a whole model in it: returns the configuration of
/// its vision transformer, or `None` for a file of another kind. It may remove tensors that are no
/// part of the backbone; names with the prefixes of the original (`backbone.`, `backbone.net.`) are
/// renamed afterwards.
///
/// ```
/// use pad_adapter::{checkpoint::{Checkpoint, Reader}, vit::ViTConfig};
/// // Files of a program that keeps an index beside the weights, and says so.
/// let reader: Reader = |file| {
///     if file.metadata().get("format").map(String::as_str) != Some("ours/1") {
///         return Ok(None);
///     }
///     file.remove("index");
///     Ok(Some(ViTConfig::tiny(16)))
/// };
/// let mut foreign = Checkpoint::from_tensors("foreign", Default::default());
/// assert_eq!(reader(&mut foreign)?, None);
/// foreign.set_metadata("format", "ours/1");
/// assert_eq!(reader(&mut foreign)?.unwrap().embed_dim, 192);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
pub type Reader = fn(&mut Checkpoint) -> Result<Option<ViTConfig>>;

/// How [`Backbone::open`] reads weights.
///
/// ```
/// use std::collections::BTreeMap;
/// use candle_core::Device;
/// use pad_adapter::{
///     Scale,
///     checkpoint::{Backbone, BackboneOptions, Checkpoint, FloatType, Format, save},
///     params::ParamStore,
///     vit::{ViT, ViTConfig},
/// };
/// use pad_ops::rng::Key;
///
/// // A file with two networks.
/// let config = ViTConfig::new(8, 64, 1, 2);
/// let mut tensors = BTreeMap::new();
/// for (seed, prefix) in [(1, "student"), (2, "teacher")] {
///     let store = ParamStore::scratch(&Device::Cpu, Key::new(seed));
///     store.build(|vb| ViT::new(&config, vb))?;
///     for (name, tensor) in store.tensors(|_| true) {
///         tensors.insert(format!("{prefix}.{name}"), tensor);
///     }
/// }
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("run.safetensors");
/// save(&path, &tensors, &BTreeMap::new(), FloatType::AsIs)?;
///
/// let options = BackboneOptions::default()
///     .with_prefix(Some("teacher".into())) // one of the two; without it, an error lists both
///     .with_format(Some(Format::Timm)) // default: detected
///     .with_model(Some(config)) // heads and eps, which no tensor tells
///     .with_scale(Some(Scale::Fixed(0.5))) // of adapters that do not tell it
///     .with_key(None) // a dictionary in a file of PyTorch: `model_ema`
///     .with_backbone(None) // of an adapter file that does not name it
///     .with_any_backbone(false)
///     .with_reader(|file| {
///         // A file of your own format: `Some` of its configuration.
///         Ok(file.metadata().contains_key("mine").then(|| ViTConfig::new(8, 64, 1, 2)))
///     })
///     .with_named("bundled", Vec::leak(std::fs::read(&path).unwrap())); // weights in the program
/// assert_eq!(Backbone::open("bundled", &options)?.config()?.num_heads, 2);
/// let found = Backbone::open(path.to_str().unwrap(), &options)?;
/// assert!(found.checkpoint().names().all(|name| !name.starts_with("teacher.")));
/// assert_eq!(found.config()?.depth, 1);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct BackboneOptions {
    format: Option<Format>,
    prefix: Option<String>,
    key: Option<String>,
    backbone: Option<String>,
    allow_other_backbone: bool,
    scale: Option<Scale>,
    model: Option<ViTConfig>,
    named: BTreeMap<String, &'static [u8]>,
    readers: Vec<Reader>,
}

impl fmt::Debug for BackboneOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackboneOptions")
            .field("format", &self.format)
            .field("prefix", &self.prefix)
            .field("key", &self.key)
            .field("backbone", &self.backbone)
            .field("allow_other_backbone", &self.allow_other_backbone)
            .field("scale", &self.scale)
            .field("model", &self.model)
            .field("named", &self.named.keys())
            .finish_non_exhaustive()
    }
}

impl BackboneOptions {
    /// Sets the format of the file. Default: detected from its names.
    #[must_use]
    pub fn with_format(self, format: Option<Format>) -> Self {
        Self { format, ..self }
    }

    /// Sets what stands in front of the network's names in the file (`encoder.`), with or without
    /// its last dot; tensors without it are left out. Default: found, if there is one network.
    #[must_use]
    pub fn with_prefix(self, prefix: Option<String>) -> Self {
        Self { prefix, ..self }
    }

    /// Sets the dictionary of weights in a file of PyTorch that has several, `model_ema` or
    /// `ema.module`. Default: the only one.
    #[must_use]
    pub fn with_key(self, key: Option<String>) -> Self {
        Self { key, ..self }
    }

    /// Sets the backbone of an adapter file, as [`Backbone::open`] takes it. Default: the one that
    /// the file names, or the `weights` in the `config.toml` beside it.
    #[must_use]
    pub fn with_backbone(self, source: Option<String>) -> Self {
        Self { backbone: source, ..self }
    }

    /// Sets whether adapters may be used on another backbone than the one they were trained on.
    /// Default: they may not.
    #[must_use]
    pub fn with_any_backbone(self, allow: bool) -> Self {
        Self { allow_other_backbone: allow, ..self }
    }

    /// Sets the scale of adapters in files that do not tell it.
    #[must_use]
    pub fn with_scale(self, scale: Option<Scale>) -> Self {
        Self { scale, ..self }
    }

    /// Sets the model in a foreign file, for what its tensors do not tell
    /// ([`Checkpoint::to_ours_known`]). Default: what the `config.json` beside it says, or the
    /// published model of its widths.
    #[must_use]
    pub fn with_model(self, model: Option<ViTConfig>) -> Self {
        Self { model, ..self }
    }

    /// Adds weights in memory, the bytes of a safetensors file, under a name.
    #[must_use]
    pub fn with_named(mut self, name: impl Into<String>, bytes: &'static [u8]) -> Self {
        self.named.insert(name.into(), bytes);
        self
    }

    /// A source that a file in `folder` names: as it is in memory, or where its path is now.
    fn find_from(&self, folder: &Path, source: &str) -> Option<String> {
        if self.named.contains_key(source) {
            return Some(source.to_string());
        }
        let found = pad_ops::fs::find_from(folder, Path::new(source))?;
        found.to_str().map(str::to_string)
    }

    /// Adds a reader for files of another crate.
    #[must_use]
    pub fn with_reader(mut self, reader: Reader) -> Self {
        self.readers.push(reader);
        self
    }
}

/// Pre-trained weights of a vision transformer, under this project's names.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::{
///     AdapterConfig,
///     checkpoint::{Backbone, BackboneOptions, Checkpoint, FloatType, save},
///     params::ParamStore,
///     vit::{ViT, ViTConfig},
/// };
/// use pad_ops::rng::Key;
///
/// // The tensors of a ViT of this project, of 64 values and 2 blocks, with adapters.
/// let adapter = Some(AdapterConfig { bottleneck: 16, ..AdapterConfig::default() });
/// let config = ViTConfig { adapter, ..ViTConfig::new(8, 64, 2, 1) };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// store.build(|vb| ViT::new(&config, vb))?;
/// let tensors = store.tensors(|_| true);
///
/// // From memory. What the file does not say is inferred: names and shapes tell all of this.
/// let options = BackboneOptions::default();
/// let memory = Checkpoint::from_tensors("mine", tensors.clone());
/// let backbone = Backbone::from_checkpoint("mine", memory, &options)?;
/// let found = backbone.config()?;
/// assert_eq!((found.patch_size, found.depth, found.adapter.unwrap().bottleneck), (8, 2, 16));
/// assert_eq!((backbone.source(), backbone.has_adapters()), ("mine", true));
/// assert_eq!(backbone.digest()?, store.backbone_digest()?);
/// assert_eq!(backbone.report().unknown().len(), 0);
/// assert!(backbone.input_stats().is_none() && backbone.adapter_file().is_none());
/// // A named model, with the adapters of this file.
/// assert_eq!(backbone.config_as(ViTConfig::new(8, 64, 2, 2))?.adapter, found.adapter);
///
/// // From a file, and into a model.
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("vit.safetensors");
/// save(&path, &tensors, backbone.checkpoint().metadata(), FloatType::F32)?;
/// let backbone = Backbone::open(path.to_str().unwrap(), &options)?;
/// let found = backbone.config()?;
/// let store = ParamStore::from_checkpoint(backbone.into_checkpoint(), &Device::Cpu, Key::new(0));
/// assert_eq!(store.build(|vb| ViT::new(&found, vb))?.config().embed_dim, 64);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Backbone {
    source: String,
    checkpoint: Checkpoint,
    /// The model, or why it is unknown.
    config: Result<ViTConfig, String>,
    input_stats: Option<InputStats>,
    report: ConversionReport,
    adapter: Option<AdapterFile>,
    /// What lies below the adapters, as given or named.
    below: String,
    pooling: Option<Pooling>,
    scale: Option<Scale>,
}

impl Backbone {
    /// Opens weights. `source` is
    /// - a name of [`BackboneOptions::with_named`];
    /// - a file, a folder or a hub address, as [`Checkpoint::open`] takes them, in any [`Format`];
    /// - the folder of a run: with `model.safetensors`, with `adapter.safetensors`, or with one
    ///   `.safetensors` file;
    /// - an adapter file, whose adapters are added to the backbone that it names; the backbone's
    ///   digest must be the one in the file;
    /// - the folder of an adapter that peft has written ([`PeftAdapter`]), which is added to the
    ///   backbone of [`BackboneOptions::with_backbone`], or to the file or folder that it names.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] for what cannot be read; [`Error::NotFinite`] for values
    /// that are NaN or infinite; [`Error::OtherBackbone`]; errors of a reader.
    pub fn open(source: &str, options: &BackboneOptions) -> Result<Self> {
        if !options.named.contains_key(source) && PeftAdapter::is_one(Path::new(source)) {
            return Self::of_peft(source, options);
        }
        let opened = match locate(source, options) {
            // A key is one of the file below an adapter file, which itself has none.
            Err(error) if options.key.is_some() => {
                let plain = BackboneOptions { key: None, ..options.clone() };
                let found = locate(source, &plain).ok().filter(AdapterFile::is_one);
                found.ok_or(error)?
            }
            opened => opened?,
        };
        if !AdapterFile::is_one(&opened) {
            return Self::from_checkpoint(source, opened, options);
        }
        // The ViT builds its adapters without a name.
        let adapter = AdapterFile::from_checkpoint(opened)?.with_name(DEFAULT_ADAPTER)?;
        let Some(config) = adapter.config().copied() else {
            return Err(Error::Format {
                path: adapter.path().to_path_buf(),
                what: "adapters of a model that is not this project's ViT: expected \
                       `AdapterFile::open`, and `onto` with that model's weights"
                    .into(),
            });
        };
        let below = backbone_of(&adapter, options)?;
        let found = locate(&below, options)?;
        if AdapterFile::is_one(&found) {
            return Err(Error::Format {
                path: found.path().to_path_buf(),
                what: "an adapter file, expected a whole backbone".into(),
            });
        }
        let whole = Self::from_checkpoint(&below, found, options)?;
        let checkpoint = match options.allow_other_backbone {
            true => adapter.onto_any(whole.checkpoint)?,
            false => adapter.onto(whole.checkpoint)?,
        };
        checkpoint.expect_finite(|name| Role::of(name).is_adapter())?;
        Ok(Self {
            source: source.to_string(),
            input_stats: checkpoint.input_stats()?,
            checkpoint,
            config: Ok(config),
            report: whole.report,
            adapter: Some(adapter),
            below,
            pooling: whole.pooling,
            scale: options.scale,
        })
    }

    /// An adapter of peft on its backbone.
    fn of_peft(source: &str, options: &BackboneOptions) -> Result<Self> {
        let peft = PeftAdapter::open(source)?;
        let named = || peft.base().and_then(|base| options.find_from(Path::new(source), base));
        let below = options.backbone.clone().or_else(named).ok_or_else(|| Error::Format {
            path: peft.path().to_path_buf(),
            what: match peft.base() {
                Some(base) => format!(
                    "its backbone `{}` is not here: expected the option `backbone`",
                    pad_ops::text::shown(base)
                ),
                None => "it names no backbone: expected the option `backbone`".into(),
            },
        })?;
        let found = locate(&below, options)?;
        if AdapterFile::is_one(&found) {
            return Err(Error::Format {
                path: found.path().to_path_buf(),
                what: "an adapter file, expected a whole backbone".into(),
            });
        }
        let whole = Self::from_checkpoint(&below, found, options)?;
        whole.config()?; // says what is unknown
        let checkpoint = peft.onto(whole.checkpoint)?;
        checkpoint.expect_finite(|name| Role::of(name).is_adapter())?;
        let config = Ok(checkpoint.vit_config()?);
        let source = source.to_string();
        Ok(Self { source, checkpoint, config, below, ..whole })
    }

    /// Takes weights that are in memory, as [`Backbone::open`] takes those of a file.
    ///
    /// # Errors
    /// [`Error::Format`] for names of no known format or metadata that cannot be read; errors of a
    /// reader.
    pub fn from_checkpoint(
        source: &str,
        mut checkpoint: Checkpoint,
        options: &BackboneOptions,
    ) -> Result<Self> {
        if let Some(prefix) = &options.prefix {
            checkpoint = checkpoint.under_prefix(prefix)?;
        }
        for reader in &options.readers {
            if let Some(config) = reader(&mut checkpoint)? {
                checkpoint.describe(&config)?;
                break;
            }
        }
        let (checkpoint, report, pooling) =
            checkpoint.into_ours_pooled(options.format, options.scale, options.model)?;
        let unknown: BTreeSet<&str> = report.unknown().into_iter().collect();
        checkpoint.expect_finite(|name| !unknown.contains(name))?;
        let config = match &report.unresolved {
            Some(why) => Err(why.clone()),
            None => Ok(checkpoint.vit_config()?),
        };
        Ok(Self {
            source: source.to_string(),
            input_stats: checkpoint.input_stats()?,
            checkpoint,
            config,
            report,
            adapter: None,
            below: source.to_string(),
            pooling,
            scale: options.scale,
        })
    }

    /// Where the backbone came from: what lies below the adapters of an adapter file, as given or as
    /// the file names it; else the source itself.
    pub fn backbone_source(&self) -> &str {
        &self.below
    }

    /// Where the weights came from, as given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The tensors and metadata: a decoder, heads and adapters are among them if the file has some.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The tensors and metadata.
    pub fn into_checkpoint(self) -> Checkpoint {
        self.checkpoint
    }

    /// The model that the file says it holds.
    ///
    /// # Errors
    /// [`Error::Format`], which says what is unknown, for a file that does not tell it.
    pub fn config(&self) -> Result<ViTConfig> {
        self.config.clone().map_err(|why| Error::Format {
            path: self.checkpoint.path().to_path_buf(),
            what: format!("the model cannot be inferred: {why}"),
        })
    }

    /// Returns the model `named` with the adapters that the weights have: the name of a model does
    /// not say them.
    ///
    /// # Errors
    /// [`Error::Format`] for adapters of an unknown scale.
    pub fn config_as(&self, named: ViTConfig) -> Result<ViTConfig> {
        let (adapter, lora) = match (&self.config, self.has_adapters()) {
            (_, false) => (None, None),
            (Ok(config), true) => (config.adapter, config.lora),
            (Err(_), true) => (self.checkpoint.adapter_config(self.scale)?, None),
        };
        Ok(ViTConfig { adapter, lora, ..named })
    }

    /// Whether there are adapters among the tensors.
    pub fn has_adapters(&self) -> bool {
        self.checkpoint.names().any(|name| Role::of(name).is_adapter())
    }

    /// The statistics of the images that the weights were trained on, if they are known.
    pub fn input_stats(&self) -> Option<InputStats> {
        self.input_stats
    }

    /// The layers that pool the encoder's tokens in the file: the learnt query of SigLIP and PE, the
    /// norm of averaged patches of fine-tuned MAE, BEiT and EVA-02. `None` for a file without any;
    /// converted files leave them out.
    ///
    /// # Errors
    /// [`Error::Format`] for a model that is unknown, and for a query whose heads are; a report of
    /// missing and misshapen tensors.
    pub fn pool_head(&self, device: &Device) -> Result<Option<PoolHead>> {
        let Some(pooling) = &self.pooling else { return Ok(None) };
        pooling.build(&self.config()?, &self.checkpoint, device).map(Some)
    }

    /// The conversion of the file's names.
    pub fn report(&self) -> &ConversionReport {
        &self.report
    }

    /// The adapter file, if the source was one or named one.
    pub fn adapter_file(&self) -> Option<&AdapterFile> {
        self.adapter.as_ref()
    }

    /// The backbone's digest ([`Checkpoint::backbone_digest`]).
    ///
    /// # Errors
    /// As [`Checkpoint::backbone_digest`].
    pub fn digest(&self) -> Result<String> {
        self.checkpoint.backbone_digest()
    }
}

/// Reads the file that `source` names.
fn locate(source: &str, options: &BackboneOptions) -> Result<Checkpoint> {
    if let Some(bytes) = options.named.get(source) {
        return Checkpoint::from_safetensors(bytes, source);
    }
    let path = Path::new(source);
    if path.is_dir() {
        return Checkpoint::open_with_key(file_in(path)?, options.key.as_deref());
    }
    let named = options.named.keys().map(String::as_str);
    if let (false, Some(near)) = (path.exists(), near_name(source, named)) {
        return Err(Error::Format {
            path: path.into(),
            what: format!("no such file (did you mean `{near}`?)"),
        });
    }
    Checkpoint::open_with_key(path, options.key.as_deref())
}

/// The file with weights in a folder, or the folder itself if it has one under the hub's names.
fn file_in(folder: &Path) -> Result<PathBuf> {
    let has = |name: &str| folder.join(name).is_file();
    if FILES.iter().any(|name| has(name)) {
        return Ok(folder.to_path_buf());
    }
    if has(ADAPTER) {
        return Ok(folder.join(ADAPTER));
    }
    let entries = std::fs::read_dir(folder)
        .map_err(|cause| Error::Io { path: folder.to_path_buf(), cause })?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    match (files.pop(), files.is_empty()) {
        (Some(file), true) => Ok(file),
        (None, _) if has(RUN) => Err(Error::Format {
            path: folder.to_path_buf(),
            what: "a run without final weights: it has not ended (continue it with --resume)"
                .into(),
        }),
        _ => Err(Error::Format {
            path: folder.to_path_buf(),
            what: format!("expected a folder with one of {}, {ADAPTER}", FILES.join(", ")),
        }),
    }
}

/// The source of an adapter file's backbone.
fn backbone_of(adapter: &AdapterFile, options: &BackboneOptions) -> Result<String> {
    if let Some(source) = &options.backbone {
        return Ok(source.clone());
    }
    let folder = adapter.path().parent().unwrap_or(Path::new(""));
    let named = adapter.backbone().map(str::to_string).or_else(|| weights_of_run(folder));
    let source = named.filter(|source| source != "none").ok_or_else(|| Error::Format {
        path: adapter.path().to_path_buf(),
        what: "it names no backbone: expected the option `backbone`".into(),
    })?;
    // Written where the run was made, maybe in another working directory, and moved since.
    Ok(options.find_from(folder, &source).unwrap_or(source))
}

/// The entry `weights` in a run's settings. Runs of the first versions name their backbone there
/// and not in the adapter file.
fn weights_of_run(folder: &Path) -> Option<String> {
    let settings = pad_ops::fs::read_to_string(&folder.join(RUN)).ok()?;
    let top = settings.lines().map(str::trim).take_while(|line| !line.starts_with('['));
    let mut values = top.filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "weights").then_some(value.trim())
    });
    let value = values.next()?;
    match value.strip_prefix('\'') {
        Some(literal) => literal.split('\'').next().map(str::to_string),
        // A basic string, which TOML writes as JSON does; a comment may follow.
        None => serde_json::Deserializer::from_str(value).into_iter::<String>().next()?.ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_in_settings() {
        let folder = tempfile::tempdir().unwrap();
        let weights = |text: &str| {
            std::fs::write(folder.path().join(RUN), text).unwrap();
            weights_of_run(folder.path())
        };
        assert_eq!(weights("data = \"x\"\nweights = \"a/b.pth\"\n").as_deref(), Some("a/b.pth"));
        assert_eq!(weights("weights='c:\\d' # there").as_deref(), Some("c:\\d"));
        assert_eq!(weights("weights = \"a \\\"b\\\"\" # there").as_deref(), Some("a \"b\""));
        assert_eq!(weights("[model]\nweights = \"a\"\n"), None);
        assert_eq!(weights("weights_decay = 1"), None);
    }
}
