//! The MAE loss and the normalisation of its targets by the kernels of `kernel.cu`.

use candle_core::{D, DType, Result, Shape, Tensor};

use crate::gpu::{
    self, Launch, Number, Source, WARPS, int,
    nary::{self, Backward, Gradients},
};

const SOURCE: Source = Source { name: "masked_mse", text: include_str!("kernel.cu") };

fn launch(
    function: &'static str,
    values: &Tensor,
    blocks: usize,
    numbers: Vec<Number>,
    output: (DType, Shape),
) -> Launch {
    let (constants, more) = (Vec::new(), Vec::new());
    let values = values.dtype();
    Launch { source: SOURCE, constants, function, values, blocks, numbers, output, more }
}

/// Rows and their length.
fn rows_of(x: &Tensor) -> Result<(usize, usize)> {
    let n = x.dim(D::Minus1)?;
    Ok((x.elem_count() / n.max(1), n))
}

/// `pred`, `target` (B, L, P), `mask` (B, L), none of them empty.
pub(super) fn apply(
    op: &'static str,
    pred: &Tensor,
    target: &Tensor,
    mask: &Tensor,
) -> Result<Tensor> {
    let pred = pred.contiguous()?;
    let (target, mask) = (target.detach().contiguous()?, mask.detach().contiguous()?);
    let (rows, n) = rows_of(&pred)?;
    let numbers = vec![int(rows)?, int(n)?];
    let output = (DType::F32, Shape::from(rows));
    let by_rows = launch("masked_mse_rows", &pred, rows.div_ceil(WARPS), numbers, output);
    let losses = gpu::run(&by_rows, &[&pred.detach(), &target, &mask])?;
    let output = (pred.dtype(), Shape::from(()));
    let mut total = launch("masked_mse_total", &pred, 1, vec![int(rows)?], output);
    total.more.push((DType::F32, Shape::from(1)));
    let [loss, removed] = gpu::several(&total, &[Some(&losses), Some(&mask)])?;
    nary::apply(op, &pred, &[], loss, Loss { pred: pred.detach(), target, mask, removed })
}

struct Loss {
    pred: Tensor,
    target: Tensor,
    mask: Tensor,
    /// The sum of the mask.
    removed: Tensor,
}

impl Backward for Loss {
    fn backward(&self, d_loss: &Tensor, d_x: bool, _wanted: &[bool]) -> Result<Gradients> {
        if !d_x {
            return Ok(Gradients { d_x: None, d_params: Vec::new() });
        }
        let Loss { pred, target, mask, removed } = self;
        let (rows, n) = rows_of(pred)?;
        let numbers = vec![int(rows)?, int(n)?];
        let output = (pred.dtype(), pred.shape().clone());
        let launch = launch("masked_mse_backward", pred, rows.div_ceil(WARPS), numbers, output);
        let d_pred = gpu::run(&launch, &[pred, target, mask, removed, d_loss])?;
        Ok(Gradients { d_x: Some(d_pred), d_params: Vec::new() })
    }
}

/// Each row of `patches` by its own mean and standard deviation.
pub(super) fn normalize(patches: &Tensor) -> Result<Tensor> {
    let (rows, n) = rows_of(patches)?;
    let output = (patches.dtype(), patches.shape().clone());
    let numbers = vec![int(rows)?, int(n)?];
    gpu::run(&launch("normalize_rows", patches, rows.div_ceil(WARPS), numbers, output), &[patches])
}
