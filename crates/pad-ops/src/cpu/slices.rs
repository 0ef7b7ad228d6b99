//! Tensors as slices and back, without copies where candle allows it.

use std::{borrow::Cow, ops::Deref};

use candle_core::{CpuStorage, Device, Layout, Result, Shape, Storage, Tensor, bail};

/// The values of a contiguous `f32` operand of a custom op.
pub(crate) fn values<'a>(
    op: &'static str,
    storage: &'a CpuStorage,
    layout: &Layout,
) -> Result<&'a [f32]> {
    let CpuStorage::F32(values) = storage else {
        bail!("{op}: the kernel is for f32, found {:?}", storage_dtype(storage));
    };
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&values[from..to]),
        None => bail!("{op}: the kernel needs a contiguous operand"),
    }
}

fn storage_dtype(storage: &CpuStorage) -> candle_core::DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

/// Calls `read` on the values of a CPU `f32` tensor, which are copied only if they are not
/// contiguous.
pub(crate) fn read<R>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(read(values("read", storage, layout)?)),
        _ => bail!("read: the tensor is not on the CPU"),
    }
}

/// The values of a tensor for as long as its storage stays locked for reading.
pub(crate) struct Values<'a> {
    // candle's own guard, of a crate that we do not name.
    storage: Box<dyn Deref<Target = Storage> + 'a>,
    from: usize,
    to: usize,
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &**self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.from..self.to],
            _ => &[], // `borrow` has rejected it
        }
    }
}

/// Borrows the values of a contiguous CPU `f32` tensor.
pub(crate) fn borrow(tensor: &Tensor) -> Result<Values<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((from, to)) = layout.contiguous_offsets() else {
        bail!("borrow: the kernel needs a contiguous operand")
    };
    match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) if to <= values.len() => {}
        _ => bail!("borrow: the kernel is for f32 on the CPU, found {:?}", tensor.dtype()),
    }
    Ok(Values { storage: Box::new(storage), from, to })
}

/// The values of a small integer tensor, wherever it is.
pub(crate) fn indices(tensor: &Tensor) -> Result<Cow<'static, [u32]>> {
    Ok(Cow::Owned(tensor.flatten_all()?.to_vec1::<u32>()?))
}

/// A kernel's result as a candle op returns it.
pub(crate) fn output(values: Vec<f32>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), shape.into())
}

/// A kernel's result as a tensor, for gradients.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}
