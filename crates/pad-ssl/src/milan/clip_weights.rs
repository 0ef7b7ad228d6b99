//! CLIP's image tower in files: OpenAI's names, or Hugging Face's made into them.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use pad_adapter::{checkpoint::Checkpoint, vit::PatchGrid};

use super::ClipConfig;
use crate::{Error, Result};

type Tensors = BTreeMap<String, Tensor>;

/// Values of a head in every ViT that OpenAI published.
const HEAD: usize = 64;

/// Hugging Face's name of a part, and OpenAI's.
const PARTS: [(&str, &str); 13] = [
    ("embeddings.class_embedding", "class_embedding"),
    ("embeddings.patch_embedding.", "conv1."),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("pre_layrnorm.", "ln_pre."), // spelt so
    ("post_layernorm.", "ln_post."),
    ("encoder.layers.", "transformer.resblocks."),
    (".self_attn.out_proj.", ".attn.out_proj."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
    (".self_attn.qkv.weight", ".attn.in_proj_weight"),
    (".self_attn.qkv.bias", ".attn.in_proj_bias"),
];

/// The image tower's tensors in `f32`, by OpenAI's names without `visual.`.
pub(super) fn visual(checkpoint: &Checkpoint) -> Result<Tensors> {
    let with = |prefix: &str| -> Result<Tensors> {
        let found = checkpoint.tensors().iter().filter_map(|(name, tensor)| {
            let name = name.strip_prefix(prefix)?.to_string();
            // A buffer of Hugging Face's: 0, 1, 2, ..
            (!name.ends_with("position_ids")).then_some((name, tensor))
        });
        found.map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F32)?))).collect()
    };
    let mut tensors = with("vision_model.")?;
    if !tensors.is_empty() {
        if let Some(projection) = checkpoint.get("visual_projection.weight") {
            let projection = projection.to_dtype(DType::F32)?.t()?.contiguous()?;
            tensors.insert("proj".into(), projection);
        }
        return from_hugging_face(tensors);
    }
    tensors = with("visual.")?;
    if tensors.is_empty() { with("") } else { Ok(tensors) }
}

fn from_hugging_face(mut tensors: Tensors) -> Result<Tensors> {
    let queries: Vec<String> =
        tensors.keys().filter(|name| name.contains(".self_attn.q_proj.")).cloned().collect();
    for query in queries {
        let names = ["q_proj", "k_proj", "v_proj"].map(|part| query.replace("q_proj", part));
        let parts: Vec<Tensor> = names.iter().filter_map(|name| tensors.remove(name)).collect();
        tensors.insert(query.replace("q_proj", "qkv"), Tensor::cat(&parts, 0)?);
    }
    let rename = |name: String| PARTS.iter().fold(name, |name, (from, to)| name.replace(from, to));
    Ok(tensors.into_iter().map(|(name, tensor)| (rename(name), tensor)).collect())
}

/// The configuration that the shapes tell.
pub(super) fn config(checkpoint: &Checkpoint, tensors: &Tensors) -> Result<ClipConfig> {
    let refuse = |what: String| Error::Config {
        what: "clip",
        faults: vec![format!("{}: {what}", checkpoint.path().display())],
    };
    let shape = |name: &str| match tensors.get(name) {
        Some(tensor) => Ok(tensor.dims().to_vec()),
        None => Err(refuse(format!("no tensor `{name}`, expected CLIP's image tower"))),
    };
    let (kernel, table) = (shape("conv1.weight")?, shape("positional_embedding")?);
    let (&[width, 3, patch_size, _], &[rows, _]) = (kernel.as_slice(), table.as_slice()) else {
        return Err(refuse(format!(
            "`conv1.weight` is {kernel:?} and `positional_embedding` {table:?}, expected (D, 3, p, p) and (1 + L, D)"
        )));
    };
    let side = (rows.saturating_sub(1) as f64).sqrt() as usize;
    if side == 0 || side * side + 1 != rows {
        return Err(refuse(format!(
            "`positional_embedding` has {rows} rows, expected 1 + a square number"
        )));
    }
    let layers = (0..)
        .take_while(|i| tensors.contains_key(&format!("transformer.resblocks.{i}.ln_1.weight")))
        .count();
    let projection = match tensors.contains_key("proj") {
        true => shape("proj")?.last().copied(),
        false => None,
    };
    let grid = PatchGrid::new(side, side);
    Ok(ClipConfig { grid, patch_size, width, layers, heads: (width / HEAD).max(1), projection })
}
