//! Comparison of tensors, relative to the wanted tensor's own scale.

use candle_core::{DType, Tensor};

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor
        .to_dtype(DType::F64)
        .and_then(|tensor| tensor.flatten_all()?.to_vec1())
        .expect("a numeric tensor")
}

/// Returns the largest absolute value.
pub fn largest(tensor: &Tensor) -> f64 {
    flat(tensor).iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// Returns `max |got - want| / max |want|`; infinite if a value is NaN.
pub fn relative_difference(got: &Tensor, want: &Tensor) -> f64 {
    let (got, want) = (flat(got), flat(want));
    let scale = want.iter().fold(0.0_f64, |scale, value| scale.max(value.abs()));
    got.iter().zip(&want).fold(0.0, |worst: f64, (got, want)| {
        let difference = (got - want).abs();
        worst.max(if difference.is_nan() { f64::INFINITY } else { difference / scale })
    })
}

/// Asserts that two tensors agree: same shape, `want` not all zero,
/// `max |got - want| <= tolerance * max |want|`.
///
/// # Panics
/// With the tensor's name, the worst place, both values there and the share of values out of
/// tolerance.
#[track_caller]
pub fn close(name: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), want.dims(), "{name}: shape (got, want)");
    let (got, want) = (flat(got), flat(want));
    let scale = want.iter().fold(0.0_f64, |scale, value| scale.max(value.abs()));
    assert!(scale > 0.0, "{name}: the wanted tensor is all zero, a comparison would prove nothing");
    let out = |i: usize| {
        let difference = (got[i] - want[i]).abs();
        difference.is_nan() || difference > tolerance * scale
    };
    let bad = (0..got.len()).filter(|&i| out(i)).count();
    if bad == 0 {
        return;
    }
    let worst = (0..got.len())
        .max_by(|&a, &b| {
            let difference = |i: usize| {
                let d = (got[i] - want[i]).abs();
                if d.is_nan() { f64::INFINITY } else { d }
            };
            difference(a).total_cmp(&difference(b))
        })
        .unwrap_or(0);
    panic!(
        "{name}: got {} but want {} at flat index {worst} ({:.2e} of the largest value {scale:.4e}, allowed \
         {tolerance:.0e}); {bad} of {} values are out",
        got[worst],
        want[worst],
        (got[worst] - want[worst]).abs() / scale,
        got.len(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn catches_what_it_should() {
        let want = Tensor::new(&[1.0_f32, -2.0], &Device::Cpu).unwrap();
        close("same", &want, &want, 0.0);
        close("near", &(&want + 1e-5).unwrap(), &want, 1e-5);
        let fails = |got: Tensor| {
            let compare = std::panic::AssertUnwindSafe(|| close("x", &got, &want, 1e-5));
            std::panic::catch_unwind(compare)
        };
        let new = |values: [f32; 2]| Tensor::new(&values, &Device::Cpu).unwrap();
        for got in [new([1.0001, -2.0]), new([f32::NAN, -2.0])] {
            assert!(fails(got).is_err());
        }
    }
}
