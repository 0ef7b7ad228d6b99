//! Half blocks and attention on devices against their compositions: forward and gradients.

use candle_core::{DType, Device, Result, Tensor, Var};
use pad_testkit::{close, numbers};

use super::{
    emulated,
    tests::{BF16, F32, compare, compare_to},
};
use crate::{
    AdapterScale, AdapterWeights, AttentionWeights, Fusion, Keep, LinearWeights, MatmulPrecision,
    MlpWeights, Mode, NormWeights, attention_branch, attention_packed, mlp_branch, rng::Key,
};

/// f32 weights and residual stream, products in bf16.
const MIXED: (DType, f64) = (DType::F32, 2e-2);
/// The stream and all parameters in bf16 too: a gradient passes a dozen roundings of 4e-3 each, in
/// the composition as well (`tests/devices.rs` allows it 3e-2).
const NARROW: (DType, f64) = (DType::BF16, 4e-2);
const KINDS: [((DType, f64), MatmulPrecision); 3] =
    [(F32, MatmulPrecision::F32), (MIXED, MatmulPrecision::Bf16), (NARROW, MatmulPrecision::F32)];

#[test]
fn attention_kernels() {
    // Images, tokens, heads, values of a head: one lane or several a row, one head or several a
    // block, further turns of rows.
    let sizes = [
        (2, 7, 2, 4),
        (3, 1, 1, 1),
        (1, 197, 1, 32),
        (1, 50, 5, 64),
        (2, 33, 3, 5),
        (1, 256, 1, 3),
        (1, 140, 1, 40),
        (2, 9, 1, 70),
        (1, 65, 1, 130),
    ];
    for kind in [F32, BF16] {
        for (b, n, heads, width) in sizes {
            let name = format!("attention {n} x {width}");
            let shapes: [&[usize]; 1] = [&[b, n, 3 * heads * width]];
            compare(&name, &shapes, kind, &|t| Ok(attention_packed(&(&t[0] * 2.0)?, heads)?));
        }
    }
}

/// A weight whose products are about as large as what they are of; not a variable itself.
fn scaled(weight: &Tensor) -> Result<Tensor> {
    weight * (weight.dim(1)? as f64).powf(-0.5)
}

fn dense(weight: &Tensor, bias: Option<&Tensor>) -> LinearWeights {
    LinearWeights::new(weight.clone(), bias.cloned())
}

fn norm(t: &[Tensor], eps: f64) -> NormWeights {
    NormWeights { weight: t[0].clone(), bias: t[1].clone(), eps }
}

/// A half block's sizes: images, tokens, heads, values of a head.
type Sizes = (usize, usize, usize, usize);

fn attention_case(
    t: &[Tensor],
    heads: usize,
    precision: MatmulPrecision,
    keep: Keep,
    with_biases: bool,
) -> Result<Tensor> {
    let bias = |t| if with_biases { Some(t) } else { None };
    let (qkv, proj) = (dense(&scaled(&t[3])?, bias(&t[4])), dense(&scaled(&t[5])?, bias(&t[6])));
    let plain = AttentionWeights::new(norm(&t[1..3], 1e-5), qkv, proj, heads);
    let weights = AttentionWeights { precision, ..plain };
    Ok(attention_branch(&t[0], &weights, keep)?)
}

fn attention_shapes((b, n, heads, width): Sizes) -> Vec<Vec<usize>> {
    let d = heads * width;
    let weights = [vec![d], vec![d], vec![3 * d, d], vec![3 * d], vec![d, d], vec![d]];
    [vec![vec![b, n, d]], weights.to_vec()].concat()
}

