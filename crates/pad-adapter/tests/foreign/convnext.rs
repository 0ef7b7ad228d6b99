//! A ConvNeXt as timm and candle-transformers name it: no tokens, two widths, channels last inside a
//! block.

use candle_core::{Result, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, Linear, Module, VarBuilder, conv2d, linear};
use pad_adapter::{Adapter, AdapterConfig, params::Role, vit::layers::LayerNorm};
use pad_ops::Mode;

use crate::harness::{Foreign, Network, images};

const DIMS: [usize; 2] = [4, 8];

struct Block {
    depthwise: Conv2d,
    norm: LayerNorm,
    mlp: [Linear; 2],
    gamma: Tensor,
    adapter: Option<Adapter>,
}

impl Block {
    fn new(dim: usize, adapter: Option<&AdapterConfig>, vb: VarBuilder) -> Result<Self> {
        let depthwise = Conv2dConfig { padding: 3, groups: dim, ..Default::default() };
        Ok(Self {
            depthwise: conv2d(dim, dim, 7, depthwise, vb.pp("conv_dw"))?,
            norm: LayerNorm::new(dim, 1e-6, vb.pp("norm"))?,
            mlp: [linear(dim, 4 * dim, vb.pp("mlp.fc1"))?, linear(4 * dim, dim, vb.pp("mlp.fc2"))?],
            gamma: vb.get(dim, "gamma")?,
            adapter: adapter.map(|config| Adapter::new(dim, config, vb)).transpose()?,
        })
    }

    /// `x` (B, C, H, W) to the same shape.
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let last = |x: &Tensor| x.permute((0, 2, 3, 1))?.contiguous();
        let normed = self.norm.forward(&last(&self.depthwise.forward(x)?)?)?;
        let mlp = self.mlp[1].forward(&self.mlp[0].forward(&normed)?.gelu_erf()?)?;
        let x = last(x)?;
        // The block has no attention: the residual stream is its input, "tokens" are its pixels.
        let adapted = match &self.adapter {
            Some(adapter) => (&x + adapter.delta(&x, &mlp, mode)?)?,
            None => x,
        };
        (adapted + mlp.broadcast_mul(&self.gamma)?)?.permute((0, 3, 1, 2))?.contiguous()
    }
}

/// Layer norm over the channels of (B, C, H, W).
fn channel_norm(norm: &LayerNorm, x: &Tensor) -> Result<Tensor> {
    let normed = norm.forward(&x.permute((0, 2, 3, 1))?.contiguous()?)?;
    normed.permute((0, 3, 1, 2))?.contiguous()
}

fn build(adapter: Option<&AdapterConfig>, vb: VarBuilder) -> Result<Network> {
    let stride = |stride| Conv2dConfig { stride, ..Default::default() };
    let stem = conv2d(3, DIMS[0], 2, stride(2), vb.pp("stem.0"))?;
    let stem_norm = LayerNorm::new(DIMS[0], 1e-6, vb.pp("stem.1"))?;
    let down_norm = LayerNorm::new(DIMS[0], 1e-6, vb.pp("stages.1.downsample.0"))?;
    let down = conv2d(DIMS[0], DIMS[1], 2, stride(2), vb.pp("stages.1.downsample.1"))?;
    let stage = |i: usize, depth: usize| -> Result<Vec<Block>> {
        let block =
            |j: usize| Block::new(DIMS[i], adapter, vb.pp(format!("stages.{i}.blocks.{j}")));
        (0..depth).map(block).collect()
    };
    let stages = [stage(0, 1)?, stage(1, 2)?];
    let norm = LayerNorm::new(DIMS[1], 1e-6, vb.pp("head.norm"))?;
    let head = linear(DIMS[1], 3, vb.pp("head.fc"))?;
    Ok(Box::new(move |images, mode| {
        let mut x = channel_norm(&stem_norm, &stem.forward(images)?)?;
        for (i, blocks) in stages.iter().enumerate() {
            if i > 0 {
                x = down.forward(&channel_norm(&down_norm, &x)?)?;
            }
            for (j, block) in blocks.iter().enumerate() {
                x = block.forward(&x, mode.layer((10 * i + j) as u32))?;
            }
        }
        head.forward(&norm.forward(&x.mean((2, 3))?)?)
    }))
}

fn role_of(name: &str) -> Role {
    match name.split('.').collect::<Vec<_>>()[..] {
        // Three blocks in a row.
        ["stages", "0", "blocks", ..] => Role::Block(0),
        ["stages", "1", "blocks", j, ..] => {
            j.parse::<usize>().map_or(Role::Other, |j| Role::Block(1 + j))
        }
        ["stages", "1", "downsample", ..] => Role::Block(1),
        ["stem", ..] => Role::PatchEmbed,
        ["head", ..] => Role::Head,
        _ => Role::Other,
    }
}

const CONVNEXT: Foreign = Foreign {
    name: "convnext",
    build,
    input: images,
    role_of,
    places: &[
        ("stages.0.blocks.0", DIMS[0]),
        ("stages.1.blocks.0", DIMS[1]),
        ("stages.1.blocks.1", DIMS[1]),
    ],
};

#[test]
fn adapters_in_a_convnext() {
    CONVNEXT.check();
}
