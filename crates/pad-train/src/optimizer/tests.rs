//! Every rule against its formula, written out for one number in f64; states that go on with the
//! same bits; refusals.

use candle_core::{DType, Device, Tensor, Var};

use super::*;

fn var(values: &[f64], dtype: DType) -> Var {
    let tensor = Tensor::new(values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
    Var::from_tensor(&tensor).unwrap()
}

/// A rule with buffers of these names.
#[derive(Clone, Debug)]
struct Named(Vec<&'static str>);

impl UpdateRule for Named {
    fn name(&self) -> &'static str {
        "named"
    }
    fn faults(&self) -> RuleFaults {
        RuleFaults::default()
    }
    fn buffers(&self) -> Vec<&'static str> {
        self.0.clone()
    }
    fn update(
        &self,
        p: &Tensor,
        _: &Tensor,
        _: &mut [Tensor],
        _: &UpdateNumbers,
    ) -> candle_core::Result<Tensor> {
        Ok(p.clone())
    }
}

#[test]
fn buffers_of_a_rule_have_names_of_their_own() {
    assert!(ByRule::new(vec![], Named(vec!["velocity", "scale"])).is_ok());
    for (names, name) in
        [(vec!["step"], "step"), (vec!["a", "master"], "master"), (vec!["a", "b", "a"], "a")]
    {
        assert_eq!(
            ByRule::new(vec![], Named(names)).err().unwrap().to_string(),
            format!(
                "settings: buffer `{name}`, expected distinct names other than `step` and `master`"
            )
        );
    }
}

const START: [f64; 4] = [0.5, -1.25, 2.0, 0.125];

/// A gradient that is known everywhere: `sin(0.7 i + 1.3 step)`, and 0 for the last value.
fn gradient(step: usize) -> Vec<f64> {
    (0..4).map(|i| if i == 3 { 0.0 } else { (0.7 * i as f64 + 1.3 * step as f64).sin() }).collect()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

const STEPS: usize = 9;
const DECAY: f64 = 0.1;

fn lr(step: usize) -> f64 {
    0.01 * (1 + step % 4) as f64
}

/// One parameter, with decay and a rate of its own, that thaws after epoch 1; one step an epoch.
fn parameter(dtype: DType) -> Parameter {
    Parameter {
        weight_decay: DECAY,
        lr_factor: 0.5,
        frozen_through: Some(1),
        ..Parameter::new("p", var(&START, dtype))
    }
}

fn step(optimizer: &mut dyn Optimizer, step: usize) -> StepReport {
    let dtype = optimizer.parameters()[0].var.dtype();
    let gradient = Tensor::new(gradient(step), &Device::Cpu).unwrap();
    // The factor of a mean over micro-batches is applied on the way.
    let doubled = (gradient * 2.0).unwrap().to_dtype(dtype).unwrap();
    let gradients = Gradients::new(vec![Some(doubled)]).scale(0.5);
    optimizer.step(&gradients, lr(step), step).unwrap()
}

fn steps(optimizer: &mut dyn Optimizer, numbers: std::ops::Range<usize>) {
    for number in numbers {
        step(optimizer, number);
    }
}

/// Moves one number by a formula: `formula(p, g, lr, t, state)`.
fn oracle(formula: impl Fn(f64, f64, f64, usize, &mut [f64; 3]) -> f64) -> Vec<f64> {
    let moved = (0..4).map(|i| {
        let (mut p, mut state) = (START[i], [0.0; 3]);
        for (t, step) in (2..STEPS).enumerate() {
            p = formula(p, gradient(step)[i], 0.5 * lr(step), t + 1, &mut state);
        }
        p
    });
    moved.collect()
}

fn check<R: UpdateRule + Clone>(rule: &R, expected: &[f64]) {
    for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 1e-6), (DType::BF16, 8e-3)] {
        let mut optimizer = ByRule::new(vec![parameter(dtype)], rule.clone()).unwrap();
        for number in 0..STEPS {
            let report = step(&mut optimizer, number);
            assert_eq!(report.updated, usize::from(number > 1), "frozen through epoch 1");
        }
        assert_eq!(optimizer.steps_of(0), Some(7));
        let got = values(&optimizer.parameters()[0].var);
        for (index, (got, want)) in got.iter().zip(expected).enumerate() {
            let off = (got - want).abs();
            assert!(off <= tolerance * 2.0, "{rule:?} {dtype:?} [{index}]: {got} for {want}");
            assert!((START[index] - want).abs() > 1e-4, "{rule:?}: the formula moves nothing");
        }
    }
}

