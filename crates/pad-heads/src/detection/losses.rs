//! Losses of logits and boxes, scalars with gradients.

use candle_core::{DType, Device, Result, Tensor};

/// Returns `sum(|x|)`, or its smooth form: `x^2 / (2 beta)` below `beta`, `|x| - beta / 2` from
/// there on.
pub(super) fn smooth_l1_sum(x: &Tensor, beta: f64) -> Result<Tensor> {
    let x = x.to_dtype(DType::F32)?.abs()?;
    if beta <= 0.0 {
        return x.sum_all();
    }
    let beta_like = Tensor::full(beta as f32, x.shape(), x.device())?;
    let low = x.minimum(&beta_like)?;
    ((low.sqr()? * (0.5 / beta))? + (x - low)?)?.sum_all()
}

/// Returns the sum of binary cross-entropies of logits (N) against 0 or 1 (N).
pub(super) fn binary_cross_entropy_sum(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let logits = logits.to_dtype(DType::F32)?;
    let soft = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    ((logits.relu()? - (&logits * targets)?)? + soft)?.sum_all()
}

/// Returns the rows `index` of `x` (N, ..).
pub(super) fn rows(x: &Tensor, index: Vec<u32>) -> Result<Tensor> {
    let count = index.len();
    x.index_select(&Tensor::from_vec(index, count, x.device())?, 0)
}

/// Returns boxes or their codes as a tensor (N, 4).
pub(super) fn table(values: &[[f32; 4]], device: &Device) -> Result<Tensor> {
    Tensor::from_vec(values.concat(), (values.len(), 4), device)
}

/// Returns a scalar 0 whose gradient to `x` is zero.
pub(super) fn nothing(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)?.zeros_like()?.mul(&x.to_dtype(DType::F32)?)?.sum_all()
}

/// Returns the values of a tensor of any shape.
pub(super) fn values(x: &Tensor) -> Result<Vec<f32>> {
    x.detach().to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_hand() {
        let x = Tensor::new(&[-3.0_f32, 0.5, 0.0], &Device::Cpu).unwrap();
        let scalar = |x: Result<Tensor>| x.unwrap().to_scalar::<f32>().unwrap();
        assert_eq!(scalar(smooth_l1_sum(&x, 0.0)), 3.5);
        assert_eq!(scalar(smooth_l1_sum(&x, 2.0)), 2.0 + 0.0625);
        let targets = Tensor::new(&[0.0_f32, 1.0, 1.0], &Device::Cpu).unwrap();
        let of = |x: f64| (1.0 + x.exp()).ln();
        let want = (of(-3.0) + of(-0.5) + of(0.0)) as f32;
        assert!((scalar(binary_cross_entropy_sum(&x, &targets)) - want).abs() < 1e-6);
        // No overflow.
        let x = Tensor::new(&[-300.0_f32, 300.0], &Device::Cpu).unwrap();
        let targets = Tensor::new(&[1.0_f32, 0.0], &Device::Cpu).unwrap();
        assert_eq!(scalar(binary_cross_entropy_sum(&x, &targets)), 600.0);
    }
}
