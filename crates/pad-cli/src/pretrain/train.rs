//! A run of pre-training.

use std::collections::BTreeMap;

use pad::{
    checkpoint::FloatType,
    data::transform::Normalize,
    rng::Key,
    ssl::{HeldOutLoss, ObjectiveKind, ParadigmKind, Pretraining, PretrainingModel, SaveOptions},
    train::{EpochStream, Hook},
};

use super::{images::Images, model, pictures, settings::Pretrain};
use crate::{
    run::{
        Result, backbone,
        cost::{Cost, Memory},
        peak_mib,
        schedule::Length,
        session::{Ended, Session, Training},
        warm_up::step_seconds,
    },
    settings::{Flags, Settings, Start},
    tools::output::print,
};

/// Pre-trains a model and writes what the run leaves.
pub fn run(start: &Start, flags: &Flags<Pretrain>) -> Result<()> {
    Session::open(start, flags)?.guarded(train)
}

fn train(session: &Session<Pretrain>) -> Result<()> {
    let Session { settings, device, group, .. } = session;
    let Settings { run, own } = settings;
    let weights = model::weights(settings)?;
    let normalize = backbone::normalize(run, weights.as_ref(), Normalize::msip());
    let images = Images::open(settings, &normalize)?;
    let loader = &images.training;
    let batches = loader.batches_per_epoch();
    let accumulate = own.accumulation(run, batches, group.world_size());
    let length = Length::new(run, batches, accumulate)?;
    let model = model::start(settings, weights, &normalize, length.epochs, device)?;
    let batch_size = loader.config().batch_size;
    tracing::info!("effective batch {}", batch_size * accumulate);

    let task = Pretraining::new(&model.network, Key::new(run.seed), device);
    let held_out = images.held_out.as_ref();
    let mut evaluation =
        held_out.map(|loader| HeldOutLoss::new(&task, loader).with_every(length.eval_every(run)));
    let mut stream = EpochStream::new(batches, |pass, first, stride| {
        loader.epoch_on(device, pass, first, stride)
    });
    let parameters = model.parameters(run.weight_decay);
    let frozen = model.store.summary().frozen;
    let step = step_seconds(&task, &mut stream, &parameters, frozen, accumulate)?;
    let trains = 3.0; // an image costs about a third of this in evaluation
    let cost = Cost {
        step_seconds: step,
        eval_images: held_out.map_or(0, pad::data::Loader::len),
        eval_seconds: held_out
            .and(step)
            .map(|step| step / trains / (batch_size * accumulate).max(1) as f64),
        evaluations: 1 + length.eval_every(run).map_or(1, |every| length.epochs.div_ceil(every)),
        memory: memory(settings, &model, batch_size)?,
    };
    let mut facts = images.facts.clone();
    facts.insert("backbone".into(), model.store.backbone_digest()?);
    let ended = session.train(Training {
        task: &task,
        batches: stream,
        parameters,
        length,
        batch_size,
        accumulate,
        evaluation: evaluation.as_mut().map(|hook| hook as &mut dyn Hook),
        evaluation_cost: cost,
        facts,
        texts: Vec::new(),
    })?;
    let Ended::Finished { steps, seconds, images_per_s } = ended else { return Ok(()) };
    if !session.writes() {
        return Ok(()); // the first process writes the results
    }

    let options = SaveOptions {
        float_type: if own.half { FloatType::F16 } else { FloatType::AsIs },
        input_stats: Some(normalize.clone()),
        backbone: (own.paradigm.0 == ParadigmKind::Pad).then(|| source(&run.weights)),
        notes: BTreeMap::from([("made_by".to_string(), "pad pretrain".to_string())]),
    };
    let mut files = model.save(&session.folder, &options)?;
    files.extend(pictures::draw(session, &model, &images, &normalize, steps)?);
    let losses = evaluation.as_ref().map(|hook| (hook.before(), hook.after()));
    let best = evaluation.as_ref().and_then(HeldOutLoss::best);
    if let Some((Some(before), Some(after))) = losses {
        print(format_args!("held-out loss: {before:.4} before, {after:.4} after"))?;
    }
    print(format_args!("{images_per_s:.1} images/s over {seconds:.0} s (evaluation included)"))?;
    let summary = serde_json::json!({
        "held_out_before": losses.and_then(|losses| losses.0),
        "held_out_after": losses.and_then(|losses| losses.1),
        "held_out_best": best.map(|(loss, _)| loss),
        "best_step": best.map(|(_, step)| step),
        "images_per_s": images_per_s,
        "seconds": seconds,
        "peak_mib": peak_mib(),
        "steps": steps,
        "trained": model.store.summary().trained,
        "frozen": model.store.summary().frozen,
        "images_with_rois": images.with_rois(),
        "unreadable": loader.unreadable().iter().map(|bad| &bad.reason).collect::<Vec<_>>(),
    });
    session.close(&summary, files)
}

/// The weights as an adapter file names them: a path that holds wherever the file is read.
fn source(weights: &str) -> String {
    let path = std::path::Path::new(weights);
    match std::path::absolute(path) {
        Ok(absolute) if path.exists() => absolute.display().to_string(),
        _ => weights.to_string(),
    }
}

/// Peak memory of the run, bytes, where it can be estimated.
fn memory(
    settings: &Settings<Pretrain>,
    model: &PretrainingModel,
    batch_size: usize,
) -> Result<Memory> {
    let Settings { run, own } = settings;
    if own.objective.0 != ObjectiveKind::Mae {
        return Ok(Memory::Unknown);
    }
    let keep =
        if run.checkpoint_blocks { pad::ops::Keep::Nothing } else { pad::ops::Keep::Activations };
    let paradigm = model.config().paradigm;
    let memory = model.mae_config().step_memory(paradigm, batch_size, keep, run.dtype.0)?;
    Ok(Memory::About(memory.total()))
}
