//! The layers that pool an encoder's tokens, which stand beside it in files of SigLIP, PE, and of
//! models that were fine-tuned on the mean of their patches.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use pad_ops::rng::Key;

use super::Checkpoint;
use crate::{
    Error, Result,
    params::ParamStore,
    vit::{PoolHead, PoolKind, ViTConfig},
};

/// Heads of the pooling query of every published PE, whatever its width.
const PE_HEADS: usize = 8;
/// Widths of published PE models with such a query.
const PE_WIDTHS: [usize; 5] = [192, 384, 768, 1024, 1536];

/// Starts of names in transformers and of PE's authors, and timm's. The packed projection of
/// queries, keys and values is taken apart.
const RENAMED: [(&str, &str); 12] = [
    ("head.probe", "attn_pool.latent"),
    ("head.attention.out_proj.", "attn_pool.proj."),
    ("head.layernorm.", "attn_pool.norm."),
    ("head.mlp.", "attn_pool.mlp."),
    ("attn_pool.probe", "attn_pool.latent"),
    ("attn_pool.attn.out_proj.", "attn_pool.proj."),
    ("attn_pool.layernorm.", "attn_pool.norm."),
    ("attn_pool.mlp.c_fc.", "attn_pool.mlp.fc1."),
    ("attn_pool.mlp.c_proj.", "attn_pool.mlp.fc2."),
    ("pooler.layernorm.", "fc_norm."),
    ("attn_pool.", "attn_pool."),
    ("fc_norm.", "fc_norm."),
];

/// Packed projections: transformers' and PE's.
const PACKED: [&str; 2] = ["head.attention.in_proj_", "attn_pool.attn.in_proj_"];

/// Pooling layers under timm's names.
#[derive(Clone, Debug)]
pub(super) struct Pooling {
    tensors: BTreeMap<String, Tensor>,
}

impl Pooling {
    /// Those among the tensors of a file, whose names stand behind `prefix`; `None` without any.
    pub(super) fn of(file: &Checkpoint, prefix: &str) -> Result<Option<Self>> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in file.tensors() {
            let Some(name) = name.strip_prefix(prefix) else { continue };
            if let Some(end) = PACKED.iter().find_map(|packed| name.strip_prefix(packed)) {
                let dim = tensor.dim(0)? / 3;
                let part = |first: usize, rows: usize| tensor.narrow(0, first, rows)?.contiguous();
                tensors.insert(format!("attn_pool.q.{end}"), part(0, dim)?);
                tensors.insert(format!("attn_pool.kv.{end}"), part(dim, 2 * dim)?);
                continue;
            }
            let renamed = RENAMED
                .iter()
                .find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
            if let Some(renamed) = renamed {
                tensors.insert(renamed, tensor.clone());
            }
        }
        let complete = ["attn_pool.latent", "fc_norm.weight"];
        let found = complete.iter().any(|name| tensors.contains_key(*name));
        Ok(found.then_some(Self { tensors }))
    }

    /// The layers for the encoder that `config` describes.
    pub(super) fn build(
        &self,
        config: &ViTConfig,
        file: &Checkpoint,
        device: &Device,
    ) -> Result<PoolHead> {
        let kind = match self.tensors.get("attn_pool.mlp.fc1.weight") {
            None => PoolKind::NormedMean,
            Some(fc1) => {
                PoolKind::Attention { heads: self.heads(config, file)?, hidden: fc1.dim(0)? }
            }
        };
        let path = file.path().display().to_string();
        let tensors = Checkpoint::from_tensors(path, self.tensors.clone());
        let store = ParamStore::from_checkpoint(tensors, device, Key::new(0));
        store.build(|vb| PoolHead::new(kind, config, vb))
    }

    fn heads(&self, config: &ViTConfig, file: &Checkpoint) -> Result<usize> {
        // SigLIP's query has the encoder's own.
        if config.rope.is_none() {
            return Ok(config.num_heads);
        }
        if PE_WIDTHS.contains(&config.embed_dim) {
            return Ok(PE_HEADS);
        }
        Err(Error::Format {
            path: file.path().to_path_buf(),
            what: format!(
                "the heads of its pooling cannot be inferred: no published model of width {} has such a query",
                config.embed_dim
            ),
        })
    }
}
