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

#[cfg(test)]
mod branch_tests;
#[cfg(test)]
mod count;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(test)]
pub(crate) mod dry;
#[cfg(test)]
pub(crate) mod emulated;
#[cfg(test)]
mod every_tests;
mod launch;
pub(crate) mod nary;
#[cfg(test)]
mod nary_tests;
mod passed;
#[cfg(test)]
mod step_tests;
#[cfg(test)]
mod tests;

pub(crate) use launch::{BLOCK, Constant, Launch, Number, Source, WARPS, int};
pub(crate) use passed::backward_failed;

use std::ops::Deref;

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, InplaceOp1, Layout,
    Result, Shape, Storage, Tensor, bail, op::BackpropOp,
};

/// Chunks of rows that a sum over rows takes apart: enough blocks for a large GPU, and the same
/// sums for the same number of rows.
pub(crate) fn chunks(rows: usize) -> usize {
    rows.div_ceil(64).min(64)
}

/// Whether operands like these go through a kernel of this module: all of them f32 or bf16, none
/// empty, on a CUDA device that was compiled for.
pub(crate) fn has_kernel<'a>(operands: impl IntoIterator<Item = &'a Tensor>) -> bool {
    let fits = |operand: &Tensor| {
        let values = matches!(operand.dtype(), DType::F32 | DType::BF16);
        values && is_gpu(operand) && operand.elem_count() > 0
    };
    !crate::paths::reference_only() && operands.into_iter().all(fits)
}

#[cfg(not(test))]
fn is_gpu(tensor: &Tensor) -> bool {
    cfg!(feature = "cuda") && tensor.device().is_cuda()
}

#[cfg(test)]
fn is_gpu(_: &Tensor) -> bool {
    emulated::is_on()
}

/// An array of a device, or none.
type Operand<'a, M> = Option<(&'a M, &'a Layout)>;

