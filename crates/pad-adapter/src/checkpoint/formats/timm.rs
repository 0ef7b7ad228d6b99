//! What timm stores otherwise than this project: which tensors of an encoder it keeps apart, folds
//! into each other, or calls by other names, family by family.

use std::collections::BTreeMap;

use candle_core::Tensor;
use pad_ops::RopePairs;

use super::report::{Change, ConversionReport};
use crate::{
    Result,
    vit::{Activation, Positions, QkvBias, RelativeBias, TableResize, ViTConfig},
};

/// How timm stores an encoder.
struct Form {
    /// `gamma_1` and `gamma_2`, as in its EVA and BEiT.
    gammas: bool,
    /// Queries, keys and values apart.
    apart: bool,
    /// Gate and value of the MLP apart.
    split: bool,
    /// The class token with its position in it.
    folded: bool,
    /// Lists of patches.
    lists: bool,
}

impl Form {
    fn of(config: &ViTConfig) -> Self {
        let is_gated = config.activation == Activation::SwiGlu;
        let is_dinov3 = config.rope.is_some_and(|rope| rope.pairs == RopePairs::Halves);
        Self {
            gammas: config.rope.is_some() || config.relative_bias != RelativeBias::None,
            apart: config.mlp_norm && config.qkv_bias == QkvBias::QueryValue,
            split: is_gated && (config.mlp_norm || is_dinov3),
            folded: config.register_tokens > 0
                && config.class_token
                && config.positions == Positions::Table,
            lists: config.pos_resize == TableResize::BilinearAntialias,
        }
    }
}

/// The tensors of the encoder that `config` describes, with timm's names already, in timm's form.
/// What changes is entered into `report`.
pub(super) fn arranged(
    mut tensors: BTreeMap<String, Tensor>,
    config: &ViTConfig,
    report: &mut ConversionReport,
) -> Result<BTreeMap<String, Tensor>> {
    let form = Form::of(config);
    let mut changes = Changes { tensors: &mut tensors, report };
    for block in 0..config.depth {
        let at = |name: &str| format!("blocks.{block}.{name}");
        if form.gammas {
            changes.rename(&at("ls1.gamma"), &at("gamma_1"));
            changes.rename(&at("ls2.gamma"), &at("gamma_2"));
        }
        if form.apart {
            let parts = ["attn.q_proj.weight", "attn.k_proj.weight", "attn.v_proj.weight"];
            changes.split(&at("attn.qkv.weight"), &parts.map(at))?;
            changes.rename(&at("attn.q_bias"), &at("attn.q_proj.bias"));
            changes.rename(&at("attn.v_bias"), &at("attn.v_proj.bias"));
        }
        if form.split {
            for end in ["weight", "bias"] {
                let parts = [format!("mlp.fc1_g.{end}"), format!("mlp.fc1_x.{end}")];
                let parts = parts.map(|part| at(&part));
                changes.split(&at(&format!("mlp.fc1.{end}")), &parts)?;
            }
        }
    }
    if form.folded
        && let (Some(class), Some(table)) =
            (tensors.get("cls_token").cloned(), tensors.get("pos_embed").cloned())
    {
        let rows = table.dim(1)?;
        let class = (class + table.narrow(1, 0, 1)?)?;
        tensors.insert("cls_token".into(), class);
        tensors.insert("pos_embed".into(), table.narrow(1, 1, rows - 1)?.contiguous()?);
    }
    if form.lists {
        let mut changes = Changes { tensors: &mut tensors, report };
        changes.rename("pos_embed", "embeds.pos_embed");
        changes.rename("patch_embed.proj.weight", "embeds.proj.weight");
        changes.rename("patch_embed.proj.bias", "embeds.proj.bias");
        let grid = config.pos_table_grid()?;
        if let Some(table) = tensors.get("embeds.pos_embed").cloned() {
            let dim = table.dim(2)?;
            let table = table.reshape((1, grid.height, grid.width, dim))?;
            tensors.insert("embeds.pos_embed".into(), table);
        }
        if let Some(weight) = tensors.get("embeds.proj.weight").cloned() {
            let (dim, values) = (weight.dim(0)?, config.patch_values());
            let weight = weight.permute((0, 2, 3, 1))?.contiguous()?.reshape((dim, values))?;
            tensors.insert("embeds.proj.weight".into(), weight);
        }
    }
    Ok(tensors)
}

/// The description of the same encoder once it is in timm's form.
pub(super) fn described(config: ViTConfig) -> ViTConfig {
    match Form::of(&config).folded {
        true => ViTConfig { positions: Positions::Patches, ..config },
        false => config,
    }
}

/// Tensors, and the report of what happens to them.
struct Changes<'a> {
    tensors: &'a mut BTreeMap<String, Tensor>,
    report: &'a mut ConversionReport,
}

impl Changes<'_> {
    fn rename(&mut self, from: &str, to: &str) {
        if let Some(tensor) = self.tensors.remove(from) {
            self.tensors.insert(to.into(), tensor);
            self.enter(from, to.to_string());
        }
    }

    /// Cuts a tensor into parts of equally many rows.
    fn split(&mut self, from: &str, parts: &[String]) -> Result<()> {
        let Some(tensor) = self.tensors.remove(from) else { return Ok(()) };
        let rows = tensor.dim(0)? / parts.len();
        for (i, part) in parts.iter().enumerate() {
            let rows = tensor.narrow(0, i * rows, rows)?.contiguous()?;
            self.tensors.insert(part.clone(), rows);
        }
        self.enter(from, parts.join(", "));
        Ok(())
    }

    fn enter(&mut self, from: &str, to: String) {
        for change in &mut self.report.changes {
            match change {
                Change::Kept(name) if name == from => {
                    *change = Change::Renamed { from: from.into(), to };
                    return;
                }
                Change::Renamed { to: known, .. } if known == from => {
                    *known = to;
                    return;
                }
                _ => {}
            }
        }
    }
}
