//! Which model a file holds: from its own metadata, from the `config.json` beside it, from names and shapes.

use pad_ops::{Fusion, ImageSize};
use serde_json::Value;

use super::{Checkpoint, Format};
use crate::{
    AdapterConfig, AdapterNorm, Error, Result, Scale,
    vit::{Activation, ViTConfig},
};

impl Checkpoint {
    /// The encoder that the file holds, under this project's names (see [`Checkpoint::to_ours`]): from its metadata
    /// `vit` or `mae`, or else from shapes, with heads of 64 values and a norm eps of 1e-6.
    ///
    /// Names and shapes tell patch size, channels, depth, widths, the grid of the position table (a square one), layer
    /// scale, the kind of MLP and of adapters. They do not tell the number of heads, the norms' eps and a fixed scale of
    /// adapters: these come from the `config.json` of transformers, from the format, or are the usual ones.
    ///
    /// # Errors
    /// [`Error::Config`] with everything that cannot be told; [`Error::Format`] for metadata that cannot be read.
    pub fn vit_config(&self) -> Result<ViTConfig> {
        let refuse = |key: &str, error: serde_json::Error| Error::Format {
            path: self.path().to_path_buf(),
            what: format!("metadata `{key}`: {error}"),
        };
        if let Some(json) = self.metadata().get("vit") {
            return serde_json::from_str(json).map_err(|error| refuse("vit", error));
        }
        if let Some(json) = self.metadata().get("mae") {
            #[derive(serde::Deserialize)]
            struct Mae {
                encoder: ViTConfig,
            }
            let mae: Mae = serde_json::from_str(json).map_err(|error| refuse("mae", error))?;
            return Ok(mae.encoder);
        }
        self.told_config(Format::Ours)
    }

    /// The encoder, from `config.json`, format and shapes; names are ours already.
    ///
    /// # Errors
    /// [`Error::Config`] with everything that cannot be told.
    pub(super) fn told_config(&self, format: Format) -> Result<ViTConfig> {
        let mut faults = Vec::new();
        let config = self.shapes(format, &mut faults);
        match config {
            Some(config) if faults.is_empty() => {
                config.validate()?;
                Ok(config)
            }
            _ => Err(Error::Config { what: "vit", faults }),
        }
    }

    /// Heads of the decoder, where `config.json` says so.
    pub(super) fn told_decoder_heads(&self) -> Option<usize> {
        self.setting("decoder_num_attention_heads").and_then(count)
    }

    /// An entry of `config.json`, or of the image half's in it.
    fn setting(&self, key: &str) -> Option<&Value> {
        let config = self.hub_config()?;
        config.get("vision_config").and_then(|vision| vision.get(key)).or_else(|| config.get(key))
    }

    fn dims(&self, name: &str) -> Option<&[usize]> {
        self.get(name).map(candle_core::Tensor::dims)
    }

