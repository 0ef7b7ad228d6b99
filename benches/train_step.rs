//! One pre-training step (forward, backward, AdamW) of a ViT with a MAE decoder on random images; prints one JSON line
//! with the median over the steps, in the form of `benches/peers/pad_mae_torch.py`, which does the same work.
//!
//!     cargo bench --bench train_step -- --model base --batch 16 --paradigm pad --threads 2
//!     cargo bench --bench train_step -- --paradigm embed --batch 1     # inference: all tokens of whole images
//!     cargo bench --bench train_step -- --parts                        # where the time goes
//!     benches/peers.sh                                                 # beside PyTorch

use std::{collections::BTreeMap, error::Error, time::Instant};

use candle_core::{DType, Device, Tensor};
use clap::{Parser, ValueEnum};
use pad::{
    MatmulPrecision, Mode,
    ops::device::{CudaOptions, DeviceName},
    params::ParamStore,
    rng::Key,
    ssl::{Mae, MaeConfig, Objective, Paradigm, parameters},
    train::{AdamW, AdamWConfig, Gradients},
    vit::{ViT, ViTConfig},
};
use pad_testkit::{numbers, processor};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Size {
    Tiny,
    Small,
    Base,
    Large,
    /// DINOv2 ViT-S/14: layer scale, patches of 14
    #[value(name = "dinov2-small")]
    Dinov2Small,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Work {
    /// Frozen encoder, adapters and decoder train.
    Pad,
    /// Everything trains, no adapters.
    Full,
    /// No training: the encoder (with adapters) on all tokens.
    Embed,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
}

impl Dtype {
    fn precision(self) -> MatmulPrecision {
        match self {
            Dtype::F32 => MatmulPrecision::F32,
            Dtype::Bf16 => MatmulPrecision::Bf16,
        }
    }
}

/// Times pre-training steps, or embedding.
#[derive(Parser, Debug)]
struct Flags {
    /// Encoder
    #[arg(long, value_enum, default_value = "base")]
    model: Size,
    /// Images in a batch
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// What is timed
    #[arg(long, value_enum, default_value = "pad")]
    paradigm: Work,
    /// Side of the images in pixels
    #[arg(long, default_value_t = 224)]
    image: usize,
    /// Worker threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Timed steps, after two untimed ones
    #[arg(long, default_value_t = 7)]
    steps: usize,
    /// What linear layers multiply in
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Keep only the blocks' inputs; compute the rest again in the backward
    #[arg(long)]
    checkpoint_blocks: bool,
    /// Measure forward, backward and update apart; a GPU is waited for in between
    #[arg(long)]
    parts: bool,
    /// CUDA: record events around every use of an array
    #[arg(long)]
    event_tracking: bool,
    /// CUDA: return freed memory to the driver at every synchronisation
    #[arg(long)]
    release_memory: bool,
    /// CUDA: multiply f32 matrices in TF32
    #[arg(long)]
    tf32: bool,
    /// CUDA: keep the small arrays that launches take (shapes, strides) on the device
    #[arg(long)]
    argument_cache: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// Highest resident memory of this process so far, in MiB; 0 where /proc has none.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn median(mut seconds: Vec<f64>) -> (f64, f64, f64) {
    seconds.sort_by(f64::total_cmp);
    let last = seconds.len().saturating_sub(1);
    let at = |i: usize| seconds.get(i).copied().unwrap_or(f64::NAN);
    (at(seconds.len() / 2), at(0), at(last))
}

/// The device that `--device` names, opened as the switches have it.
fn device(flags: &Flags) -> Result<Device, Box<dyn Error>> {
    let name: DeviceName = flags.device.parse()?;
    let DeviceName::Cuda(ordinal) = name else { return Ok(name.open()?) };
    let options = CudaOptions {
        event_tracking: flags.event_tracking,
        keep_memory: !flags.release_memory,
        tf32: flags.tf32,
    };
    Ok(pad::ops::device::cuda_with(ordinal, options)?)
}

fn encoder(flags: &Flags) -> ViTConfig {
    let plain = match flags.model {
        Size::Tiny => ViTConfig::tiny(16),
        Size::Small => ViTConfig::small(16),
        Size::Base => ViTConfig::base(16),
        Size::Large => ViTConfig::large(16),
        Size::Dinov2Small => ViTConfig::dinov2_small(),
    };
    let adapter = (flags.paradigm != Work::Full).then(pad::AdapterConfig::default);
    let image_size = pad::ImageSize { height: flags.image, width: flags.image };
    ViTConfig { adapter, image_size, ..plain }
}

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    pad::ops::join_workers(Some(flags.threads))?; // as the training programs do
    let device = device(&flags)?;
    #[cfg(feature = "cuda")]
    let _cache = match &device {
        Device::Cuda(cuda) if flags.argument_cache => Some(cuda.enable_cuda_graph_htod_cache()),
        _ => None,
    };
    let images = numbers(&[flags.batch, 3, flags.image, flags.image], DType::F32, 1);
    let images = images.to_device(&device)?;
    let (trainable, seconds, parts) = match flags.paradigm {
        Work::Embed => (0, embed(&flags, &images)?, Parts::new()),
        Work::Pad | Work::Full => train(&flags, &images)?,
    };
    let (mid, fastest, slowest) = median(seconds);
    let peak = pad::ops::device::peak_bytes(&device)?.map_or_else(peak_mib, |bytes| bytes >> 20);
    let mut line = serde_json::json!({
        "peer": "pad", "model": flags.model.to_possible_value().map(|name| name.get_name().to_string()), "batch": flags.batch,
        "dtype": format!("{:?}", flags.dtype).to_lowercase(), "paradigm": format!("{:?}", flags.paradigm).to_lowercase(),
        "device": flags.device, "threads": flags.threads, "level": pad::ops::cpu_level(),
        "processor": processor(),
        "images_per_s": (flags.batch as f64 / mid * 1e3).round() / 1e3,
        "step_s": mid, "min_s": fastest, "max_s": slowest,
        "peak_mib": peak, "trainable": trainable,
    });
    let switches = [
        ("event_tracking", flags.event_tracking),
        ("release_memory", flags.release_memory),
        ("tf32", flags.tf32),
        ("argument_cache", flags.argument_cache),
        ("checkpoint_blocks", flags.checkpoint_blocks),
    ];
    let on: Vec<&str> = switches.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    line["switches"] = on.into();
    for (part, seconds) in parts {
        let seconds = median(seconds).0;
        eprintln!("{part:>9} {seconds:.4} s");
        line[format!("{part}_s")] = seconds.into();
    }
    println!("{line}");
    Ok(())
}

