//! Training: the run, its folder, and what it leaves.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::{DType, Device, Tensor};
use pad::{
    Mode,
    data::{
        ahead::to_device,
        draw::Canvas,
        fingerprint::Fingerprint,
        image::DecodeOptions,
        sets::segmentation::{SegmentationBatch as LoadedBatch, SegmentationLoader},
    },
    heads::segmentation::{SegmentationBatch, SegmentationTask},
    train::{
        AdamW, AdamWConfig, BatchIter, Batches, BoxError, CheckpointConfig, Checkpoints, EmaConfig,
        Every, Losses, Outcome, ParameterSummary, Task, Trainer, TrainerConfig,
        checkpoint::best,
        log::{JsonLines, ProgressBar, TensorBoard},
    },
};

use super::{
    data::{self, Source},
    evaluation::{Evaluation, Looking, measure},
    model::{self, Network},
    report,
    settings::{Flags, Settings},
};
use crate::run::{self, Result, run_folder, signals::Signals};

/// A loader's batches one after the other; the trainer's epoch is the time between two evaluations.
struct Stream<'a> {
    loader: &'a SegmentationLoader,
    interval: usize,
    device: Device,
}

impl Stream<'_> {
    /// Batches from number `first` of the run on. One without a readable image is none, but its number still counts.
    fn from(
        &self,
        first: usize,
    ) -> impl Iterator<Item = Result<Option<SegmentationBatch>, BoxError>> {
        let length = self.loader.batches_per_epoch().max(1);
        let mut pass = None;
        (first..).map(move |number| {
            let (epoch, place) = (number / length, number % length);
            if pass.is_none() || place == 0 {
                let batches = self.loader.epoch(epoch as u64, place)?;
                pass = Some(to_device(batches, &self.device)?.peekable());
            }
            let next = pass.as_mut().and_then(|pass| {
                pass.next_if(|batch| batch.as_ref().map_or(true, |batch| batch.number == place))
            });
            let Some(batch) = next else { return Ok(None) };
            let LoadedBatch { images, labels, .. } = batch?;
            Ok(Some(SegmentationBatch { images, labels }))
        })
    }
}

impl Batches for Stream<'_> {
    type Batch = Option<SegmentationBatch>;

    fn per_epoch(&self) -> usize {
        self.interval
    }

    fn images_in(batch: &Self::Batch) -> usize {
        batch.as_ref().and_then(|batch| batch.images.dim(0).ok()).unwrap_or(0)
    }

    fn epoch(
        &mut self,
        epoch: usize,
        first: usize,
    ) -> Result<BatchIter<'_, Self::Batch>, BoxError> {
        let numbers = self.interval.saturating_sub(first);
        Ok(Box::new(self.from(epoch * self.interval + first).take(numbers)))
    }
}

/// The segmentor's task, for batches that may be empty.
struct Guarded<'a> {
    network: &'a Network,
    device: Device,
}

impl Task for Guarded<'_> {
    type Batch = Option<SegmentationBatch>;

    fn losses(&self, batch: &Self::Batch, mode: Mode) -> Result<Losses, BoxError> {
        match batch {
            Some(batch) => SegmentationTask::new(&self.network.segmentor).losses(batch, mode),
            // Not one readable image: nothing to learn from, and no gradient.
            None => Ok(Losses::new(Tensor::zeros((), DType::F32, &self.device)?)),
        }
    }
}

/// Settings that results do not depend on.
const WITHOUT_EFFECT: [&str; 7] =
    ["workers", "threads", "checkpoint_every", "keep", "device", "data", "max_steps"];

