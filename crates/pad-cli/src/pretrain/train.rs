//! A run of pre-training.

use std::collections::BTreeMap;

use pad::{
    checkpoint::{Backbone, FloatType},
    data::transform::Normalize,
    params::Role,
    rng::Key,
    ssl::{
        HeldOutLoss, MemorySettings, ObjectiveKind, ParadigmKind, Pretraining, PretrainingModel,
        SaveOptions,
    },
    train::{EpochStream, Hook},
};

use super::{
    images::Images,
    model::{self, Files},
    pictures,
    settings::Pretrain,
    teacher,
};
use crate::{
    run::{
        Result, backbone,
        cost::{Cost, Memory},
        folder::FROZEN_DECODER,
        schedule::Length,
        session::{Ended, Session, Training},
        warm_up::WarmUp,
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
    let below = weights.as_ref().map_or(&run.weights[..], Backbone::backbone_source).to_string();
    let images = Images::open(settings, &normalize)?;
    let loader = &images.training;
    let batches = loader.batches_per_epoch();
    let accumulate = match (run.accumulate, session.saved_accumulate()?) {
        (None, Some(saved)) => saved,
        _ => own.accumulation(run, batches, group.world_size()),
    };
    let length = Length::new(run, batches, accumulate)?;
    let mut facts = images.facts.clone();
    let teacher = teacher::read(settings)?;
    if let Some(teacher) = &teacher {
        facts.extend(teacher::facts(teacher)?);
    }
    let (files, epochs) = (Files { weights, teacher }, length.epochs);
    let model = model::start(settings, &session.given, files, &normalize, epochs, device)?;
    let batch_size = loader.config().batch_size;
    tracing::info!("effective batch {}", batch_size * accumulate);

    let task = Pretraining::new(&model.network, Key::new(run.seed), device);
    let held_out = images.held_out.as_ref();
    let mut evaluation =
        held_out.map(|loader| HeldOutLoss::new(&task, loader).with_every(length.eval_every(run)));
    let stream = EpochStream::new(batches, |pass, first, stride| {
        loader.epoch_on(device, pass, first, stride)
    });
    let parameters = model.parameters(run.weight_decay);
    let memory = memory(settings, &model, batch_size)?;
    let cost = |warm_up: WarmUp| {
        let step = warm_up.step_seconds;
        // Without its backward, an image costs about a third.
        let per_image = |step: f64| step / 3.0 / (batch_size * accumulate).max(1) as f64;
        let every = length.eval_every(run);
        Ok(Cost {
            step_seconds: step,
            eval_images: held_out.map_or(0, pad::data::Loader::len),
            eval_seconds: held_out.and(step).map(per_image),
            evaluations: 1 + every.map_or(1, |every| length.epochs.div_ceil(every)),
            memory: memory.unwrap_or_else(|| warm_up.peak()),
        })
    };
    facts.insert("backbone".into(), model.store.backbone_digest()?);
    // Its fixed table follows from the settings.
    let is_learnt = |role: Role| role.is_decoder() && role != Role::DecoderPosTable;
    let decoder = backbone::frozen_digest(&model.store, is_learnt)?;
    facts.extend(decoder.map(|digest| (FROZEN_DECODER.to_string(), digest)));
    let ended = session.train(Training {
        task: &task,
        batches: stream,
        parameters,
        length,
        batch_size,
        accumulate,
        evaluation: evaluation.as_mut().map(|hook| hook as &mut dyn Hook),
        cost: Box::new(cost),
        facts,
        texts: Vec::new(),
    })?;
    let Ended::Finished(finish) = ended else { return Ok(()) };
    if !session.writes() {
        return Ok(()); // the first process writes the results
    }

    let options = SaveOptions {
        float_type: if own.half { FloatType::F16 } else { FloatType::AsIs },
        input_stats: Some(normalize.clone()),
        backbone: (own.paradigm.0 == ParadigmKind::Pad).then(|| source(&below)),
        notes: BTreeMap::from([("made_by".to_string(), "pad pretrain".to_string())]),
    };
    let mut files = model.save(&session.folder, &options)?;
    files.extend(pictures::draw(session, &model, &images, &normalize, finish.steps)?);
    let losses = evaluation.as_ref().map(|hook| (hook.before(), hook.after()));
    let best = evaluation.as_ref().and_then(HeldOutLoss::best);
    if let Some((Some(before), Some(after))) = losses {
        print(format_args!("held-out loss: {before:.4} before, {after:.4} after"))?;
    }
    let (images_per_s, seconds) = (finish.images_per_s, finish.seconds);
    print(format_args!("{images_per_s:.1} images/s over {seconds:.0} s (evaluation included)"))?;
    let found = serde_json::json!({
        "held_out_before": losses.and_then(|losses| losses.0),
        "held_out_after": losses.and_then(|losses| losses.1),
        "held_out_best": best.map(|(loss, _)| loss),
        "best_step": best.map(|(_, step)| step),
        "images_with_rois": images.with_rois(),
    });
    session.close(found, &finish, &model.store.summary(), &loader.unreadable(), files)
}

/// The weights as an adapter file names them: a path that holds wherever the file is read.
fn source(weights: &str) -> String {
    let path = std::path::Path::new(weights);
    match std::path::absolute(path) {
        Ok(absolute) if path.exists() && !crate::settings::paths::is_name(weights) => {
            absolute.display().to_string()
        }
        _ => weights.to_string(),
    }
}

/// Peak memory of the run, where it can be predicted from the configuration.
fn memory(
    settings: &Settings<Pretrain>,
    model: &PretrainingModel,
    batch_size: usize,
) -> Result<Option<Memory>> {
    let Settings { run, own } = settings;
    if own.objective.0 != ObjectiveKind::Mae {
        return Ok(None);
    }
    let memory = MemorySettings {
        checkpointing: run.checkpoint_blocks,
        matmul_precision: run.dtype.0,
        ema: run.ema.is_some(),
        ..MemorySettings::new(model.config().paradigm, batch_size)
    };
    Ok(Some(Memory::About(model.mae_config().step_memory(&memory)?.total())))
}
