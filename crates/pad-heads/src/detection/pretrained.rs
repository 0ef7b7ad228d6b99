//! Fits the checkpoint of a pre-trained backbone to a detector.

use std::collections::{BTreeMap, btree_map::Entry};

use candle_core::{DType, Device, Tensor};
use pad_adapter::{checkpoint::Checkpoint, params::Role};

use super::{DetectorConfig, role_of};
use crate::error::Result;

/// Fits the checkpoint of a pre-trained ViT (names without prefix) to the backbone of a detector,
/// and returns a line for each change. A checkpoint whose names start with `backbone.` is a
/// detector's own and stays as it is.
///
/// Names get the prefix `backbone.net.`; positions and input channels are fitted as
/// [`Checkpoint::fit`] does; class token, final norm and decoder are dropped, as in the original,
/// and relative position tables of another form; missing relative position tables start at zero.
///
/// Serve it with [`role_of`] as roles and [`Role::Head`] fresh, and adapters if the checkpoint has
/// none.
///
/// # Errors
/// As [`Checkpoint::fit`].
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::{checkpoint::Checkpoint, params::ParamStore, vit::{ViT, ViTConfig}};
/// use pad_heads::detection::{DetectorConfig, pretrained};
/// use pad_ops::{ImageSize, rng::Key};
/// let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// store.build(|vb| ViT::new(&vit, vb))?;
/// let file = Checkpoint::from_tensors("vit.safetensors", store.tensors(|_| true));
/// let (fitted, changes) = pretrained(file, &DetectorConfig::on_backbone(vit, 3))?;
/// assert!(fitted.names().all(|name| name.starts_with("backbone.net.")));
/// assert_eq!(changes.last().unwrap(), "4 relative position tables added"); // 2 in each block
/// # Ok::<(), pad_heads::Error>(())
/// ```
pub fn pretrained(
    mut checkpoint: Checkpoint,
    config: &DetectorConfig,
) -> Result<(Checkpoint, Vec<String>)> {
    if checkpoint.names().any(|name| name.starts_with("backbone.")) {
        return Ok((checkpoint, Vec::new()));
    }
    let mut changes = checkpoint.fit(&config.vit)?;
    let mut tensors = BTreeMap::new();
    let mut dropped = 0;
    for (name, tensor) in checkpoint.tensors() {
        let role = Role::of(name);
        if name.ends_with(".relative_position_bias_table") {
            dropped += 1;
            continue;
        }
        let unused = matches!(role, Role::ClassToken | Role::FinalNorm | Role::Head);
        if !role.is_decoder() && !unused {
            tensors.insert(format!("backbone.net.{name}"), tensor.clone());
        }
    }
    if dropped > 0 {
        changes.push(format!("{dropped} relative position tables dropped"));
    }
    let mut added = 0;
    if config.relative_positions {
        let backbone = config.backbone();
        let head = config.vit.embed_dim / config.vit.num_heads.max(1);
        for block in 0..config.vit.depth {
            for (name, rows) in ["rel_pos_h", "rel_pos_w"].iter().zip(backbone.relative_rows(block))
            {
                let name = format!("backbone.net.blocks.{block}.attn.{name}");
                if let Entry::Vacant(entry) = tensors.entry(name) {
                    entry.insert(Tensor::zeros((rows, head), DType::F32, &Device::Cpu)?);
                    added += 1;
                }
            }
        }
    }
    if added > 0 {
        changes.push(format!("{added} relative position tables added"));
    }
    tensors.retain(|name, _| role_of(name) != Role::Head);
    Ok((Checkpoint::from_tensors(checkpoint.path(), tensors), changes))
}
