//! The cosine distance that objectives with a teacher minimise.

use candle_core::{D, Tensor};

use crate::Result;

/// Returns `2 - 2 cos` of each pair of vectors, the squared distance of their unit vectors: (..,
/// D), (.., D) -> (..).
pub(crate) fn cosine_distance(pred: &Tensor, target: &Tensor) -> Result<Tensor> {
    let unit = |x: &Tensor| -> Result<Tensor> {
        // A vector of zeros has no direction: the eps keeps it, and its gradient, finite.
        let norm = (x.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
        Ok(x.broadcast_div(&norm)?)
    };
    let cosine = (unit(pred)? * unit(target)?)?.sum(D::Minus1)?;
    Ok(((cosine * -2.0)? + 2.0)?)
}
