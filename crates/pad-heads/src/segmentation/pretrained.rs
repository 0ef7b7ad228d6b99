//! Fits the checkpoint of a pre-trained backbone to a segmentor.

use std::collections::{BTreeMap, btree_map::Entry};

use candle_core::{DType, Device, Tensor};
use pad_adapter::{checkpoint::Checkpoint, params::Role, vit::ViTConfig};

use super::{BackboneKind, role_of};
use crate::{backbone::relative_bias_rows, error::Result};

/// Prefix of the backbone's names in a segmentor.
const PREFIX: &str = "backbone.";

/// Relative position tables of the downstream form.
const BIAS_TABLE: &str = "relative_position_bias_table";

/// Fits a segmentor's own file to images of another size.
fn fitted_own(mut checkpoint: Checkpoint, vit: &ViTConfig) -> Result<(Checkpoint, Vec<String>)> {
    let named = |(name, tensor): (&String, &Tensor)| {
        name.strip_prefix(PREFIX).map(|name| (name.to_string(), tensor.clone()))
    };
    let tensors = checkpoint.tensors().iter().filter_map(named).collect();
    let mut backbone = Checkpoint::from_tensors(checkpoint.path(), tensors);
    let changes = backbone.fit(vit)?;
    for (name, tensor) in backbone.tensors() {
        checkpoint.insert(format!("{PREFIX}{name}"), tensor.clone());
    }
    Ok((checkpoint, changes))
}

/// Fits the checkpoint of a pre-trained ViT (names without prefix) to the backbone of a segmentor,
/// and returns a line for each change. A checkpoint whose names start with `backbone.` is a
/// segmentor's own: its position tables are fitted to the grid, the rest stays as it is.
///
/// Names get the prefix; position tables (relative ones too, see [`interpolate_relative_table`])
/// and input channels are fitted as [`Checkpoint::fit`] does; decoder, mask token and relative
/// position tables of another form are dropped. For the downstream form the final norm is dropped,
/// layer scales get the original's names, missing ones start at `layer_scale`, missing relative
/// position tables at zero: the network then computes what the pre-trained one computes.
///
/// Serve it with [`role_of`] as roles and [`Role::Head`] fresh, and adapters if the checkpoint has
/// none.
///
/// [`interpolate_relative_table`]: pad_adapter::vit::interpolate_relative_table
///
/// # Errors
/// As [`Checkpoint::fit`].
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::{checkpoint::Checkpoint, params::ParamStore, vit::{ViT, ViTConfig}};
/// use pad_heads::segmentation::{BackboneForm, BackboneKind, pretrained};
/// use pad_ops::{ImageSize, rng::Key};
/// let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// store.build(|vb| ViT::new(&vit, vb))?;
/// let file = Checkpoint::from_tensors("vit.safetensors", store.tensors(|_| true));
/// let (fitted, changes) = pretrained(file, &BackboneKind::new(BackboneForm::Downstream, vit))?;
/// assert!(fitted.names().all(|name| name.starts_with("backbone.")));
/// // Three in each of two blocks.
/// assert_eq!(changes.last().unwrap(), "6 layer scales and relative position tables added");
/// # Ok::<(), pad_heads::Error>(())
/// ```
pub fn pretrained(
    mut checkpoint: Checkpoint,
    backbone: &BackboneKind,
) -> Result<(Checkpoint, Vec<String>)> {
    let vit = backbone.vit();
    if checkpoint.names().any(|name| name.starts_with(PREFIX)) {
        return fitted_own(checkpoint, vit);
    }
    let mut changes = checkpoint.fit(vit)?;
    let downstream = match backbone {
        BackboneKind::Downstream(config) => Some(config),
        BackboneKind::Plain(_) => None,
    };
    let relative = downstream.is_some_and(|config| config.relative_positions);
    let unused = |name: &str| {
        name.ends_with(".rel_pos_h")
            || name.ends_with(".rel_pos_w")
            || (name.ends_with(BIAS_TABLE) && !relative)
    };
    let mut tensors = BTreeMap::new();
    let mut dropped = 0;
    for (name, tensor) in checkpoint.tensors() {
        let role = Role::of(name);
        if role.is_decoder() || (downstream.is_some() && role == Role::FinalNorm) {
            continue;
        }
        if unused(name) {
            dropped += 1;
            continue;
        }
        let name = match downstream {
            Some(_) => name.replace(".ls1.gamma", ".gamma_1").replace(".ls2.gamma", ".gamma_2"),
            None => name.clone(),
        };
        tensors.insert(format!("{PREFIX}{name}"), tensor.clone());
    }
    if dropped > 0 {
        changes.push(format!("{dropped} relative position tables dropped"));
    }
    if let Some(config) = downstream {
        let mut added = 0;
        let mut add = |name: String, tensor: candle_core::Result<Tensor>| -> Result<()> {
            if let Entry::Vacant(entry) = tensors.entry(name) {
                entry.insert(tensor?);
                added += 1;
            }
            Ok(())
        };
        let rows = relative_bias_rows(vit.pos_table_grid()?);
        for block in 0..vit.depth {
            let prefix = format!("{PREFIX}blocks.{block}");
            if let Some(value) = vit.layer_scale {
                for gamma in ["gamma_1", "gamma_2"] {
                    let values = Tensor::full(value as f32, vit.embed_dim, &Device::Cpu);
                    add(format!("{prefix}.{gamma}"), values)?;
                }
            }
            if config.relative_positions {
                let name = format!("{prefix}.attn.{BIAS_TABLE}");
                add(name, Tensor::zeros((rows, vit.num_heads), DType::F32, &Device::Cpu))?;
            }
        }
        if added > 0 {
            changes.push(format!("{added} layer scales and relative position tables added"));
        }
    }
    // A classifier of another task is not part of any backbone.
    tensors.retain(|name, _| role_of(name) != Role::Head);
    Ok((Checkpoint::from_tensors(checkpoint.path(), tensors), changes))
}
