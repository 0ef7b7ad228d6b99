//! Pre-trains adapters (or a whole ViT) on infrared images by masked autoencoding,
//! or by another objective.
//!
//!     cargo run --release --example pretrain                          # two minutes, needs nothing
//!     cargo run --release --example pretrain -- --data DIR            # your images, small backbone
//!     cargo run --release --example pretrain -- --data DIR --weights mae_vit_base.pth --model base
//!     cargo run --release --example pretrain -- --data DIR --recipe full-layer-decay        # docs/paradigms.md
//!     cargo run --release --example pretrain -- --data DIR --objective milan --teacher clip_vit_b16.safetensors
//!     cargo run --release --example pretrain -- --resume runs/pretrain-1
//!     mpirun -n 2 target/release/examples/pretrain --data DIR         # built with --features mpi; docs/parallel.md
//!
//! Crops around regions of interest where the data have them (example `roi` makes them) unless `--no-roi` is given.
//!
//! Writes a run folder: `config.toml`, `log.jsonl`, `tensorboard/`, `checkpoints/`, `adapter.safetensors` and
//! `decoder.safetensors` (or `model.safetensors`), `reconstruction.png`, `scales.png`, `crops.png`, `summary.json`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use crate::run::{
    Result,
    group::{self, on_first},
    model, run_folder,
    settings::{Flags, Settings},
    signals::Signals,
};
use pad::{
    Keep,
    checkpoint::FloatType,
    data::loader::Loader,
    rng::Key,
    ssl::{HeldOutLoss, LoaderBatches, Pretraining},
    train::{
        AdamW, AdamWConfig, CheckpointConfig, Checkpoints, Collective, EmaConfig, Every, Outcome,
        Schedule, Summary, Trainer, TrainerConfig,
        log::{EventFile, JsonLines, Progress, TensorBoard},
        lr_for_batch,
    },
};

/// Pre-trains adapters (or a whole ViT) on infrared images by masked autoencoding.
#[derive(Args, Debug)]
pub(crate) struct Program {
    /// Settings in a TOML file; flags override its entries
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A row of the paper's comparison, with its hyperparameters for ViT-B: scratch, rgb-only, full, full-layer-decay,
    /// fixed-scale, per-layer-scale, learnable-scale, pad; flags override its entries
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    recipe: Option<String>,
    /// Folder of the run [default: runs/pretrain-1, or the next that is free]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Continue the run in this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "recipe"])]
    resume: Option<PathBuf>,
    /// Store the whole model (other paradigms than pad) in 16-bit floats
    #[arg(long)]
    half: bool,
    /// Processes that train together: auto (MPI if mpirun started them), none, mpi, or nccl:FILE (a file that does not
    /// exist yet, where they meet)
    #[arg(long, default_value = "auto", value_name = "KIND")]
    group: String,
    #[command(flatten)]
    flags: Flags,
}

/// Settings of the run: a new one's, or those of one that goes on.
fn settings(program: &Program) -> Result<Settings> {
    if let Some(name) = &program.recipe {
        return Settings::named(name, &program.flags);
    }
    let resumed = program.resume.as_ref().map(|folder| folder.join("config.toml"));
    Settings::merge(resumed.as_deref().or(program.config.as_deref()), &program.flags)
}

/// Folder of the run.
fn folder(program: &Program, group: &dyn Collective) -> Result<PathBuf> {
    if let Some(folder) = &program.resume {
        return Ok(folder.clone());
    }
    on_first(group, || run_folder::new_folder("pretrain", program.out.clone()))
}

/// What a resumed run must share with its checkpoints: every setting that changes results, the backbone, the images.
fn identity(
    settings: &Settings,
    backbone: String,
    images: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    const WITHOUT_EFFECT: [&str; 8] = [
        "workers",
        "threads",
        "cache_mib",
        "checkpoint_blocks",
        "checkpoint_every",
        "keep",
        "device",
        "data",
    ];
    let mut identity = run_folder::identity(settings, &WITHOUT_EFFECT)?;
    identity.insert("backbone".into(), backbone);
    identity.extend(images);
    Ok(identity)
}

