//! Three pre-training steps of a small model on a device and on the CPU: loss and the norm of every gradient, in f32 and in
//! bf16. Masks and dropout are keyed, so both draw the same. Prints a line of JSON a precision, with the gradient that
//! differs most, and fails if one differs too much.
//!
//!     cargo bench --features cuda --bench gpu_step
//!     cargo bench --bench gpu_step -- --device cpu --batch 2           # a dry run
//!     cargo bench --features cuda --bench gpu_step -- --compositions   # without kernels of ours

use std::{error::Error, process::ExitCode, time::Instant};

use candle_core::{DType, Device, Tensor};
use clap::{Parser, ValueEnum};
use pad::{
    MatmulPrecision, Mode,
    params::ParamStore,
    rng::Key,
    ssl::{Mae, MaeConfig, Objective, Paradigm, parameters},
    train::{AdamW, AdamWConfig, Gradients},
    vit::ViTConfig,
};
use pad_testkit::numbers;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kinds {
    F32,
    Bf16,
    Both,
}

/// Compares steps on a device with steps on the CPU.
#[derive(Parser, Debug)]
struct Flags {
    /// cuda, cuda:N, or cpu for a dry run
    #[arg(long, default_value = "cuda")]
    device: String,
    /// Images in a batch
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Steps
    #[arg(long, default_value_t = 3)]
    steps: usize,
    /// What linear layers multiply in
    #[arg(long, value_enum, default_value = "both")]
    dtype: Kinds,
    /// Compose the operators of candle's on the device
    #[arg(long)]
    compositions: bool,
    /// Keep only the blocks' inputs
    #[arg(long)]
    checkpoint_blocks: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// Name and value: of each step the loss, and the norm of each gradient.
type Trace = Vec<(String, f64)>;

fn trace(
    flags: &Flags,
    device: &Device,
    precision: MatmulPrecision,
) -> Result<Trace, Box<dyn Error>> {
    let adapter = Some(pad::AdapterConfig::default());
    let config =
        MaeConfig { encoder: ViTConfig { adapter, ..ViTConfig::tiny(16) }, ..MaeConfig::default() };
    let paradigm = Paradigm::Pad { gate_frozen: 0.0, decoder_embed: false };
    let store =
        ParamStore::scratch(device, Key::new(0)).with_plan(paradigm.plan(config.encoder.depth, 1));
    let mae = store
        .build(|vb| Mae::new(&config, vb))?
        .with_checkpointing(flags.checkpoint_blocks)
        .with_matmul_precision(precision);
    let mut optimizer = AdamW::new(parameters(&store, 0.05), AdamWConfig::default())?;
    let images = numbers(&[flags.batch, 3, 224, 224], DType::F32, 1).to_device(device)?;
    let mut trace = Trace::new();
    for step in 0..flags.steps {
        let keys: Vec<Key> =
            (0..flags.batch).map(|i| Key::new(step as u64).sample(i as u64)).collect();
        let draw = mae.draw(&images, &keys)?;
        let losses = mae.loss(&images, &draw, Mode::Train(Key::new(1).epoch(step as u64)))?;
        let store = pad::ops::backward(&losses.total)?;
        let loss = f64::from(losses.total.to_scalar::<f32>()?);
        trace.push((format!("step {step}: loss"), loss));
        let gradients = Gradients::from_store(optimizer.parameters(), &store, 1);
        for (index, parameter) in optimizer.parameters().iter().enumerate() {
            let norm = match gradients.get(index)? {
                Some(gradient) => norm(&gradient)?,
                None => f64::NAN,
            };
            trace.push((format!("step {step}: {}", parameter.name), norm));
        }
        optimizer.step(&gradients, 1e-3, 1)?;
    }
    Ok(trace)
}

fn norm(tensor: &Tensor) -> candle_core::Result<f64> {
    let home = tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
    Ok(home.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt())
}

/// The largest relative difference and its name.
fn worst(got: &Trace, want: &Trace) -> (String, f64) {
    let mut worst = (String::new(), 0.0);
    for ((name, got), (_, want)) in got.iter().zip(want) {
        // A gradient of about nothing (the bias before a softmax) has no digits to compare.
        let scale = want.abs().max(1e-6);
        let error = (got - want).abs() / scale;
        let error = if error.is_finite() { error } else { f64::MAX };
        if error > worst.1 {
            worst = (name.clone(), error);
        }
    }
    worst
}

fn run(flags: &Flags) -> Result<bool, Box<dyn Error>> {
    let device = pad::ops::device::open(&flags.device)?;
    let kinds =
        [(Kinds::F32, MatmulPrecision::F32, 1e-2), (Kinds::Bf16, MatmulPrecision::Bf16, 5e-2)];
    let mut good = true;
    for (kind, precision, allowed) in kinds {
        if flags.dtype != Kinds::Both && flags.dtype != kind {
            continue;
        }
        let start = Instant::now();
        let work = || trace(flags, &device, precision);
        let got = if flags.compositions { pad::ops::reference::only(work)? } else { work()? };
        let on_device = start.elapsed().as_secs_f64();
        let want = trace(flags, &Device::Cpu, precision)?;
        let (name, error) = worst(&got, &want);
        let loss = |trace: &Trace| -> Vec<f64> {
            trace.iter().filter(|(name, _)| name.ends_with("loss")).map(|(_, loss)| *loss).collect()
        };
        let ok = error <= allowed && got.len() == want.len();
        good &= ok;
        let line = json!({
            "precision": precision.to_string(), "compared": got.len(), "worst": name, "error": error,
            "allowed": allowed, "loss": loss(&got), "loss_cpu": loss(&want), "seconds": on_device, "ok": ok,
        });
        println!("{line}");
    }
    Ok(good)
}

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
