//! What only the branches have: adapters of fixed scale, products in bf16, a backward of their own.

use candle_core::{Result, Tensor, Var};
use pad_ops::{
    AttentionWeights, Fusion, Keep, MatmulPrecision, MlpWeights, Mode, attention_branch,
    mlp_branch, reference,
};
use pad_testkit::{close, largest, numbers};

use crate::{
    cases::{
        By, F32, Sizes, adapter_shapes, attention_shapes, attention_weights, key, mlp_shapes,
        mlp_weights,
    },
    run::{Run, run, run_with},
};

/// An adapter of fixed scale without norm has fewer operands than the other cases.
#[test]
fn a_fixed_adapter_without_norm() {
    let sizes = Sizes { b: 2, n: 5, d: 12, o: 7 };
    let shapes = adapter_shapes(&sizes, |_| vec![1]);
    let operands: Vec<Tensor> =
        shapes.iter().enumerate().map(|(i, s)| numbers(s, F32, i as u64)).collect();
    let (fast, fast_grads) = run(
        |t| {
            Ok(mlp_branch(
                &t[0],
                &mlp_weights(t, Some(By::Fixed)),
                Mode::Train(key()),
                Keep::Nothing,
            )?)
        },
        &operands,
    )
    .unwrap();
    let (want, want_grads) = run(
        |t| Ok(reference::mlp_branch(&t[0], &mlp_weights(t, Some(By::Fixed)), Mode::Train(key()))?),
        &operands,
    )
    .unwrap();
    close("fixed", &fast, &want, 2e-5);
    for (i, (got, want)) in fast_grads.iter().zip(&want_grads).enumerate() {
        close(&format!("gradient {i}"), got.as_ref().unwrap(), want.as_ref().unwrap(), 5e-5);
    }
}

/// Products in bf16 are near those in f32, forward and backward, and the reference rounds alike.
#[test]
fn branches_in_bf16() {
    const BF16: MatmulPrecision = MatmulPrecision::Bf16;
    let attention = |t: &[Tensor]| AttentionWeights { precision: BF16, ..attention_weights(t) };
    let mlp = |t: &[Tensor]| {
        let concat = Some(By::Patchwise(Fusion::Concat));
        MlpWeights { precision: BF16, ..mlp_weights(t, concat) }
    };
    let sizes = Sizes { b: 2, n: 37, d: 40, o: 65 };
    let numbers = |shapes: Vec<Vec<usize>>| -> Vec<Tensor> {
        // Weights of a trained network's size: large logits would amplify any rounding.
        let size = |i: usize| if i == 0 { 1.0 } else { 0.15 };
        let numbered = |(i, shape): (usize, &Vec<usize>)| {
            numbers(shape, F32, i as u64).affine(size(i), 0.0).unwrap()
        };
        shapes.iter().enumerate().map(numbered).collect()
    };
    let same = |name: &str, got: Run, want: Run, tolerance: f64| {
        close(name, &got.0, &want.0, tolerance);
        for (i, (got, want)) in got.1.iter().zip(&want.1).enumerate() {
            let (got, want) = (got.as_ref().unwrap(), want.as_ref().unwrap());
            close(&format!("{name}, gradient {i}"), got, want, tolerance);
        }
    };
    let t = numbers(attention_shapes(&sizes));
    let bf16 = || run_with(|t| Ok(attention_branch(&t[0], &attention(t), Keep::Nothing)?), &t);
    let f32 = run_with(|t| Ok(reference::attention_branch(&t[0], &attention_weights(t))?), &t);
    let rounded = run_with(|t| Ok(reference::attention_branch(&t[0], &attention(t))?), &t);
    same("attention", bf16().unwrap(), f32.unwrap(), 3e-2);
    same("attention, reference", bf16().unwrap(), rounded.unwrap(), 2e-2);
    let t = numbers(adapter_shapes(&sizes, |d| vec![1, 2 * d]));
    let run_bf16 = |keep| run_with(|t| Ok(mlp_branch(&t[0], &mlp(t), Mode::Eval, keep)?), &t);
    let (bf16, again) = (run_bf16(Keep::Activations).unwrap(), run_bf16(Keep::Nothing).unwrap());
    let concat = || Some(By::Patchwise(Fusion::Concat));
    let f32 =
        run_with(|t| Ok(reference::mlp_branch(&t[0], &mlp_weights(t, concat()), Mode::Eval)?), &t);
    let f32 = f32.unwrap();
    let different = (&bf16.0 - &f32.0).unwrap().abs().unwrap();
    assert!(largest(&different) > 1e-4, "bf16 must round");
    same("mlp", bf16, f32, 3e-2);
    let rounded = run_with(|t| Ok(reference::mlp_branch(&t[0], &mlp(t), Mode::Eval)?), &t);
    // The composition's bottleneck is rounded before its ReLU: one that rounds across zero opens or
    // closes, and what lies below it gets another gradient.
    let rounded = rounded.unwrap();
    let split = |run: Run| {
        let mut rest = run.1;
        let below = rest.drain(7..11).collect();
        [(run.0.clone(), rest), (run.0, below)]
    };
    let ([again, again_below], [rounded, rounded_below]) = (split(again), split(rounded));
    same("mlp, reference", again, rounded, 2e-2);
    same("mlp, reference, below the ReLU", again_below, rounded_below, 0.15);
}

#[test]
fn our_backward_gives_candle_s_gradients() {
    let operands: Vec<Tensor> = mlp_shapes(&Sizes { b: 2, n: 3, d: 6, o: 9 })
        .iter()
        .enumerate()
        .map(|(i, shape)| numbers(shape, F32, i as u64))
        .collect();
    let vars: Vec<Var> = operands.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    // The same weights twice, and one of them in an operator of candle's.
    let loss = || -> Result<Tensor> {
        let weights = mlp_weights(&tracked, None);
        let x = mlp_branch(&tracked[0], &weights, Mode::Eval, Keep::Activations)?;
        let x = mlp_branch(&x, &weights, Mode::Eval, Keep::Activations)?;
        x.sqr()?.sum_all()? + tracked[3].sqr()?.sum_all()?
    };
    let want = loss().unwrap().backward().unwrap();
    let got = pad_ops::backward(&loss().unwrap()).unwrap();
    for var in &vars {
        close("gradient", got.get(var).unwrap(), want.get(var).unwrap(), 1e-6);
    }
    // A second backward of one graph computes what the first has given away.
    let loss = loss().unwrap();
    loss.backward().unwrap();
    let again = loss.backward().unwrap();
    for var in &vars {
        close("again", again.get(var).unwrap(), want.get(var).unwrap(), 0.0);
    }
}
