//! DINOv2 as its authors and candle-transformers name it: layer scale, and a token for the class.

use candle_core::{Result, Tensor};
use candle_nn::{Conv2dConfig, Linear, Module, VarBuilder, conv2d, linear};
use pad_adapter::{Adapter, AdapterConfig, params::Role, vit::layers::LayerNorm};
use pad_ops::Mode;

use crate::harness::{Foreign, Network, attend, images};

const DIM: usize = 8;

struct Block {
    norms: [LayerNorm; 2],
    attention: [Linear; 2],
    mlp: [Linear; 2],
    gammas: [Tensor; 2],
    adapter: Option<Adapter>,
}

impl Block {
    fn new(adapter: Option<&AdapterConfig>, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            norms: [
                LayerNorm::new(DIM, 1e-6, vb.pp("norm1"))?,
                LayerNorm::new(DIM, 1e-6, vb.pp("norm2"))?,
            ],
            attention: [
                linear(DIM, 3 * DIM, vb.pp("attn.qkv"))?,
                linear(DIM, DIM, vb.pp("attn.proj"))?,
            ],
            mlp: [linear(DIM, 16, vb.pp("mlp.fc1"))?, linear(16, DIM, vb.pp("mlp.fc2"))?],
            gammas: [vb.get(DIM, "ls1.gamma")?, vb.get(DIM, "ls2.gamma")?],
            adapter: adapter.map(|config| Adapter::new(DIM, config, vb)).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let qkv = self.attention[0].forward(&self.norms[0].forward(x)?)?;
        let part = |i: usize| qkv.narrow(2, i * DIM, DIM)?.contiguous();
        let mixed = attend([&part(0)?, &part(1)?, &part(2)?], 2, None)?;
        let x = (x + self.attention[1].forward(&mixed)?.broadcast_mul(&self.gammas[0])?)?;
        let hidden = self.mlp[0].forward(&self.norms[1].forward(&x)?)?.gelu_erf()?;
        let mlp = self.mlp[1].forward(&hidden)?;
        // The gate sees the raw output; layer scale belongs to the MLP's part alone.
        let adapted = match &self.adapter {
            Some(adapter) => (&x + adapter.delta(&x, &mlp, mode)?)?,
            None => x,
        };
        adapted + mlp.broadcast_mul(&self.gammas[1])?
    }
}

fn build(adapter: Option<&AdapterConfig>, vb: VarBuilder) -> Result<Network> {
    let stride = Conv2dConfig { stride: 4, ..Default::default() };
    let patches = conv2d(3, DIM, 4, stride, vb.pp("patch_embed.proj"))?;
    let token = vb.get((1, 1, DIM), "cls_token")?;
    let positions = vb.get((1, 5, DIM), "pos_embed")?;
    let blocks =
        (0..2).map(|i| Block::new(adapter, vb.pp("blocks").pp(i))).collect::<Result<Vec<_>>>()?;
    let norm = LayerNorm::new(DIM, 1e-6, vb.pp("norm"))?;
    let head = linear(2 * DIM, 3, vb.pp("head"))?;
    Ok(Box::new(move |images, mode| {
        let x = patches.forward(images)?.flatten_from(2)?.transpose(1, 2)?;
        let token = token.broadcast_as((x.dim(0)?, 1, DIM))?;
        let mut x = Tensor::cat(&[&token, &x], 1)?.broadcast_add(&positions)?;
        for (i, block) in blocks.iter().enumerate() {
            x = block.forward(&x, mode.layer(i as u32))?;
        }
        let x = norm.forward(&x)?;
        let (token, patches) = (x.narrow(1, 0, 1)?.squeeze(1)?, x.narrow(1, 1, 4)?.mean(1)?);
        head.forward(&Tensor::cat(&[token, patches], 1)?)
    }))
}

pub(crate) const DINOV2: Foreign = Foreign {
    name: "dinov2",
    build,
    input: images,
    role_of: Role::of,
    places: &[("blocks.0", DIM), ("blocks.1", DIM)],
};

#[test]
fn adapters_in_dinov2() {
    DINOV2.check();
}

/// Its names are this project's: the patch embedding and the positions count by their values where
/// their shape is the same, and not where they were fitted to another input.
#[test]
fn what_is_fitted_to_another_input_is_the_same_backbone() {
    use pad_adapter::{
        checkpoint::{AdapterFile, save_adapter},
        params::ParamStore,
    };
    use pad_testkit::numbers;
    let config = crate::harness::ADAPTER;
    let store = ParamStore::from_checkpoint(
        DINOV2.weights(1),
        &crate::harness::CPU,
        pad_ops::rng::Key::new(1),
    )
    .with_fresh(Role::is_adapter);
    let built = store
        .build(|vb| {
            let vb = vb.to_dtype(candle_core::DType::F64);
            Ok::<_, pad_adapter::Error>(build(Some(&config), vb)?)
        })
        .unwrap();
    drop(built);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.safetensors");
    save_adapter(&path, &store, config, &Default::default()).unwrap();
    let file = AdapterFile::open(&path).unwrap();
    let mut fitted = DINOV2.weights(1);
    fitted.insert("pos_embed", numbers(&[1, 17, DIM], candle_core::DType::F64, 3));
    fitted.insert("patch_embed.proj.weight", numbers(&[DIM, 1, 4, 4], candle_core::DType::F64, 3));
    file.check(&fitted).unwrap();
    let mut other = DINOV2.weights(1);
    other.insert("pos_embed", numbers(&[1, 5, DIM], candle_core::DType::F64, 3));
    let text = file.check(&other).unwrap_err().to_string();
    assert!(text.contains(" with another `pos_embed` (the option"), "{text}");
}
