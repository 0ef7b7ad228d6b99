//! The update against two oracles (written-out f64 arithmetic, numbers of PyTorch), both ways
//! against each other, and what must leave everything untouched.

use candle_core::{DType, Device, Var};

use super::*;

fn var(values: &[f32], shape: &[usize]) -> Var {
    let tensor = Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
    Var::from_tensor(&tensor).unwrap()
}

/// A gradient that is known everywhere: `sin(0.7 i + 1.3 step + phase)`.
fn gradient(shape: &[usize], step: usize, phase: f64) -> Tensor {
    let n: usize = shape.iter().product();
    let value = |i: usize| (0.7 * i as f64 + 1.3 * step as f64 + phase).sin() as f32;
    Tensor::from_vec((0..n).map(value).collect(), shape, &Device::Cpu).unwrap()
}

fn values(var: &Tensor) -> Vec<f32> {
    var.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(0.0_f64, |scale, x| scale.max(x.abs()));
    assert!(scale > 0.0, "{what}: an oracle of zeros proves nothing");
    for (index, (&got, &want)) in got.iter().zip(want).enumerate() {
        let off = (f64::from(got) - want).abs() / scale;
        assert!(off <= tolerance, "{what}[{index}]: {got} for {want}, off by {off:.1e}");
    }
}

/// A matrix with decay, a vector without, a gate that thaws after epoch 2; one step an epoch.
fn three() -> Vec<Parameter> {
    let decaying = |name: &str, var: Var, decay| Parameter::new(name, var).with_weight_decay(decay);
    let mut parameters = vec![
        decaying("w", var(&[0.5, -1.25, 2.0, 0.125, -0.75, 1.5], &[2, 3]), 0.05),
        decaying("b", var(&[0.25, -0.5], &[2]), 0.05),
        decaying("gate", var(&[1.0, -2.0], &[1, 2]), 0.1),
    ];
    parameters[2].frozen_through = Some(2);
    parameters
}

fn gradients_of_three(step: usize) -> Gradients {
    Gradients::new(vec![
        Some(gradient(&[2, 3], step, 0.0)),
        Some(gradient(&[2], step, 1.0)),
        Some(gradient(&[1, 2], step, 2.0)),
    ])
}

fn run_three(optimizer: &mut AdamW, steps: std::ops::Range<usize>) {
    for step in steps {
        let report =
            optimizer.step(&gradients_of_three(step), 0.01 * (step + 1) as f64, step).unwrap();
        assert_eq!(report.updated, if step <= 2 { 2 } else { 3 });
    }
}

/// The formula of the module's documentation, in f64, for one parameter.
fn oracle(start: &[f32], decay: f64, phase: f64, steps: std::ops::Range<usize>) -> Vec<f64> {
    let mut p: Vec<f64> = start.iter().map(|&x| x.into()).collect();
    let (mut m, mut v) = (vec![0.0; p.len()], vec![0.0; p.len()]);
    let first = steps.start;
    for step in steps {
        let lr = 0.01 * (step + 1) as f64;
        let t = (step - first + 1) as i32;
        let g = values(&gradient(&[p.len()], step, phase));
        for i in 0..p.len() {
            let g = f64::from(g[i]);
            p[i] *= 1.0 - lr * decay;
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.95 * v[i] + 0.05 * g * g;
            let mean = m[i] / (1.0 - 0.9_f64.powi(t));
            let square = v[i] / (1.0 - 0.95_f64.powi(t));
            p[i] -= lr * mean / (square.sqrt() + 1e-8);
        }
    }
    p
}

#[test]
fn equals_the_formula_and_pytorch() {
    for fused in [true, false] {
        let parameters = three();
        let starts: Vec<_> = parameters.iter().map(|p| values(&p.var)).collect();
        let mut optimizer = AdamW::with_fused(parameters, AdamWConfig::default(), fused).unwrap();
        run_three(&mut optimizer, 0..7);
        let got: Vec<_> = optimizer.parameters().iter().map(|p| values(&p.var)).collect();
        assert_close(&got[0], &oracle(&starts[0], 0.05, 0.0, 0..7), 5e-7, "w");
        assert_close(&got[1], &oracle(&starts[1], 0.0, 1.0, 0..7), 5e-7, "b");
        assert_close(&got[2], &oracle(&starts[2], 0.1, 2.0, 3..7), 5e-7, "gate");
        // torch 2.15 (CPU), torch.optim.AdamW with the same numbers; the gate's `grad` is None for
        // three steps.
        let torch = [
            &[
                0.43733176589012146,
                -1.3103045225143433,
                1.9110465049743652,
                0.09994864463806152,
                -0.7124509215354919,
                1.555466651916504,
            ][..],
            &[0.17622056603431702, -0.5478858947753906],
            &[0.9362801909446716, -2.0994927883148193],
        ];
        for (got, want) in got.iter().zip(torch) {
            assert_close(got, want, 2e-7, "torch");
        }
        let steps: Vec<_> = (0..3).map(|i| optimizer.steps_of(i).unwrap()).collect();
        assert_eq!(steps, [7, 7, 4], "a frozen parameter counts no steps");
    }
}

