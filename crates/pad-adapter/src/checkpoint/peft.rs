//! LoRA adapters as peft stores them: `adapter_config.json` and `adapter_model.safetensors`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use candle_core::{D, DType, Tensor};
use pad_ops::text::shown;
use serde_json::{Value, json};

use super::{Checkpoint, FloatType, peft_patterns::Patterns, save};
use crate::{
    Error, LoraConfig, LoraSize, LoraTarget, Result,
    lora::{A, B, BIAS, MAGNITUDE},
    vit::ViTConfig,
};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What peft puts in front of every name.
const PREFIX: &str = "base_model.model.";
/// peft's names of a row's length and of a trained bias.
const PEFT_MAGNITUDE: &str = "lora_magnitude_vector";
const PEFT_BIAS: &str = "base_layer.bias";

/// Ends of modules' names in timm, transformers and open-source towers, and what they are here.
const MODULES: &[(&str, LoraTarget)] = &[
    ("attn.qkv", LoraTarget::Qkv),
    ("attn.proj", LoraTarget::Proj),
    ("attn.q_proj", LoraTarget::Query),
    ("attn.k_proj", LoraTarget::Key),
    ("attn.v_proj", LoraTarget::Value),
    ("mlp.fc1", LoraTarget::Fc1),
    ("mlp.fc2", LoraTarget::Fc2),
    ("attention.attention.query", LoraTarget::Query),
    ("attention.attention.key", LoraTarget::Key),
    ("attention.attention.value", LoraTarget::Value),
    ("attention.output.dense", LoraTarget::Proj),
    ("intermediate.dense", LoraTarget::Fc1),
    ("output.dense", LoraTarget::Fc2),
    ("attention.q_proj", LoraTarget::Query),
    ("attention.k_proj", LoraTarget::Key),
    ("attention.v_proj", LoraTarget::Value),
    ("attention.o_proj", LoraTarget::Proj),
    ("self_attn.q_proj", LoraTarget::Query),
    ("self_attn.k_proj", LoraTarget::Key),
    ("self_attn.v_proj", LoraTarget::Value),
    ("self_attn.out_proj", LoraTarget::Proj),
    ("mlp.up_proj", LoraTarget::Fc1),
    ("mlp.down_proj", LoraTarget::Fc2),
    ("mlp.weights_in", LoraTarget::Fc1),
    ("mlp.weights_out", LoraTarget::Fc2),
];

/// A LoRA, rsLoRA or DoRA adapter that peft has written, in memory.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::{LoraConfig, LoraTarget, checkpoint::{Checkpoint, PeftAdapter}};
/// use pad_adapter::{params::ParamStore, vit::{ViT, ViTConfig}};
/// use pad_ops::rng::Key;
///
/// // A ViT with low-rank adapters on its queries and values.
/// let lora = LoraConfig::new(4, 8.0, &[LoraTarget::Query, LoraTarget::Value]);
/// let config = ViTConfig { lora: Some(lora), ..ViTConfig::new(8, 32, 2, 2) };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// store.build(|vb| ViT::new(&config, vb))?;
/// let mut adapted = Checkpoint::from_tensors("mine", store.tensors(|_| true));
/// adapted.describe(&config)?;
/// // Written as peft writes it, read, and laid on the backbone.
/// let folder = tempfile::tempdir().unwrap();
/// adapted.save_peft(folder.path(), None)?;
/// let peft = PeftAdapter::open(folder.path())?;
/// assert_eq!(peft.config(), &lora);
/// let again = peft.onto(adapted.merge_lora()?)?;
/// assert_eq!(again.vit_config()?, config);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PeftAdapter {
    path: PathBuf,
    base: Option<String>,
    config: LoraConfig,
    depth: usize,
    tensors: BTreeMap<(usize, LoraTarget, &'static str), Tensor>,
}

/// The block and the layer of a module by peft's name.
fn place(module: &str) -> Option<(usize, LoraTarget)> {
    let segments: Vec<&str> = module.split('.').collect();
    // CLIP's text half and a decoder have blocks of the same names.
    if segments.iter().any(|segment| matches!(*segment, "text_model" | "decoder")) {
        return None;
    }
    let is_list = |segment: &str| matches!(segment, "blocks" | "layer" | "layers" | "resblocks");
    let at = segments.iter().position(|segment| is_list(segment))?;
    let block = segments.get(at + 1)?.parse().ok()?;
    let inner = segments[at + 2..].join(".");
    let target = MODULES.iter().find(|(name, _)| *name == inner)?.1;
    Some((block, target))
}

