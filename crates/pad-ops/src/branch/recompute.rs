//! A composition of which only the input is kept: activation checkpointing where a branch has no
//! kernel.

use candle_core::{Tensor, Var};

use super::precision::Keep;
use crate::{
    Result,
    gpu::nary::{self, Backward, Gradients},
};

/// `compose(x)`, a branch composed of operators with the parameters `params`. With
/// [`Keep::Nothing`] as one operator whose backward composes again.
pub(super) fn composed(
    op: &'static str,
    x: &Tensor,
    params: &[&Tensor],
    keep: Keep,
    compose: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    // A tracked parameter that is computed from others would be differentiated beyond itself.
    let computed = |param: &&&Tensor| param.track_op() && !param.is_variable();
    // Nothing is saved by computing nothing again.
    let whole = keep == Keep::Activations || x.elem_count() == 0;
    if whole || !nary::tracks(x, params) || params.iter().any(|p| computed(&p)) {
        return compose(x);
    }
    let y = compose(&x.detach())?;
    let again = Again {
        x: x.detach(),
        params: params.iter().map(|&param| param.clone()).collect(),
        compose,
    };
    Ok(nary::apply(op, x, params, y, again)?)
}

struct Again<F> {
    x: Tensor,
    params: Vec<Tensor>,
    compose: F,
}

impl<F> Backward for Again<F>
where
    F: Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
{
    fn backward(&self, d_y: &Tensor, d_x: bool, wanted: &[bool]) -> candle_core::Result<Gradients> {
        let x = if d_x { Some(Var::from_tensor(&self.x)?) } else { None };
        let y = (self.compose)(x.as_ref().map_or(&self.x, Var::as_tensor))?;
        let mut store = (y * d_y)?.sum_all()?.backward()?;
        let d_x = x.and_then(|x| store.remove(&x));
        let params = self.params.iter().zip(wanted);
        let d_params = params.map(|(param, wanted)| match wanted {
            true => store.remove(param),
            false => None,
        });
        Ok(Gradients { d_x, d_params: d_params.collect() })
    }
}
