//! Patchwise-scale adapters in your own vision transformer, written in this file with ordinary candle code.
//!
//! It learns in which quarter of a white-hot picture the warm object is. Then the camera shows black-hot pictures: the
//! network fails. Its weights are frozen, every block gets an adapter, and only these learn the new camera.
//! Three marked lines make the difference. `candle_nn::LayerNorm` and `softmax_last_dim` silently cut the graph
//! (docs/guides/adapter.md). Run it with `cargo run --release --example adapter_in_your_vit`.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{AdamW, Init, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, linear};
use pad::{
    Adapter, AdapterConfig, Mode,
    checkpoint::{AdapterFile, Checkpoint, save_adapter},
    params::{ParamStore, Role},
    rng::{Key, Purpose},
};

const SIDE: usize = 32; // pixels
const PATCH: usize = 8;
const DIM: usize = 64;
const HEADS: usize = 4;

struct Block {
    norms: [Tensor; 4],
    linears: [Linear; 4],
    adapter: Option<Adapter>, // 1: a place for it
}

impl Block {
    fn new(adapter: Option<&AdapterConfig>, vb: VarBuilder) -> Result<Self> {
        let norm = |name| vb.get_with_hints(DIM, name, Init::Const(1.0));
        let layer = |inputs, outputs, name| linear(inputs, outputs, vb.pp(name));
        let [qkv, proj] = [layer(DIM, 3 * DIM, "qkv")?, layer(DIM, DIM, "proj")?];
        let [fc1, fc2] = [layer(DIM, 4 * DIM, "fc1")?, layer(4 * DIM, DIM, "fc2")?];
        let [w1, w2] = [norm("norm1.weight")?, norm("norm2.weight")?];
        let [b1, b2] = [vb.get(DIM, "norm1.bias")?, vb.get(DIM, "norm2.bias")?];
        let adapter = adapter.map(|config| Adapter::new(DIM, config, vb.clone())).transpose()?; // 2
        Ok(Self { norms: [w1, b1, w2, b2], linears: [qkv, proj, fc1, fc2], adapter })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let ([w1, b1, w2, b2], [qkv, proj, fc1, fc2]) = (&self.norms, &self.linears);
        let qkv = qkv.forward(&pad::ops::layer_norm(x, w1, b1, 1e-6)?)?;
        let x = (x + proj.forward(&pad::ops::attention_packed(&qkv, HEADS)?)?)?;
        let normed = pad::ops::layer_norm(&x, w2, b2, 1e-6)?;
        let mlp = fc2.forward(&fc1.forward(&normed)?.gelu_erf()?)?;
        let Some(adapter) = &self.adapter else { return x + mlp };
        Ok(adapter.forward(&x, &mlp, mode)?) // 3: x + s A(x) + mlp
    }
}

struct YourViT {
    ends: [Linear; 2], // patch embedding and head
    positions: Tensor,
    blocks: Vec<Block>,
}

impl YourViT {
    fn new(adapter: Option<&AdapterConfig>, vb: VarBuilder) -> Result<Self> {
        let normal = Init::Randn { mean: 0.0, stdev: 0.5 };
        let block = |i| Block::new(adapter, vb.pp("layer").pp(i));
        Ok(Self {
            ends: [linear(PATCH * PATCH, DIM, vb.pp("embed"))?, linear(DIM, 4, vb.pp("head"))?],
            positions: vb.get_with_hints((1, (SIDE / PATCH).pow(2), DIM), "positions", normal)?,
            blocks: (0..4).map(block).collect::<Result<_>>()?,
        })
    }

    /// `images` (B, 1, SIDE, SIDE) -> logits (B, 4).
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let patches = pad::vit::patches(images, PATCH)?;
        let mut x = self.ends[0].forward(&patches)?.broadcast_add(&self.positions)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, mode.layer(i as u32))?;
        }
        self.ends[1].forward(&x.mean(1)?)
    }
}