/// The warm-up asked for, or, in a run that is no longer than it, the paper's share of a run.
fn warmup_epochs(settings: &Settings) -> f64 {
    let (asked, epochs) = (settings.warmup_epochs, settings.epochs as f64);
    if asked < epochs {
        return asked;
    }
    let share = 0.3 * epochs;
    tracing::info!("warm-up of {asked} epochs in a run of {epochs}: {share:.1} in its place");
    share
}

pub(crate) fn run(program: &Program) -> Result<()> {
    let settings = settings(program)?;
    let joined = group::join(program.group, &settings.device)?;
    train(program, &settings, &joined.group, &joined.device).inspect_err(|error| {
        if joined.group.world_size() > 1 {
            // The others may be waiting for this process.
            joined.group.abort(&error.to_string());
        }
    })
}

fn train(
    program: &Program,
    settings: &Settings,
    group: &Arc<dyn Collective>,
    device: &str,
) -> Result<()> {
    let folder = folder(program, &**group)?;
    if group.world_size() > 1 {
        tracing::info!("{} processes train together", group.world_size());
    }
    run::threads(settings.threads)?;
    let device = run::device(device)?;
    let images = run::images::loaders(settings)?;
    let (training, held_out, crops) = (images.training, images.held_out, images.crops);
    let model = model::at_start(settings, &device)?;
    tracing::info!("operators: {}", pad::ops::cpu_level());
    for line in model.store.summary().to_string().lines() {
        tracing::info!("{line}");
    }

    // The optimiser: groups by role, the scaled learning rate.
    let (depth, epochs) = (model.config.encoder.depth, settings.epochs);
    let parameters = model.paradigm.parameters(&model.store, depth, epochs, settings.weight_decay);
    for line in Summary::new(&parameters).to_string().lines() {
        tracing::info!("{line}");
    }
    let accumulate = settings.accumulation(training.batches_per_epoch(), group.world_size());
    let effective_batch = training.config().batch_size * accumulate;
    let peak_lr = lr_for_batch(settings.blr, effective_batch);
    tracing::info!("effective batch {effective_batch}, peak learning rate {peak_lr:.2e}");
    if settings.objective == "mae" {
        let keep = if settings.checkpoint_blocks { Keep::Nothing } else { Keep::Activations };
        let (batch, precision) = (training.config().batch_size, model::precision(&settings.dtype)?);
        let memory = model.config.step_memory(model.paradigm, batch, keep, precision)?;
        tracing::info!("a step will take about {} MiB", memory.total() >> 20);
    }
    let config = TrainerConfig {
        epochs,
        max_steps: settings.max_steps,
        accumulate,
        clip_norm: settings.clip_norm,
        seed: settings.seed,
    };
    let schedule = Schedule::WarmupCosine {
        peak_lr,
        min_lr: settings.min_lr,
        warmup_epochs: warmup_epochs(settings),
        epochs: epochs as f64,
    };
    let objective = model.network.objective(settings, &model.config, model.taught.as_ref())?;
    let task = Pretraining::new(&objective, Key::new(settings.seed), &device);
    let mut evaluation =
        held_out.as_ref().map(|loader| HeldOutLoss::new(&task, loader, settings.eval_every));
    let optimizer = AdamW::new(parameters, AdamWConfig::default())?;
    let signals = Signals::watch()?;
    let mut trainer = Trainer::new(config, schedule, optimizer)?
        .with_group(Arc::clone(group))
        .with_stop(Arc::clone(&signals.stop));
    if let Some(decay) = settings.ema {
        trainer = trainer.with_ema(EmaConfig { decay, ..Default::default() })?;
    }
    let identity = identity(settings, model.store.backbone_digest()?, images.identity)?;

    // The run folder appears only when nothing can be wrong with the settings any more.
    on_first(&**group, || {
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        run::write_text(&folder.join("config.toml"), &settings.to_toml()?)
    })?;
    let saving =
        CheckpointConfig { every: Every::Steps(settings.checkpoint_every), keep: settings.keep };
    let checkpoints = folder.join("checkpoints");
    trainer =
        trainer.with_checkpoints(Checkpoints::new(&checkpoints, saving)?.with_metadata(identity));
    if let Some(evaluation) = &mut evaluation {
        trainer = trainer.with_hook(evaluation); // measures before the others write
    }
    trainer = trainer
        .with_hook(JsonLines::new(folder.join("log.jsonl")))
        .with_hook(TensorBoard::new(folder.join("tensorboard")))
        .with_hook(Progress::new(50));
    if program.resume.is_some() {
        run_folder::resume(&mut trainer, &checkpoints)?;
    }
    let start = std::time::Instant::now();
    let first_step = trainer.state().step;
    let outcome = trainer.run(&task, &mut LoaderBatches::new(&training).on(&device))?;
    let seconds = start.elapsed().as_secs_f64();
    let steps = trainer.state().step;
    let images_per_s = ((steps - first_step) * effective_batch) as f64 / seconds.max(1e-9);
    drop(trainer);
    if outcome == Outcome::Stopped {
        tracing::info!("stopped; continue with --resume {}", folder.display());
        return signals.stopped();
    }
    if group.rank() > 0 {
        return Ok(()); // the first process writes the results
    }

    let notes = BTreeMap::from([("made_by".to_string(), "pad pretrain".to_string())]);
    let float_type = if program.half { FloatType::F16 } else { FloatType::AsIs };
    let mut files = model::save_run(&folder, &model, float_type, &notes)?;
    if let Some(loader) = &held_out {
        files.extend(pictures(&folder, &model, loader, settings, steps)?);
    }
    if let Some(comparison) = &crops {
        let (normalize, window) = (settings.normalize()?, settings.window());
        // A set whose images all became unreadable is no reason to fail at the end of a run.
        match run::pictures::crops(comparison, &normalize, &window, (4, 4), settings.seed) {
            Ok(canvas) => {
                let path = folder.join("crops.png");
                canvas.save_png(&path)?;
                files.push(path);
            }
            Err(error) => tracing::warn!("no picture of crops: {error}"),
        }
    }
    let losses = evaluation.as_ref().map(|hook| (hook.before(), hook.after()));
    let best = evaluation.as_ref().and_then(HeldOutLoss::best);
    if let Some((Some(before), Some(after))) = losses {
        println!("held-out loss: {before:.4} before, {after:.4} after");
    }
    println!("{images_per_s:.1} images/s over {seconds:.0} s (evaluation included)");
    let summary = serde_json::json!({
        "held_out_before": losses.and_then(|losses| losses.0),
        "held_out_after": losses.and_then(|losses| losses.1),
        "held_out_best": best.map(|(loss, _)| loss),
        "best_step": best.map(|(_, step)| step),
        "images_per_s": images_per_s,
        "seconds": seconds,
        "peak_mib": run::peak_mib(),
        "steps": steps,
        "trained": model.store.summary().trained,
        "frozen": model.store.summary().frozen,
        "images_with_rois": crops.as_ref().map_or(0, |crops| crops.with_rois()),
        "unreadable": training.unreadable().iter().map(|bad| &bad.reason).collect::<Vec<_>>(),
    });
    run::write_text(&folder.join("summary.json"), &format!("{summary:#}\n"))?;
    for file in files {
        println!("wrote {}", file.display());
    }
    Ok(())
}

/// Reconstructions of held-out images and, for patchwise scales, heat maps of them.
fn pictures(
    folder: &Path,
    model: &model::Model,
    loader: &Loader,
    settings: &Settings,
    step: usize,
) -> Result<Vec<PathBuf>> {
    let device = run::device(&settings.device)?;
    let images = run::images::spread(loader.dataset().as_ref(), 6)?.to_device(&device)?;
    let normalize = settings.normalize()?;
    let mut files = Vec::new();
    if let Ok(mae) = model.mae() {
        let reconstruction = folder.join("reconstruction.png");
        let canvas = run::pictures::reconstructions(mae, &images, &normalize, settings.seed)?;
        canvas.save_png(&reconstruction)?;
        let png = std::fs::read(&reconstruction)?;
        EventFile::create(&folder.join("tensorboard"), step)?.png(step, "reconstruction", &png)?;
        files.push(reconstruction);
    }
    if let Some((canvas, _)) = run::pictures::scales(model.network.encoder(), &images, &normalize)?
    {
        let path = folder.join("scales.png");
        canvas.save_png(&path)?;
        files.push(path);
    }
    Ok(files)
}

