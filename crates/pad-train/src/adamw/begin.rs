//! An update that the host does not wait for: norm, clipping and step are left to the device.

use candle_core::{DType, Tensor};
use pad_ops::{AdamWStep, AdamWSteps, DeviceNorms};

use super::slot::{Moments, Slot};
use crate::{Error, Gradients, Parameter, Result, optimizer::StepBegun};

/// Enqueues the update of all parameters that train in `epoch` and have a gradient; `None`, and
/// nothing was done, unless all of it is a device's. `numbers`: of a parameter's `t`-th step.
pub(super) fn enqueue(
    parameters: &[Parameter],
    slots: &mut [Slot],
    numbers: impl Fn(&Parameter, u64) -> AdamWStep,
    gradients: &Gradients,
    losses: &[&Tensor],
    clip_norm: Option<f64>,
    epoch: usize,
) -> Result<Option<StepBegun>> {
    let factor = gradients.factor();
    let (mut together, mut used) = (AdamWSteps::new(), Vec::new());
    let (mut updated, mut without_gradient) = (Vec::new(), 0);
    for (index, ((parameter, slot), gradient)) in
        parameters.iter().zip(&*slots).zip(gradients.raw()).enumerate()
    {
        if !parameter.trains_in(epoch) {
            continue;
        }
        let Some(gradient) = gradient else {
            without_gradient += 1;
            continue;
        };
        let Moments::Composed { exp_avg, exp_avg_sq, master: None } = &slot.moments else {
            return Ok(None);
        };
        let wrap =
            |error: pad_ops::Error| Error::candle("AdamW step of", &parameter.name)(error.into());
        let step = numbers(parameter, slot.step + 1);
        let gradient = gradient.detach().contiguous();
        let gradient = gradient.map_err(Error::candle("gradient of", &parameter.name))?;
        let moments = [exp_avg, exp_avg_sq];
        if !together.push(&parameter.var, &gradient, moments, &step).map_err(wrap)? {
            return Ok(None);
        }
        used.push(gradient);
        updated.push(index);
    }
    let all =
        |error: pad_ops::Error| Error::candle("AdamW step of", "all parameters")(error.into());
    let wide = |loss: &&Tensor| match loss.dtype() {
        DType::BF16 | DType::F16 => loss.to_dtype(DType::F32),
        _ => Ok(loss.detach()),
    };
    let losses: Vec<Tensor> = losses
        .iter()
        .map(wide)
        .collect::<candle_core::Result<_>>()
        .map_err(Error::candle("reading loss", "total"))?;
    let (used, losses): (Vec<&Tensor>, Vec<&Tensor>) =
        (used.iter().collect(), losses.iter().collect());
    let Some(norms) = DeviceNorms::enqueue(&used, &losses, factor, clip_norm).map_err(all)? else {
        return Ok(None);
    };
    together.run_if_finite(&norms).map_err(all)?;
    let norms = norms.fetch().map_err(all)?;
    for &index in &updated {
        slots[index].step += 1;
    }
    Ok(Some(StepBegun::coming(norms, factor, updated, without_gradient)))
}