/// Which name is which part. Adapters are known wherever they stand.
fn role_of(name: &str) -> Role {
    match name.split('.').collect::<Vec<_>>()[..] {
        ["layer", i, ..] => i.parse().map_or(Role::Other, Role::Block),
        ["embed" | "positions", ..] => Role::PatchEmbed,
        ["head", ..] => Role::Head,
        _ => Role::Other,
    }
}

/// Noisy images with a warm and a cold object, and the quarter of the warm one. Polarity 1 shows warm as bright.
fn batch(size: usize, polarity: f32, key: Key) -> Result<(Tensor, Tensor)> {
    let mut stream = key.purpose(Purpose::Scene).stream();
    let (mut pixels, mut quarters) = (Vec::new(), Vec::new());
    for _ in 0..size {
        let places = [(); 4].map(|()| stream.below(26) as f32);
        let [x0, y0, cold_x, cold_y] = places.map(|x| if x < 13.0 { x } else { x + 6.0 });
        quarters.push(u32::from(y0 >= 16.0) * 2 + u32::from(x0 >= 16.0));
        for i in 0..SIDE * SIDE {
            let (x, y) = ((i % SIDE) as f32, (i / SIDE) as f32);
            let spot = |x0: f32, y0: f32| (-((x - x0).powi(2) + (y - y0).powi(2)) / 18.0).exp();
            let scene = spot(x0, y0) - spot(cold_x, cold_y);
            pixels.push(polarity * 2.0 * scene + 0.3 * stream.normal() as f32);
        }
    }
    let images = Tensor::from_vec(pixels, (size, 1, SIDE, SIDE), &Device::Cpu)?;
    Ok((images, Tensor::from_vec(quarters, size, &Device::Cpu)?))
}

fn accuracy(model: &YourViT, polarity: f32) -> Result<f32> {
    let (images, quarters) = batch(500, polarity, Key::new(999))?;
    let guesses = model.forward(&images, Mode::Eval)?.argmax(D::Minus1)?;
    Ok(100.0 * guesses.eq(&quarters)?.to_dtype(DType::F32)?.mean_all()?.to_scalar::<f32>()?)
}

fn train(model: &YourViT, store: &ParamStore, polarity: f32, steps: u64, lr: f64) -> Result<()> {
    let vars = store.planned().into_iter().map(|one| one.var).collect();
    let mut optimizer = AdamW::new(vars, ParamsAdamW { lr, ..Default::default() })?;
    for key in (0..steps).map(|step| Key::new(1).epoch(step)) {
        let (images, quarters) = batch(32, polarity, key)?;
        let logits = model.forward(&images, Mode::Train(key))?;
        optimizer.backward_step(&candle_nn::loss::cross_entropy(&logits, &quarters)?)?;
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let store = ParamStore::scratch(&Device::Cpu, Key::new(7)).with_trained(|_| true);
    let model = store.build(|vb| YourViT::new(None, vb))?;
    println!("1. your ViT learns white-hot images\n{}", store.summary());
    train(&model, &store, 1.0, 500, 2e-3)?;
    let [white, black] = [accuracy(&model, 1.0)?, accuracy(&model, -1.0)?];
    println!("   white-hot {white:.1}%, black-hot {black:.1}%");

    // The same weights, frozen, with adapters. Fresh ones change nothing.
    let weights = Checkpoint::from_tensors("white-hot", store.tensors(|_| true));
    let config = AdapterConfig { bottleneck: 8, ..Default::default() };
    let store = ParamStore::from_checkpoint(weights.clone(), &Device::Cpu, Key::new(8))
        .with_roles(role_of)
        .with_fresh(Role::is_adapter)
        .with_trained(Role::is_adapter);
    let model = store.build(|vb| YourViT::new(Some(&config), vb))?;
    println!("2. adapters learn black-hot images, the rest is frozen\n{}", store.summary());
    train(&model, &store, -1.0, 600, 3e-3)?;
    println!("   after: black-hot {:.1}%", accuracy(&model, -1.0)?);
    // The adapters alone, in a file that knows the backbone that it belongs to.
    let path = std::env::temp_dir().join("black-hot.safetensors");
    save_adapter(&path, &store, config, &Default::default())?;
    AdapterFile::open(&path)?.check(&weights)?; // an error for any other
    Ok(())
}
