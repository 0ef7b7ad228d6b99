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
        draw::{Canvas, DrawnBox},
        fingerprint::Fingerprint,
        image::DecodeOptions,
        sets::detection::{BoxBatch, BoxClasses, DetectionLoader},
        transform::detection::DetectionPipeline,
    },
    heads::detection::{DetectionBatch, DetectionTask, Target, coco::write_results},
    train::{
        AdamW, AdamWConfig, BatchIter, Batches, BoxError, CheckpointConfig, Checkpoints, EmaConfig,
        Every, Losses, Outcome, ParameterSummary, Task, Trainer, TrainerConfig,
        checkpoint::best,
        log::{JsonLines, ProgressBar, TensorBoard},
    },
};

use super::{
    data::{self, Source},
    evaluation::{self, Evaluation, MASK_OPACITY},
    model::{self, Network},
    report,
    settings::{Flags, Settings},
};
use crate::run::{self, Result, run_folder, signals::Signals};

/// A loader's batches as the detector takes them.
struct Training<'a> {
    loader: &'a DetectionLoader,
    device: Device,
}

/// A loader's batch as the detector takes it.
fn detection_batch(batch: BoxBatch) -> DetectionBatch {
    let targets = batch.boxes.into_iter().zip(batch.labels).zip(batch.masks);
    let target = |((boxes, labels), masks)| Target { boxes, labels, masks };
    DetectionBatch {
        images: batch.images,
        sizes: batch.sizes,
        targets: targets.map(target).collect(),
    }
}

impl Batches for Training<'_> {
    type Batch = Option<DetectionBatch>;

    fn per_epoch(&self) -> usize {
        self.loader.batches_per_epoch()
    }

    fn images_in(batch: &Self::Batch) -> usize {
        batch.as_ref().map_or(0, |batch| batch.sizes.len())
    }

    fn epoch(
        &mut self,
        epoch: usize,
        first: usize,
    ) -> Result<BatchIter<'_, Self::Batch>, BoxError> {
        let batches = self.loader.epoch(epoch as u64, first)?;
        let mut batches = to_device(batches, &self.device)?.peekable();
        // A batch without a readable image does not come at all; its number still counts.
        Ok(Box::new((first..self.per_epoch()).map(move |number| {
            match batches.next_if(|batch| batch.as_ref().map_or(true, |b| b.number == number)) {
                Some(batch) => Ok(Some(detection_batch(batch?))),
                None => Ok(None),
            }
        })))
    }
}

/// The detector's task, for batches that may be empty.
struct Guarded<'a> {
    network: &'a Network,
    device: Device,
}

impl Task for Guarded<'_> {
    type Batch = Option<DetectionBatch>;

    fn losses(&self, batch: &Self::Batch, mode: Mode) -> Result<Losses, BoxError> {
        match batch {
            Some(batch) => DetectionTask::new(self.network.detector()).losses(batch, mode),
            // Not one readable image: nothing to learn from, and no gradient.
            None => Ok(Losses::new(Tensor::zeros((), DType::F32, &self.device)?)),
        }
    }
}

/// Settings that results do not depend on.
const WITHOUT_EFFECT: [&str; 8] =
    ["workers", "threads", "checkpoint_every", "keep", "device", "data", "eval_every", "score"];

