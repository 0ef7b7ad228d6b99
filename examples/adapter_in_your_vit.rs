//! Patchwise-scale adapters in a vision transformer of one's own.
//!
//! The ViT below is written in this file with ordinary candle code. It learns to say in which quarter of a picture the
//! warm object is, on white-hot images. Then the camera changes to black-hot: the network fails. Its weights are
//! frozen, an adapter is added to every block, and only the adapters (a few percent of the weights here, 1% of a
//! ViT-B) learn the new camera.
//!
//!     cargo run --release --example adapter_in_your_vit
//!
//! Three lines make the difference in `Block`; they are marked. Two of candle's own operations must be replaced in a
//! network that is trained through: `candle_nn::LayerNorm` and `candle_nn::ops::softmax_last_dim` have no backward and
//! cut the graph in silence. The last part of the program measures that. The models of candle-transformers are built
//! on both: use them for inference, or copy the model file and put `pad::ops::layer_norm` and `pad::ops::softmax` (or
//! `pad::ops::attention_packed`) in their place, as `Block` does.

// Here the operations without a gradient are called on purpose.
#![allow(clippy::disallowed_methods)]

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, linear};
use pad::{
    Adapter, AdapterConfig, Mode,
    checkpoint::Checkpoint,
    params::{ParamStore, Role},
    rng::{Key, Purpose},
};

const SIDE: usize = 32; // pixels
const PATCH: usize = 8;
const DIM: usize = 64;
const DEPTH: usize = 4;
const HEADS: usize = 4;
const QUARTERS: usize = 4;

struct Block {
    norm1: (Tensor, Tensor),
    qkv: Linear,
    proj: Linear,
    norm2: (Tensor, Tensor),
    fc1: Linear,
    fc2: Linear,
    adapter: Option<Adapter>, // 1: a place for it
}

impl Block {
    fn new(adapter: Option<&AdapterConfig>, vb: VarBuilder) -> Result<Self> {
        let norm = |name: &str| -> Result<(Tensor, Tensor)> {
            let one = candle_nn::Init::Const(1.0);
            Ok((vb.pp(name).get_with_hints(DIM, "weight", one)?, vb.pp(name).get(DIM, "bias")?))
        };
        Ok(Self {
            norm1: norm("layernorm_before")?,
            qkv: linear(DIM, 3 * DIM, vb.pp("qkv"))?,
            proj: linear(DIM, DIM, vb.pp("proj"))?,
            norm2: norm("layernorm_after")?,
            fc1: linear(DIM, 4 * DIM, vb.pp("fc1"))?,
            fc2: linear(4 * DIM, DIM, vb.pp("fc2"))?,
            // 2: built at the block's own place in the file
            adapter: adapter.map(|config| Adapter::new(DIM, config, vb.clone())).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let norm = |x: &Tensor, (weight, bias): &(Tensor, Tensor)| {
            pad::ops::layer_norm(x, weight, bias, 1e-6) // not candle_nn::LayerNorm
        };
        let qkv = self.qkv.forward(&norm(x, &self.norm1)?)?;
        let x = (x + self.proj.forward(&pad::ops::attention_packed(&qkv, HEADS)?)?)?;
        let mlp = self.fc2.forward(&self.fc1.forward(&norm(&x, &self.norm2)?)?.gelu_erf()?)?;
        match &self.adapter {
            Some(adapter) => Ok(adapter.forward(&x, &mlp, mode)?), // 3: x + s A(x) + mlp
            None => x + mlp,
        }
    }
}

struct YourViT {
    embed: Linear,
    positions: Tensor,
    blocks: Vec<Block>,
    head: Linear,
}

impl YourViT {
    fn new(adapter: Option<&AdapterConfig>, vb: VarBuilder) -> Result<Self> {
        let tokens = (SIDE / PATCH) * (SIDE / PATCH);
        let normal = candle_nn::Init::Randn { mean: 0.0, stdev: 0.5 };
        Ok(Self {
            embed: linear(PATCH * PATCH, DIM, vb.pp("embed"))?,
            positions: vb.get_with_hints((1, tokens, DIM), "positions", normal)?,
            blocks: (0..DEPTH)
                .map(|i| Block::new(adapter, vb.pp("layer").pp(i)))
                .collect::<Result<_>>()?,
            head: linear(DIM, QUARTERS, vb.pp("head"))?,
        })
    }

    /// `images` (B, 1, SIDE, SIDE) -> logits (B, 4).
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let patches = pad::vit::patches(images, PATCH)?;
        let mut x = self.embed.forward(&patches)?.broadcast_add(&self.positions)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, mode.layer(i as u32))?;
        }
        self.head.forward(&x.mean(1)?)
    }
}

/// `layer.{i}.adaptmlp...` and `layer.{i}.scalar_pred...` are adapters, the rest is the backbone.
fn role_of(name: &str) -> Role {
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        ["layer", i, "adaptmlp", ..] => Role::Adapter(i.parse().unwrap_or(0)),
        ["layer", i, "scalar_pred", ..] => Role::Gate(i.parse().unwrap_or(0)),
        ["layer", i, ..] => Role::Block(i.parse().unwrap_or(0)),
        _ => Role::Head,
    }
}

