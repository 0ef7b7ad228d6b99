//! A bar on the terminal; without a terminal, a line now and then.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{BoxError, Flow, Hook, StepInfo, TrainerView};

/// Weight of the newest step in the running mean of speeds.
const NEWEST: f64 = 0.1;

/// Shows step, loss, learning rate, speed and time left: as a bar if standard error is a terminal, else as a `tracing`
/// line (level info) every so many steps.
#[derive(Debug)]
pub struct Progress {
    lines_every: usize,
    bar: Option<ProgressBar>,
    draw: Option<ProgressDrawTarget>,
    speed: Option<Speed>,
}

/// Running means.
#[derive(Clone, Copy, Debug)]
struct Speed {
    images_per_s: f64,
    seconds_per_step: f64,
}

impl Progress {
    /// A bar if standard error is a terminal, else a line every `lines_every` steps (at least 1).
    pub fn new(lines_every: usize) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self::with_draw(lines_every, terminal.then(ProgressDrawTarget::stderr))
    }

    fn with_draw(lines_every: usize, draw: Option<ProgressDrawTarget>) -> Self {
        Self { lines_every: lines_every.max(1), bar: None, draw, speed: None }
    }

    fn message(&mut self, step: &StepInfo, view: &TrainerView<'_>) -> String {
        let now = Speed { images_per_s: step.images_per_s(), seconds_per_step: step.seconds };
        let speed = self.speed.map_or(now, |old| old.mixed(now));
        self.speed = Some(speed);
        let left = view.last_step.saturating_sub(step.step) as f64 * speed.seconds_per_step;
        format!(
            "epoch {}/{}  loss {:.4}  lr {:.2e}  {:.1} images/s  {} left",
            step.epoch + 1,
            view.config.epochs,
            step.loss,
            step.lr,
            speed.images_per_s,
            duration(left)
        )
    }
}

impl Hook for Progress {
    fn name(&self) -> &str {
        "progress"
    }

    fn start(&mut self, view: &TrainerView<'_>) -> Result<(), BoxError> {
        let Some(draw) = self.draw.take() else { return Ok(()) };
        let bar = ProgressBar::with_draw_target(Some(view.last_step as u64), draw);
        bar.set_style(ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}")?);
        bar.set_position(view.state.step as u64);
        self.bar = Some(bar);
        Ok(())
    }

    fn after_step(&mut self, step: &StepInfo, view: &TrainerView<'_>) -> Result<Flow, BoxError> {
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
        Ok(Flow::Continue)
    }

    fn finish(&mut self, _: &TrainerView<'_>) -> Result<(), BoxError> {
        if let Some(bar) = &self.bar {
            bar.abandon(); // leaves it where it stands: the run may have been stopped
        }
        Ok(())
    }
}

impl Speed {
    fn mixed(self, now: Speed) -> Self {
        let mix = |old: f64, new: f64| old + (new - old) * NEWEST;
        Self {
            images_per_s: mix(self.images_per_s, now.images_per_s),
            seconds_per_step: mix(self.seconds_per_step, now.seconds_per_step),
        }
    }
}

/// `7s`, `2m05s`, `31h07m`.
fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64; // saturates
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TrainerConfig, TrainerState};

    #[test]
    fn durations() {
        let shown = [0.4, 7.0, 125.0, 3599.0, 112_020.0, f64::NAN].map(duration);
        assert_eq!(shown, ["0s", "7s", "2m05s", "59m59s", "31h07m", "0s"]);
    }

    #[test]
    fn the_bar_starts_at_the_resumed_step_and_tells_the_speed() {
        let config = TrainerConfig { epochs: 10, ..Default::default() };
        let state = TrainerState { step: 20, ..TrainerState::new(&config) };
        let view = TrainerView {
            group: &crate::SingleProcess,
            state: &state,
            config: &config,
            parameters: &[],
            last_step: 100,
            last_checkpoint: None,
        };
        let mut progress = Progress::with_draw(5, Some(ProgressDrawTarget::hidden()));
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
        assert_eq!(bar.message(), "epoch 3/10  loss 0.1235  lr 1.60e-4  32.0 images/s  2m38s left");
        progress.after_step(&StepInfo { step: 22, seconds: 4.0, ..step }, &view).unwrap();
        assert!(bar.message().contains("30.4 images/s"), "{}", bar.message());
        progress.finish(&view).unwrap();
        assert!(bar.is_finished());
    }
}
