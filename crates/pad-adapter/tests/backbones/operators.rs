//! The operators that these backbones need, against recorded values and gradients.

use candle_core::{DType, Tensor, Var};
use pad_ops::{LinearWeights, MlpActivation, RopeTables};
use pad_testkit::close;

use super::{
    all_read,
    entry::{CPU, Entry, TOLERANCE, rope, spread},
};

type Op<'a> = &'a dyn Fn(&[Tensor]) -> Tensor;

/// Runs `op` in `f32` on the fast path and in `f64` on the reference, forward and backward.
fn run(entry: &Entry, name: &str, operands: &[&str], op: Op<'_>) {
    for (dtype, suffix) in [(DType::F32, ""), (DType::F64, ".f64")] {
        let vars: Vec<Var> = operands
            .iter()
            .map(|operand| {
                let value = entry.get(&format!("{name}.{operand}")).to_dtype(dtype).unwrap();
                Var::from_tensor(&value).unwrap()
            })
            .collect();
        let tracked: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let out = op(&tracked);
        let want = |key: String| entry.get(&format!("{name}.{key}{suffix}")).clone();
        let tolerance = if dtype == DType::F64 { 1e-6 } else { TOLERANCE };
        close(&format!("{name}{suffix}"), &out, &want("out".into()), tolerance);
        let upstream = entry.get(&format!("{name}.grad_out")).to_dtype(dtype).unwrap();
        let loss = (out * upstream).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        for (var, operand) in vars.iter().zip(operands) {
            let got = grads.get(var.as_tensor()).unwrap();
            let want = want(format!("grad.{operand}"));
            close(&format!("{name}{suffix} {operand}"), got, &want, 2.0 * tolerance);
        }
    }
}

fn tables(entry: &Entry, name: &str) -> RopeTables {
    let facts = &entry.facts["facts"][name];
    let grid = facts["grid"].as_array().unwrap();
    let side = |i: usize| grid[i].as_u64().unwrap() as usize;
    let head = facts["head_dim"].as_u64().unwrap() as usize;
    let tables = rope(facts).unwrap().tables([side(0), side(1)], head, &CPU).unwrap();
    for (table, key) in [(&tables.sin, "sin"), (&tables.cos, "cos")] {
        let spread = spread(table, tables.pairs);
        close(name, &spread, entry.get(&format!("{name}.{key}")), TOLERANCE);
        close(name, &spread, entry.get(&format!("{name}.{key}.f64")), TOLERANCE);
    }
    tables
}

/// An MLP with its residual stream taken off again, by the fused branch: a norm of the input that
/// does nothing stands in for the block's.
fn mlp(t: &[Tensor], packed: bool, norm: bool) -> Tensor {
    let (x, rest) = t.split_first().unwrap();
    let (fc1, rest) = match packed {
        true => (LinearWeights::new(rest[0].clone(), Some(rest[1].clone())), &rest[2..]),
        false => {
            let weight = Tensor::cat(&[&rest[0], &rest[2]], 0).unwrap();
            let bias = Tensor::cat(&[&rest[1], &rest[3]], 0).unwrap();
            (LinearWeights::new(weight, Some(bias)), &rest[4..])
        }
    };
    let hidden = pad_ops::linear(x, &fc1.weight, fc1.bias.as_ref()).unwrap();
    let hidden = pad_ops::swiglu(&hidden).unwrap();
    let (hidden, rest) = match norm {
        true => (pad_ops::layer_norm(&hidden, &rest[0], &rest[1], 1e-6).unwrap(), &rest[2..]),
        false => (hidden, rest),
    };
    pad_ops::linear(&hidden, &rest[0], Some(&rest[1])).unwrap()
}

pub(super) fn check(entry: &Entry) {
    assert_eq!(MlpActivation::default(), MlpActivation::Gelu);
    let ropes: Vec<String> = entry.facts["facts"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, facts)| name.starts_with("rope_") && facts.is_object())
        .map(|(name, _)| name.clone())
        .collect();
    assert!(!ropes.is_empty());
    for name in &ropes {
        let tables = tables(entry, name);
        run(entry, name, &["x"], &|t| pad_ops::rope(&t[0], &tables).unwrap());
    }
    for (name, eps) in [("rms_norm_1e-5", 1e-5), ("rms_norm_1e-6", 1e-6)] {
        run(entry, name, &["x", "weight"], &|t| pad_ops::rms_norm(&t[0], &t[1], eps).unwrap());
    }
    run(entry, "gelu_tanh", &["x"], &|t| pad_ops::gelu_tanh(&t[0]).unwrap());
    run(entry, "quick_gelu", &["x"], &|t| pad_ops::quick_gelu(&t[0]).unwrap());
    run(entry, "silu", &["x"], &|t| {
        // silu(x) is the gated half of a pair (x, 1).
        let pair = Tensor::stack(&[&t[0], &t[0].ones_like().unwrap()], 1).unwrap();
        pad_ops::swiglu(&pair).unwrap().squeeze(1).unwrap()
    });
    run(entry, "swiglu_packed", &["x", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"], &|t| {
        mlp(t, true, false)
    });
    let split = ["x", "fc1_g.weight", "fc1_g.bias", "fc1_x.weight", "fc1_x.bias"];
    let second = ["fc2.weight", "fc2.bias"];
    run(entry, "swiglu_split", &[&split[..], &second].concat(), &|t| mlp(t, false, false));
    let norm = ["norm.weight", "norm.bias"];
    run(entry, "swiglu_split_norm", &[&split[..], &norm, &second].concat(), &|t| {
        mlp(t, false, true)
    });
    all_read(entry);
}
