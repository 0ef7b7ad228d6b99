//! Attention by the kernels of `kernel.cu`.

use candle_core::{DType, Result, Shape, Tensor, bail};

use super::layout::Sizes;
use crate::gpu::{
    self, BLOCK, Launch, Number, Source, WARPS, int,
    nary::{self, Backward, Gradients},
};

const WITH_F32: Source = Source {
    name: "attention_f32",
    text: concat!("typedef float X;\n", include_str!("kernel.cu")),
};
const WITH_BF16: Source = Source {
    name: "attention_bf16",
    text: concat!("typedef bf16 X;\n", include_str!("kernel.cu")),
};

/// Tokens of an image that the kernels take; longer rows are better off with matrix products.
const MAX_TOKENS: usize = 256;
/// Values of a head.
const WIDEST_HEAD: usize = 256;
/// Values of a row that a lane keeps: four arrays of them fit the registers.
const LANE: usize = 32;
/// Maximum number of heads in a block: each takes shared memory.
const MAX_HEADS: usize = 4;
/// Floats of shared memory, a block's 48 KiB.
const SHARED: usize = 48 * 1024 / 4;

/// Whether the kernels take heads like these.
pub(crate) fn fits(sizes: &Sizes) -> bool {
    (1..=MAX_TOKENS).contains(&sizes.n) && (1..=WIDEST_HEAD).contains(&sizes.head_dim)
}

/// `bias_dtype`: of the bias that is added to queries, keys and values.
fn launch(
    function: &'static str,
    qkv: &Tensor,
    bias_dtype: DType,
    sizes: &Sizes,
    output: (DType, Shape),
    more: Vec<(DType, Shape)>,
) -> Result<Launch> {
    let lanes = sizes.head_dim.div_ceil(LANE).next_power_of_two();
    let width = sizes.head_dim.div_ceil(lanes);
    // Lanes of a row read at once: with a gap between theirs they read from different banks.
    let pitch = if lanes > 1 { width.next_multiple_of(4) + 4 } else { width };
    let group = (sizes.n * lanes).next_multiple_of(32).min(BLOCK);
    let per_block = (BLOCK / group).min(MAX_HEADS);
    // Two numbers a row; sums over rows, of warps and of heads.
    let others = 2 * BLOCK + WARPS * lanes * width + 3 * per_block * sizes.head_dim;
    let tile = ((SHARED - others) / (2 * per_block * lanes * pitch)).clamp(1, 32);
    let source = match bias_dtype {
        DType::F32 => WITH_F32,
        DType::BF16 => WITH_BF16,
        other => bail!("{function}: a bias of f32 or bf16, found {other:?}"),
    };
    Ok(Launch {
        source,
        constants: vec![
            ("HD", sizes.head_dim),
            ("LANES", lanes),
            ("WIDTH", width),
            ("PITCH", pitch),
            ("GROUP", group),
            ("PER_BLOCK", per_block),
            ("TILE", tile),
        ],
        function,
        values: qkv.dtype(),
        blocks: (sizes.b * sizes.heads).div_ceil(per_block),
        numbers: vec![
            int(sizes.b)?,
            int(sizes.n)?,
            int(sizes.heads)?,
            Number::Float(sizes.scale()),
        ],
        output,
        more,
    })
}

/// What the forward leaves.
pub(crate) struct Attended {
    /// (B, N, D).
    pub(crate) out: Tensor,
    /// The logarithm of the sum of a row's exponentials, f32 (B, H, N).
    pub(crate) lse: Tensor,
}

/// Attention of `qkv` (B, N, 3 D), to which `bias` (3 D) is added, f32 or bf16.
pub(crate) fn forward(qkv: &Tensor, bias: Option<&Tensor>, sizes: &Sizes) -> Result<Attended> {
    let out = (qkv.dtype(), Shape::from((sizes.b, sizes.n, sizes.d)));
    let lse = (DType::F32, Shape::from((sizes.b, sizes.heads, sizes.n)));
    let dtype = bias.map_or(qkv.dtype(), Tensor::dtype);
    let launch = launch("attention_forward", qkv, dtype, sizes, out, vec![lse])?;
    let [out, lse] = gpu::several(&launch, &[Some(qkv), bias])?;
    Ok(Attended { out, lse })
}

/// The gradient to `qkv`, and so to the bias, of what [`forward`] did; with `sums` also its sums
/// over the tokens of each image, f32 (B, 3 D).
pub(crate) fn backward(
    qkv: &Tensor,
    bias: Option<&Tensor>,
    attended: &Attended,
    d_out: &Tensor,
    sizes: &Sizes,
    sums: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let output = (qkv.dtype(), qkv.shape().clone());
    let dtype = bias.map_or(qkv.dtype(), Tensor::dtype);
    let images = if sums { sizes.b } else { 0 };
    let partial = (DType::F32, Shape::from((images, 3 * sizes.d)));
    let launch = launch("attention_backward", qkv, dtype, sizes, output, vec![partial])?;
    let Attended { out, lse } = attended;
    let inputs = [Some(qkv), bias, Some(out), Some(lse), Some(d_out)];
    let [d_qkv, partial] = gpu::several(&launch, &inputs)?;
    Ok((d_qkv, sums.then_some(partial)))
}

/// Attention of `qkv` as an operator.
pub(super) fn apply(op: &'static str, qkv: &Tensor, sizes: Sizes) -> Result<Tensor> {
    let qkv = qkv.contiguous()?;
    let attended = forward(&qkv.detach(), None, &sizes)?;
    let out = attended.out.clone();
    if !nary::tracks(&qkv, &[]) {
        return Ok(out);
    }
    // The operator takes its result's storage, of which the backward needs a copy of its own.
    let node = Node { qkv: qkv.detach(), attended, sizes };
    nary::apply(op, &qkv, &[], out.copy()?, node)
}

struct Node {
    qkv: Tensor,
    attended: Attended,
    sizes: Sizes,
}

impl Backward for Node {
    fn backward(&self, d_out: &Tensor, d_x: bool, _wanted: &[bool]) -> Result<Gradients> {
        let d_x = match d_x {
            true => Some(backward(&self.qkv, None, &self.attended, d_out, &self.sizes, false)?.0),
            false => None,
        };
        Ok(Gradients { d_x, d_params: Vec::new() })
    }
}
