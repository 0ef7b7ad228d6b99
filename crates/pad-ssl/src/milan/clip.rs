//! The image tower of CLIP (Radford et al., 2021) as a teacher: per-token features in the space shared with text, and
//! where the class token looks.

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use pad_adapter::{
    checkpoint::Checkpoint,
    params::ParamStore,
    vit::{PatchGrid, interpolate_table, layers::LayerNorm, patches},
};
use pad_data::transform::Normalize;
use pad_ops::{AttentionWeights, ImageSize, Keep, LinearWeights, MatmulPrecision, rng::Key};

use super::clip_weights;
use crate::{Error, Result, Teacher, TeacherTokens};

/// Eps of CLIP's norms.
const NORM_EPS: f64 = 1e-5;

/// Hyperparameters of CLIP's image tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipConfig {
    /// Grid of the position table.
    pub grid: PatchGrid,
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// Values per token.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads; they divide `width`.
    pub heads: usize,
    /// Values of a projected token; `None` = no projection (`CLIPVisionModel` files), features of `width`.
    pub projection: Option<usize>,
}

impl ClipConfig {
    /// ViT-B/16 for 224 x 224 pixels.
    pub fn base16() -> Self {
        let grid = PatchGrid::new(14, 14);
        Self { grid, patch_size: 16, width: 768, layers: 12, heads: 12, projection: Some(512) }
    }

    /// ViT-L/14 for 224 x 224 pixels.
    pub fn large14() -> Self {
        let grid = PatchGrid::new(16, 16);
        Self { grid, patch_size: 14, width: 1024, layers: 24, heads: 16, projection: Some(768) }
    }

    fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        let counts = [
            ("patch_size", self.patch_size),
            ("width", self.width),
            ("layers", self.layers),
            ("heads", self.heads),
        ];
        for (name, _) in counts.iter().filter(|(_, count)| *count == 0) {
            faults.push(format!("`{name}` is 0, expected at least 1"));
        }
        if self.heads > 0 && !self.width.is_multiple_of(self.heads) {
            let (heads, width) = (self.heads, self.width);
            faults.push(format!("`heads` is {heads}, expected a divisor of `width` {width}"));
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Config { what: "clip", faults }) }
    }

    /// Values of a feature.
    pub fn features(&self) -> usize {
        self.projection.unwrap_or(self.width)
    }
}

/// A pre-norm block of CLIP: `x + Attention(LN(x))`, then `x + MLP(LN(x))` with the quick GELU.
#[derive(Clone, Debug)]
struct ClipBlock {
    attention: AttentionWeights,
    norm2: LayerNorm,
    fc1: LinearWeights,
    fc2: LinearWeights,
}

