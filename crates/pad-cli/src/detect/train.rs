//! A run of detection.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use pad::{
    data::{Dataset, Loader, fingerprint::Fingerprint, image::DecodeOptions, transform::Normalize},
    heads::{
        Evaluation,
        detection::{DetectionEvaluator, DetectionTask, coco::write_results, measure},
    },
    train::{EpochStream, Hook, checkpoint::best},
};

use super::{
    Detect, data,
    model::{self, CLASSES, FILE},
};
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

/// Score of the detections in the picture of a run's end.
const SHOWN: f32 = 0.3;

/// Trains a detector and writes what the run leaves.
pub fn run(start: &Start, flags: &Flags<Detect>) -> Result<()> {
    Session::open(start, flags)?.guarded(train)
}

fn train(session: &Session<Detect>) -> Result<()> {
    let Session { settings, device, group, .. } = session;
    let Settings { run, own } = settings;
    let weights = backbone::open(run)?;
    let normalize = backbone::normalize(run, weights.as_ref(), Normalize::downstream());
    let pipeline = own.pipeline(run, &normalize)?;
    let training = data::training(settings)?;
    let classes = training.classes().clone();
    let held_out = data::evaluation(settings, &classes)?;
    let model = model::start(settings, weights, &classes, normalize, device)?;
    for line in model.store.summary().to_string().lines() {
        tracing::info!("{line}");
    }
    let loader: Loader<_> = Loader::new(Arc::clone(&training), pipeline.clone(), run.loader())?;
    let batches = loader.batches_per_epoch();
    let accumulate = run.accumulate.unwrap_or(1).next_multiple_of(group.world_size().max(1));
    let length = Length::new(run, batches, accumulate)?;
    let task = DetectionTask::new(&model.detector);
    let mut stream = EpochStream::new(batches, |pass, first, stride| {
        loader.epoch_on(device, pass, first, stride)
    });
    let parameters = model.parameters(run.weight_decay);
    let frozen = model.store.summary().frozen;
    let step_seconds = step_seconds(&task, &mut stream, &parameters, frozen, accumulate)?;
    let eval_seconds = match held_out.get(0, &DecodeOptions::default()) {
        Ok(sample) => {
            let start = Instant::now();
            model.predict(sample.image, &pipeline)?;
            Some(start.elapsed().as_secs_f64())
        }
        Err(_) => None, // evaluation will name it
    };
    let every = length.eval_every(run);
    let cost = Cost {
        step_seconds,
        eval_images: held_out.len(),
        eval_seconds,
        // Before the first update, between, and once more with the best weights.
        evaluations: 2 + every.map_or(1, |every| length.epochs.div_ceil(every)),
        memory: Memory::with_optimizer(&parameters),
    };
    let mut facts = BTreeMap::from([("frozen".to_string(), model.store.backbone_digest()?)]);
    if let Some(data) = &run.data {
        facts.insert("files".into(), Fingerprint::of_folder(data)?.to_string());
    }
    let evaluator = DetectionEvaluator::new(&model, held_out.as_ref(), pipeline.clone())?;
    let mut evaluation = Evaluation::new(evaluator).with_every_epochs(every);
    let ended = session.train(Training {
        task: &task,
        batches: stream,
        parameters: parameters.clone(),
        length,
        batch_size: run.batch_size,
        accumulate,
        evaluation: Some(&mut evaluation as &mut dyn Hook),
        evaluation_cost: cost,
        facts,
        texts: vec![(CLASSES, serde_json::to_string_pretty(&classes)? + "\n")],
    })?;
    let Ended::Finished { steps, seconds, images_per_s } = ended else { return Ok(()) };
    if !session.writes() {
        return Ok(());
    }

    // The result is the best model, which need not be the last.
    if let Some(checkpoint) = best(&session.checkpoints())? {
        checkpoint.load_evaluated(&parameters)?;
    }
    let path = session.path(FILE);
    model.save(&path)?;
    let mut files = vec![path];
    let stopped = || session.signals.is_raised();
    let Some(report) = measure(&model, held_out.as_ref(), &pipeline, &stopped)? else {
        return session.signals.stopped();
    };
    let results = session.path("results.json");
    write_results(&results, &report.results)?;
    files.push(results);
    let picture = session.path("detections.png");
    model.pictures(held_out.as_ref(), &pipeline, 8, SHOWN)?.save_png(&picture)?;
    files.push(picture);
    print(&report)?;
    let summary = serde_json::json!({
        "val": report,
        "best_step": evaluation.best().map(|best| best.step),
        "images_per_s": images_per_s,
        "seconds": seconds,
        "peak_mib": peak_mib(),
        "steps": steps,
        "trained": model.store.summary().trained,
        "frozen": model.store.summary().frozen,
        "unreadable": loader.unreadable().iter().map(|bad| &bad.reason).collect::<Vec<_>>(),
    });
    session.close(&summary, files)
}