#[test]
fn sgd_equals_its_formula() {
    for (momentum, dampening, nesterov) in
        [(0.0, 0.0, false), (0.9, 0.0, false), (0.8, 0.25, false), (0.9, 0.0, true)]
    {
        let expected = oracle(|p, g, lr, t, state| {
            let g = g + DECAY * p;
            if momentum == 0.0 {
                return p - lr * g;
            }
            state[0] = if t == 1 { g } else { momentum * state[0] + (1.0 - dampening) * g };
            p - lr * if nesterov { g + momentum * state[0] } else { state[0] }
        });
        check(&SgdConfig { momentum, dampening, nesterov }, &expected);
    }
}

#[test]
fn lion_equals_its_formula() {
    let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
    for (beta1, beta2) in [(0.9, 0.99), (0.5, 0.8)] {
        let expected = oracle(|p, g, lr, _, state| {
            let direction = sign(beta1 * state[0] + (1.0 - beta1) * g);
            state[0] = beta2 * state[0] + (1.0 - beta2) * g;
            p - lr * (direction + DECAY * p)
        });
        check(&LionConfig { beta1, beta2 }, &expected);
    }
}

#[test]
fn rmsprop_equals_its_formula() {
    for (alpha, momentum, centered) in
        [(0.99, 0.0, false), (0.9, 0.5, false), (0.9, 0.0, true), (0.8, 0.9, true)]
    {
        let eps = 1e-3;
        let expected = oracle(|p, g, lr, _, [v, a, b]| {
            let g = g + DECAY * p;
            *v = alpha * *v + (1.0 - alpha) * g * g;
            *a = alpha * *a + (1.0 - alpha) * g;
            let variance = if centered { *v - *a * *a } else { *v };
            let direction = g / (variance.sqrt() + eps);
            *b = momentum * *b + direction;
            p - lr * *b
        });
        check(&RmsPropConfig { alpha, eps, momentum, centered }, &expected);
    }
}

/// Three steps of SGD with momentum 0.9, worked out by hand: gradients 1, 1, 1 from 0 at a rate of
/// 1 move by 1, 1.9 and 2.71.
#[test]
fn momentum_by_hand() {
    let x = var(&[0.0], DType::F32);
    let config = SgdConfig::default();
    let mut sgd = Sgd::new(vec![Parameter::new("x", x.clone())], config).unwrap();
    let one = Tensor::new(&[1_f32], &Device::Cpu).unwrap();
    for expected in [-1.0, -2.9, -5.61] {
        sgd.step(&Gradients::new(vec![Some(one.clone())]), 1.0, 0).unwrap();
        assert!((values(&x)[0] - expected).abs() < 1e-6, "{:?}", values(&x));
    }
}

fn bits(optimizer: &dyn Optimizer) -> Vec<(String, Vec<u64>)> {
    let bits = |tensor: &Tensor| values(tensor).into_iter().map(f64::to_bits).collect();
    let variables = optimizer.parameters().iter().map(|p| (p.name.clone(), bits(&p.var)));
    let state = optimizer.state().unwrap();
    variables.chain(state.iter().map(|(name, tensor)| (name.clone(), bits(tensor)))).collect()
}

fn goes_on<R: UpdateRule + Clone>(rule: &R, names: &[&str]) {
    for dtype in [DType::F32, DType::F64, DType::F16] {
        let mut whole = ByRule::new(vec![parameter(dtype)], rule.clone()).unwrap();
        steps(&mut whole, 0..STEPS);
        for stop in [0, 1, 3, 6] {
            let mut first = ByRule::new(vec![parameter(dtype)], rule.clone()).unwrap();
            steps(&mut first, 0..stop);
            let state = first.state().unwrap();
            let parameters = first.parameters().to_vec();
            let mut second = ByRule::new(parameters, rule.clone()).unwrap();
            second.load_state(&state).unwrap();
            steps(&mut second, stop..STEPS);
            assert_eq!(bits(&second), bits(&whole), "{rule:?} {dtype:?} stopped after {stop}");
        }
        let state: Vec<String> = whole.state().unwrap().into_keys().collect();
        let mut expected: Vec<String> = names.iter().map(|name| format!("p.{name}")).collect();
        expected.extend((dtype == DType::F16).then(|| "p.master".to_string()));
        expected.sort();
        assert_eq!(state, expected);
    }
}

