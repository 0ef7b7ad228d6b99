//! Multiply-adds of a detector, counted layer by layer as published tables do: products of matrices and convolutions;
//! norms, activations, resampling and suppression are left out.

use pad::heads::detection::DetectorConfig;

/// Multiply-adds of one image whose padded sides are `height` and `width` pixels.
pub fn macs(config: &DetectorConfig, height: usize, width: usize) -> f64 {
    let vit = &config.vit;
    let patch = vit.patch_size.max(1);
    let (rows, columns) = (height.div_ceil(patch), width.div_ceil(patch));
    let tokens = (rows * columns) as f64;
    let embed = tokens * vit.patch_values() as f64 * vit.embed_dim as f64;
    let blocks: f64 = (0..vit.depth).map(|index| block(config, index, rows, columns)).sum();
    embed
        + blocks
        + pyramid(config, tokens)
        + proposing(config, tokens)
        + boxes(config)
        + masks(config)
}

fn block(config: &DetectorConfig, index: usize, rows: usize, columns: usize) -> f64 {
    let (vit, side) = (&config.vit, config.window);
    let dim = vit.embed_dim as f64;
    let tokens = (rows * columns) as f64;
    // Windows are padded: queries, keys and values of the padding are computed, too.
    let (attended, each) = if side == 0 || config.global_blocks.contains(&index) {
        (tokens, tokens)
    } else {
        let windows = rows.div_ceil(side) * columns.div_ceil(side);
        ((windows * side * side) as f64, (side * side) as f64)
    };
    let attention = 4.0 * attended * dim * dim + 2.0 * attended * each * dim;
    let mlp = 2.0 * tokens * dim * dim * vit.mlp_ratio;
    let adapter = vit.adapter.map_or(0.0, |a| 2.0 * tokens * dim * a.bottleneck as f64);
    attention + mlp + adapter
}

/// Strides 4 to 32 from one map, each with a 1 x 1 and a 3 x 3 convolution.
fn pyramid(config: &DetectorConfig, tokens: f64) -> f64 {
    let (dim, channels) = (config.vit.embed_dim as f64, config.channels as f64);
    let out = |places: f64, from: f64| places * channels * (from + 9.0 * channels);
    let up = |places: f64, from: f64, to: f64| 4.0 * places * from * to;
    let quarter = up(tokens, dim, dim / 2.0)
        + up(4.0 * tokens, dim / 2.0, dim / 4.0)
        + out(16.0 * tokens, dim / 4.0);
    let half = up(tokens, dim, dim / 2.0) + out(4.0 * tokens, dim / 2.0);
    quarter + half + out(tokens, dim) + out(tokens / 4.0, dim)
}

/// 3 x 3 convolutions, a score and four offsets for each anchor, at strides 4 to 64.
fn proposing(config: &DetectorConfig, tokens: f64) -> f64 {
    let channels = config.channels as f64;
    let places = tokens * (16.0 + 4.0 + 1.0 + 0.25 + 0.0625);
    let anchors = config.rpn.aspect_ratios.len() as f64;
    places * channels * (9.0 * config.rpn.convs as f64 * channels + 5.0 * anchors)
}

/// 3 x 3 convolutions on the places of each proposal, a linear layer, scores and offsets.
fn boxes(config: &DetectorConfig) -> f64 {
    let (channels, hidden) = (config.channels as f64, config.head_dim as f64);
    let places = (config.roi.pool * config.roi.pool) as f64;
    let convolutions = config.roi.convs as f64 * places * 9.0 * channels * channels;
    let linear = places * channels * hidden;
    let offsets = if config.class_agnostic() { 4.0 } else { 4.0 * config.classes as f64 };
    let outputs = hidden * (config.classes as f64 + 1.0 + offsets);
    (config.stages() * config.rpn.after_nms[1]) as f64 * (convolutions + linear + outputs)
}

/// Of as many detections as an image may have: 3 x 3 convolutions, one that doubles the sides, a map for each class.
fn masks(config: &DetectorConfig) -> f64 {
    if !config.masks {
        return 0.0;
    }
    let channels = config.channels as f64;
    let places = (config.mask.pool * config.mask.pool) as f64;
    let convolutions = config.mask.convs as f64 * places * 9.0 * channels * channels;
    let larger = 4.0 * places * channels * (channels + config.classes as f64);
    config.most as f64 * (convolutions + larger)
}
