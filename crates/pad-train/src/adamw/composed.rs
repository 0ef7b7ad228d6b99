//! The update in candle's operations: every device, every float dtype. The lines are those of [`super::fused`].

use candle_core::{Result, Tensor, Var};

use super::Coefficients;

pub(super) fn update(
    var: &Var,
    gradient: &Tensor,
    exp_avg: &mut Tensor,
    exp_avg_sq: &mut Tensor,
    master: &mut Option<Tensor>,
    c: &Coefficients,
) -> Result<()> {
    let dtype = exp_avg.dtype();
    let p = match master {
        Some(master) => master.clone(),
        None => var.detach(),
    };
    let g = (gradient.detach().to_dtype(dtype)? * c.gradient_factor)?;
    let p = (p * c.keep)?;
    let m = (&*exp_avg + ((&g - &*exp_avg)? * c.toward)?)?;
    let v = ((&*exp_avg_sq * c.beta2)? + ((&g * (1.0 - c.beta2))? * &g)?)?;
    let denominator = ((v.sqrt()? / c.root_correction)? + c.eps)?;
    let p = (p - ((&m * c.step_size)? / denominator)?)?;
    var.set(&p.to_dtype(var.dtype())?)?;
    if let Some(master) = master {
        *master = p;
    }
    (*exp_avg, *exp_avg_sq) = (m, v);
    Ok(())
}
