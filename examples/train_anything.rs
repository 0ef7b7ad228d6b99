//! Trains your own small transformer with `pad::train` and `pad::ops`: it fills in hidden bytes of a text (this
//! file). It is not a ViT: any model, batch and loss will do, and any optimiser and schedule (docs/training.md).
//!
//!     cargo run --release --example train_anything        # about a minute
//!
//! Started again after a kill, it continues from its last checkpoint in `runs/example-train_anything`, bit for bit.

use candle_core::{D, DType, Device, Tensor};
use candle_nn::{Embedding, Init, Linear, Module, VarBuilder, linear};
use pad::{
    Mode, ops,
    params::ParamStore,
    rng::{Key, Purpose},
    train::{
        AdamW, AdamWConfig, BoxError, CheckpointConfig, Checkpoints, EpochStream, Every, Losses,
        Parameter, Schedule, Task, Trainer, TrainerConfig, checkpoint::latest, log::ProgressBar,
    },
};

const TEXT: &[u8] = include_bytes!("train_anything.rs");
const HIDDEN: u32 = 256; // the 257th symbol
const LENGTH: usize = 64;
const DIM: usize = 64;
const HEADS: usize = 4;

struct Block {
    norms: [Tensor; 4],
    linears: [Linear; 4],
}

impl Block {
    fn new(vb: VarBuilder) -> candle_core::Result<Self> {
        let norm = |name| vb.get_with_hints(DIM, name, Init::Const(1.0));
        let layer = |inputs, outputs, name| linear(inputs, outputs, vb.pp(name));
        let [qkv, proj] = [layer(DIM, 3 * DIM, "qkv")?, layer(DIM, DIM, "proj")?];
        let [fc1, fc2] = [layer(DIM, 4 * DIM, "fc1")?, layer(4 * DIM, DIM, "fc2")?];
        let [w1, b1] = [norm("norm1.weight")?, vb.get(DIM, "norm1.bias")?];
        let [w2, b2] = [norm("norm2.weight")?, vb.get(DIM, "norm2.bias")?];
        Ok(Self { norms: [w1, b1, w2, b2], linears: [qkv, proj, fc1, fc2] })
    }

    /// `x` (B, N, D) to the same shape.
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor, pad::Error> {
        let ([w1, b1, w2, b2], [qkv, proj, fc1, fc2]) = (&self.norms, &self.linears);
        let qkv = qkv.forward(&ops::layer_norm(x, w1, b1, 1e-5)?)?;
        let attended = proj.forward(&ops::attention_packed(&qkv, HEADS)?)?;
        let x = (x + ops::dropout(&attended, 0.1, mode)?)?;
        let hidden = ops::gelu(&fc1.forward(&ops::layer_norm(&x, w2, b2, 1e-5)?)?)?;
        Ok((x + fc2.forward(&hidden)?)?)
    }
}

struct Reader {
    symbols: Embedding,
    positions: Tensor,
    blocks: Vec<Block>,
    head: Linear,
}

impl Reader {
    fn new(vb: VarBuilder) -> candle_core::Result<Self> {
        let normal = Init::Randn { mean: 0.0, stdev: 0.1 };
        let symbols = vb.get_with_hints((HIDDEN as usize + 1, DIM), "symbols", normal)?;
        Ok(Self {
            symbols: Embedding::new(symbols, DIM),
            positions: vb.get_with_hints((1, LENGTH, DIM), "positions", normal)?,
            blocks: (0..3).map(|i| Block::new(vb.pp("blocks").pp(i))).collect::<Result<_, _>>()?,
            head: linear(DIM, 256, vb.pp("head"))?,
        })
    }
}

/// Windows of bytes (B, N) u32, and which of them are hidden (B, N) u8.
struct Windows {
    bytes: Tensor,
    hidden: Tensor,
}

