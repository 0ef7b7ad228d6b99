//! A run of a task.

use std::{sync::Arc, time::Instant};

use clap::Args;
use pad::{
    data::{Dataset, Loader, fingerprint::Fingerprint, image::DecodeOptions, transform::Normalize},
    heads::{Evaluation, Evaluator, NetworkTask},
    train::{EpochStream, Hook, Parameter, checkpoint::best},
};

use super::{Downstream, model};
use crate::{
    run::{
        Result, backbone,
        cost::Cost,
        schedule::Length,
        session::{Ended, Session, Training},
        warm_up::WarmUp,
    },
    settings::{Flags, Settings, Start},
    tools::output::print,
};

/// Flags of `train`.
#[derive(Args, Debug)]
pub struct Train<P: Downstream> {
    #[command(flatten)]
    start: Start,
    #[command(flatten)]
    flags: Flags<P>,
}

/// Trains a model and writes what the run leaves.
pub fn run<P: Downstream>(program: &Train<P>) -> Result<()> {
    Session::open(&program.start, &program.flags)?.guarded(train)
}

fn train<P: Downstream>(session: &Session<P>) -> Result<()> {
    let Session { settings, device, group, .. } = session;
    let Settings { run, own } = settings;
    let weights = P::weights(settings)?;
    let normalize = backbone::normalize(run, weights.as_ref(), Normalize::downstream());
    let training = P::training(settings)?;
    let classes = training.classes().clone();
    let held_out = P::evaluation(settings, &classes)?;
    if training.len() < run.batch_size {
        return Err(format!(
            "{} images for training, expected at least `batch_size` {}",
            training.len(),
            run.batch_size
        )
        .into());
    }
    let pipeline = P::pipeline(settings, &normalize, &classes)?;
    let inference = own.inference(pipeline.clone())?;
    let model = model::start(settings, &session.given, weights, &classes, normalize, device)?;
    for line in model.store.summary().to_string().lines() {
        tracing::info!("{line}");
    }
    let loader = Loader::new(Arc::clone(&training), pipeline, run.loader())?;
    let batches = loader.batches_per_epoch();
    let accumulate = match run.accumulate {
        Some(given) => given, // the trainer refuses what its processes cannot share
        None => session.saved_accumulate()?.unwrap_or_else(|| group.world_size().max(1)),
    };
    let length = Length::new(run, batches, accumulate)?;
    let task = NetworkTask::new(&model.network);
    let stream = EpochStream::new(batches, |pass, first, stride| {
        loader.epoch_on(device, pass, first, stride)
    });
    let parameters = model.parameters(run.weight_decay);
    let of_norms = |one: &Parameter| !one.trainable && one.name.ends_with("running_mean");
    if group.world_size() > 1 && parameters.iter().any(of_norms) {
        tracing::warn!(
            "batch norms see the images of one process each ({} at once), not those of all {}",
            run.batch_size,
            group.world_size()
        );
    }
    let every = length.eval_every(run);
    let cost = |warm_up: WarmUp| {
        let eval_seconds = match held_out.get(0, &DecodeOptions::default()) {
            Ok(sample) => {
                let start = Instant::now();
                P::look(&model, sample, &inference)?;
                Some(start.elapsed().as_secs_f64())
            }
            Err(_) => None, // evaluation will name it
        };
        Ok(Cost {
            step_seconds: warm_up.step_seconds,
            eval_images: held_out.len(),
            eval_seconds,
            // Before the first update, between, and once more with the best weights.
            evaluations: 2 + every.map_or(1, |every| length.epochs.div_ceil(every)),
            memory: warm_up.peak(),
        })
    };
    let mut facts = model::frozen::<P>(&model)?;
    if let Some(data) = &run.data {
        facts.insert("files".into(), Fingerprint::of_folder(data)?.to_string());
    }
    let evaluator = P::evaluator(settings, &model, &held_out, inference.clone())?;
    let mut evaluation = Evaluation::new(evaluator).with_every_epochs(every);
    let ended = session.train(Training {
        task: &task,
        batches: stream,
        parameters: parameters.clone(),
        length,
        batch_size: run.batch_size,
        accumulate,
        evaluation: Some(&mut evaluation as &mut dyn Hook),
        cost: Box::new(cost),
        facts,
        texts: vec![(model::CLASSES, model::classes_to_json::<P>(&classes)?)],
    })?;
    let Ended::Finished(finish) = ended else { return Ok(()) };
    if !session.writes() {
        return Ok(());
    }

    // The result is the best model, which need not be the last.
    let best = best(&session.checkpoints())?;
    match &best {
        Some(checkpoint) => checkpoint.load_evaluated(&parameters)?,
        None => tracing::warn!("no checkpoint is the best: the result is the last model"),
    }
    let path = session.path(P::FILE);
    model.save(&path)?;
    let mut files = vec![path];
    let evaluator = P::evaluator(settings, &model, &held_out, inference.clone())?;
    let Some(report) = evaluator.evaluate(&|| session.signals.is_raised())? else {
        return session.signals.stopped();
    };
    files.extend(P::leave(session, &model, &held_out, &inference, &report)?);
    print(&report)?;
    // The one that was evaluated as the best may have been lost since.
    let best_step = best.map(|checkpoint| checkpoint.trainer_state().step);
    let found = serde_json::json!({ "val": report, "best_step": best_step });
    session.close(found, &finish, &model.store.summary(), &loader.unreadable(), files)
}
