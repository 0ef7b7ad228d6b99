//! The one place that opens devices.

use candle_core::Device;

use super::options::CudaOptions;
use crate::{Error, Result};

/// Opens CUDA device `ordinal` with the default [`CudaOptions`].
///
/// # Errors
/// [`Error::OpenDevice`], also without the feature `cuda`.
///
/// ```
/// // No machine has a hundred GPUs.
/// let error = pad_ops::device::cuda(99).unwrap_err().to_string();
/// assert!(error.starts_with("device `cuda:99`: "), "{error}");
/// ```
pub fn cuda(ordinal: usize) -> Result<Device> {
    cuda_with(ordinal, CudaOptions::default())
}

/// Opens CUDA device `ordinal`; the same device each time in a process.
///
/// # Errors
/// [`Error::OpenDevice`] if the device or the feature `cuda` is missing, or if the device is open
/// with other options.
///
/// ```
/// use pad_ops::device::{CudaOptions, cuda_with};
/// let exact = CudaOptions { tf32: false, ..Default::default() };
/// let error = cuda_with(99, exact).unwrap_err().to_string();
/// assert!(error.starts_with("device `cuda:99`: "), "{error}");
/// ```
pub fn cuda_with(ordinal: usize, options: CudaOptions) -> Result<Device> {
    open_cuda(ordinal, options)
        .map_err(|cause| refused(format!("cuda:{ordinal}"), "cuda", cfg!(feature = "cuda"), &cause))
}

#[cfg(feature = "cuda")]
fn open_cuda(ordinal: usize, options: CudaOptions) -> candle_core::Result<Device> {
    super::cuda::open(ordinal, options)
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_: usize, _: CudaOptions) -> candle_core::Result<Device> {
    Err(candle_core::Error::NotCompiledWithCudaSupport)
}

/// Opens Metal device `ordinal`.
///
/// # Errors
/// [`Error::OpenDevice`], also without the feature `metal`.
///
/// ```
/// let error = pad_ops::device::metal(99).unwrap_err().to_string();
/// assert!(error.starts_with("device `metal:99`: "), "{error}");
/// ```
pub fn metal(ordinal: usize) -> Result<Device> {
    #[expect(clippy::disallowed_methods, reason = "the one place that opens devices")]
    let opened = Device::new_metal(ordinal);
    opened.map_err(|cause| {
        refused(format!("metal:{ordinal}"), "metal", cfg!(feature = "metal"), &cause)
    })
}

/// `built`: whether this program has the feature that the device needs.
fn refused(device: String, feature: &str, built: bool, cause: &candle_core::Error) -> Error {
    let cause = cause.to_string();
    let mut what = cause.lines().next().unwrap_or_default().to_string();
    if !built {
        what = format!("{what} (the program needs the feature `{feature}`)");
    }
    Error::OpenDevice { device, what }
}
