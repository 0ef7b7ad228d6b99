//! Norm, clipping and update on the device, against the same on the host.

use candle_core::{DType, Device, Tensor};
use pad_testkit::{close, numbers};

use super::emulated;
use crate::{AdamWStep, AdamWSteps, DeviceNorms, StepNorms, reference, sums_of_squares};

const STEP: AdamWStep = AdamWStep {
    keep: 0.998,
    toward: 0.1,
    beta2: 0.95,
    step_size: 3e-3,
    root_correction: 0.4,
    eps: 1e-8,
    gradient_factor: 1.0,
};

struct Parameter {
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
}

/// Of more values than a chunk, few, one; parts of larger arrays.
fn parameters() -> Vec<Parameter> {
    let part = |count: usize, salt| numbers(&[count + 3], DType::F32, salt).narrow(0, 1, count);
    let of = |(count, salt)| Parameter {
        p: part(count, salt).unwrap(),
        g: part(count, salt + 1).unwrap(),
        m: part(count, salt + 2).unwrap(),
        v: part(count, salt + 3).unwrap().sqr().unwrap(),
    };
    [(8192 * 2 + 77, 10), (15, 20), (1, 30), (300, 40)].into_iter().map(of).collect()
}

fn loss(value: f32) -> Tensor {
    Tensor::new(value, &Device::Cpu).unwrap()
}

/// What the device found, after its update of `parameters`.
fn updated(
    parameters: &[Parameter],
    losses: &[&Tensor],
    factor: f64,
    max_norm: Option<f64>,
) -> StepNorms {
    let gradients: Vec<&Tensor> = parameters.iter().map(|parameter| &parameter.g).collect();
    emulated::through(|| {
        let launches = emulated::launches();
        let norms = DeviceNorms::enqueue(&gradients, losses, factor, max_norm).unwrap().unwrap();
        let mut steps = AdamWSteps::new();
        for Parameter { p, g, m, v } in parameters {
            assert!(steps.push(p, g, [m, v], &STEP).unwrap());
        }
        assert_eq!((steps.len(), steps.is_empty()), (parameters.len(), false));
        steps.run_if_finite(&norms).unwrap();
        assert_eq!(emulated::launches(), launches + 3);
        norms.fetch().unwrap().wait().unwrap()
    })
}

#[test]
fn the_device_clips_as_the_host() {
    if !emulated::has_compiler() {
        eprintln!("not run, there is no C++ compiler (c++)");
        return;
    }
    for (factor, max_norm) in
        [(1.0, None), (0.25, None), (1.0, Some(1e9)), (0.5, Some(1.0)), (-0.5, Some(0.25))]
    {
        let parameters = parameters();
        let gradients: Vec<&Tensor> = parameters.iter().map(|parameter| &parameter.g).collect();
        let squares = emulated::through(|| sums_of_squares(&gradients)).unwrap().unwrap();
        let norm = f64::abs(factor) * squares.iter().sum::<f64>().sqrt();
        let shrink = max_norm.map_or(1.0, |max: f64| (max / (norm + 1e-6)).min(1.0));
        let want = StepNorms { norm, factor: factor * shrink, finite: true, squares };
        let step = AdamWStep { gradient_factor: want.factor, ..STEP };
        let moved = parameters.iter().map(|Parameter { p, g, m, v }| {
            let moved = reference::adamw_step(p, g, m, v, &step).unwrap();
            [moved.p, moved.exp_avg, moved.exp_avg_sq].map(|tensor| tensor.copy().unwrap())
        });
        let moved: Vec<[Tensor; 3]> = moved.collect();
        let found = updated(&parameters, &[&loss(0.5), &loss(3.0)], factor, max_norm);
        assert_eq!(found, want, "{factor} {max_norm:?}");
        for (Parameter { p, m, v, .. }, want) in parameters.iter().zip(&moved) {
            for (found, want) in [p, m, v].into_iter().zip(want) {
                close("updated", found, want, 1e-6);
            }
        }
    }
}

#[test]
fn what_is_not_finite_is_not_applied() {
    if !emulated::has_compiler() {
        eprintln!("not run, there is no C++ compiler (c++)");
        return;
    }
    let poisons = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    // A gradient of each parameter, or a loss.
    for (at, poison) in (0..5).zip(poisons.into_iter().cycle()) {
        let mut parameters = parameters();
        let mut losses = [loss(1.0), loss(2.0)];
        match parameters.get_mut(at) {
            Some(parameter) => {
                let count = parameter.g.elem_count();
                let mut values = parameter.g.to_vec1::<f32>().unwrap();
                values[count - 1] = poison;
                parameter.g = Tensor::new(values, &Device::Cpu).unwrap();
            }
            None => losses[1] = loss(poison),
        }
        let before: Vec<[Vec<f32>; 3]> = parameters
            .iter()
            .map(|Parameter { p, m, v, .. }| [p, m, v].map(|t| t.to_vec1().unwrap()))
            .collect();
        let found = updated(&parameters, &[&losses[0], &losses[1]], 1.0, Some(0.5));
        assert!(!found.finite);
        assert_eq!(found.norm.is_finite(), at == 4, "{found:?}");
        for (Parameter { p, m, v, .. }, before) in parameters.iter().zip(&before) {
            for (tensor, before) in [p, m, v].into_iter().zip(before) {
                assert_eq!(tensor.to_vec1::<f32>().unwrap(), *before, "{at}: changed");
            }
        }
    }
}

#[test]
fn what_the_kernels_do_not_take() {
    let g = numbers(&[3, 4], DType::F32, 1);
    assert!(DeviceNorms::enqueue(&[&g], &[], 1.0, None).unwrap().is_none(), "on the CPU");
    emulated::through(|| {
        let enqueue = |gradients: &[&Tensor], losses: &[&Tensor]| {
            DeviceNorms::enqueue(gradients, losses, 1.0, None).unwrap()
        };
        assert!(enqueue(&[], &[]).is_none());
        assert!(enqueue(&[&g, &g.to_dtype(DType::BF16).unwrap()], &[]).is_none());
        assert!(enqueue(&[&g.t().unwrap()], &[]).is_none());
        assert!(enqueue(&[&g], &[&g]).is_none(), "a loss of several numbers");
        assert!(enqueue(&[&g], &[&loss(1.0).to_dtype(DType::F64).unwrap()]).is_none());
    });
}
