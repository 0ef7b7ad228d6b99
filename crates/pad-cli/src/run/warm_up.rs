//! The time of an update before the first one.

use std::time::Instant;

use pad::{
    Mode,
    train::{Batches, EpochStream, Parameter, Task},
};

use super::Result;

/// The time of an update, seconds: that of a forward pass over the first batch, which changes
/// nothing, times what a backward pass adds to it. `None` without a batch that can be read.
pub fn step_seconds<T: Task>(
    task: &T,
    batches: &mut EpochStream<'_, T::Batch>,
    parameters: &[Parameter],
    frozen: usize,
    accumulate: usize,
) -> Result<Option<f64>> {
    // Enough to see a GPU's or the cache's first pass, which takes longer, go by.
    const SHORT: f64 = 0.5;
    let first = batches.epoch(0, 0)?.next();
    let Some(Ok(batch)) = first else { return Ok(None) };
    if task.images_in(&batch) == 0 {
        return Ok(None);
    }
    let forward = || -> Result<f64> {
        let start = Instant::now();
        let losses = task.losses(&batch, Mode::Eval)?;
        losses.total.to_dtype(candle_core::DType::F32)?.to_scalar::<f32>()?;
        Ok(start.elapsed().as_secs_f64())
    };
    let mut seconds = forward()?;
    if seconds < SHORT {
        seconds = forward()?;
    }
    let trained: usize = parameters.iter().map(|parameter| parameter.var.elem_count()).sum();
    let share = trained as f64 / (trained + frozen).max(1) as f64;
    // Gradients of activations cost a forward pass, those of weights another one.
    Ok(Some(seconds * (2.0 + share) * accumulate as f64))
}
