//! From the settings of pre-training to its parts.

use std::path::Path;

use pad::{
    AdapterConfig, AdapterNorm, ImageSize,
    data::{transform::Normalize, window::Window},
    ssl::{MaeConfig, Masking, Paradigm},
    vit::ViTConfig,
};

pub use super::flags::{Flags, Settings};
use super::{Result, overlay};

/// What the program does without `--data`: adapters on the small backbone, rendered scenes, about two minutes.
const DEMO: &str = include_str!("../../recipes/demo.toml");

/// The rows that the paper compares, by the names of `--recipe`.
pub const RECIPES: [(&str, &str); 8] = [
    ("scratch", include_str!("../../recipes/pretrain_scratch.toml")),
    ("rgb-only", include_str!("../../recipes/pretrain_rgb_only.toml")),
    ("full", include_str!("../../recipes/pretrain_full.toml")),
    ("full-layer-decay", include_str!("../../recipes/pretrain_full_layer_decay.toml")),
    ("fixed-scale", include_str!("../../recipes/pretrain_fixed_scale.toml")),
    ("per-layer-scale", include_str!("../../recipes/pretrain_per_layer_scale.toml")),
    ("learnable-scale", include_str!("../../recipes/pretrain_learnable_scale.toml")),
    ("pad", include_str!("../../recipes/pretrain_pad.toml")),
];

impl Settings {
    /// Defaults, overlaid by the file `recipe` (or, without any data, by the demo's), overlaid by `flags`.
    pub fn merge(recipe: Option<&Path>, flags: &Flags) -> Result<Self> {
        let demo = flags.data.is_none().then_some(("demo.toml", DEMO));
        overlay::merge(recipe, demo, flags)
    }

    /// Defaults, overlaid by the entry `name` of [`RECIPES`], overlaid by `flags`.
    pub fn named(name: &str, flags: &Flags) -> Result<Self> {
        let Some((_, text)) = RECIPES.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = RECIPES.iter().map(|(name, _)| *name).collect();
            return Err(format!("no recipe `{name}`, expected one of {}", known.join(", ")).into());
        };
        overlay::overlay(&format!("recipe {name}"), text, flags)
    }

    /// Reads the `config.toml` of a run.
    pub fn of_run(folder: &Path) -> Result<Self> {
        Self::merge(Some(&folder.join("config.toml")), &Flags::default())
    }

    /// As TOML.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }

    pub fn image_size(&self) -> Result<ImageSize> {
        match self.image_size[..] {
            [side] => Ok(ImageSize::square(side)),
            [height, width] => Ok(ImageSize { height, width }),
            _ => Err("`image_size` takes one number or height,width".into()),
        }
    }

    pub fn window(&self) -> Window {
        match self.fixed_window {
            Some([low, high]) => Window::Fixed { low, high },
            None => Window::Percentile { low: self.percentiles[0], high: self.percentiles[1] },
        }
    }

    pub fn normalize(&self) -> Result<Normalize> {
        match self.normalize.as_str() {
            "msip" => Ok(Normalize::msip()),
            "imagenet" => Ok(Normalize::imagenet()),
            other => {
                let refuse =
                    || format!("`normalize` is {other}, expected msip, imagenet or MEAN,STD");
                let (mean, std) = other.split_once(',').ok_or_else(refuse)?;
                let number = |text: &str| text.trim().parse::<f32>().map_err(|_| refuse());
                let (mean, std) = (number(mean)?, number(std)?);
                Ok(Normalize { mean: [mean; 3], std: [std; 3] })
            }
        }
    }

    pub fn adapter(&self) -> Result<AdapterConfig> {
        let scale = self.scale.parse()?;
        let norm = if self.adapter_norm { AdapterNorm::In } else { AdapterNorm::None };
        Ok(AdapterConfig { bottleneck: self.bottleneck, norm, dropout: self.dropout, scale })
    }

    /// `has_decoder`: whether the weights hold a decoder.
    pub fn paradigm(&self, has_decoder: bool) -> Result<Paradigm> {
        Ok(match self.paradigm.as_str() {
            "pad" => Paradigm::Pad {
                gate_frozen: self.gate_frozen,
                decoder_embed: self.train_decoder_embed.unwrap_or(!has_decoder),
            },
            "full" => Paradigm::Full { layer_decay: self.layer_decay },
            "scratch" => Paradigm::Scratch,
            "decoder-only" => Paradigm::DecoderOnly,
            other => {
                return Err(format!(
                    "`paradigm` is {other}, expected pad, full, scratch or decoder-only"
                )
                .into());
            }
        })
    }

    /// The model that settings and weights describe; `stored` is what the weights say of themselves.
    pub fn mae(&self, stored: Option<&MaeConfig>) -> Result<MaeConfig> {
        let pico = MaeConfig {
            encoder: ViTConfig::pico(self.patch_size),
            decoder_embed_dim: 128,
            decoder_depth: 2,
            decoder_num_heads: 4,
            ..Default::default()
        };
        let base = match (self.model.as_str(), stored) {
            ("auto", Some(stored)) => *stored,
            ("auto", None) => {
                return Err("the weights do not say which model they are: name it with --model \
                            (pico, tiny, small, base, large, huge, dinov2-small)"
                    .into());
            }
            ("pico", _) => pico,
            (name, _) => {
                let encoder = ViTConfig::preset(name, self.patch_size)?;
                MaeConfig { encoder, ..Default::default() }
            }
        };
        let adapter = if self.paradigm == "pad" { Some(self.adapter()?) } else { None };
        let encoder = ViTConfig {
            image_size: self.image_size()?,
            in_channels: self.channels,
            adapter,
            ..base.encoder
        };
        Ok(MaeConfig {
            encoder,
            decoder_embed_dim: self.decoder_dim.unwrap_or(base.decoder_embed_dim),
            decoder_depth: self.decoder_depth.unwrap_or(base.decoder_depth),
            decoder_num_heads: self.decoder_heads.unwrap_or(base.decoder_num_heads),
            mask_ratio: self.mask_ratio(),
            norm_pix_loss: self.norm_pix_loss,
        })
    }

    /// Share of removed patches: the given one, or that of the objective's paper.
    pub fn mask_ratio(&self) -> f64 {
        self.mask_ratio.unwrap_or(match self.objective.as_str() {
            "simmim" => 0.6,
            "features" => 0.4,
            _ => 0.75,
        })
    }

    /// The masking asked for, for patches of `patch_size`; none for the objective's own.
    pub fn masking(&self, patch_size: usize) -> Result<Option<Masking>> {
        let Some(name) = &self.masking else { return Ok(None) };
        Ok(Some(match name.as_str() {
            "random" => Masking::Random,
            "block" => Masking::Block,
            "cells" => Masking::Cells((32 / patch_size.max(1)).max(1)),
            "attention" => Masking::Attention,
            "intensity" => Masking::Intensity,
            other => {
                return Err(format!(
                    "`masking` is {other}, expected random, block, cells, attention or intensity"
                )
                .into());
            }
        }))
    }

    /// Micro-batches per update for an epoch of `batches` micro-batches, over all of `processes`.
    pub fn accumulation(&self, batches: usize, processes: usize) -> usize {
        const PAPER: usize = 4096;
        const UPDATES: usize = 8;
        self.accumulate.unwrap_or_else(|| {
            let some = (PAPER / self.batch_size.max(1)).min(batches / UPDATES).max(1);
            some.next_multiple_of(processes.max(1))
        })
    }
}
