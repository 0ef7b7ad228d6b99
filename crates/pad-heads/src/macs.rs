//! Multiply-adds, counted layer by layer as published tables do: products of matrices and
//! convolutions; norms, activations, resampling and suppression are left out.

use pad_adapter::vit::ViTConfig;

/// Patch embedding of `patches` patches.
pub(crate) fn patch_embed(vit: &ViTConfig, patches: f64) -> f64 {
    patches * vit.patch_values() as f64 * vit.embed_dim as f64
}

/// One block on `tokens` tokens. Attention has `attended` queries (padding of windows included),
/// each against `per_query` keys.
pub(crate) fn block(vit: &ViTConfig, tokens: f64, attended: f64, per_query: f64) -> f64 {
    let dim = vit.embed_dim as f64;
    let attention = 4.0 * attended * dim * dim + 2.0 * attended * per_query * dim;
    let mlp = 2.0 * tokens * dim * dim * vit.mlp_ratio;
    let adapter = vit.adapter.map_or(0.0, |a| 2.0 * tokens * dim * a.bottleneck as f64);
    attention + mlp + adapter
}

/// A `kernel` x `kernel` convolution at `places` places.
pub(crate) fn conv(places: f64, inputs: f64, outputs: f64, kernel: usize) -> f64 {
    places * inputs * outputs * (kernel * kernel) as f64
}

/// A 2 x 2 transposed convolution of stride 2 from `places` places.
pub(crate) fn conv_transpose2x2(places: f64, inputs: f64, outputs: f64) -> f64 {
    4.0 * places * inputs * outputs
}