impl ClipBlock {
    fn new(config: &ClipConfig, vb: VarBuilder) -> Result<Self> {
        let (dim, hidden) = (config.width, 4 * config.width);
        let linear = |outputs: usize, inputs: usize, weight: &str, bias: &str| -> Result<_> {
            let weight = vb.get((outputs, inputs), weight)?;
            Ok(LinearWeights::new(weight, Some(vb.get(outputs, bias)?)))
        };
        Ok(Self {
            attention: AttentionWeights {
                norm: LayerNorm::new(dim, NORM_EPS, vb.pp("ln_1"))?.weights(),
                qkv: linear(3 * dim, dim, "attn.in_proj_weight", "attn.in_proj_bias")?,
                proj: linear(dim, dim, "attn.out_proj.weight", "attn.out_proj.bias")?,
                num_heads: config.heads,
                precision: MatmulPrecision::F32,
            },
            norm2: LayerNorm::new(dim, NORM_EPS, vb.pp("ln_2"))?,
            fc1: linear(hidden, dim, "mlp.c_fc.weight", "mlp.c_fc.bias")?,
            fc2: linear(dim, hidden, "mlp.c_proj.weight", "mlp.c_proj.bias")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = pad_ops::attention_branch(x, &self.attention, Keep::Nothing)?;
        let hidden = self.norm2.forward(&x)?;
        let hidden = pad_ops::linear(&hidden, &self.fc1.weight, self.fc1.bias.as_ref())?;
        let hidden = quick_gelu(&hidden)?;
        Ok((x + pad_ops::linear(&hidden, &self.fc2.weight, self.fc2.bias.as_ref())?)?)
    }

    /// Where each token looks in this block, the mean over the heads: (B, N, D) -> (B, N, N).
    fn attention_map(&self, x: &Tensor) -> Result<Tensor> {
        let (norm, qkv) = (&self.attention.norm, &self.attention.qkv);
        let x = pad_ops::layer_norm(x, &norm.weight, &norm.bias, norm.eps)?;
        let qkv = pad_ops::linear(&x, &qkv.weight, qkv.bias.as_ref())?;
        let (b, n, width) = qkv.dims3()?;
        let (heads, dim) = (self.attention.num_heads, width / 3);
        let part = |i: usize| -> Result<Tensor> {
            let part = qkv.narrow(2, i * dim, dim)?.reshape((b, n, heads, dim / heads))?;
            Ok(part.transpose(1, 2)?.contiguous()?)
        };
        let scale = ((dim / heads) as f64).powf(-0.5);
        let logits = (part(0)? * scale)?.matmul(&part(1)?.transpose(2, 3)?.contiguous()?)?;
        Ok(pad_ops::softmax(&logits)?.mean(1)?)
    }
}

/// `x sigmoid(1.702 x)`.
fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    Ok((x / ((x * -1.702)?.exp()? + 1.0)?)?)
}

/// CLIP's image tower with frozen weights: it tracks nothing, so a forward keeps nothing for a backward.
#[derive(Clone, Debug)]
pub struct ClipTeacher {
    config: ClipConfig,
    kernel: Tensor,
    class: Tensor,
    positions: Tensor,
    norm_pre: LayerNorm,
    blocks: Vec<ClipBlock>,
    norm_post: LayerNorm,
    /// (P, D).
    projection: Option<Tensor>,
    seen: Option<Normalize>,
    input: Option<ImageSize>,
}

impl ClipTeacher {
    /// What CLIP was trained with.
    pub const NORMALIZE: Normalize = Normalize {
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        std: [0.268_629_55, 0.261_302_6, 0.275_777_1],
    };

    /// Reads a teacher whose configuration follows from the shapes of its tensors, heads of 64 values. Names: OpenAI's
    /// (`visual.*`, or without `visual.`) or Hugging Face's (`vision_model.*`, `visual_projection`); the text tower is
    /// passed over.
    ///
    /// # Errors
    /// [`Error::Config`] if the tensors are not those of an image tower; a report of all that are missing or
    /// misshapen.
    pub fn load(checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        let tensors = clip_weights::visual(checkpoint)?;
        let config = clip_weights::config(checkpoint, &tensors)?;
        Self::build(&config, Checkpoint::from_tensors(checkpoint.path(), tensors), device)
    }

    /// [`ClipTeacher::load`] for a configuration that is known: [`ClipConfig::base16`], or heads of another width.
    ///
    /// # Errors
    /// As [`ClipTeacher::load`].
    pub fn load_as(config: &ClipConfig, checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        let tensors = clip_weights::visual(checkpoint)?;
        Self::build(config, Checkpoint::from_tensors(checkpoint.path(), tensors), device)
    }

    fn build(config: &ClipConfig, weights: Checkpoint, device: &Device) -> Result<Self> {
        config.validate()?;
        let store = ParamStore::from_checkpoint(weights, device, Key::new(0));
        store.build(|vb| Self::new(config, vb))
    }

    fn new(config: &ClipConfig, vb: VarBuilder) -> Result<Self> {
        let (dim, patch) = (config.width, config.patch_size);
        let kernel = vb.get((dim, 3, patch, patch), "conv1.weight")?;
        let positions = vb.get((1 + config.grid.len(), dim), "positional_embedding")?;
        let blocks = vb.pp("transformer").pp("resblocks");
        let projection = match config.projection {
            Some(width) => Some(vb.get((dim, width), "proj")?.t()?.contiguous()?),
            None => None,
        };
        Ok(Self {
            config: *config,
            kernel: kernel.reshape((dim, 3 * patch * patch))?,
            class: vb.get(dim, "class_embedding")?.reshape((1, 1, dim))?,
            positions: positions.unsqueeze(0)?,
            norm_pre: LayerNorm::new(dim, NORM_EPS, vb.pp("ln_pre"))?,
            blocks: (0..config.layers)
                .map(|i| ClipBlock::new(config, blocks.pp(i)))
                .collect::<Result<_>>()?,
            norm_post: LayerNorm::new(dim, NORM_EPS, vb.pp("ln_post"))?,
            projection,
            seen: None,
            input: None,
        })
    }

