//! The optimiser's state of one parameter, and its form in files.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use pad_ops::{AdamWStep, AdamWSteps};

use super::{composed, fused};
use crate::{Error, Parameter, Result};

/// The state of one parameter.
#[derive(Debug)]
pub(super) struct Slot {
    /// Updates so far.
    pub(super) step: u64,
    pub(super) moments: Moments,
}

#[derive(Debug)]
pub(super) enum Moments {
    Fused { exp_avg: Vec<f32>, exp_avg_sq: Vec<f32> },
    Composed { exp_avg: Tensor, exp_avg_sq: Tensor, master: Option<Tensor> },
}

const EXP_AVG: &str = "exp_avg";
const EXP_AVG_SQ: &str = "exp_avg_sq";
const STEP: &str = "step";
const MASTER: &str = "master";

impl Slot {
    pub(super) fn new(parameter: &Parameter, allow_fused: bool) -> Result<Self> {
        let var = parameter.var.as_tensor();
        let fused = allow_fused
            && var.device().is_cpu()
            && var.dtype() == DType::F32
            && var.is_contiguous();
        let moments = if fused {
            let zeros = || vec![0.0; var.elem_count()];
            Moments::Fused { exp_avg: zeros(), exp_avg_sq: zeros() }
        } else {
            Moments::zeros(var).map_err(Error::candle("moments of", &parameter.name))?
        };
        Ok(Self { step: 0, moments })
    }

    pub(super) fn tensors(
        &self,
        parameter: &Parameter,
    ) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
        let shape = parameter.var.shape();
        let step = Tensor::new(i64::try_from(self.step).unwrap_or(i64::MAX), &Device::Cpu)?;
        let mut tensors = vec![(STEP, step)];
        match &self.moments {
            Moments::Fused { exp_avg, exp_avg_sq } => {
                let tensor = |values: &[f32]| Tensor::from_slice(values, shape, &Device::Cpu);
                tensors.push((EXP_AVG, tensor(exp_avg)?));
                tensors.push((EXP_AVG_SQ, tensor(exp_avg_sq)?));
            }
            Moments::Composed { exp_avg, exp_avg_sq, master } => {
                // Copies: the next step may change the moments in place.
                tensors.push((EXP_AVG, exp_avg.copy()?));
                tensors.push((EXP_AVG_SQ, exp_avg_sq.copy()?));
                tensors.extend(master.clone().map(|master| (MASTER, master)));
            }
        }
        Ok(tensors)
    }

    /// The slot that `state` describes, whose entries are known to fit.
    pub(super) fn restored(
        &self,
        parameter: &Parameter,
        state: &BTreeMap<String, Tensor>,
    ) -> candle_core::Result<Self> {
        let entry = |suffix: &str| {
            let name = format!("{}.{suffix}", parameter.name);
            state.get(&name).ok_or(candle_core::Error::CannotFindTensor { path: name })
        };
        let values = |suffix: &str| entry(suffix)?.flatten_all()?.to_vec1::<f32>();
        // A step may change them in place, and `state` is the caller's.
        let own = |suffix: &str| entry(suffix)?.to_device(parameter.var.device())?.copy();
        let moments = match &self.moments {
            Moments::Fused { .. } => {
                Moments::Fused { exp_avg: values(EXP_AVG)?, exp_avg_sq: values(EXP_AVG_SQ)? }
            }
            Moments::Composed { master, .. } => Moments::Composed {
                exp_avg: own(EXP_AVG)?,
                exp_avg_sq: own(EXP_AVG_SQ)?,
                master: match master {
                    Some(_) => Some(own(MASTER)?),
                    None => None,
                },
            },
        };
        let step = entry(STEP)?.to_scalar::<i64>()?;
        Ok(Self { step: u64::try_from(step).unwrap_or(0), moments })
    }
}

impl Moments {
    fn zeros(var: &Tensor) -> candle_core::Result<Self> {
        let dtype = if var.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let zeros = || Tensor::zeros(var.shape(), dtype, var.device());
        let half = matches!(var.dtype(), DType::F16 | DType::BF16);
        let master = if half { Some(var.detach().to_dtype(DType::F32)?) } else { None };
        Ok(Self::Composed { exp_avg: zeros()?, exp_avg_sq: zeros()?, master })
    }

    pub(super) fn update(
        &mut self,
        parameter: &Parameter,
        gradient: &Tensor,
        step: &AdamWStep,
        together: &mut AdamWSteps,
    ) -> candle_core::Result<()> {
        match self {
            Moments::Fused { exp_avg, exp_avg_sq } => {
                fused::update(&parameter.var, gradient, exp_avg, exp_avg_sq, step)
            }
            Moments::Composed { exp_avg, exp_avg_sq, master } => {
                let var = &parameter.var;
                if master.is_none() && together.push(var, gradient, [exp_avg, exp_avg_sq], step)? {
                    return Ok(());
                }
                composed::update(var, gradient, exp_avg, exp_avg_sq, master, step)
            }
        }
    }
}
