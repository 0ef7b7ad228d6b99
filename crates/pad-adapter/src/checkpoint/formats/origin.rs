//! What a file tells of its model by names and tensors that a conversion leaves out.

use candle_core::{DType, Tensor};

use super::format::{Format, wrapper};
use crate::{checkpoint::Checkpoint, vit::ViTConfig};

/// Where a checkpoint under this project's names came from.
#[derive(Clone, Debug)]
pub(in crate::checkpoint) struct Origin {
    /// Whose names it had.
    pub(in crate::checkpoint) format: Format,
    /// Whether a learnt query pools its tokens.
    pub(in crate::checkpoint) attention_pool: bool,
    /// Whether it takes lists of patches (SigLIP 2 NaFlex).
    pub(in crate::checkpoint) patch_lists: bool,
    /// Width of a head, from the buffers of rotary positions.
    pub(in crate::checkpoint) head_dim: Option<usize>,
    /// Grid of pre-training, from the same.
    pub(in crate::checkpoint) reference: Option<[usize; 2]>,
    /// The model that the caller or timm's `config.json` says it is, for what tensors do not tell.
    pub(in crate::checkpoint) known: Option<ViTConfig>,
}

impl Origin {
    /// A file whose names are ours.
    pub(in crate::checkpoint) fn ours() -> Self {
        Self {
            format: Format::Ours,
            attention_pool: false,
            patch_lists: false,
            head_dim: None,
            reference: None,
            known: None,
        }
    }

    /// Of a file as it is, before its conversion.
    pub(super) fn of(file: &Checkpoint, format: Format, known: Option<ViTConfig>) -> Self {
        let skipped = format!("{}{}", wrapper(file), format.prefix_in(file).unwrap_or(""));
        let get = |name: &str| file.get(&format!("{skipped}{name}"));
        let rank = |name: &str| get(name).map(Tensor::rank);
        let latent = ["attn_pool.latent", "attn_pool.probe", "head.probe"];
        let patch = ["embeds.proj.weight", "embeddings.patch_embedding.weight"];
        let periods = get("rope_embed.periods").and_then(|periods| periods.dims1().ok());
        let tables = get("rope.freqs_cos").zip(get("rope.freqs_sin"));
        let width = tables.and_then(|(cos, _)| cos.dims2().ok()).map(|(_, width)| width);
        let architecture = || {
            let name = file.hub_config()?.get("architecture")?.as_str()?;
            ViTConfig::timm(name)
        };
        Self {
            format,
            attention_pool: latent.iter().any(|name| get(name).is_some()),
            patch_lists: patch.iter().any(|name| rank(name) == Some(2)),
            head_dim: periods.map(|periods| 4 * periods).or(width),
            reference: tables.and_then(|(cos, sin)| reference(cos, sin)),
            known: known.or_else(architecture),
        }
    }
}

/// The side of the grid that EVA-02's buffers count in: the second column's angle is `reference /
/// side`, of frequency 1.
fn reference(cos: &Tensor, sin: &Tensor) -> Option<[usize; 2]> {
    let (places, width) = cos.dims2().ok()?;
    let side = places.isqrt();
    if side * side != places || side < 2 || width < 4 || sin.dims() != cos.dims() {
        return None;
    }
    let value = |table: &Tensor| {
        let row = table.get(1).ok()?.get(width / 2).ok()?;
        row.to_dtype(DType::F64).ok()?.to_scalar::<f64>().ok()
    };
    let found = value(sin)?.atan2(value(cos)?) * side as f64;
    let whole = found.round();
    ((found - whole).abs() < 1e-2 && whole >= 1.0).then_some([whole as usize; 2])
}
