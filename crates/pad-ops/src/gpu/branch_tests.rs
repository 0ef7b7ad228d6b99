//! Half blocks and attention on devices against their compositions: forward and gradients.

use candle_core::{DType, Device, Result, Tensor, Var};
use pad_testkit::{close, numbers};

use super::{
    emulated,
    tests::{BF16, F32, compare, compare_sums, compare_to},
};
use crate::{
    AdapterScale, AdapterWeights, AttentionWeights, Fusion, Keep, LinearWeights, MatmulPrecision,
    MlpWeights, Mode, NormWeights, ResidualWeights, attention_branch, attention_packed, mlp_branch,
    rng::Key,
};

/// f32 weights and residual stream, products in bf16.
pub(super) const MIXED: (DType, f64) = (DType::F32, 2e-2);
/// The last: stream and all parameters in bf16 too.
pub(super) const KINDS: [((DType, f64), MatmulPrecision); 3] =
    [(F32, MatmulPrecision::F32), (MIXED, MatmulPrecision::Bf16), (BF16, MatmulPrecision::F32)];

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

/// Numbers of these shapes, of which the dtype holds all; products with weights are about as large as
/// what they are of.
pub(super) fn branch_operands(shapes: &[Vec<usize>], dtype: DType) -> Vec<Tensor> {
    let operand = |(shape, salt): (&Vec<usize>, u64)| {
        let scale = match shape[..] {
            [_, inputs] => (inputs as f64).powf(-0.5),
            _ => 1.0,
        };
        (numbers(shape, DType::F32, salt) * scale)?.to_dtype(dtype)
    };
    shapes.iter().zip(0..).map(|case| operand(case).unwrap()).collect()
}

fn dense(weight: &Tensor, bias: Option<&Tensor>) -> LinearWeights {
    LinearWeights::new(weight.clone(), bias.cloned())
}

fn norm(t: &[Tensor], eps: f64) -> NormWeights {
    NormWeights { weight: t[0].clone(), bias: t[1].clone(), eps }
}

/// What a branch's result is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Residue {
    Plain,
    Gamma,
    Factors,
    Both,
}

impl Residue {
    /// `gamma`, and factors of which the first is 0.
    fn weights(self, gamma: &Tensor, x: &Tensor) -> Result<ResidualWeights> {
        let factors = || {
            let factors = (0..x.dim(0)?).map(|image| if image == 0 { 0.0 } else { 1.25 });
            let factors = Tensor::from_vec(factors.collect::<Vec<f32>>(), x.dim(0)?, x.device())?;
            factors.to_dtype(x.dtype())
        };
        let with_gamma = matches!(self, Self::Gamma | Self::Both);
        let with_factors = matches!(self, Self::Factors | Self::Both);
        Ok(ResidualWeights {
            gamma: with_gamma.then(|| gamma.clone()),
            factors: if with_factors { Some(factors()?) } else { None },
        })
    }
}

/// A half block's sizes: images, tokens, heads, values of a head.
pub(super) type Sizes = (usize, usize, usize, usize);

#[derive(Clone, Copy, Debug)]
pub(super) struct AttentionCase {
    pub(super) sizes: Sizes,
    pub(super) keep: Keep,
    pub(super) biases: bool,
    pub(super) residue: Residue,
}

pub(super) fn attention_case(
    t: &[Tensor],
    case: AttentionCase,
    precision: MatmulPrecision,
) -> Result<Tensor> {
    let bias = |t| if case.biases { Some(t) } else { None };
    let (qkv, proj) = (dense(&t[3], bias(&t[4])), dense(&t[5], bias(&t[6])));
    let plain = AttentionWeights::new(norm(&t[1..3], 1e-5), qkv, proj, case.sizes.2);
    let residual = case.residue.weights(&t[7], &t[0])?;
    let weights = AttentionWeights { precision, residual, ..plain };
    Ok(attention_branch(&t[0], &weights, case.keep)?)
}

