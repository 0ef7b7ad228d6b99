//! A progress bar with loss, images per second and time left; log lines where there is no terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar as Bar, ProgressStyle};

use crate::{Hook, Result, StepInfo};

/// A bar on standard error, or, if that is no terminal, a `tracing` line every so many steps.
#[derive(Debug)]
pub struct ProgressBar {
    bar: Option<Bar>,
    line_every: usize,
    rate: Option<f64>,
}

impl ProgressBar {
    /// A bar; without a terminal, a line every `line_every` steps.
    pub fn new(line_every: usize) -> Self {
        Self { bar: None, line_every: line_every.max(1), rate: None }
    }
}

impl Hook for ProgressBar {
    fn name(&self) -> &'static str {
        "progress"
    }

    fn before_run(&mut self, done: usize, steps: usize) -> Result<()> {
        if std::io::stderr().is_terminal() {
            let bar = Bar::new(steps as u64).with_position(done as u64);
            let template = "{bar:30} step {pos}/{len} {msg} {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.reset_eta();
            self.bar = Some(bar);
        }
        Ok(())
    }

    fn after_step(&mut self, info: &mut StepInfo) -> Result<()> {
        let now = info.images as f64 / info.seconds.max(1e-9);
        // Smoothed: single steps are noisy.
        let rate = self.rate.map_or(now, |rate| 0.9 * rate + 0.1 * now);
        self.rate = Some(rate);
        let (step, steps, loss, lr) = (info.step, info.steps, info.loss, info.lr);
        match &self.bar {
            Some(bar) => {
                bar.set_message(format!("loss {loss:.4} lr {lr:.2e} {rate:.1} images/s"));
                bar.set_position(step as u64);
                if step == steps {
                    bar.finish();
                }
            }
            None if step % self.line_every == 0 || step == steps => {
                tracing::info!("step {step}/{steps} loss {loss:.4} lr {lr:.2e} {rate:.1} images/s");
            }
            None => {}
        }
        Ok(())
    }
}
