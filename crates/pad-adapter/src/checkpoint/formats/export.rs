//! The way out: this project's names into those of transformers and of a family's authors, by the
//! tables that read them, read backwards.

use candle_core::Tensor;
use pad_ops::RopePairs;

use super::{
    format::{Format, NAMES},
    ours,
    report::{Change, ConversionReport},
    rule::{Group, Rule, captures, fate, fill},
    transformers,
};
use crate::{
    Error, Result,
    checkpoint::Checkpoint,
    params::Role,
    vit::{Activation, Positions, QkvBias, RelativeBias, TableResize, ViTConfig},
};

/// Families whose models have names of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Plain,
    Deit3,
    Dinov2,
    Dinov3,
    Eva,
    Pe,
    Beit,
    Clip,
    Siglip,
}

impl Family {
    fn of(config: &ViTConfig) -> Self {
        match config.rope {
            Some(rope) if rope.pairs == RopePairs::Halves => return Self::Dinov3,
            Some(_) if config.activation == Activation::SwiGlu => return Self::Eva,
            Some(_) => return Self::Pe,
            None => {}
        }
        if config.relative_bias != RelativeBias::None {
            return Self::Beit;
        }
        if config.pre_norm {
            return Self::Clip;
        }
        if !config.class_token {
            return Self::Siglip;
        }
        match config.layer_scale {
            Some(_) if config.register_tokens > 0 || config.positions == Positions::Table => {
                Self::Dinov2
            }
            Some(_) => Self::Deit3,
            None => Self::Plain,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Deit3 => "DeiT III",
            Self::Dinov2 => "DINOv2",
            Self::Dinov3 => "DINOv3",
            Self::Eva => "EVA-02",
            Self::Pe => "PE",
            Self::Beit => "BEiT",
            Self::Clip => "CLIP",
            Self::Siglip => "SigLIP",
        }
    }

    /// transformers' format of it; `None` where transformers has no such model.
    const fn transformers(self) -> Option<Format> {
        match self {
            Self::Plain => Some(Format::Vit),
            Self::Dinov2 => Some(Format::Dinov2),
            Self::Dinov3 => Some(Format::Dinov3),
            Self::Beit => Some(Format::Beit),
            Self::Clip => Some(Format::ClipVision),
            Self::Siglip => Some(Format::Siglip),
            Self::Deit3 | Self::Eva | Self::Pe => None,
        }
    }

    /// The authors' format of it; `None` where they publish no file of PyTorch.
    const fn authors(self) -> Option<Format> {
        match self {
            Self::Plain | Self::Deit3 => Some(Format::Original),
            Self::Dinov2 | Self::Dinov3 => Some(Format::Dino),
            Self::Eva => Some(Format::Eva),
            Self::Pe => Some(Format::Pe),
            Self::Beit => Some(Format::BeitOriginal),
            Self::Clip => Some(Format::Clip),
            Self::Siglip => None,
        }
    }
}

/// Names of a format's table that a model of `config` does not use, where the table has several for
/// one of ours.
fn unused(format: Format, config: &ViTConfig) -> Vec<&'static str> {
    let gated = config.activation == Activation::SwiGlu;
    let mut all = Vec::new();
    match format {
        Format::Dino => {
            if gated {
                all.extend(["mlp.fc1.*", "mlp.fc2.*"]);
            }
            // DINOv3's packed nothing and called its registers otherwise.
            all.extend(match config.rope {
                Some(_) => ["w12.*", "register_tokens", "reg_token"],
                None => ["w1.*", "storage_tokens", "reg_token"],
            });
        }
        Format::Eva => {
            all.extend(["mlp.fc1.*", "mlp.fc2.*", "mlp.norm.*", "attn.norm.*", "mlp.fc1_g.*"]);
            all.extend(match config.mlp_norm {
                true => ["attn.qkv.*", "mlp.w12.*"],
                false => ["attn.q_proj.weight", "mlp.w1.*"],
            });
        }
        Format::BeitOriginal => all.extend(["ls1.gamma", "ls2.gamma"]),
        Format::Dinov2 if gated => all.extend(["mlp.fc1.*", "mlp.fc2.*"]),
        _ => {}
    }
    all
}

/// What stands in front of a format's names in the files that are published.
fn prefix(format: Format, config: &ViTConfig) -> &'static str {
    match format {
        Format::Siglip | Format::ClipVision => "vision_model.",
        Format::Clip => "visual.",
        Format::VitMae => "vit.",
        // EVA-CLIP; the others have no final norm.
        Format::Eva if config.final_norm => "visual.",
        _ => "",
    }
}

/// What becomes of one of our tensors.
enum Way {
    Name(String),
    /// A class token (D) or a position table (N, D), without leading axes.
    Bare(String),
    Transposed(String),
    /// Equal runs of rows.
    Parts(Vec<String>),
}