fn windows(epoch: u64, number: usize, count: usize) -> Result<Windows, pad::Error> {
    let key = Key::new(0).epoch(epoch).sample(number as u64);
    let mut stream = key.purpose(Purpose::Crop).stream();
    let (mut bytes, mut hidden) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let start = stream.below((TEXT.len() - LENGTH) as u64) as usize;
        bytes.extend(TEXT[start..start + LENGTH].iter().map(|&byte| u32::from(byte)));
        hidden.extend((0..LENGTH).map(|_| u8::from(stream.below(6) == 0)));
    }
    let bytes = Tensor::from_vec(bytes, (count, LENGTH), &Device::Cpu)?;
    Ok(Windows { bytes, hidden: Tensor::from_vec(hidden, (count, LENGTH), &Device::Cpu)? })
}

impl Reader {
    /// Logits (B, N, 256) of all bytes, the hidden ones unseen.
    fn logits(&self, batch: &Windows, mode: Mode) -> Result<Tensor, pad::Error> {
        let unseen = Tensor::full(HIDDEN, batch.bytes.shape(), &Device::Cpu)?;
        let seen = batch.hidden.where_cond(&unseen, &batch.bytes)?;
        let mut x = self.symbols.forward(&seen)?.broadcast_add(&self.positions)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, mode.layer(i as u32))?;
        }
        Ok(self.head.forward(&x)?)
    }
}

impl Task for Reader {
    type Batch = Windows;

    fn images_in(&self, batch: &Windows) -> usize {
        batch.bytes.dim(0).unwrap_or(0)
    }

    fn losses(&self, batch: &Windows, mode: Mode) -> Result<Losses, BoxError> {
        let log_p = candle_nn::ops::log_softmax(&self.logits(batch, mode)?, D::Minus1)?;
        let right = log_p.gather(&batch.bytes.unsqueeze(2)?, 2)?.squeeze(2)?;
        let hidden = batch.hidden.to_dtype(DType::F32)?;
        Ok(Losses::new(((right * &hidden)?.sum_all()? / hidden.sum_all()?)?.neg()?))
    }
}

fn main() -> anyhow::Result<()> {
    let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_trained(|_| true);
    let reader = store.build(|vb| Ok::<_, pad::Error>(Reader::new(vb)?))?;
    let parameters = store.planned().into_iter().map(|one| Parameter::new(one.name, one.var));
    let optimizer = AdamW::new(parameters.collect(), AdamWConfig::default())?;
    let config = TrainerConfig { epochs: 10, clip_norm: Some(1.0), ..Default::default() };
    let folder = std::path::Path::new("runs/example-train_anything");
    let saving = CheckpointConfig { every: Every::Steps(50), keep: 1 };
    let mut trainer =
        Trainer::new(config, Schedule::warmup_cosine(2e-3, 0.0, 0.5, 10.0), optimizer)?
            .with_checkpoints(Checkpoints::new(folder, saving)?)
            .with_hook(ProgressBar::new(50));
    if let Some(checkpoint) = latest(folder)? {
        trainer.resume(&checkpoint)?;
    }
    let mut batches = EpochStream::new(100, |epoch, first, stride| {
        Ok::<_, pad::Error>(
            (first..100).step_by(stride).map(move |number| windows(epoch, number, 32)),
        )
    });
    assert!(trainer.run(&reader, &mut batches)?.unused_parameters.is_empty()); // the loss reaches all

    let held_out = windows(1_000, 0, 64)?;
    let guesses = reader.logits(&held_out, Mode::Eval)?.argmax(D::Minus1)?;
    let right = guesses.eq(&held_out.bytes)?.to_dtype(DType::F32)?;
    let hidden = held_out.hidden.to_dtype(DType::F32)?;
    let share = ((right * &hidden)?.sum_all()? / hidden.sum_all()?)?.to_scalar::<f32>()?;
    println!("{:.1}% of the hidden bytes found (a guess finds about 15%)", 100.0 * share);
    Ok(())
}
