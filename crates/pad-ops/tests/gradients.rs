//! Every operator: the fast path equals the reference, forward and backward; both agree with finite
//! differences through a residual connection; a frozen operand gets no gradient; results do not
//! depend on threads.

use candle_core::{DType, Device, Result, Tensor, Var, backprop::GradStore};
use pad_ops::{
    AdapterScale, AdapterWeights, AttentionBias, AttentionWeights, AxialRope, Fusion, Keep,
    LinearWeights, LowRankUpdate, MatmulPrecision, MlpWeights, Mode, NormWeights, RopeTables,
    attention_branch, attention_packed, attention_packed_biased, drop_path, dropout,
    fuse_patchwise, gather_tokens, gelu, gelu_tanh, layer_norm, linear, low_rank_update,
    masked_mse, mlp_branch, quick_gelu, reference, rms_norm,
    rng::{Key, Purpose},
    rope, rope_packed, softmax, swiglu,
};
use pad_testkit::{Precision, close, gradcheck, largest, numbers};
use proptest::prelude::*;

const F32: DType = DType::F32;
const F64: DType = DType::F64;
const FUSIONS: [Fusion; 4] = [Fusion::Concat, Fusion::Sum, Fusion::Side, Fusion::Gside];

type Op = fn(&[Tensor]) -> Result<Tensor>;

/// An operator with its reference and the shapes of its operands, made from a few sizes.
struct Case {
    name: &'static str,
    fast: Op,
    reference: Op,
    shapes: fn(&Sizes) -> Vec<Vec<usize>>,
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    b: usize,
    n: usize,
    d: usize,
    o: usize,
}

fn key() -> Key {
    Key::new(3).epoch(6).layer(2)
}

/// Fixed token indices for any (b, n): a reversed, repeating pattern.
fn ids(x: &Tensor) -> Result<Tensor> {
    let (b, n, _) = x.dims3()?;
    let ids: Vec<u32> = (0..b * (n + 1)).map(|i| ((i * 7 + 3) % n) as u32).collect();
    Tensor::from_vec(ids, (b, n + 1), &Device::Cpu)
}

/// Data: it never gets a gradient.
fn target(pred: &Tensor) -> Tensor {
    numbers(pred.dims(), pred.dtype(), 55)
}

fn mask(pred: &Tensor) -> Result<Tensor> {
    let (b, l, _) = pred.dims3()?;
    let mask: Vec<f32> = (0..b * l).map(|i| if i % 3 == 1 { 0.0 } else { 1.0 }).collect();
    Tensor::from_vec(mask, (b, l), &Device::Cpu)?.to_dtype(pred.dtype())
}

fn dense(weight: &Tensor, bias: &Tensor) -> LinearWeights {
    LinearWeights::new(weight.clone(), Some(bias.clone()))
}

fn norm(weight: &Tensor, bias: &Tensor) -> NormWeights {
    NormWeights { weight: weight.clone(), bias: bias.clone(), eps: 1e-6 }
}

fn attention_weights(t: &[Tensor]) -> AttentionWeights {
    let proj = LinearWeights::new(t[5].clone(), t.get(6).cloned());
    AttentionWeights::new(norm(&t[1], &t[2]), dense(&t[3], &t[4]), proj, 2)
}

/// Shapes of `attention_weights`' operands; a token of one value would be normalised to nothing.
fn attention_shapes(s: &Sizes) -> Vec<Vec<usize>> {
    let d = 2 * s.d.min(40);
    vec![vec![s.b, s.n, d], vec![d], vec![d], vec![3 * d, d], vec![3 * d], vec![d, d], vec![d]]
}

/// How the adapter of a case is scaled.
enum By {
    Fixed,
    Learnable,
    Patchwise(Fusion),
}

