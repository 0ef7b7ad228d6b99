//! AdamW against an f64 oracle, its two paths against each other, gradients and schedules.

use candle_core::{DType, Device, Tensor, Var};
use pad_train::{AdamW, AdamWConfig, Gradients, Groups, Parameter, Schedule, weight_decay_for};

fn parameter(name: &str, values: &[f64], dtype: DType, frozen_through: Option<usize>) -> Parameter {
    let tensor = Tensor::new(values, &Device::Cpu).unwrap().reshape((1, values.len())).unwrap();
    let tensor = tensor.to_dtype(dtype).unwrap();
    Parameter {
        name: name.into(),
        weight_decay: weight_decay_for(&tensor, 0.05),
        var: Var::from_tensor(&tensor).unwrap(),
        lr_factor: 0.5,
        frozen_through,
    }
}

/// Gradients of `sum(coefficients * value^2)`.
fn gradients(parameters: &[Parameter], factor: f64) -> Gradients {
    let mut loss = Tensor::zeros((), parameters[0].var.dtype(), &Device::Cpu).unwrap();
    for parameter in parameters {
        let value = parameter.var.as_tensor();
        loss = (loss + (value.sqr().unwrap().sum_all().unwrap() * factor).unwrap()).unwrap();
    }
    Gradients::from_store(parameters, &loss.backward().unwrap())
}

#[test]
fn equals_the_formula_in_f64() {
    let start = [0.5, -1.5, 2.0, 0.01];
    for dtype in [DType::F32, DType::F64] {
        let parameters = vec![parameter("w", &start, dtype, None)];
        let mut optimizer = AdamW::new(parameters.clone(), AdamWConfig::default()).unwrap();
        let (mut p, mut m, mut v) = (start, [0.0; 4], [0.0; 4]);
        for t in 1..=8 {
            let lr = 0.1 / f64::from(t);
            optimizer.step(&gradients(&parameters, 1.5), lr, 0).unwrap();
            let rate = lr * 0.5;
            for i in 0..4 {
                let g = 3.0 * p[i];
                p[i] *= 1.0 - rate * 0.05;
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.95 * v[i] + 0.05 * g * g;
                let m_hat = m[i] / (1.0 - 0.9_f64.powi(t));
                let v_hat = v[i] / (1.0 - 0.95_f64.powi(t));
                p[i] -= rate * m_hat / (v_hat.sqrt() + 1e-8);
            }
        }
        let got = parameters[0].var.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
        let tolerance = if dtype == DType::F32 { 2e-6 } else { 1e-12 };
        for (got, want) in got.to_vec1::<f64>().unwrap().iter().zip(p) {
            assert!(
                (got - want).abs() <= tolerance * want.abs().max(0.1),
                "{dtype:?} {got} {want}"
            );
        }
    }
}

#[test]
fn a_frozen_parameter_waits_untouched_and_then_starts_from_step_one() {
    let late = vec![parameter("gate", &[1.0, -2.0], DType::F32, Some(2))];
    let fresh = vec![parameter("gate", &[1.0, -2.0], DType::F32, None)];
    let mut waiting = AdamW::new(late.clone(), AdamWConfig::default()).unwrap();
    let mut starting = AdamW::new(fresh.clone(), AdamWConfig::default()).unwrap();
    for epoch in 0..=2 {
        waiting.step(&gradients(&late, 1.0), 0.1, epoch).unwrap();
        assert_eq!(late[0].var.to_vec2::<f32>().unwrap(), [[1.0, -2.0]]);
    }
    waiting.step(&gradients(&late, 1.0), 0.1, 3).unwrap();
    starting.step(&gradients(&fresh, 1.0), 0.1, 3).unwrap();
    assert_eq!(late[0].var.to_vec2::<f32>().unwrap(), fresh[0].var.to_vec2::<f32>().unwrap());
    assert_ne!(late[0].var.to_vec2::<f32>().unwrap(), [[1.0, -2.0]]);
}