#[test]
fn attention_branches() {
    let sizes: [Sizes; 3] = [(2, 7, 3, 4), (3, 5, 1, 3), (1, 50, 2, 20)];
    for (kind, precision) in KINDS {
        for sizes in sizes {
            for (keep, with_biases) in [(Keep::Activations, true), (Keep::Nothing, false)] {
                let shapes = attention_shapes(sizes);
                let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
                let name = format!("attention branch {sizes:?} {precision} {keep:?}");
                let case = |precision| {
                    move |t: &[Tensor]| attention_case(t, sizes.2, precision, keep, with_biases)
                };
                compare_to(&name, &shapes, kind, &case(precision), &case(MatmulPrecision::F32));
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Strength {
    None,
    Fixed,
    Learnable,
    Patchwise(Fusion),
}

#[derive(Clone, Copy, Debug)]
struct MlpCase {
    sizes: [usize; 5],
    strength: Strength,
    adapter_norm: bool,
    dropout: f64,
    keep: Keep,
    biases: bool,
}

fn mlp_shapes(case: MlpCase) -> Vec<Vec<usize>> {
    let [b, n, d, h, k] = case.sizes;
    let gate = match case.strength {
        Strength::Patchwise(fusion) => vec![1, fusion.gate_width(d)],
        _ => vec![1],
    };
    vec![
        vec![b, n, d],
        vec![d],
        vec![d],
        vec![h, d],
        vec![h],
        vec![d, h],
        vec![d],
        vec![d],
        vec![d],
        vec![k, d],
        vec![k],
        vec![d, k],
        vec![d],
        gate,
    ]
}

fn mlp_case(t: &[Tensor], case: MlpCase, precision: MatmulPrecision) -> Result<Tensor> {
    let bias = |t| if case.biases { Some(t) } else { None };
    let scale = match case.strength {
        Strength::None | Strength::Fixed => AdapterScale::Fixed(0.7),
        Strength::Learnable => AdapterScale::Learnable(t[13].clone()),
        Strength::Patchwise(fusion) => AdapterScale::Patchwise { gate: t[13].clone(), fusion },
    };
    let adapter = AdapterWeights {
        norm: case.adapter_norm.then(|| norm(&t[7..9], 1e-3)),
        down: dense(&scaled(&t[9])?, bias(&t[10])),
        up: dense(&scaled(&t[11])?, bias(&t[12])),
        dropout: case.dropout,
        scale,
    };
    let (fc1, fc2) = (dense(&scaled(&t[3])?, bias(&t[4])), dense(&scaled(&t[5])?, bias(&t[6])));
    let adapter = (!matches!(case.strength, Strength::None)).then_some(adapter);
    let plain = MlpWeights::new(norm(&t[1..3], 1e-6), fc1, fc2);
    let weights = MlpWeights { adapter, precision, ..plain };
    Ok(mlp_branch(&t[0], &weights, Mode::Train(Key::new(4)), case.keep)?)
}

#[test]
fn mlp_branches() {
    let plain = MlpCase {
        sizes: [2, 7, 12, 20, 5],
        strength: Strength::None,
        adapter_norm: false,
        dropout: 0.0,
        keep: Keep::Activations,
        biases: true,
    };
    let cases = [
        plain,
        MlpCase { sizes: [1, 3, 5, 9, 3], biases: false, keep: Keep::Nothing, ..plain },
        MlpCase { strength: Strength::Fixed, dropout: 0.25, ..plain },
        MlpCase { strength: Strength::Learnable, adapter_norm: true, ..plain },
        MlpCase { strength: Strength::Learnable, sizes: [1, 70, 9, 6, 33], ..plain },
        MlpCase {
            strength: Strength::Patchwise(Fusion::Concat),
            adapter_norm: true,
            dropout: 0.25,
            ..plain
        },
        MlpCase {
            strength: Strength::Patchwise(Fusion::Concat),
            sizes: [1, 131, 7, 5, 3],
            biases: false,
            keep: Keep::Nothing,
            adapter_norm: true,
            ..plain
        },
        MlpCase { strength: Strength::Patchwise(Fusion::Sum), keep: Keep::Nothing, ..plain },
        MlpCase { strength: Strength::Patchwise(Fusion::Side), adapter_norm: true, ..plain },
        MlpCase { strength: Strength::Patchwise(Fusion::Gside), ..plain },
    ];
    for (kind, precision) in KINDS {
        for case in cases {
            let shapes = mlp_shapes(case);
            let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
            let name = format!("{case:?} {precision}");
            let case = |precision| move |t: &[Tensor]| mlp_case(t, case, precision);
            compare_to(&name, &shapes, kind, &case(precision), &case(MatmulPrecision::F32));
        }
    }
}

/// PAD's way: a frozen layer, an adapter that trains; and nothing that tracks at all.
#[test]
fn frozen_operands_get_no_gradient() {
    if !emulated::has_compiler() {
        pad_testkit::skipped("emulated kernels", "there is no C++ compiler (c++)");
        return;
    }
    let case = MlpCase {
        sizes: [2, 5, 8, 12, 4],
        strength: Strength::Patchwise(Fusion::Concat),
        adapter_norm: true,
        dropout: 0.1,
        keep: Keep::Activations,
        biases: true,
    };
    let shapes = mlp_shapes(case);
    let make = |trained: &dyn Fn(usize) -> bool| -> (Vec<Tensor>, Vec<Option<Var>>) {
        let values = shapes.iter().zip(0..).map(|(shape, salt)| numbers(shape, DType::F32, salt));
        let vars = values.enumerate().map(|(at, value)| match trained(at) {
            true => {
                let var = Var::from_tensor(&value).unwrap();
                (var.as_tensor().clone(), Some(var))
            }
            false => (value, None),
        });
        vars.unzip()
    };
    let run = |trained: &dyn Fn(usize) -> bool, precision| {
        let (tensors, vars) = make(trained);
        let y = mlp_case(&tensors, case, precision).unwrap();
        assert_eq!(y.track_op(), vars.iter().any(Option::is_some));
        if !y.track_op() {
            return (y, Vec::new());
        }
        let weights = numbers(y.dims(), DType::F32, 99);
        let store = crate::backward(&(&y * weights).unwrap().sum_all().unwrap()).unwrap();
        let found = vars.iter().map(|var| var.as_ref().and_then(|var| store.get(var).cloned()));
        (y.detach(), found.collect())
    };
    let adapter_alone = |at: usize| at >= 7;
    let all_but_input = |at: usize| at > 0;
    let input_alone = |at: usize| at == 0;
    let nothing = |_: usize| false;
    let trained: [&dyn Fn(usize) -> bool; 4] =
        [&adapter_alone, &all_but_input, &input_alone, &nothing];
    for (precision, tolerance) in [(MatmulPrecision::F32, 1e-5), (MatmulPrecision::Bf16, 2e-2)] {
        for trained in trained {
            let (want_y, want) = crate::reference::only(|| run(trained, precision));
            let (y, found) = emulated::through(|| run(trained, precision));
            close("frozen: y", &y, &want_y, tolerance);
            for (at, (found, want)) in found.iter().zip(&want).enumerate() {
                match (found, want) {
                    (Some(found), Some(want)) => {
                        close(&format!("frozen: {at}"), found, want, tolerance);
                    }
                    (found, want) => assert_eq!(found.is_some(), want.is_some(), "{at}"),
                }
            }
        }
    }
}

/// A half block is one node of the graph, and its parameters' links: nothing of it is composed.
#[test]
fn half_blocks_are_one_operator() {
    if !emulated::has_compiler() {
        pad_testkit::skipped("emulated kernels", "there is no C++ compiler (c++)");
        return;
    }
    let shapes = attention_shapes((1, 5, 2, 4));
    let vars: Vec<Var> = shapes
        .iter()
        .zip(0..)
        .map(|(shape, salt)| Var::from_tensor(&numbers(shape, DType::F32, salt)).unwrap())
        .collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let run = |precision| attention_case(&tensors, 2, precision, Keep::Activations, true);
    for precision in [MatmulPrecision::F32, MatmulPrecision::Bf16] {
        let y = emulated::through(|| run(precision)).unwrap();
        // The operator, two links of three parameters, and the two scaled weights.
        assert_eq!(y.sorted_nodes().len(), vars.len() + 3 + 2);
    }
    // Too many tokens: composed.
    let long = numbers(&[1, 257, 8], DType::F32, 50);
    let tensors = [&[long], &tensors[1..]].concat();
    let y = emulated::through(|| {
        attention_case(&tensors, 2, MatmulPrecision::F32, Keep::Activations, true)
    });
    assert!(y.unwrap().sorted_nodes().len() > vars.len() + 3 + 2);
}

#[test]
fn half_blocks_of_nothing() {
    emulated::through(|| {
        let shapes = attention_shapes((0, 5, 2, 4));
        let tensors: Vec<Tensor> = shapes
            .iter()
            .map(|s| Tensor::zeros(s.as_slice(), DType::F32, &Device::Cpu).unwrap())
            .collect();
        let y = attention_case(&tensors, 2, MatmulPrecision::F32, Keep::Activations, true);
        assert_eq!(y.unwrap().dims(), [0, 5, 8]);
        let qkv = Tensor::zeros((2, 0, 24), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(attention_packed(&qkv, 2).unwrap().dims(), [2, 0, 8]);
    });
}
