//! Trains a segmentor (UPerNet on a pre-trained ViT with adapters) and draws what it finds. All flags: `pad segment`.
//!
//!     cargo run --release --example segment                      # three minutes: rendered scenes of ten classes
//!     cargo run --release --example segment -- --data DIR        # images/, masks/, train.txt, val.txt, classes.toml
//!
//! Writes `runs/example-segment/`: `model.safetensors`, `overlays.png`.

use std::{path::PathBuf, sync::Arc};

use candle_core::{Device, Tensor};
use clap::Parser;
use pad::{
    AdapterConfig, ImageSize,
    checkpoint::{Backbone, BackboneOptions},
    data::{
        Dataset, Loader, LoaderConfig, SharedDataset,
        scenes::{SceneConfig, Size},
        sets::segmentation::{SegmentationImage, SegmentationScenes, SegmentationSet},
        transform::{
            Normalize,
            segmentation::{LimitedCrop, Rescale, SegmentationPipeline},
        },
    },
    heads::{
        Evaluation, Start,
        segmentation::{
            Augmentation, BackboneForm, FcnConfig, HeadKind, InferenceMode, SegmentationEvaluator,
            SegmentationInference, SegmentationModel, SegmentationTask, SegmentorConfig,
            SlidingWindow, UperConfig, measure,
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
    #[arg(long, value_name = "DIR", default_value = "runs/example-segment")]
    out: PathBuf,
    /// Updates
    #[arg(long, default_value_t = 200)]
    steps: usize,
}

fn main() -> anyhow::Result<()> {
    let Program { data, out, steps } = Program::parse();
    tracing_subscriber::fmt().with_target(false).without_time().init(); // progress, where there is no terminal
    let device = Device::Cpu;
    pad::ops::join_workers(None)?;

    let (training, held_out): (SharedDataset<SegmentationImage>, SharedDataset<_>) = match data {
        Some(folder) => {
            let open = |split| {
                SegmentationSet::open(&folder, split, Default::default(), &Default::default())
            };
            (Arc::new(open("train")?), Arc::new(open("val")?))
        }
        None => {
            let scenes = SceneConfig::new(Size::new(192, 256), 0);
            let render = |first, count| SegmentationScenes::render(&scenes, first, count);
            (Arc::new(render(0, 300)?), Arc::new(render(1_000_000, 30)?))
        }
    };
    let classes = training.classes().clone();
    println!("{} images for training, {} for evaluation", training.len(), held_out.len());
    let crop = ImageSize::square(160);
    let pipeline = SegmentationPipeline {
        rescale: Rescale { scale: None, ratio: [0.75, 1.5] },
        crop: LimitedCrop { size: crop, ..Default::default() },
        normalize: Normalize::msip(),
        ignore: classes.ignore,
        ..Default::default()
    };
    let config = LoaderConfig { batch_size: 8, ..Default::default() };
    let loader: Loader<Tensor> = Loader::new(training, pipeline.clone(), config)?;

    // The backbone of this repository with new adapters, and a small UPerNet on four of its blocks.
    let options = BackboneOptions::default()
        .with_named("asset", pad::assets::VIT_PICO_RGB)
        .with_reader(pad::ssl::read_backbone);
    let backbone = Backbone::open("asset", &options)?;
    let mut vit = backbone.config()?;
    (vit.image_size, vit.drop_path) = (crop, 0.1);
    vit.adapter = Some(AdapterConfig { bottleneck: 32, ..Default::default() });
    let uper = HeadKind::Uper(UperConfig { channels: 64, ..Default::default() });
    let config = SegmentorConfig {
        auxiliary: Some(FcnConfig { channels: 32, ..Default::default() }),
        ..SegmentorConfig::on_backbone(vit, BackboneForm::Downstream, uper, classes.len())
    };
    let start = Start::new(&device, Key::new(0)).with_layer_decay(0.8);
    let model = SegmentationModel::new(&config, classes, Some(backbone.into_checkpoint()), &start)?
        .with_normalize(pipeline.normalize.clone());
    println!("{}", model.store.summary());

    let inference = SegmentationInference {
        pipeline,
        mode: InferenceMode::Sliding(SlidingWindow::new(crop, None)),
        augmentation: Augmentation::default(),
    };
    let evaluator = SegmentationEvaluator::new(&model, &held_out, inference.clone())?;
    let adamw = AdamWConfig { beta2: 0.999, ..Default::default() };
    let optimizer = AdamW::new(model.parameters(0.05), adamw)?;
    let config = TrainerConfig { epochs: 4, ..Default::default() };
    let interval = steps.div_ceil(4);
    Trainer::new(config, Schedule::poly(2e-3, 0.4, 4.0), optimizer)?
        .with_hook(Evaluation::new(evaluator).with_every_epochs(Some(2)).with_start(false))
        .with_hook(ProgressBar::new(10))
        .run(
            &SegmentationTask::new(&model.network),
            &mut EpochStream::new(loader.batches_per_epoch(), |epoch, first, stride| {
                loader.epoch_on(&device, epoch, first, stride)
            })
            .with_epoch_len(interval),
        )?;

    if let Some(report) = measure(&model, &held_out, &inference, &|| false)? {
        println!("{report}");
    }
    let (file, picture) = (out.join("model.safetensors"), out.join("overlays.png"));
    std::fs::create_dir_all(&out)?;
    model.save(&file)?;
    model.pictures(&held_out, &inference, 6, 0.6)?.save_png(&picture)?;
    println!("wrote {}\nwrote {}", file.display(), picture.display());
    Ok(())
}
