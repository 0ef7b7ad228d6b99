//! The update of tensors: every device, every float dtype. The lines are those of [`super::fused`].

use candle_core::{Error, Result, Tensor, Var};

use pad_ops::{AdamWStep, AdamWUpdate, adamw_step};

pub(super) fn update(
    var: &Var,
    gradient: &Tensor,
    exp_avg: &mut Tensor,
    exp_avg_sq: &mut Tensor,
    master: &mut Option<Tensor>,
    step: &AdamWStep,
) -> Result<()> {
    let dtype = exp_avg.dtype();
    let p = match master {
        Some(master) => master.clone(),
        None => var.detach(),
    };
    let gradient = gradient.detach().to_dtype(dtype)?;
    let moved = adamw_step(&p, &gradient, exp_avg, exp_avg_sq, step).map_err(Error::wrap)?;
    let AdamWUpdate { p, exp_avg: m, exp_avg_sq: v } = moved;
    var.set(&p.to_dtype(var.dtype())?)?;
    if let Some(master) = master {
        *master = p;
    }
    (*exp_avg, *exp_avg_sq) = (m, v);
    Ok(())
}
