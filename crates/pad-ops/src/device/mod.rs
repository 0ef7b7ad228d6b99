//! Devices: the one place that opens them.
//!
//! candle's `Device::new_cuda` enqueues on CUDA's *per-thread* stream: threads that share such a
//! device are not ordered, so a batch uploaded by one may be read by another before it arrived.
//! [`cuda`] opens a device with one stream of its own, on which every thread enqueues: work runs in
//! the order in which it was enqueued. Equal numbers give the same device, so that a process never
//! has two streams on one GPU.

#[cfg(feature = "cuda")]
mod cuda;
mod fetch;
mod name;
mod opening;
mod options;
#[cfg(feature = "cuda")]
mod pinned;

use candle_core::Device;

pub use fetch::{Fetch, fetch, upload_bytes};
pub use name::DeviceName;
pub use opening::{cuda, cuda_with, metal};
pub use options::CudaOptions;

use crate::Result;

/// Opens the device that `name` names: `cpu`, `cuda`, `cuda:N`, `metal` or `metal:N`.
///
/// # Errors
/// [`Error::DeviceName`](crate::Error::DeviceName) for another name, [`Error::OpenDevice`](crate::Error::OpenDevice).
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

/// Returns whether work that several threads enqueue on `device` runs in the order in which they
/// enqueued it: true for the CPU, Metal and what [`cuda`] opens, false for candle's own
/// `Device::new_cuda`.
///
/// ```
/// assert!(pad_ops::device::orders_threads(&candle_core::Device::Cpu));
/// ```
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
/// [`Error::Candle`](crate::Error::Candle) if the driver refuses.
///
/// ```
/// assert_eq!(pad_ops::device::peak_bytes(&candle_core::Device::Cpu)?, None);
/// # Ok::<(), pad_ops::Error>(())
/// ```
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
/// [`Error::Candle`](crate::Error::Candle) if the driver refuses.
///
/// ```
/// assert!(pad_ops::device::reset_peak_bytes(&candle_core::Device::Cpu).is_ok()); // nothing to do
/// ```
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
        for (name, feature) in [("cuda:3", "cuda"), ("metal:1", "metal")] {
            let error = open(name).unwrap_err().to_string();
            assert!(error.starts_with(&format!("device `{name}`: ")), "{error}");
            assert!(error.ends_with(&format!("(the program needs the feature `{feature}`)")));
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
