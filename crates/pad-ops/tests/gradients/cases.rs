//! The operators, each with its reference and the shapes of its operands.

use candle_core::{DType, Device, Result, Tensor};
use pad_ops::{
    AdapterScale, AdapterWeights, AttentionBias, AttentionWeights, AxialRope, Fusion, Keep,
    LinearWeights, LowRankUpdate, MlpWeights, Mode, NormWeights, RopeTables, attention_branch,
    attention_packed, attention_packed_biased, dropout, fuse_patchwise, gather_tokens, gelu,
    gelu_tanh, layer_norm, linear, low_rank_update, masked_mse, mlp_branch, quick_gelu, reference,
    rms_norm,
    rng::{Key, Purpose},
    rope, rope_packed, softmax, swiglu,
};
use pad_testkit::numbers;

pub(crate) const F32: DType = DType::F32;
pub(crate) const F64: DType = DType::F64;
pub(crate) const FUSIONS: [Fusion; 4] = [Fusion::Concat, Fusion::Sum, Fusion::Side, Fusion::Gside];

pub(crate) type Op = fn(&[Tensor]) -> Result<Tensor>;

/// An operator with its reference and the shapes of its operands, made from a few sizes.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) fast: Op,
    pub(crate) reference: Op,
    pub(crate) shapes: fn(&Sizes) -> Vec<Vec<usize>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) b: usize,
    pub(crate) n: usize,
    pub(crate) d: usize,
    pub(crate) o: usize,
}

pub(crate) fn key() -> Key {
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

pub(crate) fn attention_weights(t: &[Tensor]) -> AttentionWeights {
    let proj = LinearWeights::new(t[5].clone(), t.get(6).cloned());
    AttentionWeights::new(norm(&t[1], &t[2]), dense(&t[3], &t[4]), proj, 2)
}

/// Shapes of `attention_weights`' operands; a token of one value would be normalised to nothing.
pub(crate) fn attention_shapes(s: &Sizes) -> Vec<Vec<usize>> {
    let d = 2 * s.d.min(40);
    vec![vec![s.b, s.n, d], vec![d], vec![d], vec![3 * d, d], vec![3 * d], vec![d, d], vec![d]]
}

/// How the adapter of a case is scaled.
pub(crate) enum By {
    Fixed,
    Learnable,
    Patchwise(Fusion),
}

pub(crate) fn mlp_weights(t: &[Tensor], adapter: Option<By>) -> MlpWeights {
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
pub(crate) fn mlp_shapes(s: &Sizes) -> Vec<Vec<usize>> {
    let (d, h) = (s.d.min(90) + 1, s.o);
    vec![vec![s.b, s.n, d], vec![d], vec![d], vec![h, d], vec![h], vec![d, h], vec![d]]
}

/// The same with an adapter, whose scale takes a tensor of the last shape.
pub(crate) fn adapter_shapes(s: &Sizes, scale: fn(usize) -> Vec<usize>) -> Vec<Vec<usize>> {
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

pub(crate) const CASES: [Case; 32] = [
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
