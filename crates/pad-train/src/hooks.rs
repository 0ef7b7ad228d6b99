//! The hooks of a run, called in the order in which they were added.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    BoxError, EpochInfo, Error, Hook, Result, StepInfo, TrainerView,
    hook::{Flow, Requests},
};

/// All hooks of a run. Each is called on the first process, or on all if it is
/// [on every rank](Hook::on_every_rank); the error of one names it and ends the calls.
#[derive(Default)]
pub(crate) struct Hooks<'h> {
    hooks: Vec<Box<dyn Hook + 'h>>,
    /// States of a checkpoint, by hook, until the run starts.
    saved: BTreeMap<String, Value>,
}

impl<'h> Hooks<'h> {
    pub(crate) fn add(&mut self, hook: impl Hook + 'h) {
        self.hooks.push(Box::new(hook));
    }

    /// Keeps states that the hooks get by [`Hooks::start`].
    pub(crate) fn restore_at_start(&mut self, states: &BTreeMap<String, Value>) {
        self.saved = states.clone();
    }

    /// Restores and starts every hook; in a run that starts anew they measure before the first step.
    /// `lost_best` is the step of the best checkpoint, if it is lost.
    pub(crate) fn start(&mut self, view: &TrainerView<'_>, lost_best: Option<usize>) -> Result<()> {
        let mut states = std::mem::take(&mut self.saved);
        let mut names = BTreeSet::new();
        for hook in &mut self.hooks {
            let name = hook.name().to_string();
            if !names.insert(name.clone()) {
                return Err(in_hook(&**hook)("another hook has the same name".into()));
            }
            if let Some(state) = states.remove(&name) {
                hook.restore(&state).map_err(in_hook(&**hook))?;
            }
            if let Some(step) = lost_best {
                hook.lose_best(step).map_err(in_hook(&**hook))?;
            }
            if is_called(&**hook, view) {
                hook.start(view).map_err(in_hook(&**hook))?;
            }
        }
        for name in states.keys() {
            tracing::warn!("the checkpoint holds a state of hook `{name}`, which this run lacks");
        }
        if view.state.step == 0 {
            let mut info = EpochInfo::default();
            self.call(view, |hook| hook.before_training(&mut info, view))?;
        }
        Ok(())
    }

    /// Calls the hooks after a step, and returns what they request.
    pub(crate) fn after_step(
        &mut self,
        step: &StepInfo,
        view: &TrainerView<'_>,
    ) -> Result<Requests> {
        let mut requests = Requests::default();
        self.collect(view, &mut requests, |hook| hook.after_step(step, view))?;
        Ok(requests)
    }

    /// Calls the hooks after an epoch, and adds what they request to `requests`.
    pub(crate) fn after_epoch(
        &mut self,
        epoch: usize,
        view: &TrainerView<'_>,
        requests: &mut Requests,
    ) -> Result<()> {
        let mut info = EpochInfo { epoch, step: view.state.step, ..EpochInfo::default() };
        self.collect(view, requests, |hook| hook.after_epoch(&mut info, view))?;
        requests.is_interrupted = info.is_interrupted;
        Ok(())
    }

    /// Calls the hooks at the end of the run or after a stop.
    pub(crate) fn finish(&mut self, view: &TrainerView<'_>) -> Result<()> {
        self.call(view, |hook| hook.finish(view))
    }

    /// Returns what a checkpoint keeps of the hooks.
    pub(crate) fn states(&self) -> BTreeMap<String, Value> {
        let states = self.hooks.iter().map(|hook| (hook.name().to_string(), hook.state()));
        states.filter(|(_, state)| !state.is_null()).collect()
    }

    fn collect(
        &mut self,
        view: &TrainerView<'_>,
        requests: &mut Requests,
        mut call: impl FnMut(&mut dyn Hook) -> Result<Flow, BoxError>,
    ) -> Result<()> {
        self.call(view, |hook| {
            requests.add(call(hook)?);
            Ok(())
        })
    }

    fn call(
        &mut self,
        view: &TrainerView<'_>,
        mut call: impl FnMut(&mut dyn Hook) -> Result<(), BoxError>,
    ) -> Result<()> {
        for hook in self.hooks.iter_mut().filter(|hook| is_called(&***hook, view)) {
            call(&mut **hook).map_err(in_hook(&**hook))?;
        }
        Ok(())
    }
}

/// Returns whether a hook is called on this process.
fn is_called<'a>(hook: &(dyn Hook + 'a), view: &TrainerView<'_>) -> bool {
    view.group.rank() == 0 || hook.on_every_rank()
}

fn in_hook<'a>(hook: &'a (dyn Hook + 'a)) -> impl FnOnce(BoxError) -> Error + 'a {
    move |cause| Error::Hook { hook: hook.name().to_string(), cause }
}