fn mlp_weights(t: &[Tensor], adapter: Option<By>) -> MlpWeights {
    let adapter = adapter.map(|by| AdapterWeights {
        norm: matches!(by, By::Learnable | By::Patchwise(_)).then(|| norm(&t[7], &t[8])),
        down: dense(&t[9], &t[10]),
        up: dense(&t[11], &t[12]),
        dropout: 0.2,
        scale: match by {
            By::Fixed => AdapterScale::Fixed(0.3),
            By::Learnable => AdapterScale::Learnable(t[13].clone()),
            By::Patchwise(fusion) => AdapterScale::Patchwise { gate: t[13].clone(), fusion },
        },
    });
    let plain = MlpWeights::new(norm(&t[1], &t[2]), dense(&t[3], &t[4]), dense(&t[5], &t[6]));
    MlpWeights { adapter, ..plain }
}

/// Shapes of `mlp_weights`' operands without adapter.
fn mlp_shapes(s: &Sizes) -> Vec<Vec<usize>> {
    let (d, h) = (s.d.min(90) + 1, s.o);
    vec![vec![s.b, s.n, d], vec![d], vec![d], vec![h, d], vec![h], vec![d, h], vec![d]]
}

/// The same with an adapter, whose scale takes a tensor of the last shape.
fn adapter_shapes(s: &Sizes, scale: fn(usize) -> Vec<usize>) -> Vec<Vec<usize>> {
    let (d, k) = (s.d.min(90) + 1, s.o.div_ceil(2));
    let mut shapes = mlp_shapes(s);
    shapes.extend([vec![d], vec![d], vec![k, d], vec![k], vec![d, k], vec![d], scale(d)]);
    shapes
}

macro_rules! mlp_case {
    ($name:literal, $by:expr, $keep:expr, $scale:expr) => {
        Case {
            name: $name,
            fast: |t| Ok(mlp_branch(&t[0], &mlp_weights(t, Some($by)), Mode::Train(key()), $keep)?),
            reference: |t| {
                Ok(reference::mlp_branch(&t[0], &mlp_weights(t, Some($by)), Mode::Train(key()))?)
            },
            shapes: |s| adapter_shapes(s, $scale),
        }
    };
}

fn decomposed(t: &[Tensor]) -> AttentionBias {
    AttentionBias::Decomposed { rows: t[1].clone(), columns: t[2].clone() }
}

/// The first and the last third of a weight's rows.
fn updates(t: &[Tensor]) -> [LowRankUpdate; 2] {
    let third = t[2].dims()[0];
    let update = |a: &Tensor, b: &Tensor, scale, first_row| LowRankUpdate {
        a: a.clone(),
        b: b.clone(),
        scale,
        first_row,
    };
    [update(&t[1], &t[2], 0.5, 0), update(&t[3], &t[4], 2.0, 2 * third)]
}

/// Positions of all tokens of `x` (B, H, N, E) but the first.
fn places(x: &Tensor, rope: AxialRope) -> Result<RopeTables> {
    let (_, _, n, head_dim) = x.dims4()?;
    Ok(rope.tables([1, n - 1], head_dim, x.device())?)
}

/// Positions that differ between the images of `qkv` (B, N, 3 D), two heads.
fn packed_places(qkv: &Tensor) -> Result<RopeTables> {
    let (b, n, width) = qkv.dims3()?;
    let tables = AxialRope::eva02([3, 3]).tables([2, n], width / 6, qkv.device())?;
    let ids: Vec<u32> = (0..b * n).map(|i| ((i * 5 + 2) % (2 * n)) as u32).collect();
    Ok(tables.at(&Tensor::from_vec(ids, (b, n), qkv.device())?)?)
}

macro_rules! fuse_case {
    ($name:literal, $fusion:expr) => {
        Case {
            name: $name,
            fast: |t| Ok(fuse_patchwise(&t[0], &t[1], &t[2], $fusion)?),
            reference: |t| Ok(reference::fuse_patchwise(&t[0], &t[1], &t[2], $fusion)?),
            shapes: |s| {
                let gate = vec![1, $fusion.gate_width(s.d)];
                vec![vec![s.b, s.n, s.d], vec![s.b, s.n, s.d], gate]
            },
        }
    };
}

