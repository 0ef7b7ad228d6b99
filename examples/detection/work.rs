//! Multiply-adds of a detector, counted layer by layer as published tables do: products of matrices and convolutions;
//! norms, activations, resampling and suppression are left out.

use pad::vit::ViTConfig;

/// What decides on the number.
#[derive(Clone, Debug)]
pub struct Work {
    pub vit: ViTConfig,
    /// Side of the windows, patches; none: every block is global.
    pub window: Option<usize>,
    pub global_blocks: Vec<usize>,
    /// Channels of the pyramid.
    pub channels: usize,
    pub head_dim: usize,
    pub classes: usize,
    /// Boxes that the last stage looks at.
    pub proposals: usize,
    /// Box heads in a row.
    pub stages: usize,
}

impl Work {
    /// Multiply-adds of one image whose padded sides are `height` and `width` pixels.
    pub fn macs(&self, height: usize, width: usize) -> f64 {
        let patch = self.vit.patch_size.max(1);
        let (rows, columns) = (height.div_ceil(patch), width.div_ceil(patch));
        let tokens = (rows * columns) as f64;
        let embed = tokens * self.vit.patch_values() as f64 * self.vit.embed_dim as f64;
        let blocks: f64 = (0..self.vit.depth).map(|block| self.block(block, rows, columns)).sum();
        embed + blocks + self.pyramid(tokens) + self.proposing(tokens) + self.boxes()
    }

    fn block(&self, block: usize, rows: usize, columns: usize) -> f64 {
        let dim = self.vit.embed_dim as f64;
        let tokens = (rows * columns) as f64;
        // Windows are padded: queries, keys and values of the padding are computed, too.
        let (attended, each) = match self.window {
            Some(side) if side > 0 && !self.global_blocks.contains(&block) => {
                let windows = rows.div_ceil(side) * columns.div_ceil(side);
                ((windows * side * side) as f64, (side * side) as f64)
            }
            _ => (tokens, tokens),
        };
        let attention = 4.0 * attended * dim * dim + 2.0 * attended * each * dim;
        let mlp = 2.0 * tokens * dim * dim * self.vit.mlp_ratio;
        let adapter = self.vit.adapter.map_or(0.0, |a| 2.0 * tokens * dim * a.bottleneck as f64);
        attention + mlp + adapter
    }

    /// Strides 4 to 32 from one map, each with a 1 x 1 and a 3 x 3 convolution.
    fn pyramid(&self, tokens: f64) -> f64 {
        let (dim, channels) = (self.vit.embed_dim as f64, self.channels as f64);
        let out = |places: f64, from: f64| places * channels * (from + 9.0 * channels);
        let up = |places: f64, from: f64, to: f64| 4.0 * places * from * to;
        let quarter = up(tokens, dim, dim / 2.0)
            + up(4.0 * tokens, dim / 2.0, dim / 4.0)
            + out(16.0 * tokens, dim / 4.0);
        let half = up(tokens, dim, dim / 2.0) + out(4.0 * tokens, dim / 2.0);
        quarter + half + out(tokens, dim) + out(tokens / 4.0, dim)
    }

    /// Two 3 x 3 convolutions, three scores and twelve offsets, at strides 4 to 64.
    fn proposing(&self, tokens: f64) -> f64 {
        let channels = self.channels as f64;
        let places = tokens * (16.0 + 4.0 + 1.0 + 0.25 + 0.0625);
        places * channels * (18.0 * channels + 15.0)
    }

    /// Four 3 x 3 convolutions on 7 x 7 places, a linear layer, scores and offsets.
    fn boxes(&self) -> f64 {
        let (channels, hidden) = (self.channels as f64, self.head_dim as f64);
        let convolutions = 4.0 * 49.0 * 9.0 * channels * channels;
        let linear = 49.0 * channels * hidden;
        let offsets = if self.stages > 1 { 4.0 } else { 4.0 * self.classes as f64 };
        let outputs = hidden * (self.classes as f64 + 1.0 + offsets);
        (self.stages * self.proposals) as f64 * (convolutions + linear + outputs)
    }
}
