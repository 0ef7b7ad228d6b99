//! Layer norm by the kernels of `kernel.cu`.

use candle_core::{D, DType, Result, Shape, Tensor};

use crate::gpu::{self, Backward, Launch, Number, Source, WARPS, chunks, int};

const SOURCE: Source = Source { name: "layer_norm", text: include_str!("kernel.cu") };

/// A kernel in which a warp takes a row.
fn by_rows(
    function: &'static str,
    x: &Tensor,
    output: (DType, Shape),
    eps: Option<f32>,
) -> Result<Launch> {
    let d = x.dim(D::Minus1)?;
    let rows = x.elem_count() / d;
    let mut numbers = vec![int(rows)?, int(d)?];
    numbers.extend(eps.map(Number::Float));
    let blocks = rows.div_ceil(WARPS);
    Ok(Launch {
        source: SOURCE,
        constants: Vec::new(),
        more: Vec::new(),
        function,
        values: x.dtype(),
        blocks,
        numbers,
        output,
    })
}

pub(super) fn apply(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let output = (x.dtype(), x.shape().clone());
    let launch = by_rows("layer_norm_forward", x, output, Some(eps))?;
    gpu::apply(launch, &[x, weight, bias], LayerNorm { eps })
}

struct LayerNorm {
    eps: f32,
}

impl Backward for LayerNorm {
    fn backward(
        &self,
        operands: &[&Tensor],
        _y: &Tensor,
        d_y: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let [x, weight, bias] = operands else { return Ok(Vec::new()) };
        let d = x.dim(D::Minus1)?;
        let rows = x.elem_count() / d;
        let output = (DType::F32, Shape::from((rows, 2)));
        let moments = gpu::run(&by_rows("layer_norm_moments", x, output, Some(self.eps))?, &[x])?;
        let d_x = match x.track_op() {
            true => {
                let output = (x.dtype(), x.shape().clone());
                let launch = by_rows("layer_norm_d_x", x, output, None)?;
                Some(gpu::run(&launch, &[x, weight, d_y, &moments])?)
            }
            false => None,
        };
        if !weight.track_op() && !bias.track_op() {
            return Ok(vec![d_x, None, None]);
        }
        let chunks = chunks(rows);
        let launch = Launch {
            source: SOURCE,
            constants: Vec::new(),
            more: Vec::new(),
            function: "layer_norm_d_affine",
            values: x.dtype(),
            blocks: d.div_ceil(32) * chunks,
            numbers: vec![int(rows)?, int(d)?, int(chunks)?],
            output: (DType::F32, Shape::from((chunks, 2, d))),
        };
        let sums = gpu::run(&launch, &[x, d_y, &moments])?.sum(0)?;
        let part = |index: usize, like: &Tensor| match like.track_op() {
            true => Ok(Some(sums.get(index)?.to_dtype(like.dtype())?)),
            false => Result::Ok(None),
        };
        Ok(vec![d_x, part(0, weight)?, part(1, bias)?])
    }
}