/// Where arrays are and kernels run.
trait Memory: Sized {
    /// Runs a kernel: outputs, and the new values of the table's arrays where they are not changed
    /// in place.
    fn run(
        launch: &Launch,
        inputs: &[Operand<'_, Self>],
        table: &[Operand<'_, Self>],
    ) -> Result<[Vec<Self>; 2]>;
}

impl Memory for CudaStorage {
    #[cfg(feature = "cuda")]
    fn run(
        launch: &Launch,
        inputs: &[Operand<'_, Self>],
        table: &[Operand<'_, Self>],
    ) -> Result<[Vec<Self>; 2]> {
        Ok([cuda::run(launch, inputs, table)?, Vec::new()])
    }

    #[cfg(not(feature = "cuda"))]
    fn run(_: &Launch, _: &[Operand<'_, Self>], _: &[Operand<'_, Self>]) -> Result<[Vec<Self>; 2]> {
        Err(candle_core::Error::NotCompiledWithCudaSupport)
    }
}

impl Memory for CpuStorage {
    #[cfg(test)]
    fn run(
        launch: &Launch,
        inputs: &[Operand<'_, Self>],
        table: &[Operand<'_, Self>],
    ) -> Result<[Vec<Self>; 2]> {
        emulated::run(launch, inputs, table)
    }

    #[cfg(not(test))]
    fn run(
        launch: &Launch,
        _: &[Operand<'_, Self>],
        _: &[Operand<'_, Self>],
    ) -> Result<[Vec<Self>; 2]> {
        bail!("{}: a kernel for CUDA devices, found arrays on the CPU", launch.function)
    }
}

/// Runs a kernel on contiguous tensors; the result has no gradient.
pub(crate) fn run(launch: &Launch, inputs: &[&Tensor]) -> Result<Tensor> {
    let inputs: Vec<Option<&Tensor>> = inputs.iter().copied().map(Some).collect();
    let [output] = several(launch, &inputs)?;
    Ok(output)
}

/// [`run_all`] without a table: all outputs of a launch.
pub(crate) fn several<const N: usize>(
    launch: &Launch,
    inputs: &[Option<&Tensor>],
) -> Result<[Tensor; N]> {
    run_all(launch, inputs, &[])?.try_into().map_err(|_| one(launch))
}

fn one(launch: &Launch) -> candle_core::Error {
    candle_core::Error::Msg(format!("{}: an output is missing", launch.function))
}

/// Runs a kernel on contiguous tensors, of which some may be left out (null pointers). With a
/// `table` the kernel takes an array of pointers behind the inputs, and may change what they point
/// to: every handle on these tensors sees it. Returns all outputs, which have no gradient. Outputs
/// without values are null pointers; if there is nothing else to write, nothing is launched.
pub(crate) fn run_all(
    launch: &Launch,
    inputs: &[Option<&Tensor>],
    table: &[Option<&Tensor>],
) -> Result<Vec<Tensor>> {
    #[cfg(test)]
    if let Some(outputs) = dry::outputs(launch, inputs, table)? {
        return Ok(outputs);
    }
    let contiguous = |input: &Option<&Tensor>| input.map(Tensor::contiguous).transpose();
    let inputs: Vec<Option<Tensor>> = inputs.iter().map(contiguous).collect::<Result<_>>()?;
    let entries: Vec<Option<Tensor>> = table.iter().map(|entry| entry.cloned()).collect();
    if let Some(entry) = entries.iter().flatten().find(|entry| !entry.is_contiguous()) {
        bail!("{}: a table of contiguous arrays, found {:?}", launch.function, entry.layout())
    }
    let Some(first) = inputs.iter().chain(&entries).flatten().next() else {
        bail!("{}: a kernel without operands", launch.function)
    };
    let device = first.device().clone();
    if table.is_empty() && launch.outputs().all(|(_, shape)| shape.elem_count() == 0) {
        return launch.outputs().map(|(dtype, shape)| empty(*dtype, shape, &device)).collect();
    }
    let [made, changed] = match device {
        Device::Cpu => {
            let [made, changed] = in_memory(launch, &inputs, &entries, |storage| match storage {
                Storage::Cpu(storage) => Some(storage),
                _ => None,
            })?;
            [made, changed].map(|all| all.into_iter().map(Storage::Cpu).collect::<Vec<_>>())
        }
        Device::Cuda(_) => {
            let [made, changed] = in_memory(launch, &inputs, &entries, |storage| match storage {
                Storage::Cuda(storage) => Some(storage),
                _ => None,
            })?;
            [made, changed].map(|all| all.into_iter().map(Storage::Cuda).collect::<Vec<_>>())
        }
        Device::Metal(_) => bail!("{}: a kernel for CUDA devices", launch.function),
    };
    for (entry, values) in entries.iter().flatten().zip(changed) {
        entry.inplace_op1(&Replace(values))?;
    }
    let mut made = made.into_iter();
    launch
        .outputs()
        .map(|(dtype, shape)| {
            if shape.elem_count() == 0 {
                return empty(*dtype, shape, &device);
            }
            let storage = made.next().ok_or_else(|| one(launch))?;
            Ok(Tensor::from_storage(storage, shape.clone(), BackpropOp::none(), false))
        })
        .collect()
}

/// Runs a kernel on storages that `of` knows.
fn in_memory<M: Memory>(
    launch: &Launch,
    inputs: &[Option<Tensor>],
    table: &[Option<Tensor>],
    of: impl Fn(&Storage) -> Option<&M>,
) -> Result<[Vec<M>; 2]> {
    let locked = [inputs, table].map(|tensors| {
        let locked = tensors.iter().map(|t| t.as_ref().map(Tensor::storage_and_layout));
        locked.collect::<Vec<_>>()
    });
    let inputs = operands(launch, &locked[0], &of)?;
    let table = operands(launch, &locked[1], &of)?;
    M::run(launch, &inputs, &table)
}

fn operands<'a, M, G: Deref<Target = Storage>>(
    launch: &Launch,
    locked: &'a [Option<(G, &'a Layout)>],
    of: &impl Fn(&Storage) -> Option<&M>,
) -> Result<Vec<Operand<'a, M>>> {
    let operand = |operand: &'a Option<(G, &'a Layout)>| match operand {
        None => Ok(None),
        Some((storage, layout)) => match of(storage) {
            Some(storage) => Ok(Some((storage, *layout))),
            None => bail!("{}: operands on one device, found several", launch.function),
        },
    };
    locked.iter().map(operand).collect()
}

/// A tensor without values. (An allocation of nothing is an error of the driver.)
fn empty(dtype: DType, shape: &Shape, device: &Device) -> Result<Tensor> {
    Tensor::zeros(1, dtype, device)?.narrow(0, 0, 0)?.reshape(shape.clone())
}

/// Puts the values that a kernel's table was left with where they belong: on the CPU, where the
/// kernel was another program's.
struct Replace(Storage);

impl InplaceOp1 for Replace {
    fn name(&self) -> &'static str {
        "replace"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((from, to)) = layout.contiguous_offsets() else { bail!("not contiguous") };
        match (storage, &self.0) {
            (CpuStorage::F32(into), Storage::Cpu(CpuStorage::F32(values))) => {
                into[from..to].copy_from_slice(values);
            }
            (CpuStorage::BF16(into), Storage::Cpu(CpuStorage::BF16(values))) => {
                into[from..to].copy_from_slice(values);
            }
            _ => bail!("replace: f32 or bf16 on the CPU"),
        }
        Ok(())
    }
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
        let inputs: Vec<Operand<'_, M>> = inputs.iter().copied().map(Some).collect();
        let [made, _] = M::run(&self.launch, &inputs, &[])?;
        match made.into_iter().next() {
            Some(output) => Ok((output, self.launch.output.1.clone())),
            None => Err(one(&self.launch)),
        }
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
