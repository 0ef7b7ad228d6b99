//! A bar on the terminal; without a terminal, a line now and then.

use std::io::IsTerminal;

use indicatif::{ProgressDrawTarget, ProgressStyle};

use super::pace::{Pace, duration};
use crate::{BoxError, Flow, Hook, StepInfo, TrainerView};

/// Steps of this process after which the time per step and the time left are known well enough to
/// be logged.
const ESTIMATE_AFTER: usize = 3;

/// A run that takes longer than this is warned about, seconds.
const LONG: f64 = 86_400.0;

/// Shows step, loss, learning rate, speed and time left: as a bar if standard error is a terminal,
/// else as a `tracing` line (level info) at regular steps. After the third step the time per step
/// and the time left are logged once, as a warning above a day.
///
/// ```
/// use pad_train::{Hook, log::ProgressBar};
/// // `Trainer::with_hook` takes it, after the hooks that measure.
/// let bar = ProgressBar::new(50);
/// assert_eq!(bar.name(), "progress");
/// ```
#[derive(Debug)]
pub struct ProgressBar {
    lines_every: usize,
    bar: Option<indicatif::ProgressBar>,
    draw: Option<ProgressDrawTarget>,
    pace: Pace,
}

impl ProgressBar {
    /// Creates a bar if standard error is a terminal, else a line every `lines_every` steps (at
    /// least 1).
    pub fn new(lines_every: usize) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self::with_draw(lines_every, terminal.then(ProgressDrawTarget::stderr))
    }

    fn with_draw(lines_every: usize, draw: Option<ProgressDrawTarget>) -> Self {
        Self { lines_every: lines_every.max(1), bar: None, draw, pace: Pace::default() }
    }

    fn message(&self, step: &StepInfo, view: &TrainerView<'_>) -> String {
        format!(
            "epoch {}/{}  loss {:.4}  lr {:.2e}  {:.1} images/s  {:.2} s/step  {} left",
            step.epoch + 1,
            view.config.epochs,
            step.loss,
            step.lr,
            self.pace.images_per_s().unwrap_or(0.0),
            self.pace.seconds_per_step().unwrap_or(0.0),
            duration(self.pace.seconds_left(view).unwrap_or(0.0))
        )
    }

    fn log_estimate(&self, view: &TrainerView<'_>) {
        let (Some(each), Some(left)) = (self.pace.seconds_per_step(), self.pace.seconds_left(view))
        else {
            return;
        };
        let steps = view.last_step.saturating_sub(view.state.step);
        let log = || match left > LONG {
            true => tracing::warn!("{} left: {steps} steps of {each:.2} s", duration(left)),
            false => tracing::info!("{} left: {steps} steps of {each:.2} s", duration(left)),
        };
        match &self.bar {
            Some(bar) => bar.suspend(log),
            None => log(),
        }
    }
}

impl Hook for ProgressBar {
    fn name(&self) -> &str {
        "progress"
    }

    fn start(&mut self, view: &TrainerView<'_>) -> Result<(), BoxError> {
        let Some(draw) = self.draw.take() else { return Ok(()) };
        let bar = indicatif::ProgressBar::with_draw_target(Some(view.last_step as u64), draw);
        bar.set_style(ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}")?);
        bar.set_position(view.state.step as u64);
        self.bar = Some(bar);
        Ok(())
    }

    fn after_step(&mut self, step: &StepInfo, view: &TrainerView<'_>) -> Result<Flow, BoxError> {
        self.pace.add(step);
        let message = self.message(step, view);
        match &self.bar {
            Some(bar) => {
                bar.set_message(message);
                bar.set_position(step.step as u64);
            }
            None if step.step.is_multiple_of(self.lines_every) || step.step == view.last_step => {
                tracing::info!("step {}/{}  {message}", step.step, view.last_step);
            }
            None => {}
        }
        if self.pace.steps() == ESTIMATE_AFTER {
            self.log_estimate(view);
        }
        Ok(Flow::Continue)
    }

    fn finish(&mut self, _: &TrainerView<'_>) -> Result<(), BoxError> {
        if let Some(bar) = &self.bar {
            bar.abandon(); // leaves it where it stands: the run may have been stopped
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::{TrainerConfig, TrainerState};

    #[test]
    fn the_bar_starts_at_the_resumed_step_and_shows_the_speed() {
        let config = TrainerConfig { epochs: 10, ..Default::default() };
        let state = TrainerState { step: 20, ..TrainerState::new(&config) };
        let view = TrainerView {
            group: &crate::SingleProcess,
            stop: &AtomicBool::new(false),
            state: &state,
            config: &config,
            parameters: &[],
            last_step: 100,
            last_checkpoint: None,
        };
        let mut progress = ProgressBar::with_draw(5, Some(ProgressDrawTarget::hidden()));
        progress.start(&view).unwrap();
        let bar = progress.bar.clone().unwrap();
        assert_eq!((bar.position(), bar.length()), (20, Some(100)));
        let step = StepInfo {
            step: 21,
            epoch: 2,
            progress: 2.0,
            lr: 1.6e-4,
            loss: 0.123_456,
            parts: vec![],
            grad_norm: 1.0,
            images: 64,
            seconds: 2.0,
        };
        progress.after_step(&step, &view).unwrap();
        assert_eq!(bar.position(), 21);
        assert_eq!(
            bar.message(),
            "epoch 3/10  loss 0.1235  lr 1.60e-4  32.0 images/s  2.00 s/step  2m40s left"
        );
        progress.after_step(&StepInfo { step: 22, seconds: 4.0, ..step }, &view).unwrap();
        assert!(bar.message().contains("30.4 images/s"), "{}", bar.message());
        progress.finish(&view).unwrap();
        assert!(bar.is_finished());
    }
}
