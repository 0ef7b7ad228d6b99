//! The time and the memory of an update before the first one.

use std::time::Instant;

use candle_core::DType;
use pad::{
    Mode,
    rng::Key,
    train::{Batches, EpochStream, Parameter, Task},
};

use super::{Result, cost::Memory, peak_mib};

/// What a forward and a backward pass over the first batch show; nothing is changed by them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmUp {
    /// Time of an update, seconds. `None` without a batch that can be read.
    pub step_seconds: Option<f64>,
    /// Memory that updates take on top, bytes: what the optimiser holds from the first one on.
    optimizer: usize,
    /// Whether the tensors are in the memory of the process.
    on_cpu: bool,
}

impl WarmUp {
    /// Sends the first batch through the network and back. `averaged`: whether averages of the
    /// weights are kept.
    pub fn new<T: Task>(
        task: &T,
        batches: &mut EpochStream<'_, T::Batch>,
        parameters: &[Parameter],
        accumulate: usize,
        averaged: bool,
    ) -> Result<Self> {
        // Two moments; the sum of the gradients, beside those of a micro-batch; the averages.
        let copies = 2 + usize::from(accumulate > 1) + usize::from(averaged);
        let values: usize = parameters.iter().map(|parameter| parameter.var.elem_count()).sum();
        let on_cpu = parameters.iter().all(|parameter| parameter.var.device().is_cpu());
        let optimizer = copies * values * size_of::<f32>();
        let step_seconds =
            unchanged(parameters, || seconds(task, batches))?.map(|each| each * accumulate as f64);
        Ok(Self { step_seconds, optimizer, on_cpu })
    }

    /// The peak memory of the run, from that of the process so far.
    pub fn peak(&self) -> Memory {
        match (peak_mib(), self.step_seconds) {
            (Some(mib), Some(_)) if self.on_cpu => {
                Memory::About(((mib as usize) << 20) + self.optimizer)
            }
            _ => Memory::Unknown,
        }
    }
}

/// Does `work`, which trains nothing, and gives buffers the values that they had before it: batch
/// norms count each batch that they see in training.
fn unchanged<T>(parameters: &[Parameter], work: impl FnOnce() -> Result<T>) -> Result<T> {
    let buffers = parameters.iter().filter(|parameter| !parameter.trainable);
    let before = buffers.map(|buffer| Ok((&buffer.var, buffer.var.as_tensor().copy()?)));
    let before: Vec<_> = before.collect::<Result<_>>()?;
    let done = work()?;
    before.iter().try_for_each(|(var, values)| var.set(values))?;
    Ok(done)
}

/// The time of both passes over the first batch, seconds.
fn seconds<T: Task>(task: &T, batches: &mut EpochStream<'_, T::Batch>) -> Result<Option<f64>> {
    // Enough to see a GPU's or the cache's first pass, which takes longer, go by.
    const SHORT: f64 = 1.0;
    let first = batches.epoch(0, 0)?.next();
    let Some(Ok(batch)) = first else { return Ok(None) };
    if task.images_in(&batch) == 0 {
        return Ok(None);
    }
    let pass = || -> Result<f64> {
        let start = Instant::now();
        let losses = task.losses(&batch, Mode::Train(Key::new(0)))?;
        losses.total.to_dtype(DType::F32)?.to_scalar::<f32>()?;
        let _gradients = losses.total.backward()?;
        losses.total.device().synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    };
    let seconds = pass()?;
    if seconds < SHORT { pass().map(Some) } else { Ok(Some(seconds)) }
}
