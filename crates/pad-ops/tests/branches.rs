//! The options of both branches, each alone and together: the fused operator equals the
//! composition, forward and backward, whether activations are kept or computed again, in `f32` and
//! in bf16; both agree with finite differences through a residual; a frozen operand gets no
//! gradient.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use pad_ops::{
    AdapterScale, AdapterWeights, AttentionWeights, AxialRope, Fusion, Keep, LinearWeights,
    LowRankWeights, MatmulPrecision, MlpActivation, MlpWeights, Mode, NormWeights, ResidualWeights,
    RopeTables, attention_branch, drop_path_factors, mlp_branch, reference, rng::Key,
};
use pad_testkit::{Precision, close, gradcheck, largest, numbers};

const BATCH: usize = 3;
const TOKENS: usize = 7;
const DIM: usize = 16;
const HIDDEN: usize = 10;
const HEADS: usize = 2;

/// What a branch has beside its layers.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    bias: bool,
    gamma: bool,
    drop_path: bool,
    inner: bool,
    /// Rotary positions; those of the second kind differ between images.
    rope: Option<bool>,
    activation: MlpActivation,
    adapter: Option<Option<Fusion>>,
    low_rank: Option<LowRank>,
    /// The branch without the stream.
    alone: bool,
}

/// Low-rank adapters of both layers: of the first one's last rows, of all of the second's.
#[derive(Clone, Copy, Debug, Default)]
struct LowRank {
    dropout: bool,
    factor: bool,
}

impl LowRank {
    const RANK: usize = 2;

    /// The operands' names and shapes, for layers (O, I).
    fn operands(self, first: [usize; 2], second: [usize; 2]) -> Vec<(&'static str, Vec<usize>)> {
        let r = Self::RANK;
        let mut all = vec![("1.a", vec![r, first[1]]), ("1.b", vec![first[0] / 2, r])];
        all.extend([("2.a", vec![r, second[1]]), ("2.b", vec![second[0], r])]);
        if self.factor {
            all.extend([("1.f", vec![first[0] / 2]), ("2.f", vec![second[0]])]);
        }
        all
    }

    /// What stands beside a layer.
    fn weights(self, t: &Named<'_>, names: [&str; 3], first_row: usize) -> Vec<LowRankWeights> {
        let [a, b, factor] = names.map(|name| get(t, name));
        let p = if self.dropout { 0.25 } else { 0.0 };
        vec![LowRankWeights {
            dropout: p,
            mode: Mode::Train(key()).scope(names[0]),
            factor,
            ..LowRankWeights::new(a.unwrap(), b.unwrap(), 0.7, first_row)
        }]
    }
}

fn key() -> Key {
    Key::new(3).epoch(6).layer(2)
}