pub fn run(
    config: Option<&Path>,
    out: Option<PathBuf>,
    resume: Option<PathBuf>,
    flags: &Flags,
) -> Result<()> {
    let (settings, folder) =
        run_folder::open("detect", config, out, resume.as_deref(), |config| {
            Settings::merge(config, flags)
        })?;
    run::threads(settings.threads)?;
    let device = run::device(&settings.device)?;
    let pipeline = settings.pipeline()?;
    let training = data::training(&settings)?;
    let classes = training.classes().clone();
    let held_out = data::evaluation(&settings, Some(&classes))?;
    let network = model::at_start(&settings, &classes, &device)?;
    tracing::info!("operators: {}", pad::ops::cpu_level());
    for line in network.store.summary().to_string().lines() {
        tracing::info!("{line}");
    }
    let parameters = network.parameters(&settings);
    for line in ParameterSummary::new(&parameters).to_string().lines() {
        tracing::info!("{line}");
    }
    let loader = DetectionLoader::new(
        training,
        pipeline.clone(),
        settings.loader(),
        DecodeOptions::default(),
    )?;
    let trainer_config = TrainerConfig {
        epochs: settings.epochs,
        max_steps: settings.max_steps,
        accumulate: settings.accumulate,
        clip_norm: settings.clip_norm,
        seed: settings.seed,
    };
    let steps = loader.batches_per_epoch() / settings.accumulate.max(1);
    let adamw = AdamWConfig { beta2: 0.999, ..Default::default() };
    let optimizer = AdamW::new(parameters.clone(), adamw)?;
    let mut evaluation =
        Evaluation::new(&network, &held_out, pipeline.clone(), settings.eval_every)?;
    let signals = Signals::watch()?;
    let mut trainer = Trainer::new(trainer_config, settings.schedule(steps), optimizer)?
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
        .with_hook(JsonLines::new(folder.join("log.jsonl")))
        .with_hook(TensorBoard::new(folder.join("tensorboard")))
        .with_hook(ProgressBar::new(50));
    if resume.is_some() {
        run_folder::resume(&mut trainer, &checkpoints)?;
    }
    let start = std::time::Instant::now();
    let first_step = trainer.state().step;
    let task = Guarded { network: &network, device: device.clone() };
    let mut batches = Training { loader: &loader, device: device.clone() };
    let outcome = trainer.run(&task, &mut batches)?;
    let seconds = start.elapsed().as_secs_f64();
    let steps = trainer.state().step;
    drop(trainer);
    if outcome == Outcome::Stopped {
        tracing::info!("stopped; continue with --resume {}", folder.display());
        return signals.stopped();
    }

    // What is handed on is the best, which need not be the last.
    if let Some(checkpoint) = best(&checkpoints)? {
        checkpoint.load_evaluated(&parameters)?;
    }
    let mut files = vec![network.save(&folder)?];
    let truth = data::truth(held_out.as_ref())?;
    let found = evaluation::measure(&network, held_out.as_ref(), &truth, &pipeline)?;
    let results = folder.join("results.json");
    write_results(&results, &found.results)?;
    files.push(results);
    let picture = folder.join("detections.png");
    pictures(&network, &held_out, &pipeline, 8)?.save_png(&picture)?;
    files.push(picture);
    let speed = report::Speed::of(found.times_ms.clone(), found.gmacs);
    println!("{}", report::table(&found, &classes, &truth, speed.as_ref()));
    let images = (steps - first_step) * settings.batch_size * settings.accumulate;
    let summary = serde_json::json!({
        "val": report::json(&found, &classes, held_out.len(), speed.as_ref()),
        "best_step": evaluation.best().map(|(_, step)| step),
        "images_per_s": images as f64 / seconds.max(1e-9),
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

/// Labelled images, and beside each what was found with a score of at least 0.3.
fn pictures(
    network: &Network,
    source: &Source,
    pipeline: &DetectionPipeline,
    count: usize,
) -> Result<Canvas> {
    const SHOWN: f32 = 0.3;
    let classes = source.classes();
    let count = count.min(source.len());
    let mut tiles = Vec::with_capacity(count);
    for place in 0..count {
        let index = place * source.len() / count;
        let image = source.load(index, &DecodeOptions::default())?;
        let plain = Canvas::from_image(&image, Some(&pipeline.window))?;
        // Small images are enlarged, so that captions leave something of them to be seen.
        let factor = (480 / plain.size().width.max(1)).max(1);
        let larger = |drawn: DrawnBox| DrawnBox {
            bbox: drawn.bbox.map(|edge| edge * factor as f32),
            ..drawn
        };
        let (mut labelled, mut detected) = (plain.clone(), plain);
        let objects = &source.labelled(index)?.objects;
        for object in objects.iter().filter(|_| network.masks()) {
            if let Some(mask) = &object.mask {
                labelled.overlay_mask(mask, BoxClasses::color(object.class), MASK_OPACITY)?;
            }
        }
        let (found, ..) = evaluation::detect(network, image, pipeline)?;
        let found: Vec<_> = found.into_iter().filter(|one| one.detection.score >= SHOWN).collect();
        for one in &found {
            one.paint(&mut detected)?;
        }
        let (mut labelled, mut detected) = (labelled.enlarged(factor), detected.enlarged(factor));
        let truth = DrawnBox::truth(source.labelled(index)?).into_iter().map(larger);
        labelled.boxes(&truth.collect::<Vec<_>>(), classes, 1);
        let found: Vec<DrawnBox> = found.iter().map(|one| larger(one.drawn())).collect();
        detected.boxes(&found, classes, 1);
        tiles.push([labelled, detected]);
    }
    let rows: Vec<Vec<Canvas>> = tiles.chunks(2).map(<[_]>::concat).collect();
    Ok(Canvas::tiled(&rows, 6, [255; 3]))
}