#[test]
fn restored_states_go_on_with_the_same_bits() {
    goes_on(&SgdConfig { momentum: 0.0, ..Default::default() }, &["step"]);
    let nesterov = SgdConfig { nesterov: true, ..Default::default() };
    goes_on(&nesterov, &["momentum_buffer", "step"]);
    // The first update takes the gradient whole: the count of steps matters.
    let dampened = SgdConfig { dampening: 0.5, ..Default::default() };
    goes_on(&dampened, &["momentum_buffer", "step"]);
    goes_on(&LionConfig::default(), &["exp_avg", "step"]);
    goes_on(&RmsPropConfig::default(), &["square_avg", "step"]);
    let all = RmsPropConfig { momentum: 0.5, centered: true, ..Default::default() };
    goes_on(&all, &["grad_avg", "momentum_buffer", "square_avg", "step"]);
}

#[test]
fn states_of_another_optimiser_are_refused_whole() {
    let mut sgd = Sgd::new(vec![parameter(DType::F32)], SgdConfig::default()).unwrap();
    steps(&mut sgd, 0..4);
    let before = bits(&sgd);
    let lion = Lion::new(vec![parameter(DType::F32)], LionConfig::default()).unwrap();
    assert_eq!(
        sgd.load_state(&lion.state().unwrap()).unwrap_err().to_string(),
        "optimizer state: 1 tensor missing (p.momentum_buffer); 1 tensor unexpected (p.exp_avg)"
    );
    assert_eq!(bits(&sgd), before);
}

#[test]
fn what_is_no_number_is_refused_and_changes_nothing() {
    let new = |config: SgdConfig| Sgd::new(vec![], config).unwrap_err().to_string();
    assert_eq!(
        new(SgdConfig { momentum: f64::NAN, dampening: -1.0, nesterov: true }),
        "settings: `momentum` is NaN, expected 0 <= momentum < 1; `dampening` is -1, expected 0 <= dampening < 1; \
         `nesterov` is true, expected a momentum > 0 and no dampening"
    );
    let nesterov = SgdConfig { momentum: 0.0, nesterov: true, ..Default::default() };
    assert!(
        new(nesterov).ends_with("`nesterov` is true, expected a momentum > 0 and no dampening")
    );
    assert_eq!(
        Lion::new(vec![], LionConfig { beta1: -0.1, beta2: f64::INFINITY })
            .unwrap_err()
            .to_string(),
        "settings: `beta1` is -0.1, expected 0 <= beta1 < 1; `beta2` is inf, expected 0 <= beta2 < 1"
    );
    let config = RmsPropConfig { alpha: 1.0, eps: f64::NAN, momentum: 2.0, centered: false };
    assert_eq!(
        RmsProp::new(vec![], config).unwrap_err().to_string(),
        "settings: `alpha` is 1, expected 0 <= alpha < 1; `eps` is NaN, expected a finite number > 0; `momentum` \
         is 2, expected 0 <= momentum < 1"
    );
    let odd = Parameter { lr_factor: -1.0, weight_decay: f64::NAN, ..parameter(DType::F32) };
    assert_eq!(
        Lion::new(vec![odd], LionConfig::default()).unwrap_err().to_string(),
        "settings: `lr_factor` of `p` is -1, expected a finite number >= 0; `weight_decay` of `p` is NaN, expected \
         a finite number >= 0"
    );
    let mut optimizers: [Box<dyn Optimizer>; 3] = [
        Box::new(Sgd::new(vec![parameter(DType::F32)], SgdConfig::default()).unwrap()),
        Box::new(Lion::new(vec![parameter(DType::F32)], LionConfig::default()).unwrap()),
        Box::new(RmsProp::new(vec![parameter(DType::F32)], RmsPropConfig::default()).unwrap()),
    ];
    for optimizer in &mut optimizers {
        step(&mut **optimizer, 3);
        let before = bits(&**optimizer);
        let gradient = |value: f32| Tensor::new(&[0.1, value, 0.2, 0.3], &Device::Cpu).unwrap();
        let mut refused = |value: f32, lr: f64| {
            let gradients = Gradients::new(vec![Some(gradient(value))]);
            optimizer.step(&gradients, lr, 5).unwrap_err().to_string()
        };
        for lr in [f64::NAN, f64::INFINITY, -1e-3] {
            let text = format!("learning rate: expected a finite number >= 0, found {lr}");
            assert_eq!(refused(1.0, lr), text);
        }
        assert_eq!(refused(f32::NAN, 0.1), "the gradient of `p` is not finite (its norm is NaN)");
        assert_eq!(
            refused(f32::INFINITY, 0.1),
            "the gradient of `p` is not finite (its norm is inf)"
        );
        assert_eq!(bits(&**optimizer), before);
    }
}
