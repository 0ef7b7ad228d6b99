//! Softmax by the kernels of `kernel.cu`.

use candle_core::{D, Result, Tensor};

use crate::gpu::{self, Backward, Launch, Source, WARPS, int};

const SOURCE: Source = Source { name: "softmax", text: include_str!("kernel.cu") };

fn launch(function: &'static str, x: &Tensor) -> Result<Launch> {
    let n = x.dim(D::Minus1)?;
    let rows = x.elem_count() / n;
    Ok(Launch {
        source: SOURCE,
        constants: Vec::new(),
        more: Vec::new(),
        function,
        values: x.dtype(),
        blocks: rows.div_ceil(WARPS),
        numbers: vec![int(rows)?, int(n)?],
        output: (x.dtype(), x.shape().clone()),
    })
}

pub(super) fn apply(x: &Tensor) -> Result<Tensor> {
    gpu::apply(launch("softmax_forward", x)?, &[x], Softmax)
}

struct Softmax;

impl Backward for Softmax {
    fn backward(
        &self,
        _operands: &[&Tensor],
        y: &Tensor,
        d_y: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(gpu::run(&launch("softmax_backward", y)?, &[y, d_y])?)])
    }
}
