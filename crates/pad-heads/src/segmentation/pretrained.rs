//! A pre-trained backbone's file as a segmentor's: names, position table, and what only the downstream form has.

use candle_core::{DType, Device, Tensor};
use pad_adapter::{checkpoint::Checkpoint, params::Role, vit::ViTConfig};

use super::{BackboneKind, role_of};
use crate::{Result, backbone::relative_bias_rows};

/// Where a segmentor keeps its backbone.
const PREFIX: &str = "backbone.";

/// A segmentor's own file for images of another size.
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

/// Fits the file of a pre-trained ViT (names without prefix) to the backbone of a segmentor, and says in words what was
/// changed. A file whose names start with `backbone.` is a segmentor's own already: its position tables are fitted to the
/// grid, and the rest stays as it is.
///
/// Names get the prefix; position tables (relative ones too, as [`interpolate_relative_table`] does) and input channels
/// are fitted as [`Checkpoint::fit`] does; decoder and mask token are left out. For the downstream form the final norm is left out, layer scales get the original's names, and those that
/// are absent start at `layer_scale`, absent relative position tables at zero: the network then computes what the
/// pre-trained one computes.
///
/// Serve it with [`role_of`] as roles, and [`Role::Head`] fresh (adapters too, if the file has none).
///
/// [`interpolate_relative_table`]: pad_adapter::vit::interpolate_relative_table
///
/// # Errors
/// As [`Checkpoint::fit`].
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
    let mut tensors = std::collections::BTreeMap::new();
    for (name, tensor) in checkpoint.tensors() {
        let role = Role::of(name);
        if role.is_decoder() || (downstream.is_some() && role == Role::FinalNorm) {
            continue;
        }
        let name = match downstream {
            Some(_) => name.replace(".ls1.gamma", ".gamma_1").replace(".ls2.gamma", ".gamma_2"),
            None => name.clone(),
        };
        tensors.insert(format!("{PREFIX}{name}"), tensor.clone());
    }
    if let Some(config) = downstream {
        let mut added = 0;
        let mut add = |name: String, tensor: candle_core::Result<Tensor>| -> Result<()> {
            if let std::collections::btree_map::Entry::Vacant(entry) = tensors.entry(name) {
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
                let name = format!("{prefix}.attn.relative_position_bias_table");
                add(name, Tensor::zeros((rows, vit.num_heads), DType::F32, &Device::Cpu))?;
            }
        }
        if added > 0 {
            changes.push(format!("{added} layer scales and relative position tables added"));
        }
    }
    // What no backbone has (a classifier of another task) is not this one's either.
    tensors.retain(|name, _| role_of(name) != Role::Head);
    Ok((Checkpoint::from_tensors(checkpoint.path(), tensors), changes))
}