const CASES: [Case; 32] = [
    Case {
        name: "layer_norm",
        fast: |t| Ok(layer_norm(&t[0], &t[1], &t[2], 1e-6)?),
        reference: |t| Ok(reference::layer_norm(&t[0], &t[1], &t[2], 1e-6)?),
        shapes: |s| vec![vec![s.b, s.n, s.d + 2], vec![s.d + 2], vec![s.d + 2]],
    },
    Case {
        name: "softmax",
        fast: |t| Ok(softmax(&t[0])?),
        reference: |t| Ok(reference::softmax(&t[0])?),
        shapes: |s| vec![vec![s.b, s.n, s.d]],
    },
    Case {
        name: "gelu",
        fast: |t| Ok(gelu(&t[0])?),
        reference: |t| Ok(reference::gelu(&t[0])?),
        shapes: |s| vec![vec![s.b, s.n, s.d]],
    },
    Case {
        name: "gelu_tanh",
        fast: |t| Ok(gelu_tanh(&t[0])?),
        reference: |t| Ok(reference::gelu_tanh(&t[0])?),
        shapes: |s| vec![vec![s.b, s.n, s.d]],
    },
    Case {
        name: "quick_gelu",
        fast: |t| Ok(quick_gelu(&t[0])?),
        reference: |t| Ok(reference::quick_gelu(&t[0])?),
        shapes: |s| vec![vec![s.b, s.n, s.d]],
    },
    Case {
        name: "swiglu",
        fast: |t| Ok(swiglu(&t[0])?),
        reference: |t| Ok(reference::swiglu(&t[0])?),
        shapes: |s| vec![vec![s.b, s.n, 2 * s.d]],
    },
    Case {
        name: "rms_norm",
        fast: |t| Ok(rms_norm(&t[0], &t[1], 1e-6)?),
        reference: |t| Ok(reference::rms_norm(&t[0], &t[1], 1e-6)?),
        shapes: |s| vec![vec![s.b, s.n, s.d + 2], vec![s.d + 2]],
    },
    Case {
        name: "rope, halves, one token in front",
        fast: |t| Ok(rope(&t[0], &places(&t[0], AxialRope::dinov3())?)?),
        reference: |t| Ok(reference::rope(&t[0], &places(&t[0], AxialRope::dinov3())?)?),
        shapes: |s| vec![vec![s.b, 2, s.n + 1, 4 * s.o]],
    },
    Case {
        name: "rope_packed, neighbours",
        fast: |t| Ok(rope_packed(&t[0], 2, &packed_places(&t[0])?)?),
        reference: |t| Ok(reference::rope_packed(&t[0], 2, &packed_places(&t[0])?)?),
        shapes: |s| vec![vec![s.b, s.n, 24 * s.o]],
    },
    Case {
        name: "attention_packed_biased, per key",
        fast: |t| Ok(attention_packed_biased(&t[0], 2, &AttentionBias::Keys(t[1].clone()))?),
        reference: |t| {
            let bias = AttentionBias::Keys(t[1].clone());
            Ok(reference::attention_packed_biased(&t[0], 2, &bias)?)
        },
        shapes: |s| vec![vec![s.b, s.n, 6 * s.d], vec![s.b, s.n]],
    },
    Case {
        name: "low_rank_update",
        fast: |t| Ok(low_rank_update(&t[0], &updates(t))?),
        reference: |t| Ok(reference::low_rank_update(&t[0], &updates(t))?),
        shapes: |s| {
            let (rank, third) = (s.n.min(5), s.o);
            vec![
                vec![3 * third, s.d],
                vec![rank, s.d],
                vec![third, rank],
                vec![rank, s.d],
                vec![third, rank],
            ]
        },
    },
    Case {
        name: "linear",
        fast: |t| Ok(linear(&t[0], &t[1], Some(&t[2]))?),
        reference: |t| Ok(reference::linear(&t[0], &t[1], Some(&t[2]))?),
        shapes: |s| vec![vec![s.b, s.n, s.d], vec![s.o, s.d], vec![s.o]],
    },
    Case {
        name: "linear without bias",
        fast: |t| Ok(linear(&t[0], &t[1], None)?),
        reference: |t| Ok(reference::linear(&t[0], &t[1], None)?),
        shapes: |s| vec![vec![s.b, s.n, s.d], vec![s.o, s.d]],
    },
    Case {
        name: "dropout",
        fast: |t| Ok(dropout(&t[0], 0.3, Mode::Train(key()))?),
        reference: |t| Ok(reference::dropout(&t[0], 0.3, key().purpose(Purpose::Dropout))?),
        shapes: |s| vec![vec![s.b, s.n, s.d]],
    },
    Case {
        name: "attention, one head",
        fast: |t| Ok(attention_packed(&t[0], 1)?),
        reference: |t| Ok(reference::attention_packed(&t[0], 1)?),
        shapes: |s| vec![vec![s.b, s.n, 3 * s.d]],
    },
    Case {
        name: "attention, three heads",
        fast: |t| Ok(attention_packed(&t[0], 3)?),
        reference: |t| Ok(reference::attention_packed(&t[0], 3)?),
        shapes: |s| vec![vec![s.b, s.n, 9 * s.o.min(16)]],
    },
    Case {
        name: "attention_packed_biased, per head",
        fast: |t| Ok(attention_packed_biased(&t[0], 3, &AttentionBias::PerHead(t[1].clone()))?),
        reference: |t| {
            let bias = AttentionBias::PerHead(t[1].clone());
            Ok(reference::attention_packed_biased(&t[0], 3, &bias)?)
        },
        shapes: |s| vec![vec![s.b, s.n, 9 * s.d], vec![3, s.n, s.n]],
    },
    Case {
        name: "attention_packed_biased, decomposed",
        fast: |t| Ok(attention_packed_biased(&t[0], 2, &decomposed(t))?),
        reference: |t| Ok(reference::attention_packed_biased(&t[0], 2, &decomposed(t))?),
        shapes: |s| {
            let n = 2 * s.n;
            vec![vec![s.b, n, 6 * s.d], vec![s.b, 2, n, 2], vec![s.b, 2, n, s.n]]
        },
    },
    Case {
        name: "attention_branch",
        fast: |t| Ok(attention_branch(&t[0], &attention_weights(t), Keep::Activations)?),
        reference: |t| Ok(reference::attention_branch(&t[0], &attention_weights(t))?),
        shapes: attention_shapes,
    },
    Case {
        name: "attention_branch, recomputed, without bias",
        fast: |t| Ok(attention_branch(&t[0], &attention_weights(t), Keep::Nothing)?),
        reference: |t| Ok(reference::attention_branch(&t[0], &attention_weights(t))?),
        shapes: |s| attention_shapes(s)[..6].to_vec(),
    },
    Case {
        name: "mlp_branch",
        fast: |t| Ok(mlp_branch(&t[0], &mlp_weights(t, None), Mode::Eval, Keep::Activations)?),
        reference: |t| Ok(reference::mlp_branch(&t[0], &mlp_weights(t, None), Mode::Eval)?),
        shapes: mlp_shapes,
    },
    mlp_case!("mlp_branch, learnable", By::Learnable, Keep::Activations, |_| vec![1]),
    mlp_case!("mlp_branch, concat", By::Patchwise(Fusion::Concat), Keep::Activations, |d| {
        vec![1, 2 * d]
    }),
    mlp_case!("mlp_branch, sum", By::Patchwise(Fusion::Sum), Keep::Nothing, |d| vec![1, d]),
    mlp_case!("mlp_branch, gate beside", By::Patchwise(Fusion::Side), Keep::Activations, |d| {
        vec![1, d]
    }),
    mlp_case!("mlp_branch, gside", By::Patchwise(Fusion::Gside), Keep::Nothing, |d| vec![1, d]),
    fuse_case!("fuse_patchwise concat", Fusion::Concat),
    fuse_case!("fuse_patchwise sum", Fusion::Sum),
    fuse_case!("fuse_patchwise side", Fusion::Side),
    fuse_case!("fuse_patchwise gside", Fusion::Gside),
    Case {
        name: "gather_tokens",
        fast: |t| Ok(gather_tokens(&t[0], &ids(&t[0])?)?),
        reference: |t| Ok(reference::gather_tokens(&t[0], &ids(&t[0])?)?),
        shapes: |s| vec![vec![s.b, s.n, s.d]],
    },
    Case {
        name: "masked_mse",
        fast: |t| Ok(masked_mse(&t[0], &target(&t[0]), &mask(&t[0])?)?),
        reference: |t| Ok(reference::masked_mse(&t[0], &target(&t[0]), &mask(&t[0])?)?),
        shapes: |s| vec![vec![s.b, s.n, s.d]],
    },
];

