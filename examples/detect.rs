//! Trains a detector (ViTDet on a pre-trained ViT) and draws what it finds. All settings: `pad detect`.
//!
//!     cargo run --release --example detect                       # some minutes: rendered scenes
//!     cargo run --release --example detect -- --data DIR         # COCO, YOLO, Pascal VOC, CVAT, FLIR, HIT-UAV, LLVIP
//!
//! Writes `runs/example-detect/`: `detector.safetensors`, `detections.png`.

use std::{path::PathBuf, sync::Arc};

use candle_core::Device;
use clap::Parser;
use pad::{
    checkpoint::{Backbone, BackboneOptions},
    data::{
        Dataset, Loader, LoaderConfig, SharedDataset,
        scenes::{FamilyWeights, SceneConfig, Size},
        sets::detection::{DetectionImage, DetectionScenes, DetectionSet},
        transform::{
            Normalize,
            detection::{DetectionPipeline, DetectionTargets},
        },
    },
    heads::{
        Evaluation, Start,
        detection::{
            DetectionEvaluator, DetectionModel, DetectionTask, DetectorConfig, RoiHeadsConfig,
            RpnConfig, measure,
        },
    },
    rng::Key,
    train::{AdamW, AdamWConfig, EpochStream, Schedule, Trainer, TrainerConfig, log::ProgressBar},
};

#[global_allocator] // candle allocates every result anew, which costs the system's allocator a quarter of a step
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Program {
    /// Folder of labelled images [default: rendered scenes]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder of the results
    #[arg(long, value_name = "DIR", default_value = "runs/example-detect")]
    out: PathBuf,
    /// Passes over the images
    #[arg(long, default_value_t = 12)]
    epochs: usize,
}

fn main() -> anyhow::Result<()> {
    let Program { data, out, epochs } = Program::parse();
    tracing_subscriber::fmt().with_target(false).without_time().init(); // progress, where there is no terminal
    let device = Device::Cpu;
    pad::ops::join_workers(None)?;

    let (training, held_out): (SharedDataset<DetectionImage>, SharedDataset<_>) = match data {
        Some(folder) => {
            let open =
                |split| DetectionSet::open(&folder, split, Default::default(), &Default::default());
            (Arc::new(open("train")?), Arc::new(open("val")?))
        }
        None => {
            // Streets, car parks and fields: where there are things with boxes.
            let families =
                FamilyWeights { room: 0.0, close_up: 0.0, plant: 0.0, ..Default::default() };
            let scenes = SceneConfig { families, ..SceneConfig::new(Size::new(192, 240), 0) };
            let render = |first, count| DetectionScenes::render(&scenes, first, count);
            (Arc::new(render(0, 300)?), Arc::new(render(1_000_000, 60)?))
        }
    };
    let classes = training.classes().clone();
    println!("{} images for training, {} for evaluation", training.len(), held_out.len());
    let mut pipeline = DetectionPipeline {
        min_side: 4.0,
        normalize: Normalize::msip(),
        ..DetectionPipeline::square(256)
    };
    pipeline.jitter.scale = [0.85, 1.2];
    let config = LoaderConfig { batch_size: 2, ..Default::default() };
    let loader: Loader<DetectionTargets> = Loader::new(training, pipeline.clone(), config)?;

    // The backbone of this repository in windows of 7 x 7 patches, and small heads.
    let options = BackboneOptions::default()
        .with_named("asset", pad::assets::VIT_PICO_RGB)
        .with_reader(pad::ssl::read_backbone);
    let backbone = Backbone::open("asset", &options)?;
    let mut vit = backbone.config()?;
    (vit.image_size, vit.drop_path) = (pipeline.crop, 0.0);
    let config = DetectorConfig {
        window: Some(7),
        channels: 64,
        head_dim: 256,
        rpn: RpnConfig { anchor_sizes: vec![16.0, 32.0, 64.0, 128.0, 256.0], ..Default::default() }
            .with_proposals(200),
        roi: RoiHeadsConfig { batch_size_per_image: 128, ..Default::default() },
        ..DetectorConfig::on_backbone(vit, classes.len())
    };
    let start = Start::new(&device, Key::new(0)).with_layer_decay(0.8);
    let model = DetectionModel::new(&config, classes, Some(backbone.into_checkpoint()), &start)?
        .with_normalize(pipeline.normalize.clone());
    println!("{}", model.store.summary());

    let evaluator = DetectionEvaluator::new(&model, &held_out, pipeline.clone())?;
    let adamw = AdamWConfig { beta2: 0.999, ..Default::default() };
    let optimizer = AdamW::new(model.parameters(0.05), adamw)?;
    let all = epochs as f64;
    let schedule = Schedule::Steps {
        peak_lr: 5e-4,
        gamma: 0.1,
        at_epochs: [0.8 * all, 0.93 * all],
        warmup_epochs: 0.3,
        warmup_ratio: 1e-3,
    };
    let config = TrainerConfig { epochs, clip_norm: Some(1.0), ..Default::default() };
    Trainer::new(config, schedule, optimizer)?
        .with_hook(Evaluation::new(evaluator).with_every_epochs(Some(4)).with_start(false))
        .with_hook(ProgressBar::new(10))
        .run(
            &DetectionTask::new(&model.network),
            &mut EpochStream::new(loader.batches_per_epoch(), |epoch, first, stride| {
                loader.epoch_on(&device, epoch, first, stride)
            }),
        )?;

    if let Some(report) = measure(&model, &held_out, &pipeline, &|| false)? {
        println!("{report}");
    }
    let (file, picture) = (out.join("detector.safetensors"), out.join("detections.png"));
    std::fs::create_dir_all(&out)?;
    model.save(&file)?;
    model.pictures(&held_out, &pipeline, 8, 0.3)?.save_png(&picture)?;
    println!("wrote {}\nwrote {}", file.display(), picture.display());
    Ok(())
}
