//! `exp` and the normal distribution function, without branches so that loops over them vectorise.

/// `exp(x)`, relative error below 2e-7; 0 below -87.3, infinity above 88.7, NaN for NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; a polynomial (Taylor to degree 7) for `exp(r)`, the
/// exponent by bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.3, 88.72);
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_HIGH, clamped);
    let r = n.mul_add(-LN2_LOW, r);
    let p = 1.0 / 5040.0;
    let p = r.mul_add(p, 1.0 / 720.0);
    let p = r.mul_add(p, 1.0 / 120.0);
    let p = r.mul_add(p, 1.0 / 24.0);
    let p = r.mul_add(p, 1.0 / 6.0);
    let p = r.mul_add(p, 0.5);
    let p = r.mul_add(p, 1.0);
    let p = r.mul_add(p, 1.0);
    // 2^n as 2^(n/2) twice, so that n = 128 does not overflow the exponent.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    let low = f32::from_bits(((half + 127) << 23) as u32);
    let high = f32::from_bits(((n - half + 127) << 23) as u32);
    let result = p * low * high;
    if x < -87.3 {
        0.0
    } else if x > 88.72 {
        f32::INFINITY
    } else {
        result // NaN has passed through the clamp and the polynomial
    }
}

/// Coefficients of `R` in `erfc(z) = exp(-z^2) R(1 / (1 + 0.47 z))` for `z >= 0`: a weighted
/// least-squares fit in 40-digit arithmetic over `z` in `0..=10`, relative error 9e-9 before
/// rounding to `f32`.
const ERFC: [f32; 10] = [
    1.174_289_6e-5,
    0.264_848_7,
    0.268_962_1,
    0.210_272,
    0.286_160_86,
    -0.203_189_61,
    0.567_750_5,
    -0.644_543,
    0.303_719_9,
    -0.053_993_236,
];

/// The standard normal distribution function and its density, `(cdf(x), pdf(x))`.
///
/// Absolute error below 3e-7.
#[inline(always)]
pub(crate) fn normal(x: f32) -> (f32, f32) {
    const INV_SQRT_2PI: f32 = 0.398_942_3;
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / 0.47_f32.mul_add(z, 1.0);
    let mut p = ERFC[9];
    let mut degree = 9;
    while degree > 0 {
        degree -= 1;
        p = t.mul_add(p, ERFC[degree]);
    }
    let gauss = exp(-z * z);
    let tail = 0.5 * gauss * p;
    (if x < 0.0 { tail } else { 1.0 - tail }, INV_SQRT_2PI * gauss)
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_everywhere() {
        let mut worst = 0.0_f64;
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let want = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - want).abs() / want);
        }
        assert!(worst < 2e-7, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1e30), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(1e30), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn normal_is_close_everywhere() {
        // Oracle: the error function's Taylor series in f64, which converges well for |x| < 4.
        let cdf = |x: f64| {
            let (mut term, mut sum) = (x, x);
            for n in 1..200 {
                term *= -x * x / 2.0 / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            0.5 + sum / (std::f64::consts::TAU).sqrt()
        };
        for i in -4000..=4000 {
            let x = i as f32 * 1e-3;
            let (got, density) = normal(x);
            assert!((f64::from(got) - cdf(f64::from(x))).abs() < 3e-7, "cdf({x}) = {got}");
            let want = (-0.5 * f64::from(x).powi(2)).exp() / std::f64::consts::TAU.sqrt();
            assert!((f64::from(density) - want).abs() < 1e-7, "pdf({x}) = {density}");
        }
        assert_eq!(normal(40.0), (1.0, 0.0));
        assert_eq!(normal(-40.0), (0.0, 0.0));
        assert!(normal(f32::NAN).0.is_nan());
    }
}