fn operands(case: &Case, sizes: &Sizes, dtype: DType) -> Vec<Tensor> {
    (case.shapes)(sizes)
        .iter()
        .enumerate()
        .map(|(i, shape)| numbers(shape, dtype, i as u64))
        .collect()
}

/// Output and the gradient to every operand, of a loss with a residual.
fn run(op: Op, operands: &[Tensor]) -> Result<Run> {
    run_with(op, operands)
}

type Run = (Tensor, Vec<Option<Tensor>>);

fn run_with(op: impl Fn(&[Tensor]) -> Result<Tensor>, operands: &[Tensor]) -> Result<Run> {
    let vars: Vec<Var> = operands.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let out = op(&tracked)?;
    let probe = numbers(out.dims(), out.dtype(), 77);
    let mut loss = (&out * probe)?.sum_all()?;
    for tensor in &tracked {
        loss = (loss + (tensor.sqr()? * 0.1)?.sum_all()?)?;
    }
    let grads: GradStore = loss.backward()?;
    let grads = vars.iter().map(|v| grads.get(v.as_tensor()).cloned()).collect();
    Ok((out.detach(), grads))
}

fn fast_equals_reference(case: &Case, sizes: Sizes) {
    let operands = operands(case, &sizes, F32);
    let (fast, fast_grads) = run(case.fast, &operands).unwrap();
    let (want, want_grads) = run(case.reference, &operands).unwrap();
    let name = format!("{} {sizes:?}", case.name);
    if largest(&want) == 0.0 {
        assert_eq!(largest(&fast), 0.0, "{name}: dropout may drop everything there is");
    } else {
        close(&name, &fast, &want, 2e-5);
    }
    for (i, (got, want)) in fast_grads.iter().zip(&want_grads).enumerate() {
        let (got, want) = (got.as_ref().expect("gradient"), want.as_ref().expect("gradient"));
        let name = format!("{name}, gradient {i}");
        if want.elem_count() == 1 {
            // A sum over every token and channel, which may cancel out: rounding goes with its
            // terms, about as large as the gradient's other values, and not with what is left of
            // them.
            let difference = largest(&(got - want).unwrap());
            let terms = want_grads.iter().flatten().map(largest).fold(0.0, f64::max);
            assert!(difference <= 5e-5 * terms, "{name}: got {got} but want {want}");
        } else {
            close(&name, got, want, 5e-5);
        }
    }
}