    /// The same teacher for images that were normalised by `normalize`: it brings them to CLIP's own statistics first.
    #[must_use]
    pub fn seeing(self, normalize: Normalize) -> Self {
        Self { seen: Some(normalize), ..self }
    }

    /// The same teacher on images resized (bilinear) to `size`: ViT-L/14 sees 196 x 196 pixels beside a student of
    /// patch 16 on 224 x 224, so that both have 14 x 14 patches.
    #[must_use]
    pub fn at(self, size: ImageSize) -> Self {
        Self { input: Some(size), ..self }
    }

    /// The same teacher whose attention layers multiply in `precision`.
    #[must_use]
    pub fn multiplying(mut self, precision: MatmulPrecision) -> Self {
        self.blocks.iter_mut().for_each(|block| block.attention.precision = precision);
        self
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// Images as CLIP wants them: three channels, its statistics, the size asked for.
    #[allow(clippy::disallowed_methods)] // the resize has no backward: images are detached, nothing flows to them
    fn prepare(&self, images: &Tensor) -> Result<Tensor> {
        let (b, channels, height, width) = images.dims4()?;
        let mut images = images.detach();
        if channels == 1 {
            images = images.broadcast_as((b, 3, height, width))?.contiguous()?;
        }
        if let Some(seen) = &self.seen {
            let own = Self::NORMALIZE;
            let factor: Vec<f32> = (0..3).map(|c| seen.std[c] / own.std[c]).collect();
            let shift: Vec<f32> =
                (0..3).map(|c| (seen.mean[c] - own.mean[c]) / own.std[c]).collect();
            let column = |values: Vec<f32>| -> Result<Tensor> {
                let column = Tensor::from_vec(values, (1, 3, 1, 1), images.device())?;
                Ok(column.to_dtype(images.dtype())?)
            };
            images = images.broadcast_mul(&column(factor)?)?.broadcast_add(&column(shift)?)?;
        }
        match self.input {
            Some(size) if (height, width) != (size.height, size.width) => {
                Ok(images.upsample_bilinear2d(size.height, size.width, false)?)
            }
            _ => Ok(images),
        }
    }

    /// Class token, patches, positions, first norm: (B, 3, H, W) -> (B, 1 + L, D).
    fn embed(&self, images: &Tensor) -> Result<Tensor> {
        let (b, _, height, width) = images.dims4()?;
        let grid = PatchGrid::of(ImageSize { height, width }, self.config.patch_size)?;
        let tokens = patches(images, self.config.patch_size)?;
        let tokens = pad_ops::linear(&tokens, &self.kernel, None)?;
        let class = self.class.broadcast_as((b, 1, self.config.width))?.contiguous()?;
        let positions = interpolate_table(&self.positions, self.config.grid, grid)?;
        let x = Tensor::cat(&[&class, &tokens], 1)?.broadcast_add(&positions)?;
        Ok(self.norm_pre.forward(&x)?)
    }
}

impl Teacher for ClipTeacher {
    fn features(&self, images: &Tensor) -> Result<Tensor> {
        Ok(self.tokens(images)?.features)
    }

    /// Every token after the last norm and the projection, and the last block's attention.
    fn tokens(&self, images: &Tensor) -> Result<TeacherTokens> {
        let mut x = self.embed(&self.prepare(images)?)?;
        let mut attention = None;
        for (i, block) in self.blocks.iter().enumerate() {
            if i + 1 == self.blocks.len() {
                attention = Some(block.attention_map(&x)?);
            }
            x = block.forward(&x)?;
        }
        let features = self.norm_post.forward(&x)?;
        let features = match &self.projection {
            Some(projection) => pad_ops::linear(&features, projection, None)?,
            None => features,
        };
        Ok(TeacherTokens { features, attention })
    }
}