/// Seconds of each timed step's parts.
type Parts = BTreeMap<&'static str, Vec<f64>>;

/// Trainable values, the seconds of each timed step and, on request, of its parts.
fn train(flags: &Flags, images: &Tensor) -> Result<(usize, Vec<f64>, Parts), Box<dyn Error>> {
    let config = MaeConfig { encoder: encoder(flags), ..MaeConfig::default() };
    let paradigm = match flags.paradigm {
        Work::Full => Paradigm::Full { layer_decay: None },
        _ => Paradigm::Pad { gate_frozen: 0.0, decoder_embed: false },
    };
    let store = ParamStore::scratch(images.device(), Key::new(0))
        .with_plan(paradigm.plan(config.encoder.depth, 1));
    let mae = store
        .build(|vb| Mae::new(&config, vb))?
        .with_checkpointing(flags.checkpoint_blocks)
        .with_matmul_precision(flags.dtype.precision());
    let parameters = parameters(&store, 0.05);
    let trainable = parameters.iter().map(|p| p.var.elem_count()).sum();
    let mut optimizer = AdamW::new(parameters, AdamWConfig::default())?;
    let mut seconds = Vec::new();
    let mut parts = Parts::new();
    for step in 0..flags.steps + 2 {
        let keys: Vec<Key> =
            (0..flags.batch).map(|i| Key::new(step as u64).sample(i as u64)).collect();
        let start = Instant::now();
        let draw = mae.draw(images, &keys)?;
        let losses = mae.loss(images, &draw, Mode::Train(Key::new(1).epoch(step as u64)))?;
        // A GPU is not waited for before the step is under way, as the trainer does not; with --parts it is.
        let wait = || if flags.parts { images.device().synchronize() } else { Ok(()) };
        wait()?;
        let forward = start.elapsed().as_secs_f64();
        let total = losses.total.detach();
        let store = pad::ops::backward(&losses.total)?;
        drop(losses);
        wait()?;
        let backward = start.elapsed().as_secs_f64() - forward;
        let gradients = Gradients::from_store(optimizer.parameters(), &store, 1);
        drop(store);
        optimizer.step(&gradients, 1e-4, 1)?;
        let loss = total.to_scalar::<f32>()?;
        images.device().synchronize()?;
        let all = start.elapsed().as_secs_f64();
        assert!(loss.is_finite());
        if step >= 2 {
            seconds.push(all);
        }
        if step >= 2 && flags.parts {
            parts.entry("forward").or_default().push(forward);
            parts.entry("backward").or_default().push(backward);
            parts.entry("update").or_default().push(all - forward - backward);
        }
    }
    Ok((trainable, seconds, parts))
}

fn embed(flags: &Flags, images: &Tensor) -> Result<Vec<f64>, Box<dyn Error>> {
    let store = ParamStore::scratch(images.device(), Key::new(0)).with_trained(|_| false);
    let config = encoder(flags);
    let vit =
        store.build(|vb| ViT::new(&config, vb))?.with_matmul_precision(flags.dtype.precision());
    let mut seconds = Vec::new();
    for step in 0..flags.steps + 2 {
        let start = Instant::now();
        let tokens = vit.forward(images, Mode::Eval)?;
        assert!(tokens.flatten_all()?.get(0)?.to_scalar::<f32>()?.is_finite());
        if step >= 2 {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(seconds)
}
