//! How gradients pass from operator to operator: the same as through candle's sums, without them.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use candle_core::{DType, Device, Result, Tensor, TensorId, Var, bail};
use pad_testkit::{close, numbers};

use super::nary::{self, Backward, Gradients};

/// `y = factor x + bias`, which notes the gradients that come and go.
#[derive(Clone, Default)]
struct Line {
    factor: f64,
    seen: Arc<Mutex<Vec<[TensorId; 2]>>>,
    fails: Arc<AtomicBool>,
    misshapen: bool,
}

impl Line {
    fn new(factor: f64) -> Self {
        Self { factor, ..Self::default() }
    }

    fn apply(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let y = (x.detach() * self.factor)?.broadcast_add(&bias.detach())?;
        nary::apply("line", x, &[bias], y, self.clone())
    }

    fn composed(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        (x * self.factor)?.broadcast_add(bias)
    }
}

impl Backward for Line {
    fn backward(&self, d_y: &Tensor, d_x: bool, wanted: &[bool]) -> Result<Gradients> {
        if self.fails.load(Ordering::Relaxed) {
            bail!("it fails")
        }
        let made = match self.misshapen {
            true => d_y.flatten_all()?,
            false => (d_y * self.factor)?,
        };
        self.seen.lock().unwrap().push([d_y.id(), made.id()]);
        let d_bias = if wanted[0] { Some(d_y.sum(0)?) } else { None };
        Ok(Gradients { d_x: d_x.then_some(made), d_params: vec![d_bias] })
    }
}

struct Setting {
    x: Var,
    biases: [Var; 3],
    lines: [Line; 3],
}

fn setting() -> Setting {
    let var = |shape: &[usize], salt| Var::from_tensor(&numbers(shape, DType::F32, salt)).unwrap();
    Setting {
        x: var(&[4, 3], 1),
        biases: [2, 3, 4].map(|salt| var(&[3], salt)),
        lines: [2.0, -0.5, 3.0].map(Line::new),
    }
}

impl Setting {
    /// The first result goes into the second operator twice, once through a view, and into the loss.
    fn forked(&self, apply: impl Fn(&Line, &Tensor, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let [a, b, c] = &self.biases;
        let first = apply(&self.lines[0], &self.x, a)?;
        let second = apply(&self.lines[1], &first, b)?;
        let turned = apply(&self.lines[2], &first.reshape((2, 6))?.reshape((4, 3))?, c)?;
        let again = apply(&self.lines[1], &first, c)?;
        ((second * turned)? + (again + (&first * &first)?)?)?.sum_all()
    }

    fn gradients(&self, loss: &Tensor) -> Vec<Tensor> {
        let store = crate::backward(loss).unwrap();
        let vars = std::iter::once(&self.x).chain(&self.biases);
        vars.map(|var| store.get(var).unwrap().clone()).collect()
    }
}

#[test]
fn gradients_pass_as_they_are() {
    let Setting { x, biases: [a, b, c], lines: [first, second, third] } = setting();
    let y = first.apply(&x, &a).unwrap();
    let y = second.apply(&y, &b).unwrap();
    let y = third.apply(&y, &c).unwrap();
    crate::backward(&y.sum_all().unwrap()).unwrap();
    let [first, second, third] =
        [first, second, third].map(|line| line.seen.lock().unwrap().clone());
    assert_eq!((first.len(), second.len(), third.len()), (1, 1, 1));
    assert_eq!(third[0][1], second[0][0], "no sum lies between them");
    assert_eq!(second[0][1], first[0][0]);
}

#[test]
fn what_others_add_counts() {
    let setting = setting();
    let want = setting.forked(Line::composed).unwrap();
    let want = setting.gradients(&want);
    let loss = setting.forked(Line::apply).unwrap();
    // And the same once more.
    for _ in 0..2 {
        for (found, want) in setting.gradients(&loss).iter().zip(&want) {
            close("forked", found, want, 1e-6);
        }
    }
}

#[test]
fn a_backward_that_failed_leaves_nothing() {
    let setting = setting();
    let want = setting.gradients(&setting.forked(Line::composed).unwrap());
    let loss = setting.forked(Line::apply).unwrap();
    setting.lines[0].fails.store(true, Ordering::Relaxed);
    assert!(crate::backward(&loss).is_err());
    setting.lines[0].fails.store(false, Ordering::Relaxed);
    for (found, want) in setting.gradients(&loss).iter().zip(&want) {
        close("after a failure", found, want, 1e-6);
    }
}

#[test]
fn a_gradient_of_another_shape_is_refused() {
    let Setting { x, biases: [a, b, _], lines: [first, second, _] } = setting();
    let second = Line { misshapen: true, ..second };
    let y = second.apply(&first.apply(&x, &a).unwrap(), &b).unwrap();
    let error = crate::backward(&y.sum_all().unwrap()).unwrap_err();
    assert!(error.to_string().contains("a gradient of [12], expected [4, 3]"), "{error}");
}

#[test]
fn results_are_forgotten_with_their_tensors() {
    let Setting { x, biases: [a, ..], lines: [first, ..] } = setting();
    let y = first.apply(&x, &a).unwrap();
    let twin = y.clone();
    assert!(super::passed::stand_in(&y).is_some());
    drop(y);
    assert!(super::passed::stand_in(&twin).is_some(), "another handle on the same tensor");
    assert!(super::passed::stand_in(&twin.detach()).is_none(), "without its history");
    let stand_in = Arc::downgrade(&super::passed::stand_in(&twin).unwrap());
    drop(twin);
    assert_eq!(stand_in.strong_count(), 0);
    // Nothing tracks: no part of a graph.
    let frozen = numbers(&[4, 3], DType::F32, 1);
    let bias = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
    assert!(!first.apply(&frozen, &bias).unwrap().track_op());
}