#[test]
fn corner_sizes() {
    let table = [
        Sizes { b: 1, n: 1, d: 1, o: 1 },
        Sizes { b: 1, n: 1, d: 33, o: 2 },
        Sizes { b: 2, n: 5, d: 31, o: 17 },
        Sizes { b: 1, n: 197, d: 32, o: 8 },
        Sizes { b: 3, n: 7, d: 3072, o: 5 },
        Sizes { b: 1, n: 1100, d: 8, o: 4 }, // attention in several blocks of rows
    ];
    for case in &CASES {
        for sizes in table {
            fast_equals_reference(case, sizes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]
    #[test]
    fn random_sizes(b in 1_usize..4, n in 1_usize..70, d in 1_usize..130, o in 1_usize..70) {
        for case in &CASES {
            fast_equals_reference(case, Sizes { b, n, d, o });
        }
    }
}

#[test]
fn finite_differences() {
    let sizes = Sizes { b: 2, n: 4, d: 9, o: 5 };
    for case in &CASES {
        // A chain of operators curves more than one: central differences are off by more.
        let chain = case.name.contains("branch");
        let f64_precision =
            if chain { Precision { tolerance: 1e-6, ..Precision::F64 } } else { Precision::F64 };
        gradcheck(case.name, &operands(case, &sizes, F32), Precision::F32, case.fast);
        // dropout and masks are fixed by the key, so f64 runs see the same function.
        let name = format!("{} (reference)", case.name);
        gradcheck(&name, &operands(case, &sizes, F64), f64_precision, case.reference);
        gradcheck(case.name, &operands(case, &sizes, F64), f64_precision, case.fast);
    }
}

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

#[test]
fn a_cut_graph_is_caught() {
    // The check itself must be able to fail: this operator hides half of its dependence on x.
    let x = numbers(&[3, 4], F64, 1);
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        gradcheck("cut", &[x], Precision::F64, |t| &t[0] * t[0].detach());
    }));
    let message = *failed.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("finite differences"), "{message}");
}

