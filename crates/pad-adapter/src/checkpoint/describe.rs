//! The model that a file holds: from its own metadata, from the `config.json` beside it, from names
//! and shapes.

use pad_ops::ImageSize;
use serde_json::Value;

use super::{Checkpoint, Format};
use crate::{
    AdapterConfig, AdapterNorm, Error, Result, Scale,
    vit::{Activation, ViTConfig},
};

impl Checkpoint {
    /// The encoder that the file holds, under this project's names (see [`Checkpoint::to_ours`]):
    /// from its metadata `vit`, or else from shapes, with heads of 64 values and a norm eps of
    /// 1e-6.
    ///
    /// Names and shapes tell patch size, channels, depth, widths, the grid of the position table (a
    /// square one), layer scale, the kind of MLP, of adapters and of most scales. They do not tell
    /// the number of heads and the norms' eps: these come from the `config.json` of transformers,
    /// from the format, or are the usual ones.
    ///
    /// # Errors
    /// [`Error::Config`] with everything that cannot be inferred; [`Error::Format`] for metadata
    /// that cannot be read.
    pub fn vit_config(&self) -> Result<ViTConfig> {
        let refuse = |what: String| Error::Format { path: self.path().to_path_buf(), what };
        match self.metadata().get("vit") {
            Some(json) => {
                let config: ViTConfig = serde_json::from_str(json)
                    .map_err(|error| refuse(format!("metadata `vit`: {error}")))?;
                config.validate().map_err(|error| refuse(format!("metadata `vit`: {error}")))?;
                Ok(config)
            }
            None => self.inferred_config(Format::Ours, None),
        }
    }

    /// The encoder, from `config.json`, format and shapes; names are this project's already.
    /// `scale` is used where the tensors do not tell it.
    ///
    /// # Errors
    /// [`Error::Config`] with everything that cannot be inferred.
    pub(super) fn inferred_config(
        &self,
        format: Format,
        scale: Option<Scale>,
    ) -> Result<ViTConfig> {
        // A file of this project has its configuration under a key of the crate that wrote it, if
        // not under `vit`.
        if let Some(own) = self.own_format() {
            let fault = format!("a file of the format {own} without metadata `vit`");
            return Err(Error::Config { what: "vit", faults: vec![fault] });
        }
        let mut faults = Vec::new();
        let config = self.shapes(format, scale, &mut faults);
        match config {
            Some(config) if faults.is_empty() => {
                config.validate()?;
                Ok(config)
            }
            _ => Err(Error::Config { what: "vit", faults }),
        }
    }

    /// The number of heads of the decoder, if `config.json` has it.
    pub(super) fn decoder_heads(&self) -> Option<usize> {
        self.setting("decoder_num_attention_heads").and_then(count)
    }

    fn setting(&self, key: &str) -> Option<&Value> {
        let config = self.hub_config()?;
        config.get("vision_config").and_then(|vision| vision.get(key)).or_else(|| config.get(key))
    }

    fn dims(&self, name: &str) -> Option<&[usize]> {
        self.get(name).map(candle_core::Tensor::dims)
    }

    fn shapes(
        &self,
        format: Format,
        scale: Option<Scale>,
        faults: &mut Vec<String>,
    ) -> Option<ViTConfig> {
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
            patch_bias: has("patch_embed.proj.bias"),
            layer_scale: has("blocks.0.ls1.gamma").then_some(1e-5),
            norm_eps: eps,
            adapter: self.adapter(dim, scale, faults)?,
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
                    "`num_heads` cannot be inferred: no config.json, and `embed_dim` {dim} is not a multiple of 64"
                ));
                None
            }
        }
    }

    fn image_size(&self, patch: usize, faults: &mut Vec<String>) -> Option<ImageSize> {
        let rows = match self.dims("pos_embed") {
            Some(&[1, rows, _]) if rows > 1 => rows - 1,
            // A computed table: any size will do.
            None => return Some(ImageSize::square(patch.saturating_mul(14))),
            Some(dims) => {
                faults.push(format!("`pos_embed` of shape {dims:?}, expected (1, 1 + L, D)"));
                return None;
            }
        };
        if rows.isqrt().pow(2) == rows {
            return Some(ImageSize::square(rows.isqrt().saturating_mul(patch)));
        }
        let size = match self.setting("image_size") {
            Some(Value::Array(sides)) => match sides.as_slice() {
                [height, width] => count(height).zip(count(width)),
                _ => None,
            },
            _ => None,
        };
        let pixels = rows.checked_mul(patch).and_then(|pixels| pixels.checked_mul(patch));
        match size {
            Some((height, width)) if pixels.is_some() && height.checked_mul(width) == pixels => {
                Some(ImageSize { height, width })
            }
            _ => {
                faults.push(format!(
                    "`image_size` cannot be inferred: {rows} positions are not a square"
                ));
                None
            }
        }
    }

    /// The adapters of the first block, if it has one; `None` if its scale is unknown.
    fn adapter(
        &self,
        dim: usize,
        scale: Option<Scale>,
        faults: &mut Vec<String>,
    ) -> Option<Option<AdapterConfig>> {
        let Some(&[bottleneck, _]) = self.dims("blocks.0.adaptmlp.down_proj.weight") else {
            return Some(None);
        };
        let norm = match self.get("blocks.0.adaptmlp.adapter_layer_norm_before.weight") {
            Some(_) => AdapterNorm::In,
            None => AdapterNorm::None,
        };
        let inferred = Scale::infer(|name| self.dims(&format!("blocks.0.{name}")), dim);
        match inferred.or_else(|fault| scale.ok_or(fault)) {
            Ok(scale) => {
                Some(Some(AdapterConfig { bottleneck, norm, scale, ..AdapterConfig::default() }))
            }
            Err(fault) => {
                faults.push(format!("adapter: {fault}"));
                None
            }
        }
    }
}

fn count(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|value| usize::try_from(value).ok()).filter(|&value| value > 0)
}
