//! Levels by the kernel of `kernel.cu`.

use candle_core::{DType, Result, Tensor};

use crate::gpu::{self, BLOCK, Launch, Source, int};

const SOURCE: Source = Source { name: "levels", text: include_str!("kernel.cu") };

pub(super) fn apply(levels: &Tensor, tables: &Tensor) -> Result<Tensor> {
    let (_, channels, height, width) = levels.dims4()?;
    let count = levels.elem_count();
    let launch = Launch {
        source: SOURCE,
        constants: Vec::new(),
        more: Vec::new(),
        function: "look_up_levels",
        values: DType::F32,
        blocks: count.div_ceil(4 * BLOCK),
        numbers: vec![int(count)?, int(channels)?, int(height * width)?],
        output: (DType::F32, levels.shape().clone()),
    };
    gpu::run(&launch, &[levels, tables])
}
