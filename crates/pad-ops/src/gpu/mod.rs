//! Kernels in CUDA C: one `kernel.cu` beside each operator's CPU kernel, compiled by NVRTC at first
//! use.
//!
//! A kernel is plain C over indices, written once for values of the type `T`, which is `float` or
//! `bf16`; sums are `float`. Rust describes what is launched ([`Launch`]: data) and knows nothing
//! of devices; [`Memory`] runs it. That is a CUDA device, or, in this crate's tests, a program that
//! a C++ compiler made of the same source, in which threads take turns: so sources, arguments and
//! sizes are tested on machines without a GPU.

// Without CUDA nothing runs a launch.
#![cfg_attr(not(any(test, feature = "cuda")), allow(dead_code))]

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(test)]
pub(crate) mod emulated;
mod launch;
#[cfg(test)]
mod tests;

pub(crate) use launch::{BLOCK, Launch, Number, Source, WARPS, int};

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape,
    Storage, Tensor, bail, op::BackpropOp,
};

/// Chunks of rows that a sum over rows takes apart: enough blocks for a large GPU, and the same
/// sums for the same number of rows.
pub(crate) fn chunks(rows: usize) -> usize {
    rows.div_ceil(64).min(64)
}

/// Whether operands like `tensor` go through a kernel of this module: f32 or bf16 on a CUDA device
/// that was compiled for.
pub(crate) fn has_kernel(tensor: &Tensor) -> bool {
    let values = matches!(tensor.dtype(), DType::F32 | DType::BF16);
    values && is_gpu(tensor) && tensor.elem_count() > 0 && !crate::paths::reference_only()
}

#[cfg(not(test))]
fn is_gpu(tensor: &Tensor) -> bool {
    cfg!(feature = "cuda") && tensor.device().is_cuda()
}

#[cfg(test)]
fn is_gpu(_: &Tensor) -> bool {
    emulated::is_on()
}

/// Where arrays are and kernels run.
trait Memory: Sized {
    fn run(launch: &Launch, inputs: &[(&Self, &Layout)]) -> Result<Self>;
}

impl Memory for CudaStorage {
    #[cfg(feature = "cuda")]
    fn run(launch: &Launch, inputs: &[(&Self, &Layout)]) -> Result<Self> {
        cuda::run(launch, inputs)
    }

    #[cfg(not(feature = "cuda"))]
    fn run(_: &Launch, _: &[(&Self, &Layout)]) -> Result<Self> {
        Err(candle_core::Error::NotCompiledWithCudaSupport)
    }
}

impl Memory for CpuStorage {
    #[cfg(test)]
    fn run(launch: &Launch, inputs: &[(&Self, &Layout)]) -> Result<Self> {
        emulated::run(launch, inputs)
    }

    #[cfg(not(test))]
    fn run(launch: &Launch, _: &[(&Self, &Layout)]) -> Result<Self> {
        bail!("{}: a kernel for CUDA devices, found arrays on the CPU", launch.function)
    }
}

/// Runs a kernel on contiguous tensors; the result has no gradient.
pub(crate) fn run(launch: &Launch, inputs: &[&Tensor]) -> Result<Tensor> {
    let inputs: Vec<Tensor> =
        inputs.iter().map(|input| input.contiguous()).collect::<Result<_>>()?;
    let locked: Vec<_> = inputs.iter().map(Tensor::storage_and_layout).collect();
    let mut cuda = Vec::new();
    let mut cpu = Vec::new();
    for (storage, layout) in &locked {
        match &**storage {
            Storage::Cuda(storage) => cuda.push((storage, *layout)),
            Storage::Cpu(storage) => cpu.push((storage, *layout)),
            Storage::Metal(_) => bail!("{}: a kernel for CUDA devices", launch.function),
        }
    }
    let storage = match (cpu.is_empty(), cuda.is_empty()) {
        (true, false) => Storage::Cuda(Memory::run(launch, &cuda)?),
        (false, true) => Storage::Cpu(Memory::run(launch, &cpu)?),
        _ => bail!("{}: operands on one device, found several or none", launch.function),
    };
    let shape = launch.output.1.clone();
    Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
}

/// What an operator does with the gradient that arrives.
pub(crate) trait Backward: Send + Sync + 'static {
    /// A gradient, or none, for each operand: contiguous as the kernel saw them. `y` is the result,
    /// `d_y` is contiguous.
    fn backward(
        &self,
        operands: &[&Tensor],
        y: &Tensor,
        d_y: &Tensor,
    ) -> Result<Vec<Option<Tensor>>>;
}

/// Runs a kernel on one, two or three operands, as an operator with a gradient.
pub(crate) fn apply(
    launch: Launch,
    operands: &[&Tensor],
    backward: impl Backward,
) -> Result<Tensor> {
    let operator = Operator { launch, backward };
    let operands: Vec<Tensor> =
        operands.iter().map(|operand| operand.contiguous()).collect::<Result<_>>()?;
    match &operands[..] {
        [a] => a.apply_op1(operator),
        [a, b] => a.apply_op2(b, operator),
        [a, b, c] => a.apply_op3(b, c, operator),
        _ => bail!("{}: one to three operands, found {}", operator.launch.function, operands.len()),
    }
}

struct Operator<B> {
    launch: Launch,
    backward: B,
}

impl<B: Backward> Operator<B> {
    fn forward<M: Memory>(&self, inputs: &[(&M, &Layout)]) -> Result<(M, Shape)> {
        Ok((M::run(&self.launch, inputs)?, self.launch.output.1.clone()))
    }

    fn gradients<const N: usize>(
        &self,
        operands: [&Tensor; N],
        y: &Tensor,
        d_y: &Tensor,
    ) -> Result<[Option<Tensor>; N]> {
        // Without their history: what a kernel computes here is a value.
        let (y, d_y) = (y.detach(), d_y.detach().contiguous()?);
        let gradients = self.backward.backward(&operands, &y, &d_y)?;
        match gradients.try_into() {
            Ok(gradients) => Ok(gradients),
            Err(_) => bail!("{}: a gradient for each of {N} operands", self.launch.function),
        }
    }
}

impl<B: Backward> CustomOp1 for Operator<B> {
    fn name(&self) -> &'static str {
        self.launch.function
    }

    fn cpu_fwd(&self, a: &CpuStorage, a_layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(a, a_layout)])
    }

    fn cuda_fwd(&self, a: &CudaStorage, a_layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.forward(&[(a, a_layout)])
    }

    fn bwd(&self, a: &Tensor, y: &Tensor, d_y: &Tensor) -> Result<Option<Tensor>> {
        let [d_a] = self.gradients([a], y, d_y)?;
        Ok(d_a)
    }
}

impl<B: Backward> CustomOp2 for Operator<B> {
    fn name(&self) -> &'static str {
        self.launch.function
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(a, a_layout), (b, b_layout)])
    }

    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.forward(&[(a, a_layout), (b, b_layout)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        y: &Tensor,
        d_y: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [d_a, d_b] = self.gradients([a, b], y, d_y)?;
        Ok((d_a, d_b))
    }
}

impl<B: Backward> CustomOp3 for Operator<B> {
    fn name(&self) -> &'static str {
        self.launch.function
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
        c: &CpuStorage,
        c_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(a, a_layout), (b, b_layout), (c, c_layout)])
    }

    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
        c: &CudaStorage,
        c_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.forward(&[(a, a_layout), (b, b_layout), (c, c_layout)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        y: &Tensor,
        d_y: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [d_a, d_b, d_c] = self.gradients([a, b, c], y, d_y)?;
        Ok((d_a, d_b, d_c))
    }
}
