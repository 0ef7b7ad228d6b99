//! The patchwise fusion by the kernels of `kernel.cu`.

use candle_core::{D, DType, Result, Shape, Tensor};

use super::fusion::Fusion;
use crate::gpu::{self, Backward, Launch, Number, Source, WARPS, chunks, int};

const SOURCE: Source = Source { name: "fuse_patchwise", text: include_str!("kernel.cu") };

/// [`Fusion::places`] as kernels take them; -1: nowhere.
pub(crate) fn places(fusion: Fusion, d: usize) -> Result<[Number; 2]> {
    let place = |place: Option<usize>| place.map_or(Ok(Number::Int(-1)), int);
    let [mlp, adapter] = fusion.places(d);
    Ok([place(mlp)?, place(adapter)?])
}

/// A kernel in which a warp takes a token.
fn by_tokens(
    function: &'static str,
    adapter: &Tensor,
    fusion: Fusion,
    output: (DType, Shape),
) -> Result<Launch> {
    let d = adapter.dim(D::Minus1)?;
    let tokens = adapter.elem_count() / d;
    let [mlp_at, adapter_at] = places(fusion, d)?;
    let numbers = vec![int(tokens)?, int(d)?, mlp_at, adapter_at];
    let (values, blocks) = (adapter.dtype(), tokens.div_ceil(WARPS));
    Ok(Launch {
        source: SOURCE,
        constants: Vec::new(),
        more: Vec::new(),
        function,
        values,
        blocks,
        numbers,
        output,
    })
}

pub(super) fn apply(
    adapter: &Tensor,
    mlp: &Tensor,
    gate: &Tensor,
    fusion: Fusion,
) -> Result<Tensor> {
    let output = (adapter.dtype(), adapter.shape().clone());
    let launch = by_tokens("fuse_forward", adapter, fusion, output)?;
    gpu::apply(launch, &[adapter, mlp, gate], FusePatchwise { fusion })
}

struct FusePatchwise {
    fusion: Fusion,
}

impl FusePatchwise {
    fn d_gate(
        &self,
        adapter: &Tensor,
        mlp: &Tensor,
        gate: &Tensor,
        scales: &Tensor,
    ) -> Result<Tensor> {
        let d = adapter.dim(D::Minus1)?;
        let tokens = adapter.elem_count() / d;
        let chunks = chunks(tokens);
        let launch = Launch {
            source: SOURCE,
            constants: Vec::new(),
            more: Vec::new(),
            function: "fuse_d_gate",
            values: adapter.dtype(),
            blocks: d.div_ceil(32) * chunks,
            numbers: vec![int(tokens)?, int(d)?, int(chunks)?],
            output: (DType::F32, Shape::from((chunks, 2, d))),
        };
        let sums = gpu::run(&launch, &[adapter, mlp, scales])?.sum(0)?;
        let sums = match self.fusion {
            Fusion::Concat => sums.flatten_all()?,
            Fusion::Sum => (sums.get(0)? + sums.get(1)?)?,
            Fusion::Side => sums.get(1)?,
            Fusion::Gside => sums.get(0)?,
        };
        sums.to_dtype(gate.dtype())?.reshape(gate.shape())
    }
}

impl Backward for FusePatchwise {
    fn backward(
        &self,
        operands: &[&Tensor],
        _delta: &Tensor,
        d_delta: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let [adapter, mlp, gate] = operands else { return Ok(Vec::new()) };
        let d = adapter.dim(D::Minus1)?;
        let launch = |function, output| by_tokens(function, adapter, self.fusion, output);
        let like = |tensor: &Tensor| (tensor.dtype(), tensor.shape().clone());
        let scales =
            launch("fuse_scales", (DType::F32, Shape::from((adapter.elem_count() / d, 2))))?;
        let scales = gpu::run(&scales, &[adapter, mlp, gate, d_delta])?;
        let mut gradients = vec![None, None, None];
        if adapter.track_op() {
            let launch = launch("fuse_d_adapter", like(adapter))?;
            gradients[0] = Some(gpu::run(&launch, &[gate, d_delta, &scales])?);
        }
        if mlp.track_op() && self.fusion != Fusion::Side {
            let launch = launch("fuse_d_mlp", like(mlp))?;
            gradients[1] = Some(gpu::run(&launch, &[gate, &scales])?);
        }
        if gate.track_op() {
            gradients[2] = Some(self.d_gate(adapter, mlp, gate, &scales)?);
        }
        Ok(gradients)
    }
}
