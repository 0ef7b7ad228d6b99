//! The activations of an MLP.

use candle_core::{D, Tensor};

use super::Activation;
use crate::Result;

/// # Shapes
/// `x` (.., H) -> the same; (.., 2 H) -> (.., H) for [`Activation::SwiGlu`].
pub(super) fn apply(activation: Activation, x: &Tensor) -> Result<Tensor> {
    Ok(match activation {
        Activation::Gelu => pad_ops::gelu(x)?,
        // x sigmoid(1.702 x), by way of the one function of the kind that candle differentiates in
        // one step.
        Activation::QuickGelu => ((x * 1.702)?.silu()? / 1.702)?,
        Activation::SwiGlu => {
            let half = x.dim(D::Minus1)? / 2;
            let gate = x.narrow(D::Minus1, 0, half)?.silu()?;
            (gate * x.narrow(D::Minus1, half, half)?)?
        }
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn values_and_gradients() {
        let x = [-30.0_f64, -1.5, -0.2, 0.0, 0.7, 3.0];
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let quick = |x: f64| x * sigmoid(1.702 * x);
        let var = Var::new(&x, &Device::Cpu).unwrap();
        let y = apply(Activation::QuickGelu, var.as_tensor()).unwrap();
        let slope = y.sum_all().unwrap().backward().unwrap();
        let slope = slope.get(var.as_tensor()).unwrap().to_vec1::<f64>().unwrap();
        for (i, y) in y.to_vec1::<f64>().unwrap().into_iter().enumerate() {
            assert!((y - quick(x[i])).abs() < 1e-12, "{}: {y}", x[i]);
            let step = 1e-6;
            let want = (quick(x[i] + step) - quick(x[i] - step)) / (2.0 * step);
            assert!((slope[i] - want).abs() < 1e-7, "{}: {} {want}", x[i], slope[i]);
        }
        let y = apply(Activation::SwiGlu, var.as_tensor()).unwrap().to_vec1::<f64>().unwrap();
        for (i, y) in y.into_iter().enumerate() {
            assert!((y - x[i] * sigmoid(x[i]) * x[3 + i]).abs() < 1e-12, "{i}: {y}");
        }
    }
}