impl PeftAdapter {
    /// Whether a folder holds an adapter of peft.
    pub(super) fn is_one(folder: &Path) -> bool {
        folder.join(CONFIG).is_file()
    }

    /// Reads the folder of an adapter.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for another kind of adapter, for options that change what a
    /// layer computes and are not known here, for adapters of other layers than the blocks' linear
    /// ones, or that differ from block to block.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let path = folder.join(CONFIG);
        let text = pad_ops::fs::read_to_string(&path)
            .map_err(|cause| Error::Io { path: path.clone(), cause })?;
        let refuse = |what: String| Error::Format { path: path.clone(), what };
        let facts: Value = serde_json::from_str(&text)
            .map_err(|error| refuse(format!("not an adapter's configuration: {error}")))?;
        let word = |key: &str| facts[key].as_str();
        let flag = |key: &str| facts[key].as_bool().unwrap_or(false);
        if word("peft_type") != Some("LORA") {
            return Err(refuse(format!("`peft_type` is {}, expected LORA", facts["peft_type"])));
        }
        for key in ["fan_in_fan_out", "use_qalora", "use_bdlora", "lora_bias"] {
            if flag(key) {
                return Err(refuse(format!("`{key}` is true, expected false")));
            }
        }
        for key in ["modules_to_save", "layer_replication", "trainable_token_indices"] {
            if !facts[key].is_null() {
                return Err(refuse(format!("`{key}` is {}, expected null", facts[key])));
            }
        }
        let patterns: Patterns = serde_json::from_str(&text)
            .map_err(|error| refuse(format!("not an adapter's configuration: {error}")))?;
        let Patterns { rank_pattern, alpha_pattern } = &patterns;
        for (key, pattern) in [("rank_pattern", rank_pattern), ("alpha_pattern", alpha_pattern)] {
            let regular = |end: &&str| end.chars().any(|c| "*+?()[]{}|\\^$".contains(c));
            if let Some(found) = pattern.ends().find(regular) {
                let found = shown(found);
                return Err(refuse(format!(
                    "`{key}`: `{found}` is a regular expression, expected the end of a name"
                )));
            }
        }
        let bias = match word("bias") {
            None | Some("none") => false,
            Some("lora_only") => true,
            Some(other) => {
                let other = shown(other);
                return Err(refuse(format!("`bias` is {other}, expected none or lora_only")));
            }
        };
        let file = Checkpoint::open(folder.join(WEIGHTS))?;
        let refuse = |what: String| Error::Format { path: file.path().to_path_buf(), what };
        let mut tensors = BTreeMap::new();
        let mut config = LoraConfig {
            rank_stabilized: flag("use_rslora"),
            dora: flag("use_dora"),
            bias,
            dropout: facts["lora_dropout"].as_f64().unwrap_or(0.0),
            ..LoraConfig::new(1, 1.0, &[])
        };
        let mut blocks: BTreeMap<LoraTarget, BTreeSet<usize>> = BTreeMap::new();
        for (name, tensor) in file.tensors() {
            let bare = name.strip_prefix(PREFIX).unwrap_or(name);
            let ends = [
                (A, A),
                (B, B),
                (PEFT_MAGNITUDE, MAGNITUDE),
                ("lora_magnitude_vector.weight", MAGNITUDE),
                (PEFT_BIAS, BIAS),
            ];
            let part = ends
                .iter()
                .find_map(|(end, part)| Some((bare.strip_suffix(end)?.strip_suffix('.')?, *part)));
            let Some((module, part)) = part else {
                let name = shown(name);
                return Err(refuse(format!("tensor `{name}` is not a LoRA adapter's")));
            };
            let Some((block, target)) = place(module) else {
                let module = shown(module);
                return Err(refuse(format!(
                    "`{module}` has an adapter, expected only the linear layers of blocks (query, key, value, qkv, \
                     proj, fc1, fc2)"
                )));
            };
            let tensor = tensor.to_dtype(DType::F32)?;
            if part == A {
                let (rank, _) = tensor.dims2().map_err(|_| {
                    let name = shown(name);
                    refuse(format!("`{name}` of shape {:?}, expected (r, I)", tensor.dims()))
                })?;
                let alpha = alpha_pattern.of(module);
                let alpha = alpha.or_else(|| facts["lora_alpha"].as_f64());
                let alpha = alpha.ok_or_else(|| refuse("`lora_alpha` is missing".into()))?;
                let size = LoraSize { rank, alpha };
                match config.targets.get(target) {
                    Some(known) if known != size => {
                        return Err(refuse(format!(
                            "`{module}` has rank {rank} and alpha {alpha}, expected {} and {} as in other blocks",
                            known.rank, known.alpha
                        )));
                    }
                    _ => config.targets.set(target, size),
                }
                blocks.entry(target).or_default().insert(block);
            }
            if tensors.insert((block, target, part), tensor).is_some() {
                return Err(refuse(format!(
                    "`{module}` is a second module for block {block}, expected those of one encoder"
                )));
            }
        }
        let depth = tensors.keys().map(|(block, ..)| block.saturating_add(1)).max().unwrap_or(0);
        if let Some((target, found)) = blocks.iter().find(|(_, found)| found.len() != depth) {
            return Err(refuse(format!(
                "{} of {depth} blocks have an adapter of {}, expected all",
                found.len(),
                target.name()
            )));
        }
        config.validate()?;
        let base = word("base_model_name_or_path").filter(|name| !name.is_empty());
        let (path, base) = (file.path().to_path_buf(), base.map(str::to_string));
        Ok(Self { path, base, config, depth, tensors })
    }

    /// The file with its tensors.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The backbone that it was trained on, as peft names it: a repository of the hub or a folder.
    pub fn base(&self) -> Option<&str> {
        self.base.as_deref()
    }

    /// Which layers are adapted, and how.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Adds the adapter to the backbone that it was trained on, whose names are this project's and
    /// whose model is known; the metadata `vit` has the adapter then.
    ///
    /// # Errors
    /// [`Error::Format`] for a backbone whose layers it does not fit; [`Error::Config`] for one
    /// whose model is unknown.
    pub fn onto(&self, mut backbone: Checkpoint) -> Result<Checkpoint> {
        let refuse = |what: String| Error::Format { path: self.path.clone(), what };
        let config = backbone.vit_config()?;
        if config.depth != self.depth {
            return Err(refuse(format!(
                "adapters of {} blocks, expected {}, the backbone's",
                self.depth, config.depth
            )));
        }
        for ((block, target, part), tensor) in &self.tensors {
            let layer = format!("blocks.{block}.{}", target.layer());
            let rows = |tensor: &Tensor| third(tensor, *target);
            let value = match *part {
                // Kept as multiples of the frozen rows' lengths.
                MAGNITUDE => {
                    let weight = of(&backbone, &format!("{layer}.weight"))?;
                    (tensor.flatten_all()? / lengths(&rows(&weight)?)?)?
                }
                // Kept as what is added to the frozen bias.
                BIAS => (tensor - rows(&of(&backbone, &format!("{layer}.bias"))?)?)?,
                _ => tensor.clone(),
            };
            backbone.insert(format!("blocks.{block}.{}.{part}", target.path()), value);
        }
        let config = ViTConfig { lora: Some(self.config), ..config };
        config.validate()?;
        backbone.describe(&config)?;
        Ok(backbone)
    }
}