/// The first rule in `groups` whose new name is `name`, backwards.
fn backwards(groups: &[Group], unused: &[&str], name: &str) -> Option<Way> {
    for group in groups {
        for rule in group.rules {
            let fit = |to: &str| captures(&format!("{}{to}", group.to), name);
            let from = |from: &str, parts: &[String]| fill(&format!("{}{from}", group.from), parts);
            let known = |from: &str| !unused.contains(&from);
            let found = match *rule {
                Rule::Name(old, new) if known(old) => fit(new).map(|p| Way::Name(from(old, &p))),
                Rule::Token(old, new) if known(old) => fit(new).map(|p| Way::Bare(from(old, &p))),
                Rule::Transposed(old, new) if known(old) => {
                    fit(new).map(|parts| Way::Transposed(from(old, &parts)))
                }
                Rule::Join(olds, new) if olds.first().is_none_or(|old| known(old)) => {
                    fit(new).map(|p| Way::Parts(olds.iter().map(|old| from(old, &p)).collect()))
                }
                _ => None,
            };
            if found.is_some() {
                return found;
            }
        }
    }
    None
}

/// What transformers' `ViTModel` cannot hold of `config`.
fn beyond_vit(config: &ViTConfig) -> Vec<String> {
    let faults = [
        (!config.final_norm, "no final norm, expected one"),
        (config.qkv_bias == QkvBias::QueryValue, "no biases of keys, expected all or none"),
        (!config.patch_bias, "no bias of the patch embedding, expected one"),
        (
            config.positions != Positions::Table,
            "positions without the class token's, expected its row",
        ),
        (config.activation == Activation::SwiGlu, "a gated MLP, expected a plain one"),
        (config.register_tokens > 0, "register tokens, expected none"),
        (config.class_norm, "a norm of the class token's own, expected none"),
    ];
    faults.into_iter().filter(|(is, _)| *is).map(|(_, what)| what.to_string()).collect()
}

impl Checkpoint {
    /// The encoder under transformers' names: `ViTModel` (with a decoder `ViTMAEForPreTraining`),
    /// `Dinov2Model` with and without registers, `DINOv3ViTModel`, `BeitModel`, `CLIPVisionModel`,
    /// `SiglipVisionModel` and `Siglip2VisionModel`, as the model is. Adapters are left out
    /// ([`Checkpoint::merge_lora`] first keeps low-rank ones), so are buffers that follow from the
    /// grid and mask tokens, which this project does not keep.
    ///
    /// # Errors
    /// [`Error::Format`] for a model that transformers does not have, and for one that is unknown.
    pub fn to_transformers(self) -> Result<(Self, ConversionReport)> {
        let config = self.vit_config()?;
        let family = Family::of(&config);
        let refuse = |what: String| Error::Format { path: self.path().to_path_buf(), what };
        let has_decoder = self.names().any(|name| Role::of(name) == Role::Decoder);
        let format = match family.transformers() {
            Some(Format::Vit) if has_decoder => Format::VitMae,
            Some(format) => format,
            None => {
                return Err(refuse(format!(
                    "transformers has no model of the family {}, expected the names timm, original or ours",
                    family.name()
                )));
            }
        };
        if family == Family::Plain {
            let faults = beyond_vit(&config);
            if !faults.is_empty() {
                return Err(refuse(format!("transformers' ViTModel: {}", faults.join("; "))));
            }
        }
        self.exported(format, config)
    }

    /// The encoder under the names of its family's authors: of DINOv2 and DINOv3, EVA-02, PE, BEiT
    /// and CLIP; those of MAE, which are the original PAD repository's
    /// ([`Checkpoint::to_original`]), for plain models and DeiT III. What is left out is as for
    /// [`Checkpoint::to_transformers`].
    ///
    /// # Errors
    /// [`Error::Format`] for SigLIP, whose authors publish no file of PyTorch, and for a model that
    /// is unknown.
    pub fn to_authors(self) -> Result<(Self, ConversionReport)> {
        let config = self.vit_config()?;
        let family = Family::of(&config);
        match family.authors() {
            Some(Format::Original) => self.to_original(""),
            Some(format) => self.exported(format, config),
            None => Err(Error::Format {
                path: self.path().to_path_buf(),
                what: format!(
                    "the authors of {} publish no file of PyTorch, expected the names hf, timm or ours",
                    family.name()
                ),
            }),
        }
    }

    /// Whether its family's authors have names of their own, which are not MAE's.
    ///
    /// # Errors
    /// As [`Checkpoint::vit_config`].
    pub fn has_authors(&self) -> Result<bool> {
        Ok(Family::of(&self.vit_config()?).authors() != Some(Format::Original))
    }

