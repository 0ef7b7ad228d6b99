//! Numbers on their way from a device to the host, and bytes on the way there.

use candle_core::{DType, Device, Tensor};

#[cfg(feature = "cuda")]
use super::pinned;
use crate::Result;

/// Numbers that [`fetch`] has begun to copy to the host.
pub struct Fetch(Way);

enum Way {
    Here(Vec<Vec<f64>>),
    #[cfg(feature = "cuda")]
    Coming(pinned::Coming),
}

/// Begins to copy the numbers of tensors to the host. On a CUDA device the copies are enqueued, into
/// page-locked memory, and the caller goes on: [`Fetch::wait`] waits for what was enqueued up to
/// here, not for what was enqueued behind. Tensors of other devices are read at once.
///
/// # Shapes
/// Any, any floating dtype.
///
/// # Errors
/// [`Error::Candle`](crate::Error::Candle) if the driver refuses.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let loss = Tensor::new(0.5_f32, &Device::Cpu)?;
/// let norms = Tensor::new(&[3_f64, 4.0], &Device::Cpu)?;
/// let coming = pad_ops::device::fetch(&[&loss, &norms])?;
/// assert_eq!(coming.wait()?, [vec![0.5], vec![3.0, 4.0]]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn fetch(tensors: &[&Tensor]) -> Result<Fetch> {
    #[cfg(feature = "cuda")]
    if let Some(first) = tensors.first()
        && let Device::Cuda(device) = first.device()
        && tensors.iter().all(|tensor| tensor.device().same_device(first.device()))
    {
        return Ok(Fetch(Way::Coming(pinned::fetch(device, tensors)?)));
    }
    let numbers = tensors.iter().map(|tensor| numbers(tensor));
    Ok(Fetch(Way::Here(numbers.collect::<candle_core::Result<_>>()?)))
}

fn numbers(tensor: &Tensor) -> candle_core::Result<Vec<f64>> {
    let tensor = tensor.detach().flatten_all()?;
    match tensor.dtype() {
        DType::F64 => tensor.to_vec1::<f64>(),
        // Not straight to f64, which Metal lacks.
        _ => {
            let wide = tensor.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            Ok(wide.into_iter().map(f64::from).collect())
        }
    }
}

/// Copies bytes of the host to `device`. To a CUDA device the copy is enqueued, from page-locked
/// memory, and the caller goes on; `bytes` may be changed or dropped.
///
/// # Shapes
/// Any, u8, on the CPU.
///
/// # Errors
/// [`Error::Candle`](crate::Error::Candle) if the driver refuses, or for another dtype.
pub fn upload_bytes(bytes: &Tensor, device: &Device) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = device
        && bytes.device().is_cpu()
        && bytes.elem_count() > 0
    {
        return Ok(pinned::upload(cuda, bytes)?);
    }
    Ok(bytes.to_device(device)?)
}

impl Fetch {
    /// Waits for the numbers; one list a tensor, in their order.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) if the driver reports an error of the work before.
    pub fn wait(self) -> Result<Vec<Vec<f64>>> {
        match self.0 {
            Way::Here(numbers) => Ok(numbers),
            #[cfg(feature = "cuda")]
            Way::Coming(coming) => Ok(coming.wait()?),
        }
    }
}

impl std::fmt::Debug for Fetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetch").finish_non_exhaustive()
    }
}
