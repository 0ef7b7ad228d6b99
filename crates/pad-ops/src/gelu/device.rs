//! GELU by the kernels of `kernel.cu`.

use candle_core::{Result, Tensor};

use crate::gpu::{self, BLOCK, Backward, Launch, Source, int};

const SOURCE: Source = Source { name: "gelu", text: include_str!("kernel.cu") };

fn launch(function: &'static str, x: &Tensor) -> Result<Launch> {
    Ok(Launch {
        source: SOURCE,
        constants: Vec::new(),
        more: Vec::new(),
        function,
        values: x.dtype(),
        blocks: x.elem_count().div_ceil(BLOCK),
        numbers: vec![int(x.elem_count())?],
        output: (x.dtype(), x.shape().clone()),
    })
}

pub(super) fn apply(x: &Tensor) -> Result<Tensor> {
    gpu::apply(launch("gelu_forward", x)?, &[x], Gelu)
}

struct Gelu;

impl Backward for Gelu {
    fn backward(
        &self,
        operands: &[&Tensor],
        _y: &Tensor,
        d_y: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let [x] = operands else { return Ok(Vec::new()) };
        Ok(vec![Some(gpu::run(&launch("gelu_backward", x)?, &[x, d_y])?)])
    }
}