    fn exported(self, format: Format, config: ViTConfig) -> Result<(Self, ConversionReport)> {
        let (unused, prefix, stats) =
            (unused(format, &config), prefix(format, &config), self.input_stats()?);
        let (file, config) = self.in_form(format, config)?;
        let table = format.table();
        let first: &[Group] = match format {
            Format::Dinov3 if config.activation != Activation::SwiGlu => transformers::DINOV3_PLAIN,
            _ => &[],
        };
        let way = |name: &str| -> Option<Way> {
            // The decoder stands beside the encoder.
            let prefix = if Role::of(name).is_decoder() { "" } else { prefix };
            let inside =
                backwards(first, &unused, name).or_else(|| backwards(table.groups, &unused, name));
            let placed = |way: Way| match way {
                Way::Name(new) => Way::Name(format!("{prefix}{new}")),
                Way::Bare(new) => Way::Bare(format!("{prefix}{new}")),
                Way::Transposed(new) => Way::Transposed(format!("{prefix}{new}")),
                Way::Parts(all) => {
                    Way::Parts(all.into_iter().map(|new| format!("{prefix}{new}")).collect())
                }
            };
            inside
                .map(placed)
                .or_else(|| table.outside.and_then(|outside| backwards(outside, &unused, name)))
        };
        let mut changes = Vec::with_capacity(file.tensors().len());
        let mut tensors = std::collections::BTreeMap::new();
        for (name, tensor) in file.tensors() {
            let renamed = |to: &str| match to == name {
                true => Change::Kept(to.into()),
                false => Change::Renamed { from: name.clone(), to: to.into() },
            };
            let Some(way) = way(name) else {
                let role = Role::of(name);
                changes.push(match fate(ours::TO_TIMM, name) {
                    Some(_) if role.is_adapter() => {
                        Change::Dropped { name: name.clone(), why: "these names have no adapters" }
                    }
                    Some(_) if role.is_decoder() => {
                        Change::Dropped { name: name.clone(), why: "the decoder's" }
                    }
                    _ => {
                        tensors.insert(name.clone(), tensor.clone());
                        Change::Unknown(name.clone())
                    }
                });
                continue;
            };
            match way {
                Way::Name(new) => {
                    changes.push(renamed(&new));
                    tensors.insert(new, tensor.clone());
                }
                Way::Bare(new) => {
                    changes.push(renamed(&new));
                    tensors.insert(new, bare(name, tensor)?);
                }
                Way::Transposed(new) => {
                    changes.push(renamed(&new));
                    tensors.insert(new, tensor.t()?.contiguous()?);
                }
                Way::Parts(all) => {
                    changes.push(renamed(&all.join(", ")));
                    let rows = tensor.dim(0)? / all.len().max(1);
                    for (i, new) in all.into_iter().enumerate() {
                        let part = tensor.narrow(0, i * rows, rows)?.contiguous()?;
                        tensors.insert(new, part);
                    }
                }
            }
        }
        let title = format!("{} -> {format}", Format::Ours);
        let report = ConversionReport { title, changes, unresolved: None };
        let mut exported = file.with(tensors);
        exported.clear_metadata();
        exported.set_metadata(NAMES, format.name());
        if let Some(stats) = stats {
            exported.set_input_stats(&stats);
        }
        exported.describe(&ViTConfig { adapter: None, lora: None, ..config })?;
        Ok((exported, report))
    }

    /// The tensors in the form that `format` has them in, under our names still.
    fn in_form(mut self, format: Format, config: ViTConfig) -> Result<(Self, ViTConfig)> {
        let mut config = config;
        // Dinov2 has the class token's position in the table.
        if matches!(format, Format::Dinov2 | Format::Dino)
            && config.class_token
            && config.positions == Positions::Patches
            && let Some(table) = self.get("pos_embed").cloned()
        {
            let row = table.narrow(1, 0, 1)?.zeros_like()?;
            self.insert("pos_embed", Tensor::cat(&[&row, &table], 1)?);
            config.positions = Positions::Table;
        }
        // Lists of patches go through a linear layer.
        if format == Format::Siglip
            && config.pos_resize == TableResize::BilinearAntialias
            && let Some(weight) = self.get("patch_embed.proj.weight").cloned()
        {
            let (dim, values) = (weight.dim(0)?, config.patch_values());
            let weight = weight.permute((0, 2, 3, 1))?.contiguous()?.reshape((dim, values))?;
            self.insert("patch_embed.proj.weight", weight);
        }
        // DINOv3's authors mask the biases of keys.
        if format == Format::Dino && config.qkv_bias == QkvBias::QueryValue {
            for block in 0..config.depth {
                let at = format!("blocks.{block}.attn");
                let query = self.remove(&format!("{at}.q_bias"));
                let value = self.remove(&format!("{at}.v_bias"));
                if let (Some(query), Some(value)) = (query, value) {
                    let (one, zero) = (query.ones_like()?, query.zeros_like()?);
                    let bias = Tensor::cat(&[&query, &zero, &value], 0)?;
                    self.insert(format!("{at}.qkv.bias"), bias);
                    let mask = Tensor::cat(&[&one, &zero, &one], 0)?;
                    self.insert(format!("{at}.qkv.bias_mask"), mask);
                }
            }
        }
        Ok((self, config))
    }
}

/// A class token as (D), a table as (N, D).
fn bare(name: &str, tensor: &Tensor) -> Result<Tensor> {
    let dim = tensor.dim(candle_core::D::Minus1)?;
    let rows = tensor.elem_count() / dim.max(1);
    Ok(match name {
        "cls_token" => tensor.reshape(rows * dim)?,
        _ => tensor.reshape((rows, dim))?,
    })
}
