//! LoRA and its relatives: low-rank adapters inside the blocks' linear layers.
//!
//! They are adapters as PAD's are: the same roles, so the same paradigms, freezing, adapter files
//! and digests. Their thin products stand beside a layer's, inside the fused half blocks, in `f32`
//! and bf16, with activations computed again. Merged, they are gone
//! ([`Checkpoint::merge_lora`](crate::checkpoint::Checkpoint::merge_lora)).

mod config;
mod layer;

pub use config::{LoraConfig, LoraSize, LoraTarget, LoraTargets};
pub(crate) use layer::{A, B, BIAS, LowRank, MAGNITUDE};