    fn shapes(&self, format: Format, faults: &mut Vec<String>) -> Option<ViTConfig> {
        let mut matrix = |name: &str| match self.dims(name) {
            Some(&[rows, columns]) => Some((rows, columns)),
            found => {
                let found = found.map_or("none".into(), |dims| format!("{dims:?}"));
                faults.push(format!("`{name}`, expected a matrix, found {found}"));
                None
            }
        };
        let (wide, _) = matrix("blocks.0.mlp.fc1.weight")?;
        let (_, hidden) = matrix("blocks.0.mlp.fc2.weight")?;
        let &[dim, in_channels, patch, _] = self.dims("patch_embed.proj.weight").unwrap_or(&[])
        else {
            faults.push("`patch_embed.proj.weight`, expected (D, C, p, p)".into());
            return None;
        };
        let has = |name: &str| self.get(name).is_some();
        let depth = (0..).take_while(|i| has(&format!("blocks.{i}.norm1.weight"))).count();
        let clip = matches!(format, Format::Clip | Format::ClipVision);
        let activation = if wide == 2 * hidden && hidden > 0 {
            Activation::SwiGlu
        } else {
            match self.setting("hidden_act").and_then(Value::as_str) {
                None if clip => Activation::QuickGelu,
                None | Some("gelu") => Activation::Gelu,
                Some("quick_gelu") => Activation::QuickGelu,
                Some(other) => {
                    faults.push(format!("`hidden_act` is {other}, expected gelu or quick_gelu"));
                    return None;
                }
            }
        };
        let usual_eps = match format {
            Format::Clip | Format::ClipVision => 1e-5,
            Format::Vit | Format::VitMae => 1e-12,
            _ => 1e-6,
        };
        let eps = self.setting("layer_norm_eps").and_then(Value::as_f64).unwrap_or(usual_eps);
        let num_heads = self.heads(dim, faults)?;
        let image_size = self.image_size(patch, faults)?;
        Some(ViTConfig {
            image_size,
            in_channels,
            mlp_ratio: hidden as f64 / dim.max(1) as f64,
            activation,
            pre_norm: has("norm_pre.weight"),
            no_patch_bias: !has("patch_embed.proj.bias"),
            layer_scale: has("blocks.0.ls1.gamma").then_some(1e-5),
            norm_eps: eps,
            adapter: self.adapter(dim),
            ..ViTConfig::new(patch, dim, depth, num_heads)
        })
    }

    fn heads(&self, dim: usize, faults: &mut Vec<String>) -> Option<usize> {
        if let Some(heads) = self.setting("num_attention_heads").and_then(count) {
            return Some(heads);
        }
        match dim {
            // ViT-H and the giants: the published ones that do not have 64 values a head.
            1280 | 1408 | 1664 => Some(16),
            _ if dim > 0 && dim.is_multiple_of(64) => Some(dim / 64),
            _ => {
                faults.push(format!(
                    "`num_heads` cannot be told: no config.json, and `embed_dim` {dim} is no multiple of 64"
                ));
                None
            }
        }
    }

    fn image_size(&self, patch: usize, faults: &mut Vec<String>) -> Option<ImageSize> {
        let rows = match self.dims("pos_embed") {
            Some(&[1, rows, _]) if rows > 1 => rows - 1,
            // A table that is drawn: any size will do.
            None => return Some(ImageSize::square(14 * patch)),
            Some(dims) => {
                faults.push(format!("`pos_embed` of shape {dims:?}, expected (1, 1 + L, D)"));
                return None;
            }
        };
        if rows.isqrt().pow(2) == rows {
            return Some(ImageSize::square(rows.isqrt() * patch));
        }
        let size = match self.setting("image_size") {
            Some(Value::Array(sides)) => match sides.as_slice() {
                [height, width] => count(height).zip(count(width)),
                _ => None,
            },
            _ => None,
        };
        match size {
            Some((height, width)) if height.checked_mul(width) == Some(rows * patch * patch) => {
                Some(ImageSize { height, width })
            }
            _ => {
                faults.push(format!("`image_size` cannot be told: {rows} positions are no square"));
                None
            }
        }
    }

    /// The adapters of the first block.
    fn adapter(&self, dim: usize) -> Option<AdapterConfig> {
        let &[bottleneck, _] = self.dims("blocks.0.adaptmlp.down_proj.weight")? else {
            return None;
        };
        let norm = match self.get("blocks.0.adaptmlp.adapter_layer_norm_before.weight") {
            Some(_) => AdapterNorm::In,
            None => AdapterNorm::None,
        };
        let scale = match self.dims("blocks.0.scalar_pred.weight") {
            Some(&[_, columns]) if columns == 2 * dim => Scale::Patchwise(Fusion::Concat),
            // Sum, side and gate-side have gates of one shape; which of them only the user knows.
            Some(_) => Scale::Patchwise(Fusion::Sum),
            None if self.get("blocks.0.adaptmlp.scale").is_some() => Scale::Learnable { init: 1.0 },
            None => Scale::Fixed(0.5),
        };
        Some(AdapterConfig { bottleneck, norm, scale, ..AdapterConfig::default() })
    }
}

fn count(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|value| usize::try_from(value).ok()).filter(|&value| value > 0)
}