#[test]
fn frozen_operands_get_no_gradient() {
    for case in &CASES {
        let operands = operands(case, &Sizes { b: 2, n: 3, d: 6, o: 4 }, F32);
        for trained in 0..operands.len() {
            let var = Var::from_tensor(&operands[trained]).unwrap();
            let mut mixed = operands.clone();
            mixed[trained] = var.as_tensor().clone();
            let out = (case.fast)(&mixed).unwrap();
            let grads = out.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            // The side fusion does not look at the MLP's output.
            let want = !(case.name.ends_with(" side") && trained == 1);
            assert_eq!(grads.get(var.as_tensor()).is_some(), want, "{} {trained}", case.name);
            for (i, operand) in mixed.iter().enumerate() {
                if i != trained {
                    assert!(grads.get(operand).is_none(), "{}: frozen operand {i}", case.name);
                }
            }
        }
        assert!(!(case.fast)(&operands).unwrap().track_op(), "{}: nothing to train", case.name);
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

#[test]
fn same_bits_for_any_number_of_threads() {
    let sizes = Sizes { b: 4, n: 150, d: 200, o: 64 };
    for case in &CASES {
        let bits = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (out, grads) = run(case.fast, &operands(case, &sizes, F32)).unwrap();
                let mut bits: Vec<Vec<u32>> = Vec::new();
                for tensor in std::iter::once(&out).chain(grads.iter().flatten()) {
                    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    bits.push(values.iter().map(|v| v.to_bits()).collect());
                }
                bits
            })
        };
        let one = bits(1);
        assert_eq!(one, bits(2), "{}", case.name);
        assert_eq!(one, bits(3), "{}", case.name);
    }
}

#[test]
fn views_are_read_in_their_own_order() {
    // A transposed view and its contiguous copy are the same operand.
    let x = numbers(&[5, 6, 4], F32, 1).transpose(0, 1).unwrap();
    let copy = x.contiguous().unwrap();
    for (got, want) in [
        (softmax(&x), softmax(&copy)),
        (gelu(&x), gelu(&copy)),
        (
            linear(&x, &numbers(&[4, 3], F32, 2).t().unwrap(), None),
            linear(&copy, &numbers(&[4, 3], F32, 2).t().unwrap().contiguous().unwrap(), None),
        ),
    ] {
        close("view", &got.unwrap(), &want.unwrap(), 0.0);
    }
}

#[test]
fn half_types_take_the_reference() {
    let x = numbers(&[2, 3, 8], DType::BF16, 1);
    let one = Tensor::ones(8, DType::BF16, &Device::Cpu).unwrap();
    let y = layer_norm(&x, &one, &one, 1e-6).unwrap();
    assert_eq!(y.dtype(), DType::BF16);
    let wide = |t: &Tensor| t.to_dtype(F32).unwrap();
    close("bf16", &wide(&y), &layer_norm(&wide(&x), &wide(&one), &wide(&one), 1e-6).unwrap(), 1e-2);
}

#[test]
fn dropout_drops_the_share_it_says() {
    let x = Tensor::ones((100, 1000), F32, &Device::Cpu).unwrap();
    let y = dropout(&x, 0.1, Mode::Train(key())).unwrap();
    let values = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let dropped = values.iter().filter(|v| **v == 0.0).count() as f64 / values.len() as f64;
    assert!((dropped - 0.1).abs() < 0.005, "{dropped}");
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
    assert!((mean - 1.0).abs() < 0.005, "{mean}");
    close("eval", &dropout(&x, 0.1, Mode::Eval).unwrap(), &x, 0.0);
    let other = dropout(&x, 0.1, Mode::Train(key().layer(3))).unwrap();
    assert_ne!(values, other.flatten_all().unwrap().to_vec1::<f32>().unwrap());
}

