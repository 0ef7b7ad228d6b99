//! The weights with which the samples along one axis become those of another length.

use super::TableResize;

/// Row `i` of `to`: the weights of the `from` samples in it. Row major; neither length is 0.
pub(super) fn weights(way: TableResize, from: usize, to: usize) -> Vec<f32> {
    let step = from as f64 / to as f64;
    match way {
        TableResize::Bicubic => repeated(from, to, step, 2, |x| cubic(x, -0.75)),
        TableResize::Dinov2 => {
            let step = from as f64 / (to as f64 + 0.1);
            repeated(from, to, step, 2, |x| cubic(x, -0.75))
        }
        TableResize::Bilinear => repeated(from, to, step, 1, linear),
        TableResize::BicubicAntialias => antialiased(from, to, 2.0, |x| cubic(x, -0.5)),
        TableResize::BilinearAntialias => antialiased(from, to, 1.0, linear),
    }
}

fn linear(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// Keys' kernel.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((x - 5.0) * x + 8.0) * x * a - 4.0 * a
    } else {
        0.0
    }
}

/// The `2 taps` samples around each centre; beyond the ends the last one is repeated.
fn repeated(from: usize, to: usize, step: f64, taps: i32, kernel: impl Fn(f64) -> f64) -> Vec<f32> {
    let mut weights = vec![0.0_f32; to * from];
    for (i, row) in weights.chunks_exact_mut(from).enumerate() {
        let centre = (i as f64 + 0.5) * step - 0.5;
        let first = centre.floor();
        for tap in 1 - taps..=taps {
            let place = first + f64::from(tap);
            let clamped = place.clamp(0.0, (from - 1) as f64) as usize;
            row[clamped] += kernel(centre - place) as f32;
        }
    }
    weights
}

/// The samples within `reach` of each centre (wider where there are fewer new samples than old),
/// none beyond the ends, normalised: `interpolate(antialias=True)` of PyTorch.
fn antialiased(from: usize, to: usize, reach: f64, kernel: impl Fn(f64) -> f64) -> Vec<f32> {
    let step = from as f64 / to as f64;
    let width = step.max(1.0);
    let mut weights = vec![0.0_f32; to * from];
    for (i, row) in weights.chunks_exact_mut(from).enumerate() {
        let centre = (i as f64 + 0.5) * step;
        let first = ((centre - reach * width + 0.5).max(0.0)) as usize;
        let last = ((centre + reach * width + 0.5) as usize).min(from);
        let taps: Vec<f64> =
            (first..last).map(|j| kernel((j as f64 + 0.5 - centre) / width)).collect();
        let sum: f64 = taps.iter().sum();
        for (value, tap) in row[first..last].iter_mut().zip(taps) {
            *value = (tap / sum) as f32;
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAYS: [TableResize; 5] = [
        TableResize::Bicubic,
        TableResize::BicubicAntialias,
        TableResize::Bilinear,
        TableResize::BilinearAntialias,
        TableResize::Dinov2,
    ];

    #[test]
    fn constants_stay_and_so_does_the_same_length() {
        for way in WAYS {
            for (from, to) in [(4, 4), (4, 7), (7, 3), (1, 5), (5, 1)] {
                let weights = weights(way, from, to);
                for row in weights.chunks_exact(from) {
                    let sum: f32 = row.iter().sum();
                    assert!((sum - 1.0).abs() < 1e-5, "{way:?} {from} {to}: {row:?}");
                }
                if from == to && way != TableResize::Dinov2 {
                    for (i, row) in weights.chunks_exact(from).enumerate() {
                        assert!((row[i] - 1.0).abs() < 1e-6, "{way:?}: {row:?}");
                    }
                }
            }
        }
    }
}
