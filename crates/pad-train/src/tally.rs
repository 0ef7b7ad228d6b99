//! Losses of one optimisation step, gathered over its micro-batches.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Error, Losses, Result, StepInfo, TrainerState};

/// Losses and images of a step, summed over micro-batches.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) loss: f64,
    parts: Vec<(&'static str, f64)>,
    images: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, losses: &Losses, images: usize) -> Result<()> {
        let total = scalar("total", &losses.total)?;
        let parts = losses.parts.iter().map(|(name, tensor)| Ok((*name, scalar(name, tensor)?)));
        self.add_numbers(total, &parts.collect::<Result<Vec<_>>>()?, images);
        Ok(())
    }

    pub(crate) fn add_numbers(&mut self, total: f64, parts: &[(&'static str, f64)], images: usize) {
        self.loss += total;
        self.images += images;
        for &(name, value) in parts {
            match self.parts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += value,
                None => self.parts.push((name, value)),
            }
        }
    }

    /// This process's sums as a message to the others. Parts that it does not know (all of its
    /// images were unreadable) are absent.
    pub(crate) fn to_message(&self) -> Message {
        Message {
            loss: self.loss.to_bits(),
            images: self.images,
            parts: self.parts.iter().map(|(name, sum)| (name.to_string(), sum.to_bits())).collect(),
        }
    }

    /// The sum over the messages of all processes.
    pub(crate) fn joined(mut self, said: &[Message]) -> Self {
        self.loss = said.iter().map(|theirs| f64::from_bits(theirs.loss)).sum();
        self.images = said.iter().map(|theirs| theirs.images).sum();
        for (name, sum) in &mut self.parts {
            let theirs = said.iter().filter_map(|theirs| theirs.parts.get(*name));
            *sum = theirs.map(|&bits| f64::from_bits(bits)).sum();
        }
        self
    }

    /// Whether no image was in the step.
    pub(crate) fn is_empty(&self) -> bool {
        self.images == 0
    }

    pub(crate) fn scale(mut self, factor: f64) -> Self {
        self.loss *= factor;
        self.parts.iter_mut().for_each(|(_, sum)| *sum *= factor);
        self
    }

    /// `state` is the one before the step.
    pub(crate) fn info(
        self,
        state: &TrainerState,
        lr: f64,
        grad_norm: f64,
        seconds: f64,
    ) -> StepInfo {
        StepInfo {
            step: state.step + 1,
            epoch: state.epoch,
            progress: state.progress(),
            lr,
            loss: self.loss,
            parts: self.parts,
            grad_norm,
            images: self.images,
            seconds,
        }
    }
}

/// A [`Tally`] as a message; floats as bits, because JSON has no NaN.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Message {
    loss: u64,
    images: usize,
    parts: BTreeMap<String, u64>,
}

fn scalar(name: &str, tensor: &Tensor) -> Result<f64> {
    if tensor.rank() != 0 {
        return Err(Error::NotScalar { name: name.into(), found: tensor.dims().to_vec() });
    }
    let value = match tensor.dtype() {
        DType::F64 => tensor.to_scalar::<f64>(),
        // Not straight to f64, which Metal lacks.
        _ => tensor.to_dtype(DType::F32).and_then(|t| t.to_scalar::<f32>()).map(f64::from),
    };
    value.map_err(Error::candle("reading loss", name))
}