#[test]
fn drop_path_drops_whole_samples() {
    let x = Tensor::ones((400, 3, 2), F32, &Device::Cpu).unwrap();
    let y = drop_path(&x, 0.25, Mode::Train(key())).unwrap().to_vec3::<f32>().unwrap();
    let kept = 1.0 / 0.75;
    let mut dropped = 0;
    for sample in &y {
        let first = sample[0][0];
        assert!(first == 0.0 || (first - kept).abs() < 1e-6);
        assert!(sample.iter().flatten().all(|v| *v == first));
        dropped += usize::from(first == 0.0);
    }
    assert!((80..120).contains(&dropped), "{dropped} of 400");
}

#[test]
fn nan_and_infinities_are_not_hidden() {
    let x = Tensor::new(&[[1.0_f32, f32::NAN, 2.0], [0.0, 1.0, 2.0]], &Device::Cpu).unwrap();
    let y = softmax(&x).unwrap().to_vec2::<f32>().unwrap();
    assert!(y[0].iter().all(|v| v.is_nan()) && y[1].iter().all(|v| v.is_finite()));
    let z = gelu(&Tensor::new(&[f32::NAN, f32::INFINITY], &Device::Cpu).unwrap()).unwrap();
    let z = z.to_vec1::<f32>().unwrap();
    assert!(z[0].is_nan() && z[1] == f32::INFINITY);
}

#[test]
fn no_values_no_panic() {
    let empty = Tensor::zeros((0, 4, 8), F32, &Device::Cpu).unwrap();
    assert_eq!(gelu(&empty).unwrap().dims(), [0, 4, 8]);
    let weight = numbers(&[3, 8], F32, 1);
    assert_eq!(linear(&empty, &weight, None).unwrap().dims(), [0, 4, 3]);
}

#[test]
fn refusals_name_operator_and_argument() {
    let x = numbers(&[2, 3, 8], F32, 1);
    let ones = |n: usize| Tensor::ones(n, F32, &Device::Cpu).unwrap();
    let text = |result: pad_ops::Result<Tensor>| result.unwrap_err().to_string();
    let ids = Tensor::new(&[[0_u32, 3], [0, 1]], &Device::Cpu).unwrap();
    let kept = Tensor::zeros((2, 3), F32, &Device::Cpu).unwrap();
    let table = [
        (
            text(layer_norm(&x, &ones(7), &ones(8), 1e-6)),
            "layer_norm: `weight` has shape [7], expected [8]",
        ),
        (
            text(linear(&x, &numbers(&[4, 9], F32, 0), None)),
            "linear: `weight` has shape [4, 9], expected [4, 8]",
        ),
        (
            text(linear(&x, &numbers(&[4, 8], F64, 0), None)),
            "linear: `weight` has dtype F64, expected F32, BF16 or F16",
        ),
        (
            text(attention_packed(&numbers(&[1, 2, 12], F32, 0), 3)),
            "attention_packed: `num_heads` is 3, expected a divisor of embed_dim (12 / 3)",
        ),
        (text(gather_tokens(&x, &ids)), "gather_tokens: `ids` is 3, expected every index below 3"),
        (
            text(masked_mse(&x, &x, &kept)),
            "masked_mse: `mask` is none, expected at least one removed patch",
        ),
        (text(dropout(&x, 1.0, Mode::Eval)), "dropout: `p` is 1, expected 0 <= p < 1"),
        (
            text(fuse_patchwise(&x, &x, &numbers(&[1, 8], F32, 0), Fusion::Concat)),
            "fuse_patchwise: `gate` has shape [1, 8], expected [1, 16]",
        ),
        (text(softmax(&ids)), "softmax: `x` has dtype U32, expected a floating dtype"),
    ];
    for (got, want) in table {
        assert_eq!(got, want);
    }
    for fusion in FUSIONS {
        assert_eq!(fusion.gate_width(8), if fusion == Fusion::Concat { 16 } else { 8 });
    }
}
