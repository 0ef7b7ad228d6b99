//! A model against labelled images.

use std::path::PathBuf;

use clap::Args;
use pad::heads::{Evaluator, TaskNetwork};

use super::{Downstream, model, selection::Selection};
use crate::{
    run::{Result, signals::Signals, source::ModelSource},
    settings::Settings,
    tools::{
        device::Compute,
        output::{Replace, write_json},
    },
};

/// Flags of `eval`.
#[derive(Args, Debug)]
pub struct Eval<P: Downstream> {
    #[command(flatten)]
    source: ModelSource,
    #[command(flatten)]
    selection: Selection,
    /// JSON file for the results
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    replace: Replace,
    #[command(flatten)]
    own: P::EvalFlags,
    #[command(flatten)]
    compute: Compute,
}

/// Measures a model.
pub fn run<P: Downstream>(eval: &Eval<P>) -> Result<()> {
    eval.replace.check_some(eval.json.as_ref())?;
    eval.replace.check_some(P::eval_file(&eval.own))?;
    let found = eval.source.find(P::NAME, P::FILE, P::Network::KIND)?;
    let mut settings: Settings<P> = eval.source.settings(&found)?;
    if eval.selection.data.is_none() {
        eval.source.find_images(&found, &mut settings)?;
    }
    let mut settings = P::for_eval(&eval.own, &eval.selection, settings);
    settings.run.data = eval.selection.data.clone().or(settings.run.data);
    let device = eval.compute.start()?;
    let (model, inference) = model::open(&mut settings, found, eval.source.run(), &device)?;
    let images = P::evaluation(&settings, &model.classes)?;
    let evaluator = P::evaluator(&settings, &model, &images, inference)?;
    let signals = Signals::watch()?;
    let Some(report) = evaluator.evaluate(&|| signals.is_raised())? else {
        return signals.stopped();
    };
    P::report(&eval.own, &report)?;
    match &eval.json {
        Some(path) => write_json(path, &report),
        None => Ok(()),
    }
}