#[test]
fn fused_and_composed_agree_on_large_odd_shapes_and_any_number_of_threads() {
    let shape = [3, (1 << 14) - 5];
    let start = values(&gradient(&shape, 9, 0.3));
    let run = |fused: bool, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let parameter = Parameter::new("w", var(&start, &shape)).with_weight_decay(0.05);
            let mut optimizer =
                AdamW::with_fused(vec![parameter], AdamWConfig::default(), fused).unwrap();
            for step in 0..4 {
                // A transposed gradient: not contiguous.
                let turned = gradient(&[shape[1], shape[0]], step, 0.0).t().unwrap();
                let gradients = Gradients::new(vec![Some(turned)]).scale(0.25);
                optimizer.step(&gradients, 1e-2, 0).unwrap();
            }
            values(&optimizer.parameters()[0].var)
        })
    };
    let one = run(true, 1);
    assert_eq!(one, run(true, 3), "threads must not change bits");
    let composed: Vec<f64> = run(false, 1).into_iter().map(f64::from).collect();
    assert_close(&one, &composed, 1e-6, "fused");
    assert_ne!(one, start);
}

#[test]
fn f64_and_half_precision() {
    let start = [0.5_f32, -1.0];
    let run = |dtype: DType| {
        let tensor = Tensor::new(&start, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let parameter = Parameter::new("x", Var::from_tensor(&tensor).unwrap());
        let mut optimizer = AdamW::new(vec![parameter], AdamWConfig::default()).unwrap();
        for step in 0..50 {
            let gradients = Gradients::new(vec![Some(gradient(&[2], step, 0.0).abs().unwrap())]);
            optimizer.step(&gradients, 1e-4, 0).unwrap();
        }
        let names: Vec<_> = optimizer.state().unwrap().into_keys().collect();
        (values(&optimizer.parameters()[0].var), names)
    };
    let (exact, names) = run(DType::F64);
    assert_eq!(names, ["x.exp_avg", "x.exp_avg_sq", "x.step"]);
    let exact: Vec<f64> = exact.into_iter().map(f64::from).collect();
    assert_close(&run(DType::F32).0, &exact, 1e-6, "f32");
    let (half, names) = run(DType::BF16);
    assert_eq!(names, ["x.exp_avg", "x.exp_avg_sq", "x.master", "x.step"]);
    // One update is 1e-4, the spacing of bf16 near 1 is 4e-3: without the f32 copy nothing would
    // move.
    assert_ne!(half, start);
    assert_close(&half, &exact, 4e-3, "bf16");
}

#[test]
fn a_restored_optimizer_goes_on_with_the_same_bits() {
    let config = AdamWConfig::default();
    for (dtype, fused) in [(DType::F32, true), (DType::F32, false), (DType::BF16, false)] {
        let cast = || {
            let mut parameters = three();
            for parameter in &mut parameters {
                parameter.var = Var::from_tensor(&parameter.var.to_dtype(dtype).unwrap()).unwrap();
            }
            parameters
        };
        let mut whole = AdamW::with_fused(cast(), config, fused).unwrap();
        run_three(&mut whole, 0..7);

        let mut first = AdamW::with_fused(cast(), config, fused).unwrap();
        run_three(&mut first, 0..4);
        let state = first.state().unwrap();
        let mut second = AdamW::with_fused(first.parameters().to_vec(), config, fused).unwrap();
        second.load_state(&state).unwrap();
        run_three(&mut second, 4..7);
        for (a, b) in whole.parameters().iter().zip(second.parameters()) {
            assert_eq!(values(&a.var), values(&b.var), "{}", a.name);
        }
        let (whole, second) = (whole.state().unwrap(), second.state().unwrap());
        assert!(whole.keys().eq(second.keys()));
        for (name, tensor) in &whole {
            assert_eq!(values(tensor), values(&second[name]), "{name} {dtype:?}");
        }
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused_whole() {
    let mut optimizer = AdamW::new(three(), AdamWConfig::default()).unwrap();
    run_three(&mut optimizer, 0..2);
    let before = optimizer.state().unwrap();
    let mut state = before.clone();
    state.remove("b.step");
    state.insert("old.exp_avg".into(), gradient(&[1], 0, 0.0));
    state.insert("w.exp_avg".into(), gradient(&[3, 2], 0, 0.0));
    state.insert("gate.step".into(), Tensor::new(-1_i64, &Device::Cpu).unwrap());
    assert_eq!(
        optimizer.load_state(&state).unwrap_err().to_string(),
        "optimizer state: 1 tensor missing (b.step); 1 tensor unexpected (old.exp_avg); 2 tensors wrong \
         (gate.step: expected a count, found -1, w.exp_avg: expected [2, 3] f32, found [3, 2] f32)"
    );
    for (name, tensor) in optimizer.state().unwrap() {
        assert_eq!(values(&tensor), values(&before[&name]), "{name} changed");
    }
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    for poison in [f32::NAN, f32::INFINITY] {
        let mut optimizer = AdamW::new(three(), AdamWConfig::default()).unwrap();
        run_three(&mut optimizer, 0..2);
        let before: Vec<_> = optimizer.parameters().iter().map(|p| values(&p.var)).collect();
        let state = optimizer.state().unwrap();
        let broken = Tensor::new(&[0.5, poison], &Device::Cpu).unwrap();
        let gradients = Gradients::new(vec![Some(gradient(&[2, 3], 0, 0.0)), Some(broken), None]);
        let message = optimizer.step(&gradients, 0.1, 5).unwrap_err().to_string();
        let norm = if poison.is_nan() { "NaN" } else { "inf" };
        assert_eq!(message, format!("the gradient of `b` is not finite (its norm is {norm})"));
        let after: Vec<_> = optimizer.parameters().iter().map(|p| values(&p.var)).collect();
        assert_eq!(before, after);
        for (name, tensor) in optimizer.state().unwrap() {
            assert_eq!(values(&tensor), values(&state[&name]), "{name} changed");
        }
    }
    // A frozen parameter's gradient is nobody's business.
    let mut optimizer = AdamW::new(three(), AdamWConfig::default()).unwrap();
    let broken = Tensor::new(&[[f32::NAN, 0.0]], &Device::Cpu).unwrap();
    let report = optimizer.step(&Gradients::new(vec![None, None, Some(broken)]), 0.1, 2).unwrap();
    assert_eq!(report, StepReport::new(0.0, 0, 2));
}

#[test]
fn refusals() {
    let x = var(&[1.0], &[1]);
    let twice = |a: Parameter, b: Parameter| {
        AdamW::new(vec![a, b], AdamWConfig::default()).unwrap_err().to_string()
    };
    assert_eq!(
        twice(Parameter::new("x", x.clone()), Parameter::new("x", var(&[1.0], &[1]))),
        "parameter `x` is listed twice (first as `x`)"
    );
    assert_eq!(
        twice(Parameter::new("x", x.clone()), Parameter::new("y", x.clone())),
        "parameter `y` is listed twice (first as `x`)"
    );
    let whole = Var::new(&[1_u32], &Device::Cpu).unwrap();
    let refused = AdamW::new(vec![Parameter::new("ids", whole)], AdamWConfig::default());
    assert_eq!(
        refused.unwrap_err().to_string(),
        "parameter `ids`: expected dtype f32, f64, f16 or bf16, found u32"
    );
    let odd =
        Parameter { lr_factor: f64::NAN, weight_decay: -0.1, ..Parameter::new("x", x.clone()) };
    assert_eq!(
        AdamW::new(vec![odd], AdamWConfig::default()).unwrap_err().to_string(),
        "settings: `lr_factor` of `x` is NaN, expected a finite number >= 0; `weight_decay` of `x` is -0.1, expected \
         a finite number >= 0"
    );
    let config = AdamWConfig { beta1: 1.0, beta2: -0.5, eps: 0.0 };
    assert_eq!(
        AdamW::new(vec![], config).unwrap_err().to_string(),
        "settings: `beta1` is 1, expected 0 <= beta1 < 1; `beta2` is -0.5, expected 0 <= beta2 < 1; `eps` is 0, \
         expected a finite number > 0"
    );
    let mut optimizer = AdamW::new(vec![Parameter::new("x", x)], AdamWConfig::default()).unwrap();
    let step = |optimizer: &mut AdamW, tensors| {
        optimizer.step(&Gradients::new(tensors), 0.1, 0).unwrap_err().to_string()
    };
    for lr in [f64::NAN, f64::INFINITY, -0.1] {
        let refused = optimizer.step(&Gradients::new(vec![None]), lr, 0).unwrap_err().to_string();
        assert_eq!(refused, format!("learning rate: expected a finite number >= 0, found {lr}"));
    }
    assert_eq!(step(&mut optimizer, vec![]), "expected gradients of 1 parameters, found 0");
    assert_eq!(
        step(&mut optimizer, vec![Some(gradient(&[2], 0, 0.0))]),
        "gradient of `x`: expected shape [1], found [2]"
    );
}
