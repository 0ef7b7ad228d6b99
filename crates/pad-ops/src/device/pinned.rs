//! Copies between a CUDA device and page-locked memory of the host, which the driver makes while
//! other work runs.
//!
//! cudarc's own waits for page-locked memory rely on events that it records only while it tracks
//! events, which our devices do not: each copy here has an event of its own.
#![allow(unsafe_code)]

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use candle_core::{
    CudaDevice, CudaStorage, DType, Result, Storage, Tensor,
    backend::BackendStorage,
    bail,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{
            CudaEvent, CudaSlice, DevicePtr, DevicePtrMut, DeviceRepr, PinnedHostSlice,
            ValidAsZeroBits, result,
            sys::{CU_MEMHOSTALLOC_PORTABLE, CU_MEMHOSTALLOC_WRITECOMBINED},
        },
    },
    op::BackpropOp,
};

/// Numbers of a buffer that is used again; larger ones are made for the occasion.
const ROOM: usize = 1024;

/// Buffers that wait for their next use: to make or to free one stops the device.
static FREE_F32: Mutex<Vec<PinnedHostSlice<f32>>> = Mutex::new(Vec::new());
static FREE_F64: Mutex<Vec<PinnedHostSlice<f64>>> = Mutex::new(Vec::new());

/// A buffer, and how many of its numbers are meant.
struct Landing<T: 'static> {
    buffer: Option<PinnedHostSlice<T>>,
    count: usize,
    free: &'static Mutex<Vec<PinnedHostSlice<T>>>,
}

impl<T: DeviceRepr + ValidAsZeroBits + Copy + Into<f64>> Landing<T> {
    /// Enqueues the copy of `from` into a buffer.
    fn begin(
        device: &CudaDevice,
        from: &CudaSlice<T>,
        (first, end): (usize, usize),
        free: &'static Mutex<Vec<PinnedHostSlice<T>>>,
    ) -> Result<Self> {
        let (stream, count) = (device.cuda_stream(), end - first);
        let kept = match count <= ROOM {
            true => free.lock().unwrap_or_else(PoisonError::into_inner).pop(),
            false => None,
        };
        let mut buffer = match kept {
            Some(buffer) => buffer,
            None => {
                let room = count.max(ROOM);
                // SAFETY: the memory is read only where a copy has written it.
                let made = unsafe {
                    stream.context().alloc_pinned_with_flags(room, CU_MEMHOSTALLOC_PORTABLE)
                };
                made.w()?
            }
        };
        let into = buffer.as_mut_slice().w()?;
        let view = from.slice(first..end);
        let (address, _used) = view.device_ptr(&stream);
        stream.context().bind_to_thread().w()?;
        // SAFETY: both sides have `count` numbers. The buffer stays where it is until its event has
        // passed ([`Coming`] waits for it before it lets go of the buffer), and the array until the
        // copy, since its memory is freed in the order of the stream.
        unsafe { result::memcpy_dtoh_async(&mut into[..count], address, stream.cu_stream()) }
            .w()?;
        Ok(Self { buffer: Some(buffer), count, free })
    }

    /// The numbers, once the copy is done.
    fn numbers(&self) -> Result<Vec<f64>> {
        let Some(buffer) = &self.buffer else { return Ok(Vec::new()) };
        let values = buffer.as_slice().w()?;
        Ok(values[..self.count].iter().map(|&value| value.into()).collect())
    }

