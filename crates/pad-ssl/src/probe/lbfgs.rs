//! Limited-memory BFGS (Nocedal, 1980) with a backtracking line search, for smooth convex
//! functions.

use crate::Result;

/// Pairs of steps and gradient differences that are kept.
const HISTORY: usize = 10;
/// Share of the predicted decrease that a step must reach (Armijo's condition).
const DECREASE: f64 = 1e-4;
/// Halvings of a step before the search ends.
const HALVINGS: usize = 30;

/// When a search ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Maximum number of iterations.
    pub(super) iterations: usize,
    /// The search has converged once no entry of the gradient is larger.
    pub(super) tolerance: f64,
}

/// Minimises `f`, which returns the value and the gradient at a point, from `x` on. Returns the
/// point reached.
pub(super) fn minimize(
    mut x: Vec<f64>,
    limits: Limits,
    mut f: impl FnMut(&[f64]) -> Result<(f64, Vec<f64>)>,
) -> Result<Vec<f64>> {
    let (mut value, mut grad) = f(&x)?;
    let mut pairs: Vec<Pair> = Vec::new();
    for _ in 0..limits.iterations {
        if grad.iter().all(|g| g.abs() <= limits.tolerance) {
            break;
        }
        let mut direction = two_loops(&grad, &pairs);
        let mut slope = dot(&grad, &direction);
        if slope >= 0.0 {
            // The history has lost its meaning to rounding: steepest descent.
            pairs.clear();
            direction = grad.iter().map(|g| -g).collect();
            slope = dot(&grad, &direction);
        }
        // Before a curvature is known, a step of length 1 at most.
        let first = 1.0 / grad.iter().map(|g| g.abs()).sum::<f64>().max(1.0);
        let mut length = if pairs.is_empty() { first } else { 1.0 };
        let mut next = None;
        for _ in 0..HALVINGS {
            let point: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + length * d).collect();
            let (found, gradient) = f(&point)?;
            if found <= value + DECREASE * length * slope {
                next = Some((point, found, gradient));
                break;
            }
            length /= 2.0;
        }
        // No step goes down: the value is as low as rounding lets it be.
        let Some((point, found, gradient)) = next else { break };
        let step: Vec<f64> = point.iter().zip(&x).map(|(a, b)| a - b).collect();
        let change: Vec<f64> = gradient.iter().zip(&grad).map(|(a, b)| a - b).collect();
        let curvature = dot(&step, &change);
        if curvature > 1e-12 * dot(&change, &change) {
            if pairs.len() == HISTORY {
                pairs.remove(0);
            }
            pairs.push(Pair { step, change, curvature });
        }
        (x, value, grad) = (point, found, gradient);
    }
    Ok(x)
}

/// A step, the change of the gradient along it, and their product.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    curvature: f64,
}

/// Returns the direction `-H grad`, H being the inverse Hessian that the pairs describe.
fn two_loops(grad: &[f64], pairs: &[Pair]) -> Vec<f64> {
    let mut q: Vec<f64> = grad.iter().map(|g| -g).collect();
    let mut factors = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let factor = dot(&pair.step, &q) / pair.curvature;
        add(&mut q, -factor, &pair.change);
        factors.push(factor);
    }
    if let Some(last) = pairs.last() {
        let scale = last.curvature / dot(&last.change, &last.change);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for (pair, factor) in pairs.iter().zip(factors.into_iter().rev()) {
        let other = dot(&pair.change, &q) / pair.curvature;
        add(&mut q, factor - other, &pair.step);
    }
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(a: &mut [f64], factor: f64, b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += factor * b);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretched_bowl_has_its_minimum_found() {
        let limits = Limits { iterations: 200, tolerance: 1e-10 };
        let scales = [1.0, 30.0, 900.0];
        let target = [3.0, -1.0, 0.5];
        let found = minimize(vec![0.0; 3], limits, |x| {
            let off: Vec<f64> = x.iter().zip(target).map(|(x, t)| x - t).collect();
            let value = off.iter().zip(scales).map(|(o, s)| 0.5 * s * o * o).sum();
            Ok((value, off.iter().zip(scales).map(|(o, s)| s * o).collect()))
        });
        for (found, target) in found.unwrap().iter().zip(target) {
            assert!((found - target).abs() < 1e-9, "{found} {target}");
        }
    }
}
