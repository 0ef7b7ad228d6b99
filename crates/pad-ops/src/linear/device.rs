//! A bias and its gradient by the kernels of `kernel.cu`.

use candle_core::{DType, Result, Shape, Tensor};

use crate::gpu::{self, BLOCK, Backward, Launch, Source, chunks, int};

const SOURCE: Source = Source { name: "linear", text: include_str!("kernel.cu") };

/// `y` (rows, O) with `bias` (O) on every row.
pub(super) fn add_bias(y: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (rows, n) = y.dims2()?;
    let launch = Launch {
        source: SOURCE,
        constants: Vec::new(),
        more: Vec::new(),
        function: "linear_add_bias",
        values: y.dtype(),
        blocks: y.elem_count().div_ceil(BLOCK),
        numbers: vec![int(rows)?, int(n)?],
        output: (y.dtype(), y.shape().clone()),
    };
    gpu::apply(launch, &[y, bias], AddBias)
}

struct AddBias;

impl Backward for AddBias {
    fn backward(
        &self,
        operands: &[&Tensor],
        _y: &Tensor,
        d_y: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let [x, bias] = operands else { return Ok(Vec::new()) };
        let d_x = x.track_op().then(|| d_y.clone());
        if !bias.track_op() {
            return Ok(vec![d_x, None]);
        }
        let (rows, n) = d_y.dims2()?;
        let chunks = chunks(rows);
        let launch = Launch {
            source: SOURCE,
            constants: Vec::new(),
            more: Vec::new(),
            function: "linear_sum_rows",
            values: d_y.dtype(),
            blocks: n.div_ceil(32) * chunks,
            numbers: vec![int(rows)?, int(n)?, int(chunks)?],
            output: (DType::F32, Shape::from((chunks, n))),
        };
        let sums = gpu::run(&launch, &[d_y])?.sum(0)?;
        Ok(vec![d_x, Some(sums.to_dtype(bias.dtype())?)])
    }
}