pub fn run(
    config: Option<&Path>,
    out: Option<PathBuf>,
    resume: Option<PathBuf>,
    flags: &Flags,
) -> Result<()> {
    let (settings, folder) =
        run_folder::open("segment", config, out, resume.as_deref(), |config| {
            Settings::merge(config, flags)
        })?;
    run::threads(settings.threads)?;
    let device = run::device(&settings.device)?;
    let interval = settings.interval()?;
    let training = data::training(&settings)?;
    let held_out = data::evaluation(&settings)?;
    let classes = training.classes().clone();
    let looking = Looking::new(&settings, classes.ignore, &device)?;
    let (images, batch) = (training.len(), settings.batch_size);
    if images < batch {
        return Err(format!(
            "{images} images for training, expected at least `batch_size` {batch}"
        )
        .into());
    }
    if batch < 2 {
        return Err(format!("`batch_size` is {batch}, expected at least 2 (batch norm)").into());
    }
    let network = model::at_start(&settings, &classes, &device)?;
    tracing::info!("{images} images for training, {} for evaluation", held_out.len());
    tracing::info!("operators: {}", pad::ops::cpu_level());
    for line in network.store.summary().to_string().lines() {
        tracing::info!("{line}");
    }
    let parameters = network.parameters(&settings);
    for line in ParameterSummary::new(&parameters).to_string().lines() {
        tracing::info!("{line}");
    }
    let loader = SegmentationLoader::new(
        training,
        looking.pipeline.clone(),
        settings.loader(),
        DecodeOptions::default(),
    )?;
    let trainer_config = TrainerConfig {
        epochs: settings.iterations / interval.max(1),
        max_steps: settings.max_steps,
        accumulate: 1,
        clip_norm: settings.clip_norm,
        seed: settings.seed,
    };
    let adamw = AdamWConfig { beta2: 0.999, ..Default::default() };
    let optimizer = AdamW::new(parameters.clone(), adamw)?;
    let mut evaluation = Evaluation::new(&network.segmentor, &held_out, looking.clone());
    let signals = Signals::watch()?;
    let mut trainer = Trainer::new(trainer_config, settings.schedule()?, optimizer)?
        .with_stop(Arc::clone(&signals.stop));
    if let Some(decay) = settings.ema {
        trainer = trainer.with_ema(EmaConfig { decay, ..Default::default() })?;
    }
    let mut identity = run_folder::identity(&settings, &WITHOUT_EFFECT)?;
    identity.insert("frozen".into(), network.store.backbone_digest()?);
    if let Some(data) = &settings.data {
        identity.insert("files".into(), Fingerprint::of_folder(data)?.to_string());
    }

    // The run folder appears only when nothing can be wrong with the settings any more.
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    run::write_text(&folder.join("config.toml"), &settings.to_toml()?)?;
    let saving =
        CheckpointConfig { every: Every::Steps(settings.checkpoint_every), keep: settings.keep };
    let checkpoints = folder.join("checkpoints");
    trainer = trainer
        .with_checkpoints(Checkpoints::new(&checkpoints, saving)?.with_metadata(identity))
        .with_hook(&mut evaluation) // measures before the others write
        .with_hook(JsonLines::new(folder.join("metrics.jsonl")))
        .with_hook(TensorBoard::new(folder.join("tensorboard")))
        .with_hook(ProgressBar::new(50));
    if resume.is_some() {
        run_folder::resume(&mut trainer, &checkpoints)?;
    }
    let start = std::time::Instant::now();
    let first_step = trainer.state().step;
    let task = Guarded { network: &network, device: device.clone() };
    let mut batches = Stream { loader: &loader, interval, device: device.clone() };
    let outcome = trainer.run(&task, &mut batches)?;
    let seconds = start.elapsed().as_secs_f64();
    let steps = trainer.state().step;
    drop(trainer);
    if outcome == Outcome::Stopped || steps < settings.iterations {
        tracing::info!("{steps} updates; continue with --resume {}", folder.display());
        return signals.stopped();
    }

    // What is handed on is the best, which need not be the last.
    if let Some(checkpoint) = best(&checkpoints)? {
        checkpoint.load_evaluated(&parameters)?;
    }
    let mut files = vec![network.save(&folder)?];
    let found = measure(&network.segmentor, &held_out, &looking)?;
    let picture = folder.join("overlays.png");
    pictures(&network, &held_out, &looking, 6)?.save_png(&picture)?;
    files.push(picture);
    println!("{}", report::table(&found.metrics(), &classes));
    let summary = serde_json::json!({
        "val": report::json(&found, &classes, held_out.len()),
        "best_step": evaluation.best().map(|(_, step)| step),
        "images_per_s": ((steps - first_step) * batch) as f64 / seconds.max(1e-9),
        "seconds": seconds,
        "steps": steps,
        "trained": network.store.summary().trained,
        "frozen": network.store.summary().frozen,
        "unreadable": loader.unreadable().iter().map(|bad| &bad.reason).collect::<Vec<_>>(),
    });
    let path = folder.join("summary.json");
    run::write_text(&path, &format!("{summary:#}\n"))?;
    files.push(path);
    for file in files {
        println!("wrote {}", file.display());
    }
    Ok(())
}

/// Images, their labels, and beside them what was found.
fn pictures(network: &Network, source: &Source, looking: &Looking, count: usize) -> Result<Canvas> {
    const OPACITY: f32 = 0.6;
    let count = count.min(source.len());
    let mut tiles = Vec::with_capacity(count);
    for place in 0..count {
        let index = place * source.len() / count;
        let (image, labels) = source.load(index, &DecodeOptions::default())?;
        let plain = Canvas::from_image(&image, Some(&looking.pipeline.window))?;
        let (found, _) = looking.classes(&network.segmentor, image)?;
        let over = |map| plain.overlay_classes(map, &network.classes, OPACITY);
        tiles.push([plain.clone(), over(&labels)?, over(&found)?]);
    }
    let rows: Vec<Vec<Canvas>> = tiles.chunks(2).map(<[_]>::concat).collect();
    Ok(Canvas::tiled(&rows, 6, [255; 3]))
}
