//! Pre-trains infrared adapters on a frozen RGB backbone by masked autoencoding: the main job of this project, on its
//! library. All settings, resuming and logs: the command `pad pretrain`.
//!
//!     cargo run --release --example pretrain                   # two minutes, needs nothing: rendered scenes
//!     cargo run --release --example pretrain -- --data DIR     # a folder of infrared images, 8 or 16 bit
//!
//! Writes `runs/example-pretrain/`: `adapter.safetensors`, `decoder.safetensors`, `reconstruction.png`, `scales.png`.

use std::{path::PathBuf, sync::Arc};

use candle_core::{Device, Tensor};
use clap::Parser;
use pad::{
    AdapterConfig, ImageSize,
    checkpoint::{Backbone, BackboneOptions},
    data::{
        Dataset, Loader, LoaderConfig, SharedDataset, Transform,
        dataset::Subset,
        image::{DecodeOptions, Image},
        roi::RoiConfig,
        scenes::{SceneConfig, SceneSet, Size},
        sets::{WithRois, open_images, search_rois},
        transform::{ImagePipeline, Normalize},
        window::Window,
    },
    rng::Key,
    ssl::{
        HeldOutLoss, NetworkConfig, ObjectiveKind, Paradigm, Pretraining, PretrainingConfig,
        PretrainingModel, SaveOptions, StoredMae, pictures, read_backbone,
    },
    train::{
        AdamW, AdamWConfig, EpochStream, Schedule, Trainer, TrainerConfig, log::ProgressBar,
        lr_for_batch,
    },
};

#[global_allocator] // candle allocates every result anew, which costs the system's allocator a quarter of a step
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Program {
    /// Folder of infrared images (PNG, JPEG, BMP, TIFF; any layout) or of tar shards [default: rendered scenes]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder of the results
    #[arg(long, value_name = "DIR", default_value = "runs/example-pretrain")]
    out: PathBuf,
    /// Passes over the images
    #[arg(long, default_value_t = 10)]
    epochs: usize,
}

fn main() -> anyhow::Result<()> {
    let Program { data, out, epochs } = Program::parse();
    tracing_subscriber::fmt().with_target(false).without_time().init(); // progress, where there is no terminal
    let device = Device::Cpu;
    pad::ops::join_workers(None)?; // this thread works in the pool of the operators
    // Images, and the regions of interest around which they are cropped.
    let images: SharedDataset<Image> = match data {
        Some(folder) => open_images(&folder)?,
        None => Arc::new(SceneSet::render(&SceneConfig::new(Size::new(256, 320), 0), 600)?),
    };
    let (training, held_out) = Subset::all(images).split(0.1, Some(500), 0)?;
    println!("{} images for training, {} held out", training.len(), held_out.len());
    let rois = search_rois(
        &training,
        &DecodeOptions::default(),
        &Window::default(),
        &RoiConfig::default(),
    )?;
    let normalize = Normalize::msip();
    let size = ImageSize::square(224);
    let batch_size = training.len().min(32);
    let batches = LoaderConfig { batch_size, ..Default::default() };
    let loader: Loader = Loader::new(
        WithRois::new(training, rois)?,
        ImagePipeline { size, normalize: normalize.clone(), ..Default::default() },
        batches.clone(),
    )?;
    let evaluation =
        ImagePipeline { normalize: normalize.clone(), ..ImagePipeline::evaluation(size) };
    let examples = held_out.every(held_out.len().div_ceil(6));
    let held_out: Loader = Loader::new(held_out, evaluation.clone(), batches.in_order())?;

    // The small RGB backbone of this repository, frozen, with new adapters.
    let options = BackboneOptions::default()
        .with_named("asset", pad::assets::VIT_PICO_RGB)
        .with_reader(read_backbone);
    let backbone = Backbone::open("asset", &options)?;
    let mut mae = StoredMae::of(backbone.checkpoint(), backbone.config()?)?.config;
    mae.encoder.image_size = size;
    mae.encoder.adapter = Some(AdapterConfig { bottleneck: 32, ..Default::default() });
    let paradigm = Paradigm::Pad { gate_frozen: 0.4, decoder_embed: false };
    let (objective, network) = (ObjectiveKind::Mae, NetworkConfig::new(mae));
    let config = PretrainingConfig { objective, paradigm, network, epochs, seed: 0 };
    let weights = backbone.into_checkpoint();
    let model = PretrainingModel::start(config, Some(weights), None, &device)?;
    println!("{}", model.store.summary());

    // Training: AdamW, half a cosine after a linear warm-up.
    let key = Key::new(0);
    let task = Pretraining::new(&model.network, key, &device);
    let optimizer = AdamW::new(model.parameters(0.05), AdamWConfig::default())?;
    let (warmup, epochs_f) = (0.1 * epochs as f64, epochs as f64);
    let peak_lr = lr_for_batch(4e-3, batch_size);
    let schedule = Schedule::warmup_cosine(peak_lr, 0.0, warmup, epochs_f);
    let mut loss = HeldOutLoss::new(&task, &held_out).with_every(Some(5));
    let config = TrainerConfig { epochs, ..Default::default() };
    Trainer::new(config, schedule, optimizer)?
        .with_hook(&mut loss)
        .with_hook(ProgressBar::new(10))
        .run(
            &task,
            &mut EpochStream::new(loader.batches_per_epoch(), |epoch, first, stride| {
                loader.epoch_on(&device, epoch, first, stride)
            }),
        )?;
    if let (Some(before), Some(after)) = (loss.before(), loss.after()) {
        println!("held-out loss: {before:.4} before, {after:.4} after");
    }

    // What is left: a file of adapters, and pictures of held-out images.
    let notes = SaveOptions {
        backbone: Some("asset".into()),
        input_stats: Some(normalize.clone()),
        ..Default::default()
    };
    let mut files = model.save(&out, &notes)?;
    let mut shown = Vec::new();
    for index in 0..examples.len() {
        let image = examples.get(index, &DecodeOptions::default())?;
        shown.push(evaluation.apply(image, key.sample(index as u64))?.0);
    }
    let shown = Tensor::cat(&shown, 0)?;
    if let Some(mae) = model.network.mae() {
        let path = out.join("reconstruction.png");
        pictures::reconstructions(mae, &shown, &normalize, 0)?.save_png(&path)?;
        files.push(path);
    }
    if let Some(picture) = pictures::scales(model.network.encoder(), &shown, &normalize)? {
        let path = out.join("scales.png");
        picture.canvas.save_png(&path)?;
        files.push(path);
    }
    files.iter().for_each(|file| println!("wrote {}", file.display()));
    Ok(())
}
