//! AdamW by the kernels of `kernel.cu`.

use candle_core::{DType, Result, Shape, Tensor};

use super::step::{AdamWStep, AdamWUpdate};
use crate::gpu::{self, BLOCK, Constant, Launch, Number, Source, int};

const SOURCE: Source = Source { name: "adamw", text: include_str!("kernel.cu") };

/// Values that a block works on where many tensors are worked on together.
const CHUNK: usize = 1 << 13;

fn constants() -> Vec<Constant> {
    vec![("CHUNK", CHUNK)]
}

fn launch(function: &'static str, p: &Tensor, shape: Shape, factors: [f64; 4]) -> Result<Launch> {
    let mut numbers = vec![int(p.elem_count())?];
    numbers.extend(factors.map(|factor| Number::Float(factor as f32)));
    Ok(Launch {
        source: SOURCE,
        constants: constants(),
        function,
        values: p.dtype(),
        blocks: p.elem_count().div_ceil(BLOCK),
        numbers,
        output: (p.dtype(), shape),
        more: Vec::new(),
    })
}

/// Both moments in one launch, the parameter in another: the new moments are two halves of one
/// array, which the optimiser keeps, and the parameter one of its own, which is free again when it
/// has been copied.
pub(super) fn apply(
    p: &Tensor,
    gradient: &Tensor,
    [exp_avg, exp_avg_sq]: [&Tensor; 2],
    step: &AdamWStep,
) -> Result<AdamWUpdate> {
    let factors = [step.gradient_factor, step.toward, step.beta2, 1.0 - step.beta2];
    let both = Shape::from([&[2], p.dims()].concat());
    let first = launch("adamw_moments", p, both, factors)?;
    let moments = gpu::run(&first, &[gradient, exp_avg, exp_avg_sq])?;
    let factors = [step.keep, step.step_size, step.root_correction, step.eps];
    let second = launch("adamw_step", p, p.shape().clone(), factors)?;
    Ok(AdamWUpdate {
        p: gpu::run(&second, &[p, &moments])?,
        exp_avg: moments.get(0)?,
        exp_avg_sq: moments.get(1)?,
    })
}

/// How blocks are dealt out over tensors of these numbers of values; see `kernel.cu`.
struct Plan {
    words: Tensor,
    tensors: usize,
    chunks: usize,
}

impl Plan {
    fn new(counts: impl ExactSizeIterator<Item = usize>, like: &Tensor) -> Result<Self> {
        let tensors = counts.len();
        let word = |size: usize| u32::try_from(size).map_err(candle_core::Error::wrap);
        let (mut words, mut of_chunks) = (Vec::new(), Vec::new());
        for (tensor, count) in counts.enumerate() {
            words.extend([word(count)?, word(of_chunks.len())?]);
            of_chunks.extend(vec![word(tensor)?; count.div_ceil(CHUNK)]);
        }
        let chunks = of_chunks.len();
        words.extend(of_chunks);
        let words = Tensor::from_vec(words, 2 * tensors + chunks, like.device())?;
        Ok(Self { words, tensors, chunks })
    }

    fn launch(
        &self,
        function: &'static str,
        blocks: usize,
        output: (DType, usize),
    ) -> Result<Launch> {
        Ok(Launch {
            source: SOURCE,
            constants: constants(),
            function,
            values: DType::F32,
            blocks,
            numbers: vec![int(self.tensors)?],
            output: (output.0, output.1.into()),
            more: Vec::new(),
        })
    }
}

/// What is made of the norms of gradients where they are.
pub(super) struct Judging<'a> {
    /// f32, in one array.
    pub(super) losses: Option<&'a Tensor>,
    /// Of all gradients.
    pub(super) factor: f64,
    pub(super) max_norm: Option<f64>,
}

/// The sum of squares of each tensor (f32, contiguous, none empty), as f64 on the device; and with
/// `judging` the norm, the clipped factor and whether all is finite.
pub(super) fn norms(
    tensors: &[&Tensor],
    judging: Option<&Judging<'_>>,
) -> Result<Option<[Tensor; 2]>> {
    let Some(first) = tensors.first() else { return Ok(None) };
    let plan = Plan::new(tensors.iter().map(|tensor| tensor.elem_count()), first)?;
    let launch = plan.launch("chunk_squares", plan.chunks, (DType::F64, plan.chunks))?;
    let table: Vec<Option<&Tensor>> = tensors.iter().copied().map(Some).collect();
    let partial = gpu::run_all(&launch, &[Some(&plan.words)], &table)?;
    let mut launch = plan.launch("gradient_norms", 1, (DType::F64, plan.tensors))?;
    launch.more.push((DType::F64, Shape::from(if judging.is_some() { 3 } else { 0 })));
    let losses = judging.and_then(|judging| judging.losses);
    let count = losses.map_or(0, Tensor::elem_count);
    let (factor, max_norm) = judging.map_or((1.0, None), |j| (j.factor, j.max_norm));
    launch.numbers.extend([
        int(plan.chunks)?,
        int(count)?,
        Number::Double(factor),
        Number::Double(max_norm.unwrap_or(0.0)),
    ]);
    let inputs = [Some(&plan.words), partial.first(), losses];
    Ok(Some(gpu::several(&launch, &inputs)?))
}

/// A parameter, its gradient and both moments, and the numbers of its step.
pub(super) type Entry = ([Tensor; 4], AdamWStep);

/// Steps of parameters (f32, contiguous, none empty) in place, in one launch. With a `verdict` of
/// [`norms`] its factor, and nothing where it is against.
pub(super) fn many(entries: &[Entry], verdict: Option<&Tensor>) -> Result<()> {
    let Some(([first, ..], common)) = entries.first() else { return Ok(()) };
    let plan = Plan::new(entries.iter().map(|([p, ..], _)| p.elem_count()), first)?;
    let factors = entries.iter().flat_map(|(_, step)| {
        [step.keep, step.step_size, step.root_correction].map(|factor| factor as f32)
    });
    let factors = Tensor::from_vec(factors.collect(), 3 * plan.tensors, first.device())?;
    let mut launch = plan.launch("adamw_many", plan.chunks, (DType::F32, 0))?;
    let same =
        [common.gradient_factor, common.toward, common.beta2, 1.0 - common.beta2, common.eps];
    launch.numbers.extend(same.map(|factor| Number::Float(factor as f32)));
    let table: Vec<Option<&Tensor>> =
        entries.iter().flat_map(|(tensors, _)| tensors.iter().map(Some)).collect();
    gpu::run_all(&launch, &[Some(&plan.words), Some(&factors), verdict], &table)?;
    Ok(())
}
