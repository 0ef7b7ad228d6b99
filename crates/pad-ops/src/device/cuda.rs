//! CUDA devices with one stream, through the cudarc that candle uses.
#![allow(unsafe_code)]

use std::{
    collections::BTreeMap,
    ffi::c_void,
    ptr,
    sync::{Mutex, PoisonError},
};

use candle_core::{
    CudaDevice, Device, Result, bail,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{
            result::{device, mem_pool},
            sys::{CUmemPool_attribute, CUmemoryPool},
        },
        set_gemm_reduced_precision_f32,
    },
};

use super::options::CudaOptions;

/// The devices of this process.
static OPEN: Mutex<BTreeMap<usize, (Device, CudaOptions)>> = Mutex::new(BTreeMap::new());

/// CUDA's name of the stream that is another one in every thread (`CU_STREAM_PER_THREAD`).
const PER_THREAD: usize = 2;

pub(super) fn open(ordinal: usize, options: CudaOptions) -> Result<Device> {
    let mut opened = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((device, earlier)) = opened.get(&ordinal) {
        if *earlier != options {
            bail!("open already with {earlier:?}, expected {options:?}")
        }
        return Ok(device.clone());
    }
    #[expect(clippy::disallowed_methods, reason = "the one place that opens devices")]
    let device = Device::new_cuda_with_stream(ordinal)?;
    let Device::Cuda(cuda) = &device else { bail!("not a CUDA device") };
    if !options.event_tracking {
        // SAFETY: events order uses of an array on several streams. Everything that is enqueued for
        // this device, by whichever thread, goes to its one stream, which `OPEN` keeps to one a GPU
        // and process; the driver runs a stream's work in order.
        unsafe { cuda.disable_event_tracking() };
    }
    if options.keep_memory {
        set(cuda, CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)?;
    }
    set_gemm_reduced_precision_f32(options.tf32);
    opened.insert(ordinal, (device.clone(), options));
    Ok(device)
}

pub(super) fn has_own_stream(device: &CudaDevice) -> bool {
    device.cuda_stream().cu_stream() as usize != PER_THREAD
}

pub(super) fn peak_bytes(device: &CudaDevice) -> Result<u64> {
    let mut bytes = 0_u64;
    let into = ptr::from_mut(&mut bytes).cast::<c_void>();
    // SAFETY: the attribute is a u64, and `into` points to one.
    unsafe {
        mem_pool::get_attribute(
            pool(device)?,
            CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH,
            into,
        )
    }
    .w()?;
    Ok(bytes)
}

pub(super) fn reset_peak_bytes(device: &CudaDevice) -> Result<()> {
    // The driver takes nothing but zero, and begins from what is in use.
    set(device, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)
}

/// The pool that allocations of the device's streams come from.
fn pool(device: &CudaDevice) -> Result<CUmemoryPool> {
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().w()?;
    // SAFETY: the number is a device's, which its context was made of.
    unsafe { device::get_mem_pool(stream.context().cu_device()) }.w()
}

fn set(device: &CudaDevice, attribute: CUmemPool_attribute, mut value: u64) -> Result<()> {
    let from = ptr::from_mut(&mut value).cast::<c_void>();
    // SAFETY: both attributes that are set here are u64s, and `from` points to one.
    unsafe { mem_pool::set_attribute(pool(device)?, attribute, from) }.w()
}
