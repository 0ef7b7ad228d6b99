//! Every operator with operands, for tests and for the check on a GPU.

use candle_core::{DType, Device, Result, Tensor, Var};
use pad_ops::{
    AdapterScale, AdapterWeights, AttentionBias, AttentionWeights, AxialRope, CrossEntropy, Fusion,
    ImageBox, ImageSize, Keep, LinearWeights, MatmulPrecision, MlpWeights, Mode, NormWeights,
    RoiAlign, Windows, rng::Key,
};
use pad_testkit::numbers;

/// An operator as a function of its operands.
pub(crate) type Op = fn(&[Tensor]) -> pad_ops::Result<Tensor>;

/// Name, operator, shapes of its operands.
pub(crate) type Case = (&'static str, Op, &'static [&'static [usize]]);

fn dense(weight: &Tensor, bias: &Tensor) -> LinearWeights {
    LinearWeights::new(weight.clone(), Some(bias.clone()))
}

fn norm(weight: &Tensor, bias: &Tensor) -> NormWeights {
    NormWeights { weight: weight.clone(), bias: bias.clone(), eps: 1e-5 }
}

/// An attention branch in `precision`.
pub(crate) fn attention(t: &[Tensor], precision: MatmulPrecision) -> pad_ops::Result<Tensor> {
    attention_kept(t, precision, Keep::Activations)
}

/// An attention branch in `precision` that keeps `keep`.
pub(crate) fn attention_kept(
    t: &[Tensor],
    precision: MatmulPrecision,
    keep: Keep,
) -> pad_ops::Result<Tensor> {
    let (qkv, proj) = (dense(&t[3], &t[4]), dense(&t[5], &t[6]));
    let weights =
        AttentionWeights { precision, ..AttentionWeights::new(norm(&t[1], &t[2]), qkv, proj, 2) };
    pad_ops::attention_branch(&t[0], &weights, keep)
}

/// An MLP with an adapter beside it, in `precision`.
pub(crate) fn mlp(t: &[Tensor], precision: MatmulPrecision) -> pad_ops::Result<Tensor> {
    mlp_kept(t, precision, Keep::Activations)
}

/// [`mlp`] that keeps `keep`.
pub(crate) fn mlp_kept(
    t: &[Tensor],
    precision: MatmulPrecision,
    keep: Keep,
) -> pad_ops::Result<Tensor> {
    let adapter = AdapterWeights {
        norm: None,
        down: dense(&t[7], &t[8]),
        up: dense(&t[9], &t[10]),
        dropout: 0.25,
        scale: AdapterScale::Patchwise { gate: t[11].clone(), fusion: Fusion::Concat },
    };
    let plain = MlpWeights::new(norm(&t[1], &t[2]), dense(&t[3], &t[4]), dense(&t[5], &t[6]));
    let weights = MlpWeights { adapter: Some(adapter), precision, ..plain };
    pad_ops::mlp_branch(&t[0], &weights, Mode::Train(Key::new(4)), keep)
}

/// Operands of [`attention`].
pub(crate) const ATTENTION: &[&[usize]] =
    &[&[2, 7, 12], &[12], &[12], &[36, 12], &[36], &[12, 12], &[12]];
/// Operands of [`mlp`].
pub(crate) const MLP: &[&[usize]] = &[
    &[2, 7, 12],
    &[12],
    &[12],
    &[20, 12],
    &[20],
    &[12, 20],
    &[12],
    &[5, 12],
    &[5],
    &[12, 5],
    &[12],
    &[1, 24],
];
const MAP: &[usize] = &[2, 3, 7, 9];

/// Every operator.
pub(crate) const CASES: &[Case] = &[
    ("layer_norm", |t| pad_ops::layer_norm(&t[0], &t[1], &t[2], 1e-5), &[&[5, 17], &[17], &[17]]),
    ("softmax", |t| pad_ops::softmax(&t[0]), &[&[5, 17]]),
    ("linear", |t| pad_ops::linear(&t[0], &t[1], Some(&t[2])), &[&[3, 5, 9], &[7, 9], &[7]]),
    ("gelu", |t| pad_ops::gelu(&t[0]), &[&[5, 17]]),
    ("gelu_tanh", |t| pad_ops::gelu_tanh(&t[0]), &[&[5, 17]]),
    ("quick_gelu", |t| pad_ops::quick_gelu(&t[0]), &[&[5, 17]]),
    ("swiglu", |t| pad_ops::swiglu(&t[0]), &[&[5, 18]]),
    ("rms_norm", |t| pad_ops::rms_norm(&t[0], &t[1], 1e-5), &[&[5, 17], &[17]]),
    (
        "rope",
        |t| {
            let tables = AxialRope::dinov3().tables([2, 3], 8, t[0].device())?;
            pad_ops::rope(&t[0], &tables)
        },
        &[&[2, 2, 7, 8]],
    ),
    ("dropout", |t| pad_ops::dropout(&t[0], 0.3, Mode::Train(Key::new(1))), &[&[5, 17]]),
    ("drop_path", |t| pad_ops::drop_path(&t[0], 0.3, Mode::Train(Key::new(2))), &[&[9, 17]]),
    ("attention_packed", |t| pad_ops::attention_packed(&t[0], 2), &[&[2, 7, 24]]),
    (
        "attention_packed_biased, a bias a head",
        |t| pad_ops::attention_packed_biased(&t[0], 2, &AttentionBias::PerHead(t[1].clone())),
        &[&[2, 6, 24], &[2, 6, 6]],
    ),
    (
        "attention_packed_biased, rows and columns",
        |t| {
            let bias = AttentionBias::Decomposed { rows: t[1].clone(), columns: t[2].clone() };
            pad_ops::attention_packed_biased(&t[0], 2, &bias)
        },
        &[&[2, 6, 24], &[2, 2, 6, 2], &[2, 2, 6, 3]],
    ),
    (
        "attention_packed_biased, a bias a key",
        |t| pad_ops::attention_packed_biased(&t[0], 2, &AttentionBias::Keys(t[1].clone())),
        &[&[2, 6, 24], &[2, 6]],
    ),
    ("attention_branch", |t| attention(t, MatmulPrecision::F32), ATTENTION),
    ("mlp_branch", |t| mlp(t, MatmulPrecision::F32), MLP),
    (
        "fuse_patchwise",
        |t| pad_ops::fuse_patchwise(&t[0], &t[1], &t[2], Fusion::Concat),
        &[&[2, 5, 9], &[2, 5, 9], &[1, 18]],
    ),
    (
        "gather_tokens",
        |t| {
            let ids = Tensor::new(&[[4_u32, 0, 4], [1, 2, 3]], t[0].device())?;
            pad_ops::gather_tokens(&t[0], &ids)
        },
        &[&[2, 5, 9]],
    ),
    (
        "masked_mse",
        |t| {
            let mask = Tensor::new(&[[1_f32, 0.0, 1.0], [0.0, 1.0, 1.0]], t[0].device())?;
            let mask = mask.to_dtype(t[0].dtype())?;
            pad_ops::masked_mse(&t[0], &like(numbers(&[2, 3, 8], DType::F32, 9), &t[0])?, &mask)
        },
        &[&[2, 3, 8]],
    ),
    (
        "conv_transpose2x2",
        |t| pad_ops::conv_transpose2x2(&t[0], &t[1], Some(&t[2])),
        &[MAP, &[3, 4, 2, 2], &[4]],
    ),
    ("max_pool2d", |t| pad_ops::max_pool2d(&t[0], 2, 2), &[MAP]),
    (
        "adaptive_avg_pool2d",
        |t| pad_ops::adaptive_avg_pool2d(&t[0], ImageSize { height: 3, width: 4 }),
        &[MAP],
    ),
    (
        "resize_bilinear",
        |t| pad_ops::resize_bilinear(&t[0], ImageSize { height: 11, width: 5 }, false),
        &[MAP],
    ),
    (
        "batch_norm2d",
        |t| Ok(pad_ops::batch_norm2d(&t[0], &t[1], &t[2], 1e-5)?.0),
        &[MAP, &[3], &[3]],
    ),
    (
        "roi_align",
        |t| {
            let maps = [t[0].clone(), t[1].clone()];
            let roi = |map, image, bbox| ImageBox { map, image, bbox };
            let rois = [
                roi(0, 0, [0.5, 1.0, 7.5, 5.0]),
                roi(1, 1, [-3.0, 2.0, 9.0, 30.0]),
                roi(0, 1, [2.0, 2.0, 3.0, 6.5]),
            ];
            pad_ops::roi_align(&maps, &[1.0, 0.5], &rois, RoiAlign::square(3))
        },
        &[MAP, &[2, 3, 4, 5]],
    ),
    (
        "window_partition",
        |t| pad_ops::window_partition(&t[0], Windows { height: 5, width: 7, side: 3 }),
        &[&[2, 35, 4]],
    ),
    (
        "window_unpartition",
        |t| pad_ops::window_unpartition(&t[0], Windows { height: 5, width: 7, side: 3 }),
        &[&[12, 9, 4]],
    ),
    ("channel_norm2d", |t| pad_ops::channel_norm2d(&t[0], &t[1], &t[2], 1e-5), &[MAP, &[3], &[3]]),
    (
        "cross_entropy2d",
        |t| {
            let labels: Vec<u32> = (0..2 * 63).map(|i| [0, 2, 1, 255][i % 4]).collect();
            let labels = Tensor::from_vec(labels, (2, 7, 9), t[0].device())?;
            pad_ops::cross_entropy2d(&t[0], &labels, &CrossEntropy::default())
        },
        &[MAP],
    ),
];

/// candle convolves no bf16 on the CPU.
pub(crate) const ONLY_F32: &[Case] =
    &[("conv2d", |t| pad_ops::conv2d(&t[0], &t[1], Some(&t[2]), 1), &[MAP, &[4, 3, 3, 3], &[4]])];

/// The same numbers on every device.
pub(crate) fn operands(shapes: &[&[usize]], dtype: DType, device: &Device) -> Vec<Tensor> {
    let operand = |(salt, shape): (usize, &&[usize])| {
        numbers(shape, DType::F32, salt as u64).to_dtype(dtype).unwrap().to_device(device).unwrap()
    };
    shapes.iter().enumerate().map(operand).collect()
}

/// `tensor` in the dtype and on the device of `other`.
fn like(tensor: Tensor, other: &Tensor) -> Result<Tensor> {
    tensor.to_dtype(other.dtype())?.to_device(other.device())
}

/// The result and the gradients of a weighted sum of it, in f32 on the CPU.
pub(crate) fn all(op: Op, operands: &[Tensor]) -> Result<Vec<Tensor>> {
    let vars: Vec<Var> = operands.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = op(&tensors)?;
    let weights = like(numbers(y.dims(), DType::F32, 77), &y)?;
    let mut store = pad_ops::backward(&(&y * weights)?.sum_all()?)?;
    let home = |t: &Tensor| t.to_dtype(DType::F32)?.to_device(&Device::Cpu);
    let mut out = vec![home(&y.detach())?];
    for var in &vars {
        let gradient = store.remove(var).unwrap_or(var.zeros_like()?);
        out.push(home(&gradient)?);
    }
    Ok(out)
}
