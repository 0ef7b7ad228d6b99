//! One training step (forward, backward, AdamW) of the original's segmentor, or one inference in sliding windows, on random
//! images; prints one JSON line with the median, in the form of `benches/peers/upernet_torch.py`, which does the same work.
//!
//!     cargo bench --bench segment                              # ViT-B, UPerNet, crops of 128, all of it trains
//!     cargo bench --bench segment -- --work frozen             # adapters and heads train
//!     cargo bench --bench segment -- --work slide              # an image in windows
//!     cargo bench --bench segment -- --parts                   # where the time goes
//!     benches/segment_peers.sh                                 # beside PyTorch

use std::{collections::BTreeMap, error::Error, time::Instant};

use candle_core::{DType, Device, Tensor};
use clap::{Parser, ValueEnum};
use pad::{
    AdapterConfig, ImageSize, Mode,
    heads::{
        Trained,
        backbone::DownstreamConfig,
        parameters,
        segmentation::{
            BackboneKind, LAYER_DECAY, Segmentor, SegmentorConfig, SlidingWindow, WEIGHT_DECAY,
            role_of,
        },
    },
    params::ParamStore,
    rng::Key,
    train::{AdamW, AdamWConfig, Gradients},
    vit::ViTConfig,
};
use pad_testkit::numbers;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Work {
    /// A step in which everything trains.
    Full,
    /// A step in which adapters and heads train.
    Frozen,
    /// Logits of one larger image, window by window.
    Slide,
}

/// Times training steps of a segmentor, or inference.
#[derive(Parser, Debug)]
struct Flags {
    /// tiny, small, base, large
    #[arg(long, default_value = "base")]
    model: String,
    /// What is timed
    #[arg(long, value_enum, default_value = "full")]
    work: Work,
    /// Images in a batch
    #[arg(long, default_value_t = 2)]
    batch: usize,
    /// Side of crops and windows, pixels; windows are two thirds of it apart
    #[arg(long, default_value_t = 128)]
    crop: usize,
    /// Height and width of the image for `slide`, pixels
    #[arg(long, value_delimiter = ',', default_value = "256,320")]
    image: Vec<usize>,
    /// Classes
    #[arg(long, default_value_t = 21)]
    classes: usize,
    /// Worker threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Timed runs, after one untimed
    #[arg(long, default_value_t = 3)]
    steps: usize,
    /// Print forward, backward and update apart
    #[arg(long)]
    parts: bool,
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

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The segmentor, and the store that serves it.
fn segmentor(flags: &Flags) -> Result<(Segmentor, ParamStore), Box<dyn Error>> {
    let plain = ViTConfig::preset(&flags.model, 16)?;
    let vit = ViTConfig {
        image_size: ImageSize::square(flags.crop),
        layer_scale: Some(1.0),
        drop_path: 0.1,
        adapter: Some(AdapterConfig::default()),
        ..plain
    };
    let backbone = BackboneKind::Downstream(DownstreamConfig { vit, relative_positions: true });
    let config = SegmentorConfig { backbone, ..SegmentorConfig::original(flags.classes) };
    let trained = match flags.work {
        Work::Full => Trained::Everything,
        Work::Frozen => Trained::AdaptersAndHeads,
        Work::Slide => return untrained(&config),
    };
    let store = ParamStore::scratch(&Device::Cpu, Key::new(0))
        .with_roles(role_of)
        .with_plan(trained.plan(LAYER_DECAY, vit.depth));
    Ok((store.build(|vb| Segmentor::new(&config, vb))?, store))
}

fn untrained(config: &SegmentorConfig) -> Result<(Segmentor, ParamStore), Box<dyn Error>> {
    let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_roles(role_of);
    Ok((store.build(|vb| Segmentor::new(config, vb))?, store))
}

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    pad::ops::join_workers(Some(flags.threads))?; // as the training programs do
    let (segmentor, store) = segmentor(&flags)?;
    let (seconds, images) = match flags.work {
        Work::Slide => (slide(&flags, &segmentor)?, 1),
        Work::Full | Work::Frozen => (train(&flags, &segmentor, &store)?, flags.batch),
    };
    let mid = median(seconds);
    let line = serde_json::json!({
        "peer": "pad", "work": format!("{:?}", flags.work).to_lowercase(), "model": flags.model,
        "batch": images, "crop": flags.crop, "threads": flags.threads,
        "level": pad::ops::cpu_level(), "processor": pad_testkit::processor(), "seconds": mid, "peak_mib": peak_mib(),
        "trained": store.summary().trained,
    });
    println!("{line}");
    Ok(())
}

/// Seconds of each timed step.
fn train(
    flags: &Flags,
    segmentor: &Segmentor,
    store: &ParamStore,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let images = numbers(&[flags.batch, 3, flags.crop, flags.crop], DType::F32, 1);
    let pixels = flags.batch * flags.crop * flags.crop;
    let labels: Vec<u8> = (0..pixels).map(|pixel| (pixel / 37 % flags.classes) as u8).collect();
    let labels = Tensor::from_vec(labels, (flags.batch, flags.crop, flags.crop), &Device::Cpu)?;
    let mut optimizer = AdamW::new(parameters(store, WEIGHT_DECAY), AdamWConfig::default())?;
    let mut seconds = Vec::new();
    let mut parts: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for step in 0..flags.steps + 1 {
        let start = Instant::now();
        let losses = segmentor.losses(&images, &labels, Mode::Train(Key::new(step as u64)))?;
        let loss = losses.total.to_scalar::<f32>()?;
        let forward = start.elapsed().as_secs_f64();
        let grads = pad::ops::backward(&losses.total)?;
        drop(losses);
        let backward = start.elapsed().as_secs_f64() - forward;
        let gradients = Gradients::from_store(optimizer.parameters(), &grads, 0);
        drop(grads);
        optimizer.step(&gradients, 1e-5, 0)?;
        let all = start.elapsed().as_secs_f64();
        if !loss.is_finite() {
            return Err(format!("the loss is {loss}").into());
        }
        if step > 0 {
            seconds.push(all);
            parts.entry("forward").or_default().push(forward);
            parts.entry("backward").or_default().push(backward);
            parts.entry("update").or_default().push(all - forward - backward);
        }
    }
    if flags.parts {
        for (part, seconds) in parts {
            eprintln!("{part:>9} {:.3} s", median(seconds));
        }
    }
    Ok(seconds)
}

/// Seconds of each timed inference.
fn slide(flags: &Flags, segmentor: &Segmentor) -> Result<Vec<f64>, Box<dyn Error>> {
    let [height, width] = flags.image[..] else {
        return Err("--image takes HEIGHT,WIDTH".into());
    };
    let images = numbers(&[1, 3, height, width], DType::F32, 1);
    let sliding = SlidingWindow::new(ImageSize::square(flags.crop), None);
    let mut seconds = Vec::new();
    for step in 0..flags.steps + 1 {
        let start = Instant::now();
        let logits = sliding.logits(&images, &|images| segmentor.logits(images))?;
        let first = logits.argmax(1)?.flatten_all()?.get(0)?.to_scalar::<u32>()?;
        if first as usize >= flags.classes {
            return Err(format!("class {first}, expected one below {}", flags.classes).into());
        }
        if step > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(seconds)
}