/// A tensor in `f32`, or the error that it is absent.
fn of(file: &Checkpoint, name: &str) -> Result<Tensor> {
    let found = file.get(name).ok_or_else(|| Error::Format {
        path: file.path().to_path_buf(),
        what: format!("no tensor `{name}`, which an adapter is for"),
    })?;
    Ok(found.to_dtype(DType::F32)?)
}

/// The rows that a target adapts.
fn third(tensor: &Tensor, target: LoraTarget) -> Result<Tensor> {
    let Some(third) = target.third() else { return Ok(tensor.clone()) };
    let rows = tensor.dim(0)? / 3;
    Ok(tensor.narrow(0, third * rows, rows)?.contiguous()?)
}

/// The lengths of a weight's rows.
fn lengths(weight: &Tensor) -> Result<Tensor> {
    Ok(weight.sqr()?.sum(D::Minus1)?.sqrt()?)
}

impl Checkpoint {
    /// Writes the low-rank adapters in this checkpoint, whose names are this project's, as peft
    /// stores them: names of timm's modules, or of transformers' `ViTModel` where queries, keys or
    /// values have adapters of their own. `base` is what peft then says they were trained on.
    ///
    /// # Errors
    /// [`Error::Config`] if the model has no low-rank adapters, or has others beside them;
    /// [`Error::Format`] for absent tensors; [`Error::Io`].
    ///
    /// ```
    /// use pad_adapter::{checkpoint::Checkpoint, vit::ViTConfig};
    /// // `PeftAdapter` shows a round trip. A model without low-rank adapters has nothing to write.
    /// let mut plain = Checkpoint::from_tensors("mine", Default::default());
    /// plain.describe(&ViTConfig::tiny(16))?;
    /// let error = plain.save_peft("peft", None).unwrap_err();
    /// assert_eq!(error.to_string(), "peft: the model has no low-rank adapters");
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn save_peft(&self, folder: impl AsRef<Path>, base: Option<&str>) -> Result<()> {
        let folder = folder.as_ref();
        let config = self.vit_config()?;
        let refuse = |fault: &str| Error::Config { what: "peft", faults: vec![fault.into()] };
        let lora = config.lora.ok_or_else(|| refuse("the model has no low-rank adapters"))?;
        if config.adapter.is_some() {
            return Err(refuse("the model has adapters beside the MLP, which peft cannot store"));
        }
        let targets = LoraTarget::ALL.into_iter().filter_map(|t| Some((t, lora.targets.get(t)?)));
        let targets: Vec<(LoraTarget, LoraSize)> = targets.collect();
        let apart = targets.iter().any(|(target, _)| target.third().is_some());
        let module = |target: LoraTarget| match (target, apart) {
            (LoraTarget::Query, _) => "attention.attention.query",
            (LoraTarget::Key, _) => "attention.attention.key",
            (LoraTarget::Value, _) => "attention.attention.value",
            (LoraTarget::Proj, true) => "attention.output.dense",
            (LoraTarget::Fc1, true) => "intermediate.dense",
            (LoraTarget::Fc2, true) => "output.dense",
            (other, _) => other.path(),
        };
        let blocks = if apart { "encoder.layer" } else { "blocks" };
        let mut tensors = BTreeMap::new();
        for block in 0..config.depth {
            for &(target, _) in &targets {
                let own = format!("blocks.{block}.{}", target.path());
                let layer = format!("blocks.{block}.{}", target.layer());
                let to = format!("{PREFIX}{blocks}.{block}.{}", module(target));
                let mut put = |end: &str, tensor: Tensor| {
                    tensors.insert(format!("{to}.{end}"), tensor);
                };
                put(A, of(self, &format!("{own}.{A}"))?);
                put(B, of(self, &format!("{own}.{B}"))?);
                if lora.dora {
                    let weight = third(&of(self, &format!("{layer}.weight"))?, target)?;
                    let factor = of(self, &format!("{own}.{MAGNITUDE}"))?;
                    put(PEFT_MAGNITUDE, (factor * lengths(&weight)?)?);
                }
                if lora.bias {
                    let bias = third(&of(self, &format!("{layer}.bias"))?, target)?;
                    put(PEFT_BIAS, (of(self, &format!("{own}.{BIAS}"))? + bias)?);
                }
            }
        }
        let sizes = || targets.iter().map(|(target, size)| (module(*target), size));
        let first = targets.first().map_or(LoraSize { rank: 1, alpha: 1.0 }, |(_, size)| *size);
        // All of them or none: peft takes the first key that ends a name, and a key can end the name
        // of another layer. Longer names come first in their order.
        let differ = sizes().any(|(_, size)| size.rank != first.rank);
        let ranks: BTreeMap<&str, usize> =
            sizes().filter(|_| differ).map(|(module, size)| (module, size.rank)).collect();
        let differ = sizes().any(|(_, size)| size.alpha != first.alpha);
        let alphas: BTreeMap<&str, f64> =
            sizes().filter(|_| differ).map(|(module, size)| (module, size.alpha)).collect();
        // A regular expression: a list would match the ends of other names, the patch embedding's
        // among them.
        let names: Vec<String> = sizes().map(|(module, _)| module.replace('.', "\\.")).collect();
        let blocks = blocks.replace('.', "\\.");
        let facts = json!({
            "peft_type": "LORA",
            "task_type": null,
            "base_model_name_or_path": base,
            "inference_mode": true,
            "r": first.rank,
            "lora_alpha": first.alpha,
            "lora_dropout": lora.dropout,
            "rank_pattern": ranks,
            "alpha_pattern": alphas,
            "target_modules": format!("{blocks}\\.\\d+\\.({})", names.join("|")),
            "modules_to_save": null,
            "fan_in_fan_out": false,
            "bias": if lora.bias { "lora_only" } else { "none" },
            "use_rslora": lora.rank_stabilized,
            "use_dora": lora.dora,
        });
        std::fs::create_dir_all(folder)
            .map_err(|cause| Error::Io { path: folder.to_path_buf(), cause })?;
        let path = folder.join(CONFIG);
        let text = serde_json::to_vec_pretty(&facts)
            .map_err(|error| Error::Format { path: path.clone(), what: error.to_string() })?;
        pad_ops::fs::write_atomic_bytes(&path, &text).map_err(|cause| Error::Io { path, cause })?;
        let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
        save(folder.join(WEIGHTS), &tensors, &metadata, FloatType::F32)
    }
}