/// The operands by name, so that the options may leave some out.
struct Operands(Vec<(&'static str, Vec<usize>)>);

impl Operands {
    fn attention(options: Options) -> Self {
        let d = DIM;
        let mut all = vec![("x", vec![BATCH, TOKENS, d]), ("norm.w", vec![d]), ("norm.b", vec![d])];
        all.push(("qkv.w", vec![3 * d, d]));
        all.push(("proj.w", vec![d, d]));
        if options.bias {
            all.extend([("qkv.b", vec![3 * d]), ("proj.b", vec![d])]);
        }
        if options.inner {
            all.extend([("inner.w", vec![d]), ("inner.b", vec![d])]);
        }
        if options.gamma {
            all.push(("gamma", vec![d]));
        }
        if let Some(low_rank) = options.low_rank {
            all.extend(low_rank.operands([3 * d, d], [d, d]));
        }
        Self(all)
    }

    fn mlp(options: Options) -> Self {
        let (d, h) = (DIM, HIDDEN);
        let wide = if options.activation == MlpActivation::SwiGlu { 2 * h } else { h };
        let mut all = vec![("x", vec![BATCH, TOKENS, d]), ("norm.w", vec![d]), ("norm.b", vec![d])];
        all.push(("fc1.w", vec![wide, d]));
        all.push(("fc2.w", vec![d, h]));
        if options.bias {
            all.extend([("fc1.b", vec![wide]), ("fc2.b", vec![d])]);
        }
        if options.inner {
            all.extend([("inner.w", vec![h]), ("inner.b", vec![h])]);
        }
        if options.gamma {
            all.push(("gamma", vec![d]));
        }
        if let Some(low_rank) = options.low_rank {
            all.extend(low_rank.operands([wide, d], [d, h]));
        }
        if let Some(scale) = options.adapter {
            all.extend([("down.w", vec![4, d]), ("up.w", vec![d, 4]), ("down.b", vec![4])]);
            if let Some(fusion) = scale {
                all.push(("gate", vec![1, fusion.gate_width(d)]));
            }
        }
        Self(all)
    }

    fn values(&self, dtype: DType) -> Vec<Tensor> {
        let numbered = self.0.iter().enumerate();
        numbered.map(|(i, (_, shape))| numbers(shape, dtype, i as u64 + 1)).collect()
    }

    /// The same for finite differences: large logits curve more than these take, and no ReLU of
    /// an adapter may open or close on the way.
    fn smooth(&self, dtype: DType) -> Vec<Tensor> {
        let large = [6.0, -6.0, 6.0, -6.0];
        let is_attention = self.0.iter().any(|(name, _)| *name == "qkv.w");
        let smooth = |((name, _), value): (&(&str, Vec<usize>), Tensor)| match *name {
            "down.b" => (Tensor::new(&large, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
                + value)
                .unwrap(),
            "x" => value,
            "gate" | "up.w" => (value * 0.2).unwrap(),
            _ if is_attention => (value * 0.4).unwrap(),
            _ => value,
        };
        self.0.iter().zip(self.values(dtype)).map(smooth).collect()
    }

    fn named<'a>(&self, tensors: &'a [Tensor]) -> BTreeMap<&'static str, &'a Tensor> {
        self.0.iter().map(|(name, _)| *name).zip(tensors).collect()
    }
}

type Named<'a> = BTreeMap<&'static str, &'a Tensor>;

fn get(t: &Named<'_>, name: &str) -> Option<Tensor> {
    t.get(name).map(|&tensor| tensor.clone())
}

fn linear(t: &Named<'_>, weight: &str, bias: &str) -> LinearWeights {
    LinearWeights::new(get(t, weight).unwrap(), get(t, bias))
}

/// Both layers with their adapters.
fn adapted(layers: [LinearWeights; 2], t: &Named<'_>, options: Options) -> [LinearWeights; 2] {
    let Some(low_rank) = options.low_rank else { return layers };
    let [first, second] = layers;
    let outputs = first.weight.dim(0).unwrap();
    let row = outputs - outputs / 2;
    [
        first.with_low_rank(low_rank.weights(t, ["1.a", "1.b", "1.f"], row)),
        second.with_low_rank(low_rank.weights(t, ["2.a", "2.b", "2.f"], 0)),
    ]
}

fn norm(t: &Named<'_>, weight: &str, bias: &str) -> Option<NormWeights> {
    Some(NormWeights { weight: get(t, weight)?, bias: get(t, bias)?, eps: 1e-5 })
}

fn residual(t: &Named<'_>, options: Options) -> ResidualWeights {
    let p = if options.drop_path { 0.5 } else { 0.0 };
    let factors = drop_path_factors(t["x"], p, Mode::Train(key())).unwrap();
    ResidualWeights { gamma: get(t, "gamma"), factors }
}

/// Tables of all tokens but the first two.
fn places(per_image: bool) -> RopeTables {
    let head = DIM / HEADS;
    let rope = if per_image { AxialRope::pe(true, Some([4, 4])) } else { AxialRope::dinov3() };
    let tables = rope.tables([1, TOKENS - 2], head, &Device::Cpu).unwrap();
    if !per_image {
        return tables;
    }
    let count = (BATCH * (TOKENS - 2)) as u32;
    let ids: Vec<u32> = (0..count).map(|i| (i * 3 + 1) % (TOKENS as u32 - 2)).collect();
    tables.at(&Tensor::from_vec(ids, (BATCH, TOKENS - 2), &Device::Cpu).unwrap()).unwrap()
}

fn attention(t: &Named<'_>, options: Options, precision: MatmulPrecision) -> AttentionWeights {
    let layers = [linear(t, "qkv.w", "qkv.b"), linear(t, "proj.w", "proj.b")];
    let [qkv, proj] = adapted(layers, t, options);
    AttentionWeights {
        rope: options.rope.map(places),
        inner_norm: norm(t, "inner.w", "inner.b"),
        residual: residual(t, options),
        skip: !options.alone,
        precision,
        ..AttentionWeights::new(norm(t, "norm.w", "norm.b").unwrap(), qkv, proj, HEADS)
    }
}

fn mlp(t: &Named<'_>, options: Options, precision: MatmulPrecision) -> MlpWeights {
    let layers = [linear(t, "fc1.w", "fc1.b"), linear(t, "fc2.w", "fc2.b")];
    let [fc1, fc2] = adapted(layers, t, options);
    let adapter = options.adapter.map(|scale| AdapterWeights {
        norm: None,
        down: linear(t, "down.w", "down.b"),
        up: linear(t, "up.w", ""),
        dropout: 0.25,
        scale: match scale {
            Some(fusion) => AdapterScale::Patchwise { gate: get(t, "gate").unwrap(), fusion },
            None => AdapterScale::Fixed(0.4),
        },
    });
    MlpWeights {
        activation: options.activation,
        inner_norm: norm(t, "inner.w", "inner.b"),
        residual: residual(t, options),
        skip: !options.alone,
        adapter,
        precision,
        ..MlpWeights::new(norm(t, "norm.w", "norm.b").unwrap(), fc1, fc2)
    }
}

/// Which operator runs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Path {
    Fused(Keep),
    Composed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Half {
    Attention,
    Mlp,
}

fn run(
    half: Half,
    options: Options,
    path: Path,
    precision: MatmulPrecision,
    names: &Operands,
    t: &[Tensor],
) -> Result<Tensor> {
    let named = names.named(t);
    let (x, mode) = (named["x"], Mode::Train(key()));
    Ok(match half {
        Half::Attention => {
            let weights = attention(&named, options, precision);
            match path {
                Path::Fused(keep) => attention_branch(x, &weights, keep)?,
                Path::Composed => reference::attention_branch(x, &weights)?,
            }
        }
        Half::Mlp => {
            let weights = mlp(&named, options, precision);
            match path {
                Path::Fused(keep) => mlp_branch(x, &weights, mode, keep)?,
                Path::Composed => reference::mlp_branch(x, &weights, mode)?,
            }
        }
    })
}

fn operands(half: Half, options: Options) -> Operands {
    match half {
        Half::Attention => Operands::attention(options),
        Half::Mlp => Operands::mlp(options),
    }
}

/// Each option alone, and all together.
fn table() -> Vec<(Half, Options)> {
    let none = Options { bias: true, ..Options::default() };
    let all = Options { gamma: true, drop_path: true, inner: true, ..none };
    let concat = Some(Some(Fusion::Concat));
    let low_rank = |dropout, factor| Some(LowRank { dropout, factor });
    let (plain, dropped) = (low_rank(false, false), low_rank(true, false));
    let (factored, both) = (low_rank(false, true), low_rank(true, true));
    let attention = [
        Options { gamma: true, ..none },
        Options { drop_path: true, ..none },
        Options { inner: true, ..none },
        Options { rope: Some(false), ..none },
        Options { rope: Some(true), bias: false, ..none },
        Options { rope: Some(false), bias: false, ..all },
        Options { rope: Some(true), ..all },
        Options { alone: true, ..none },
        Options { alone: true, ..all },
        Options { low_rank: plain, ..none },
        Options { low_rank: dropped, bias: false, ..none },
        Options { low_rank: factored, ..none },
        Options { low_rank: both, rope: Some(true), ..all },
    ];
    let of = |activation| Options { activation, ..none };
    let mlp = [
        Options { gamma: true, ..none },
        Options { drop_path: true, ..none },
        Options { gamma: true, adapter: concat, ..none },
        Options { drop_path: true, adapter: Some(None), ..none },
        Options { inner: true, bias: false, ..none },
        of(MlpActivation::GeluTanh),
        of(MlpActivation::QuickGelu),
        of(MlpActivation::SwiGlu),
        Options { bias: false, ..of(MlpActivation::SwiGlu) },
        Options { activation: MlpActivation::SwiGlu, adapter: concat, ..all },
        Options { activation: MlpActivation::GeluTanh, adapter: Some(Some(Fusion::Side)), ..all },
        Options { activation: MlpActivation::QuickGelu, adapter: Some(Some(Fusion::Gside)), ..all },
        Options { alone: true, ..none },
        Options { alone: true, ..all },
        Options { low_rank: plain, ..none },
        Options { low_rank: dropped, bias: false, ..none },
        Options { low_rank: factored, ..none },
        Options { low_rank: both, activation: MlpActivation::SwiGlu, ..all },
        Options { low_rank: both, adapter: concat, ..none },
        Options { alone: true, adapter: concat, ..all },
    ];
    let of = |half| move |options| (half, options);
    attention.map(of(Half::Attention)).into_iter().chain(mlp.map(of(Half::Mlp))).collect()
}

/// Output, and the gradient to every operand of a loss with a residual.
fn gradients(
    op: impl Fn(&[Tensor]) -> Result<Tensor>,
    operands: &[Tensor],
) -> (Tensor, Vec<Tensor>) {
    let vars: Vec<Var> = operands.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let out = op(&tracked).unwrap();
    let probe = numbers(out.dims(), out.dtype(), 77);
    let mut loss = (&out * probe).unwrap().sum_all().unwrap();
    for tensor in &tracked {
        let square = (tensor.sqr().unwrap() * 0.1).unwrap().sum_all().unwrap();
        loss = (loss + square).unwrap();
    }
    let grads = loss.backward().unwrap();
    (out.detach(), vars.iter().map(|v| grads.get(v.as_tensor()).unwrap().clone()).collect())
}

#[test]
fn fused_equals_composed() {
    for (half, options) in table() {
        let names = operands(half, options);
        let values = names.values(DType::F32);
        let precision = MatmulPrecision::F32;
        let of = |path| gradients(|t| run(half, options, path, precision, &names, t), &values);
        let (want, want_grads) = of(Path::Composed);
        for keep in [Keep::Activations, Keep::Nothing] {
            let (got, grads) = of(Path::Fused(keep));
            let name = format!("{half:?} {options:?} {keep:?}");
            close(&name, &got, &want, 2e-5);
            for (((operand, _), got), want) in names.0.iter().zip(&grads).zip(&want_grads) {
                close(&format!("{name}, {operand}"), got, want, 5e-5);
            }
        }
    }
}

#[test]
fn finite_differences() {
    for (half, options) in table() {
        let names = operands(half, options);
        let name = format!("{half:?} {options:?}");
        let f64_precision = Precision { tolerance: 1e-6, ..Precision::F64 };
        let precision = MatmulPrecision::F32;
        let fused =
            |t: &[Tensor]| run(half, options, Path::Fused(Keep::Activations), precision, &names, t);
        gradcheck(&name, &names.smooth(DType::F32), Precision::F32, fused);
        gradcheck(&name, &names.smooth(DType::F64), f64_precision, |t| {
            run(half, options, Path::Composed, precision, &names, t)
        });
    }
}

#[test]
fn frozen_operands_get_no_gradient() {
    for (half, options) in table() {
        let names = operands(half, options);
        let values = names.values(DType::F32);
        for (trained, (name, _)) in names.0.iter().enumerate() {
            // The side fusion's gate looks at the adapter alone.
            let var = Var::from_tensor(&values[trained]).unwrap();
            let mut mixed = values.clone();
            mixed[trained] = var.as_tensor().clone();
            let path = Path::Fused(Keep::Activations);
            let out = run(half, options, path, MatmulPrecision::F32, &names, &mixed).unwrap();
            let grads = out.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let name = format!("{half:?} {options:?} {name}");
            let got = grads.get(var.as_tensor()).unwrap_or_else(|| panic!("{name}"));
            let all = gradients_of_square(half, options, &names, &values);
            close(&name, got, &all[trained], 1e-5);
            for (i, operand) in mixed.iter().enumerate() {
                assert!(i == trained || grads.get(operand).is_none(), "{name}: operand {i}");
            }
        }
    }
}

/// What the gradient to each operand is where all train.
fn gradients_of_square(
    half: Half,
    options: Options,
    names: &Operands,
    values: &[Tensor],
) -> Vec<Tensor> {
    let vars: Vec<Var> = values.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let path = Path::Composed;
    let out = run(half, options, path, MatmulPrecision::F32, names, &tracked).unwrap();
    let grads = out.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    vars.iter().map(|v| grads.get(v.as_tensor()).unwrap().clone()).collect()
}

/// Products in bf16 are near those in `f32`, and round alike in both paths.
#[test]
fn bf16() {
    for (half, options) in table() {
        // ReLU of an adapter's bottleneck rounds across zero: the tests of the plain branch bound
        // what that does.
        if options.adapter.is_some() {
            continue;
        }
        let names = operands(half, options);
        let values: Vec<Tensor> = names
            .values(DType::F32)
            .into_iter()
            .enumerate()
            .map(|(i, t)| if i == 0 { t } else { (t * 0.2).unwrap() })
            .collect();
        let of = |path, precision| {
            gradients(|t| run(half, options, path, precision, &names, t), &values)
        };
        let (exact, exact_grads) = of(Path::Composed, MatmulPrecision::F32);
        let (want, want_grads) = of(Path::Composed, MatmulPrecision::Bf16);
        for keep in [Keep::Activations, Keep::Nothing] {
            let (got, grads) = of(Path::Fused(keep), MatmulPrecision::Bf16);
            let name = format!("{half:?} {options:?} {keep:?}");
            assert!(largest(&(&got - &exact).unwrap()) > 0.0, "{name}: bf16 must round");
            close(&name, &got, &want, 2e-2);
            close(&name, &got, &exact, 3e-2);
            for (((operand, _), got), want) in names.0.iter().zip(&grads).zip(&want_grads) {
                close(&format!("{name}, {operand}"), got, want, 3e-2);
            }
            for (((operand, _), got), want) in names.0.iter().zip(&grads).zip(&exact_grads) {
                close(&format!("{name}, {operand}, beside f32"), got, want, 5e-2);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let options = Options { bias: true, gamma: true, rope: Some(false), ..Options::default() };
    let names = Operands::attention(options);
    let values = names.values(DType::F32);
    let named = names.named(&values);
    let weights = || attention(&named, options, MatmulPrecision::F32);
    let refuse = |weights: AttentionWeights| {
        attention_branch(named["x"], &weights, Keep::Nothing).unwrap_err().to_string()
    };
    let gamma = Some(numbers(&[DIM + 1], DType::F32, 1));
    let residual = ResidualWeights { gamma, factors: None };
    let text = refuse(AttentionWeights { residual, ..weights() });
    assert!(text.contains("gamma") && text.contains("[16]") && text.contains("[17]"), "{text}");
    let factors = Some(numbers(&[BATCH + 1], DType::F32, 1));
    let residual = ResidualWeights { gamma: None, factors };
    let text = refuse(AttentionWeights { residual, ..weights() });
    assert!(text.contains("factors"), "{text}");
    let tables = AxialRope::dinov3().tables([2, TOKENS], DIM / HEADS, &Device::Cpu).unwrap();
    let text = refuse(AttentionWeights { rope: Some(tables), ..weights() });
    assert!(text.contains("places") && text.contains("at most 7"), "{text}");
    let tables = AxialRope::dinov3().tables([1, 2], 2 * DIM, &Device::Cpu).unwrap();
    let text = refuse(AttentionWeights { rope: Some(tables), ..weights() });
    assert!(text.contains("sin"), "{text}");
    let error = AxialRope::dinov3().tables([1, 2], 6, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("multiple of 4"), "{error}");
}

/// Without dropout the layers with adapters are layers without: merged, they give the same.
#[test]
fn low_rank_adapters_merge() {
    for half in [Half::Attention, Half::Mlp] {
        for factor in [false, true] {
            let low_rank = Some(LowRank { dropout: false, factor });
            let options = Options { bias: true, low_rank, ..Options::default() };
            let names = operands(half, options);
            let values = names.values(DType::F32);
            let t = names.named(&values);
            let merged = |layer: &LinearWeights| layer.merged().unwrap().unwrap();
            let precision = MatmulPrecision::F32;
            let (beside, inside) = match half {
                Half::Attention => {
                    let weights = attention(&t, options, precision);
                    let (qkv, proj) = (merged(&weights.qkv), merged(&weights.proj));
                    assert!(qkv.low_rank.is_empty());
                    let merged = AttentionWeights { qkv, proj, ..weights.clone() };
                    let run = |weights| attention_branch(t["x"], weights, Keep::Nothing).unwrap();
                    (run(&weights), run(&merged))
                }
                Half::Mlp => {
                    let weights = mlp(&t, options, precision);
                    let (fc1, fc2) = (merged(&weights.fc1), merged(&weights.fc2));
                    let merged = MlpWeights { fc1, fc2, ..weights.clone() };
                    let run = |weights| mlp_branch(t["x"], weights, Mode::Eval, Keep::Nothing);
                    (run(&weights).unwrap(), run(&merged).unwrap())
                }
            };
            close(&format!("{half:?} {factor}"), &beside, &inside, 1e-5);
        }
    }
    // What is dropped at random is in no weight.
    let options =
        Options { low_rank: Some(LowRank { dropout: true, factor: false }), ..Options::default() };
    let names = Operands::attention(options);
    let values = names.values(DType::F32);
    let weights = attention(&names.named(&values), options, MatmulPrecision::F32);
    assert!(weights.qkv.merged().unwrap().is_none());
}

#[test]
fn low_rank_adapters_that_do_not_fit_are_named() {
    let x = numbers(&[1, 2, 4], DType::F32, 1);
    let layer = LinearWeights::new(numbers(&[6, 4], DType::F32, 2), None);
    let part = |rank: usize, inputs: usize, rows: usize, first: usize| {
        let (a, b) =
            (numbers(&[rank, inputs], DType::F32, 3), numbers(&[rows, rank], DType::F32, 4));
        LowRankWeights::new(a, b, 1.0, first)
    };
    let refuse = |parts: Vec<LowRankWeights>| {
        let layer = layer.clone().with_low_rank(parts);
        pad_ops::linear_with(&x, &layer).unwrap_err().to_string()
    };
    for (parts, text) in [
        (vec![part(2, 3, 2, 0)], "low-rank a"),
        (vec![part(2, 4, 2, 5)], "is rank 2, rows 5 to 7, expected"),
        (vec![part(2, 4, 2, usize::MAX)], "expected a rank of at least 1 and rows below 6"),
        (vec![part(2, 4, 4, 0), part(1, 4, 3, 3)], "0 to 4 and 3 to 6"),
        (vec![LowRankWeights { dropout: 1.0, ..part(2, 4, 2, 0) }], "expected 0 <= p < 1"),
        (vec![LowRankWeights { scale: f64::NAN, ..part(2, 4, 2, 0) }], "low-rank scale"),
    ] {
        let found = refuse(parts);
        assert!(found.contains(text), "{text}: {found}");
    }
}