/// A batch of noisy images with one object, warm (`polarity` 1) or displayed black-hot (`polarity` -1), and quarters.
fn batch(size: usize, polarity: f32, key: Key) -> Result<(Tensor, Tensor)> {
    let mut stream = key.purpose(Purpose::Scene).stream();
    let (mut pixels, mut quarters) = (Vec::new(), Vec::new());
    for _ in 0..size {
        let half = (SIDE / 2) as f32;
        // Anywhere but within 3 pixels of the border between two quarters.
        let mut place = || {
            let place = stream.below(SIDE as u64 - 6) as f32;
            if place < half - 3.0 { place } else { place + 6.0 }
        };
        let (x0, y0, cold_x, cold_y) = (place(), place(), place(), place());
        quarters.push(u32::from(y0 >= half) * 2 + u32::from(x0 >= half));
        for i in 0..SIDE * SIDE {
            let (x, y) = ((i % SIDE) as f32, (i / SIDE) as f32);
            let spot = |x0: f32, y0: f32| (-((x - x0).powi(2) + (y - y0).powi(2)) / 18.0).exp();
            // A warm object and a cold one: polarity decides which of them is bright.
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
    guesses.eq(&quarters)?.to_dtype(DType::F32)?.mean_all()?.to_scalar()
}

fn train(model: &YourViT, store: &ParamStore, polarity: f32, steps: u64, lr: f64) -> Result<()> {
    let vars = store.planned().into_iter().map(|p| p.var).collect();
    let mut optimizer = AdamW::new(vars, ParamsAdamW { lr, ..Default::default() })?;
    for step in 0..steps {
        let key = Key::new(1).epoch(step);
        let (images, quarters) = batch(32, polarity, key)?;
        let logits = model.forward(&images, Mode::Train(key))?;
        // Cross-entropy written out: candle_nn's log_softmax has a gradient, so it may be used.
        let loss = candle_nn::loss::cross_entropy(&logits, &quarters)?;
        optimizer.backward_step(&loss)?;
    }
    Ok(())
}

fn run() -> Result<()> {
    // Your ViT and its first camera.
    let store =
        ParamStore::scratch(&Device::Cpu, Key::new(7)).with_roles(role_of).with_trained(|_| true);
    let model = store.build(|vb| YourViT::new(None, vb))?;
    println!("1. your ViT learns white-hot images\n{}", store.summary());
    train(&model, &store, 1.0, 500, 2e-3)?;
    println!("   white-hot accuracy {:.1}%", 100.0 * accuracy(&model, 1.0)?);
    println!("   black-hot accuracy {:.1}%", 100.0 * accuracy(&model, -1.0)?);

    // The same weights, frozen, with adapters. Fresh ones change nothing.
    let weights = Checkpoint::from_tensors("white-hot", store.tensors(|_| true));
    let config = AdapterConfig { bottleneck: 8, ..Default::default() };
    let store = ParamStore::from_checkpoint(weights, &Device::Cpu, Key::new(8))
        .with_roles(role_of)
        .with_fresh(Role::is_adapter)
        .with_trained(Role::is_adapter);
    let model = store.build(|vb| YourViT::new(Some(&config), vb))?;
    println!("\n2. adapters learn black-hot images, the rest is frozen\n{}", store.summary());
    println!("   before: black-hot accuracy {:.1}%", 100.0 * accuracy(&model, -1.0)?);
    train(&model, &store, -1.0, 600, 3e-3)?;
    println!("   after:  black-hot accuracy {:.1}%", 100.0 * accuracy(&model, -1.0)?);

    println!("\n3. why candle_nn::LayerNorm and softmax_last_dim had to be replaced");
    let weight = Tensor::new(&[1.0_f32, 2.0, -1.0, 0.5], &Device::Cpu)?;
    let zero = weight.zeros_like()?;
    let ours = |x: &Tensor| Ok(pad::ops::layer_norm(x, &weight, &zero, 1e-6)?);
    let theirs = |x: &Tensor| candle_nn::ops::layer_norm(x, &weight, &zero, 1e-6);
    slope("pad::ops::layer_norm", ours)?;
    slope("candle_nn::ops::layer_norm", theirs)?;
    slope("pad::ops::softmax", |x| pad::ops::softmax(x)? * 4.0)?;
    slope("candle_nn::ops::softmax_last_dim", |x| candle_nn::ops::softmax_last_dim(x)? * 4.0)
}

/// The slope of `sum((x + f(x))^2)` along one direction, by backward and by differences.
fn slope(name: &str, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
    let loss = |x: &Tensor| (x + f(x)?)?.sqr()?.sum_all();
    let x = Var::new(&[0.3_f32, -0.8, 1.1, 0.2], &Device::Cpu)?;
    let direction = Tensor::new(&[1.0_f32, -1.0, 0.5, 2.0], &Device::Cpu)?;
    let grads = loss(x.as_tensor())?.backward()?;
    let grad = grads.get(x.as_tensor()).cloned().unwrap_or(x.as_tensor().zeros_like()?);
    let backward = (grad * &direction)?.sum_all()?.to_scalar::<f32>()?;
    let step = 1e-2;
    let at = |step: f64| -> Result<f32> {
        loss(&(x.as_tensor() + (&direction * step)?)?)?.to_scalar::<f32>()
    };
    let differences = (at(step)? - at(-step)?) / (2.0 * step as f32);
    println!("   {name:<34} backward {backward:8.3}   finite differences {differences:8.3}");
    Ok(())
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