pub(super) fn attention_shapes((b, n, heads, width): Sizes) -> Vec<Vec<usize>> {
    let d = heads * width;
    let weights = [vec![d], vec![d], vec![3 * d, d], vec![3 * d], vec![d, d], vec![d], vec![d]];
    [vec![vec![b, n, d]], weights.to_vec()].concat()
}

#[test]
fn attention_branches() {
    let case = |sizes, keep, biases, residue| AttentionCase { sizes, keep, biases, residue };
    let cases = [
        case((2, 7, 3, 4), Keep::Activations, true, Residue::Plain),
        case((2, 7, 3, 4), Keep::Nothing, false, Residue::Both),
        case((3, 5, 1, 3), Keep::Activations, false, Residue::Factors),
        case((3, 5, 1, 3), Keep::Nothing, true, Residue::Plain),
        case((1, 50, 2, 20), Keep::Nothing, false, Residue::Plain),
        case((1, 50, 2, 20), Keep::Activations, true, Residue::Gamma),
        case((3, 50, 1, 6), Keep::Activations, true, Residue::Both),
    ];
    for (kind, precision) in KINDS {
        for case in cases {
            let operands = branch_operands(&attention_shapes(case.sizes), kind.0);
            let name = format!("{case:?} {kind:?} {precision}");
            let case = |precision| move |t: &[Tensor]| attention_case(t, case, precision);
            compare_to(&name, &operands, kind.1, &case(precision), &case(MatmulPrecision::F32));
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Strength {
    None,
    Fixed,
    Learnable,
    Patchwise(Fusion),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct MlpCase {
    pub(super) sizes: [usize; 5],
    pub(super) strength: Strength,
    pub(super) adapter_norm: bool,
    pub(super) dropout: f64,
    pub(super) keep: Keep,
    pub(super) biases: bool,
    pub(super) residue: Residue,
}

pub(super) fn mlp_shapes(case: MlpCase) -> Vec<Vec<usize>> {
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
        vec![d],
    ]
}

/// [`branch_operands`] of a case. In bf16 no bottleneck comes near the kink of its ReLU, where
/// rounding decides whether a token has a gradient: what `down` sees is positive, the weights of
/// even units too, and those of odd ones negative.
pub(super) fn mlp_operands(case: MlpCase, kind: (DType, f64)) -> Vec<Tensor> {
    let mut operands = branch_operands(&mlp_shapes(case), kind.0);
    if kind.1 == F32.1 {
        return operands;
    }
    let mut change = |at: usize, to: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>| {
        let wide = operands[at].to_dtype(DType::F32).unwrap();
        operands[at] = to(&wide).and_then(|new| new.to_dtype(kind.0)).unwrap();
    };
    match case.adapter_norm {
        true => {
            change(7, &|weight| weight * 0.2);
            change(8, &|bias| bias.affine(0.3, 1.5));
        }
        false => change(0, &|x| x + 1.5),
    }
    let signs = (0..case.sizes[4]).map(|unit| if unit % 2 == 0 { 1.0_f32 } else { -1.0 });
    let signs = Tensor::from_vec(signs.collect(), (case.sizes[4], 1), &Device::Cpu).unwrap();
    let inputs = case.sizes[2] as f64;
    change(9, &|weight| {
        weight.abs()?.affine(inputs.powf(-0.5), 1.0 / inputs)?.broadcast_mul(&signs)
    });
    change(10, &|bias| bias * 0.2);
    operands
}

pub(super) fn mlp_case(t: &[Tensor], case: MlpCase, precision: MatmulPrecision) -> Result<Tensor> {
    let bias = |t| if case.biases { Some(t) } else { None };
    let scale = match case.strength {
        Strength::None | Strength::Fixed => AdapterScale::Fixed(0.7),
        Strength::Learnable => AdapterScale::Learnable(t[13].clone()),
        Strength::Patchwise(fusion) => AdapterScale::Patchwise { gate: t[13].clone(), fusion },
    };
    let adapter = AdapterWeights {
        norm: case.adapter_norm.then(|| norm(&t[7..9], 1e-3)),
        down: dense(&t[9], bias(&t[10])),
        up: dense(&t[11], bias(&t[12])),
        dropout: case.dropout,
        scale,
    };
    let (fc1, fc2) = (dense(&t[3], bias(&t[4])), dense(&t[5], bias(&t[6])));
    let adapter = (!matches!(case.strength, Strength::None)).then_some(adapter);
    let plain = MlpWeights::new(norm(&t[1..3], 1e-6), fc1, fc2);
    let residual = case.residue.weights(&t[14], &t[0])?;
    let weights = MlpWeights { adapter, precision, residual, ..plain };
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
        residue: Residue::Plain,
    };
    let gated = Strength::Patchwise(Fusion::Concat);
    let cases = [
        plain,
        MlpCase { residue: Residue::Both, ..plain },
        MlpCase { residue: Residue::Factors, biases: false, keep: Keep::Nothing, ..plain },
        MlpCase { residue: Residue::Gamma, keep: Keep::Nothing, ..plain },
        MlpCase { residue: Residue::Both, strength: gated, adapter_norm: true, ..plain },
        MlpCase { residue: Residue::Gamma, strength: Strength::Learnable, ..plain },
        MlpCase { residue: Residue::Factors, strength: Strength::Fixed, biases: false, ..plain },
        // Both norms' sums beyond shared memory, one within it.
        MlpCase { sizes: [1, 3, 1600, 3, 7], strength: gated, adapter_norm: true, ..plain },
        MlpCase { sizes: [1, 3, 1600, 3, 7], ..plain },
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
            let operands = mlp_operands(case, kind);
            let name = format!("{case:?} {kind:?} {precision}");
            let case = |precision| move |t: &[Tensor]| mlp_case(t, case, precision);
            compare_sums(&name, &operands, kind.1, &case(precision), &case(MatmulPrecision::F32));
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
        residue: Residue::Both,
    };
    let shapes = mlp_shapes(case);
    let make = |trained: &dyn Fn(usize) -> bool| -> (Vec<Tensor>, Vec<Option<Var>>) {
        let values = branch_operands(&shapes, DType::F32).into_iter();
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
    let adapter_alone = |at: usize| (7..14).contains(&at);
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
    let case = AttentionCase {
        sizes: (1, 5, 2, 4),
        keep: Keep::Activations,
        biases: true,
        residue: Residue::Gamma,
    };
    let run = |tensors: &[Tensor], precision| attention_case(tensors, case, precision);
    // The result and what stands in for it, two links of three parameters, one of two.
    let few = vars.len() + 2 + 3;
    for precision in [MatmulPrecision::F32, MatmulPrecision::Bf16] {
        let y = emulated::through(|| run(&tensors, precision)).unwrap();
        assert_eq!(y.sorted_nodes().len(), few);
    }
    // Too many tokens: composed.
    let long = numbers(&[1, 257, 8], DType::F32, 50);
    let tensors = [&[long], &tensors[1..]].concat();
    let y = emulated::through(|| run(&tensors, MatmulPrecision::F32));
    assert!(y.unwrap().sorted_nodes().len() > few);
}

#[test]
fn half_blocks_of_nothing() {
    emulated::through(|| {
        let shapes = attention_shapes((0, 5, 2, 4));
        let tensors: Vec<Tensor> = shapes
            .iter()
            .map(|s| Tensor::zeros(s.as_slice(), DType::F32, &Device::Cpu).unwrap())
            .collect();
        let case = AttentionCase {
            sizes: (0, 5, 2, 4),
            keep: Keep::Activations,
            biases: true,
            residue: Residue::Both,
        };
        let y = attention_case(&tensors, case, MatmulPrecision::F32);
        assert_eq!(y.unwrap().dims(), [0, 5, 8]);
        let qkv = Tensor::zeros((2, 0, 24), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(attention_packed(&qkv, 2).unwrap().dims(), [2, 0, 8]);
    });
}
