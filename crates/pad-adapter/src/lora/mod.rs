//! LoRA and its relatives: low-rank adapters inside the blocks' linear layers.
//!
//! They are adapters as PAD's are: the same roles, so the same paradigms, freezing, adapter files
//! and digests. They live inside a layer's weight: a block computes `W + s B A` once a step and
//! runs as without, fused, in bf16, with activations computed again. Merged, they are gone
//! ([`Checkpoint::merge_lora`](crate::checkpoint::Checkpoint::merge_lora)).

mod config;
mod layer;

pub use config::{LoraConfig, LoraSize, LoraTarget, LoraTargets};
pub(crate) use layer::{A, B, BIAS, LowRank, MAGNITUDE};
