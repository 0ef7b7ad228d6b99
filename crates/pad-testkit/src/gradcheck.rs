//! Analytic gradients against central finite differences, through a residual connection.
//!
//! A cut graph gives a *wrong* gradient through a residual rather than none, so the check must
//! contain one: the loss is `sum(probe * (f(x) + sum of x's own values))` where shapes allow it,
//! else `sum(probe * f(x))` plus the sum of squares of every input.

use candle_core::{DType, Device, Result, Tensor, Var};

/// How finely differences can be taken.
#[derive(Clone, Copy, Debug)]
pub struct Precision {
    /// Step along a direction of unit root-mean-square.
    pub step: f64,
    /// Allowed difference, relative to the gradient's length.
    pub tolerance: f64,
}

impl Precision {
    /// For operators in `f64`.
    pub const F64: Self = Self { step: 1e-5, tolerance: 1e-7 };
    /// For operators that only exist in `f32`.
    pub const F32: Self = Self { step: 1e-2, tolerance: 5e-3 };
}

/// Deterministic numbers in about [-1, 1), different for every `salt`.
pub fn numbers(shape: &[usize], dtype: DType, salt: u64) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count as u64)
        .map(|i| {
            // splitmix64
            let mut z = (i + 1 + salt.wrapping_mul(1 << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
        .and_then(|tensor| tensor.to_dtype(dtype))
        .expect("a floating dtype")
}

/// Checks the gradient of `f` to every input, along three directions each.
///
/// # Panics
/// If `f` fails, an input gets no gradient, or a directional derivative is off.
#[track_caller]
pub fn gradcheck(
    name: &str,
    inputs: &[Tensor],
    precision: Precision,
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    if let Err(error) = check(name, inputs, precision, f) {
        panic!("{name}: {error}");
    }
}

#[track_caller]
fn check(
    name: &str,
    inputs: &[Tensor],
    precision: Precision,
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<()> {
    let probe = {
        let out = f(inputs)?;
        numbers(out.dims(), out.dtype(), 99)
    };
    // In f64 outside the operator, so that only the operator's own rounding counts.
    let loss = |inputs: &[Tensor]| -> Result<Tensor> {
        let mut loss =
            (f(inputs)?.to_dtype(DType::F64)? * probe.to_dtype(DType::F64)?)?.sum_all()?;
        for input in inputs {
            loss = (loss + input.to_dtype(DType::F64)?.sqr()?.sum_all()?)?; // the residual
        }
        Ok(loss)
    };
    let vars: Vec<Var> = inputs.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let tracked: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let grads = loss(&tracked)?.backward()?;
    for (which, var) in vars.iter().enumerate() {
        let Some(grad) = grads.get(var.as_tensor()) else {
            panic!("{name}: input {which} gets no gradient");
        };
        let grad = grad.to_dtype(DType::F64)?;
        let length = grad.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
        for direction in 0..3 {
            let u = numbers(var.dims(), var.dtype(), 1000 * which as u64 + direction + 7)
                .affine(3_f64.sqrt(), 0.0)?; // unit root-mean-square
            let analytic = (&grad * u.to_dtype(DType::F64)?)?.sum_all()?.to_scalar::<f64>()?;
            let mut sides = [0.0; 2];
            for (side, sign) in sides.iter_mut().zip([1.0, -1.0]) {
                let mut moved = inputs.to_vec();
                moved[which] = (&inputs[which] + u.affine(sign * precision.step, 0.0)?)?;
                *side = loss(&moved)?.to_scalar::<f64>()?;
            }
            let numeric = (sides[0] - sides[1]) / (2.0 * precision.step);
            let off = (analytic - numeric).abs() / length.max(1e-12);
            assert!(
                off <= precision.tolerance,
                "{name}: input {which}, direction {direction}: autograd {analytic:.8} but finite differences \
                 {numeric:.8} ({off:.1e} of the gradient's length)"
            );
        }
    }
    Ok(())
}