    fn give_back(&mut self) {
        if let Some(buffer) = self.buffer.take().filter(|buffer| buffer.len() == ROOM) {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

enum Landed {
    F32(Landing<f32>),
    F64(Landing<f64>),
}

/// Numbers that a device copies to the host.
pub(super) struct Coming {
    /// Behind all copies, once it is recorded.
    event: CudaEvent,
    recorded: bool,
    landed: Vec<Landed>,
}

pub(super) fn fetch(device: &CudaDevice, tensors: &[&Tensor]) -> Result<Coming> {
    let stream = device.cuda_stream();
    let event = stream.context().new_event(None).w()?;
    let mut coming = Coming { event, recorded: false, landed: Vec::with_capacity(tensors.len()) };
    for tensor in tensors {
        let wide = match tensor.dtype() {
            DType::F64 => tensor.contiguous()?,
            _ => tensor.to_dtype(DType::F32)?.contiguous()?,
        };
        let (storage, layout) = wide.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else { bail!("fetch: tensors of one device") };
        let Some(place) = layout.contiguous_offsets() else { bail!("fetch: not contiguous") };
        coming.landed.push(match storage.dtype() {
            DType::F64 => {
                let from = storage.as_cuda_slice::<f64>()?;
                Landed::F64(Landing::begin(device, from, place, &FREE_F64)?)
            }
            _ => {
                let from = storage.as_cuda_slice::<f32>()?;
                Landed::F32(Landing::begin(device, from, place, &FREE_F32)?)
            }
        });
    }
    coming.event.record(&stream).w()?;
    coming.recorded = true;
    Ok(coming)
}

impl Coming {
    pub(super) fn wait(self) -> Result<Vec<Vec<f64>>> {
        self.event.synchronize().w()?;
        let numbers = self.landed.iter().map(|landed| match landed {
            Landed::F32(landing) => landing.numbers(),
            Landed::F64(landing) => landing.numbers(),
        });
        numbers.collect()
    }
}

impl Drop for Coming {
    /// The driver may still be writing. After an error of the driver buffers are not used again: to
    /// free them waits.
    fn drop(&mut self) {
        let done = self.recorded && self.event.synchronize().is_ok();
        for landed in &mut self.landed {
            match landed {
                Landed::F32(landing) if done => landing.give_back(),
                Landed::F64(landing) if done => landing.give_back(),
                _ => {}
            }
        }
    }
}

/// A buffer that bytes leave from, and when they have left.
struct Stage {
    buffer: PinnedHostSlice<u8>,
    left: CudaEvent,
}

/// The stages, the one that was used longest ago first: one is filled while another is read.
static STAGES: Mutex<VecDeque<Stage>> = Mutex::new(VecDeque::new());
const STAGES_KEPT: usize = 2;

pub(super) fn upload(device: &CudaDevice, bytes: &Tensor) -> Result<Tensor> {
    let bytes = bytes.contiguous()?;
    let (storage, layout) = bytes.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { bail!("upload: bytes of the host") };
    let (values, Some((first, end))) = (storage.as_slice::<u8>()?, layout.contiguous_offsets())
    else {
        bail!("upload: not contiguous")
    };
    let (values, stream) = (&values[first..end], device.cuda_stream());
    let context = stream.context();
    context.bind_to_thread().w()?;
    // Held to the end: what one thread stages another must not overwrite.
    let mut stages = STAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let oldest = if stages.len() < STAGES_KEPT { None } else { stages.pop_front() };
    let oldest = oldest.filter(|stage| {
        // A stage that is too small, or of another GPU, is replaced: to free it waits.
        stage.buffer.len() >= values.len() && stage.left.context() == context
    });
    let mut stage = match oldest {
        Some(stage) => {
            stage.left.synchronize().w()?;
            stage
        }
        None => {
            let flags = CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_WRITECOMBINED;
            // SAFETY: the memory is read only where it was written below.
            let buffer = unsafe { context.alloc_pinned_with_flags(values.len(), flags) }.w()?;
            Stage { buffer, left: context.new_event(None).w()? }
        }
    };
    stage.buffer.as_mut_slice().w()?[..values.len()].copy_from_slice(values);
    // SAFETY: the copy below writes all of it, before anything that is enqueued later reads it.
    let mut there = unsafe { device.alloc::<u8>(values.len())? };
    {
        let from = stage.buffer.as_slice().w()?;
        let (address, _used) = there.device_ptr_mut(&stream);
        // SAFETY: both sides have the bytes. The stage is not written again before its event has
        // passed, nor freed: the driver waits before it frees page-locked memory.
        unsafe { result::memcpy_htod_async(address, &from[..values.len()], stream.cu_stream()) }
            .w()?;
    }
    stage.left.record(&stream).w()?;
    stages.push_back(stage);
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(there, device.clone()));
    Ok(Tensor::from_storage(storage, layout.shape().clone(), BackpropOp::none(), false))
}