#[test]
fn a_parameter_without_gradient_is_left_alone() {
    let parameters =
        vec![parameter("a", &[1.0], DType::F32, None), parameter("b", &[1.0], DType::F32, None)];
    let loss = parameters[0].var.sqr().unwrap().sum_all().unwrap();
    let gradients = Gradients::from_store(&parameters, &loss.backward().unwrap());
    let mut optimizer = AdamW::new(parameters.clone(), AdamWConfig::default()).unwrap();
    optimizer.step(&gradients, 0.1, 0).unwrap();
    assert_ne!(parameters[0].var.to_vec2::<f32>().unwrap(), [[1.0]]);
    assert_eq!(parameters[1].var.to_vec2::<f32>().unwrap(), [[1.0]], "no decay either");
}

#[test]
fn state_round_trip_and_refusals() {
    let parameters = vec![parameter("w", &[1.0, 2.0], DType::F32, None)];
    let mut first = AdamW::new(parameters.clone(), AdamWConfig::default()).unwrap();
    for _ in 0..3 {
        first.step(&gradients(&parameters, 1.0), 0.1, 0).unwrap();
    }
    let other = vec![Parameter {
        var: Var::from_tensor(&parameters[0].var.as_tensor().copy().unwrap()).unwrap(),
        ..parameters[0].clone()
    }];
    let mut second = AdamW::new(other.clone(), AdamWConfig::default()).unwrap();
    second.load_state(&first.state().unwrap()).unwrap();
    first.step(&gradients(&parameters, 1.0), 0.1, 0).unwrap();
    second.step(&gradients(&other, 1.0), 0.1, 0).unwrap();
    let bits = |p: &Parameter| p.var.to_vec2::<f32>().unwrap();
    assert_eq!(bits(&parameters[0]), bits(&other[0]));

    let mut state = first.state().unwrap();
    state.remove("second.w");
    state.insert("first.w".into(), Tensor::zeros((1, 3), DType::F32, &Device::Cpu).unwrap());
    state.insert("first.x".into(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
    assert_eq!(
        second.load_state(&state).unwrap_err(),
        ["first.w has shape [1, 3], expected [1, 2]", "missing second.w", "unexpected first.x"]
    );
}

#[test]
fn gradients_add_scale_and_clip() {
    let parameters = vec![parameter("w", &[3.0, 4.0], DType::F32, None)];
    let mut sum = gradients(&parameters, 0.5); // (3, 4)
    assert!((sum.global_norm().unwrap() - 5.0).abs() < 1e-6);
    sum.add(&gradients(&parameters, 0.5)).unwrap();
    sum.scale(0.5).unwrap();
    assert!((sum.global_norm().unwrap() - 5.0).abs() < 1e-6);
    sum.clip(5.0, 1.0).unwrap();
    assert!((sum.global_norm().unwrap() - 1.0).abs() < 1e-5);
    let before = sum.global_norm().unwrap();
    sum.clip(before, 10.0).unwrap();
    assert_eq!(sum.global_norm().unwrap(), before, "short gradients stay");
}

#[test]
fn groups_are_listed() {
    let parameters = vec![
        parameter("a", &[1.0, 2.0], DType::F32, None),
        parameter("b", &[1.0], DType::F32, None),
        parameter("gate", &[1.0], DType::F32, Some(6)),
    ];
    let groups = Groups::of(&parameters);
    assert_eq!(groups.0.len(), 2);
    assert_eq!((groups.0[0].tensors, groups.0[0].values), (2, 3));
    assert!(groups.to_string().ends_with("frozen through epoch 6"), "{groups}");
}

#[test]
fn schedule_of_the_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/vit_base_facts.json");
    let facts: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let schedule =
        Schedule::WarmupCosine { peak_lr: 1.6e-3, min_lr: 0.0, warmup_epochs: 30.0, epochs: 100.0 };
    let points = facts["lr_schedule"].as_array().unwrap();
    assert!(points.len() > 10);
    for point in points {
        let (epoch, want) = (point[0].as_f64().unwrap(), point[1].as_f64().unwrap());
        assert!((schedule.at(epoch) - want).abs() < 1e-12, "epoch {epoch}");
    }
}
