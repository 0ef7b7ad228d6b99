//! Devices: the one place that opens them.
//!
//! candle's `Device::new_cuda` enqueues on CUDA's *per-thread* stream: threads that share such a
//! device are not ordered, so a batch uploaded by one may be read by another before it arrived.
//! [`cuda`] opens a device with one stream of its own, on which every thread enqueues: work runs in
//! the order in which it was enqueued. Equal numbers give the same device, so that a process never
//! has two streams on one GPU.

#[cfg(feature = "cuda")]
mod cuda;
mod name;

use candle_core::Device;

pub use name::DeviceName;

use crate::{Error, Result};

/// How [`cuda_with`] opens a device. The default is right for training; the others are for
/// measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CudaOptions {
    /// Records events around every use of an array, as several streams would need: two events an
    /// allocation, waits at every launch. `false`: there is one stream.
    pub event_tracking: bool,
    /// Keeps freed memory for the next allocation instead of returning it to the driver at every
    /// synchronisation. `true`.
    pub keep_memory: bool,
    /// Multiplies f32 matrices with operands rounded to 10 bits of mantissa (TF32). `false`: results
    /// would differ from the CPU's by 1e-3. Holds for all devices of the process.
    pub tf32: bool,
}

impl Default for CudaOptions {
    fn default() -> Self {
        Self { event_tracking: false, keep_memory: true, tf32: false }
    }
}

/// Opens CUDA device `ordinal` with the default [`CudaOptions`].
///
/// # Errors
/// [`Error::OpenDevice`], also without the feature `cuda`.
pub fn cuda(ordinal: usize) -> Result<Device> {
    cuda_with(ordinal, CudaOptions::default())
}

/// Opens CUDA device `ordinal`; the same device each time in a process.
///
/// # Errors
/// [`Error::OpenDevice`] if the device or the feature `cuda` is missing, or if the device is open
/// with other options.
pub fn cuda_with(ordinal: usize, options: CudaOptions) -> Result<Device> {
    open_cuda(ordinal, options).map_err(|cause| refused(DeviceName::Cuda(ordinal), cause))
}

#[cfg(feature = "cuda")]
fn open_cuda(ordinal: usize, options: CudaOptions) -> candle_core::Result<Device> {
    cuda::open(ordinal, options)
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_: usize, _: CudaOptions) -> candle_core::Result<Device> {
    Err(candle_core::Error::NotCompiledWithCudaSupport)
}

/// Opens Metal device `ordinal`.
///
/// # Errors
/// [`Error::OpenDevice`], also without the feature `metal`.
pub fn metal(ordinal: usize) -> Result<Device> {
    #[expect(clippy::disallowed_methods, reason = "the one place that opens devices")]
    let opened = Device::new_metal(ordinal);
    opened.map_err(|cause| refused(DeviceName::Metal(ordinal), cause))
}

/// Opens the device that `name` names: `cpu`, `cuda`, `cuda:N`, `metal` or `metal:N`.
///
/// # Errors
/// [`Error::DeviceName`] for another name, [`Error::OpenDevice`].
///
/// ```
/// assert!(pad_ops::device::open("cpu")?.is_cpu());
/// assert_eq!(
///     pad_ops::device::open("gpu").unwrap_err().to_string(),
///     "expected cpu, cuda, cuda:N or metal, found `gpu`"
/// );
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn open(name: &str) -> Result<Device> {
    name.parse::<DeviceName>()?.open()
}

fn refused(device: DeviceName, cause: candle_core::Error) -> Error {
    let feature = match device {
        DeviceName::Metal(_) => "metal",
        _ => "cuda",
    };
    let built = match device {
        DeviceName::Metal(_) => cfg!(feature = "metal"),
        _ => cfg!(feature = "cuda"),
    };
    let cause = cause.to_string();
    let mut what = cause.lines().next().unwrap_or_default().to_string();
    if !built {
        what = format!("{what} (the program needs the feature `{feature}`)");
    }
    Error::OpenDevice { device: device.to_string(), what }
}

/// Returns whether work that several threads enqueue on `device` runs in the order in which they
/// enqueued it: true for the CPU, Metal and what [`cuda`] opens, false for candle's own
/// `Device::new_cuda`.
pub fn orders_threads(device: &Device) -> bool {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return cuda::has_own_stream(device);
    }
    let _ = device;
    true
}

/// Returns the largest number of bytes that arrays on a CUDA device took together since it was
/// opened or since [`reset_peak_bytes`], as `torch.cuda.max_memory_allocated` counts; `None` for
/// other devices.
///
/// # Errors
/// [`Error::Candle`] if the driver refuses.
pub fn peak_bytes(device: &Device) -> Result<Option<u64>> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return Ok(Some(cuda::peak_bytes(device)?));
    }
    let _ = device;
    Ok(None)
}

/// Lets [`peak_bytes`] begin again from what is in use now.
///
/// # Errors
/// [`Error::Candle`] if the driver refuses.
pub fn reset_peak_bytes(device: &Device) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return Ok(cuda::reset_peak_bytes(device)?);
    }
    let _ = device;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_needs_nothing() {
        let device = open("cpu").unwrap();
        assert!(device.is_cpu() && orders_threads(&device));
        assert_eq!(peak_bytes(&device).unwrap(), None);
        reset_peak_bytes(&device).unwrap();
    }

    #[test]
    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    fn a_missing_feature_is_named() {
        for (name, feature) in [("cuda:3", "cuda"), ("metal", "metal")] {
            let error = open(name).unwrap_err().to_string();
            assert!(error.starts_with(&format!("device `{name}`: ")), "{error}");
            assert!(error.ends_with(&format!("(the program needs the feature `{feature}`)")));
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
