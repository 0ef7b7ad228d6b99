//! The choice of tokens by the kernels of `kernel.cu`.

use candle_core::{Result, Shape, Tensor};

use crate::gpu::{
    self, Launch, Source, WARPS, int,
    nary::{self, Backward, Gradients},
};

const SOURCE: Source = Source { name: "gather_tokens", text: include_str!("kernel.cu") };

fn launch(
    function: &'static str,
    values: &Tensor,
    [images, n, k, d]: [usize; 4],
    rows: usize,
) -> Result<Launch> {
    Ok(Launch {
        source: SOURCE,
        constants: Vec::new(),
        function,
        values: values.dtype(),
        blocks: (images * rows).div_ceil(WARPS),
        numbers: vec![int(images)?, int(n)?, int(k)?, int(d)?],
        output: (values.dtype(), Shape::from((images, rows, d))),
        more: Vec::new(),
    })
}

/// `x` (B, N, D), `ids` (B, K) on its device.
pub(super) fn apply(op: &'static str, x: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let ((images, n, d), k) = (x.dims3()?, ids.dim(1)?);
    let sizes = [images, n, k, d];
    let y = gpu::run(&launch("gather_tokens", x, sizes, k)?, &[&x.detach(), ids])?;
    nary::apply(op, x, &[], y, Gather { ids: ids.detach(), sizes })
}

struct Gather {
    ids: Tensor,
    sizes: [usize; 4],
}

impl Backward for Gather {
    fn backward(&self, d_y: &Tensor, d_x: bool, _wanted: &[bool]) -> Result<Gradients> {
        let launch = launch("gather_tokens_backward", d_y, self.sizes, self.sizes[1])?;
        let d_x = match d_x {
            true => Some(gpu::run(&launch, &[d_y, &self.ids])?),
            false => None,
        };
        Ok(Gradients { d_x, d_params: Vec::new() })
    }
}
