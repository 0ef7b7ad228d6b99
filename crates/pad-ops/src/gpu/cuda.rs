//! Kernels on a CUDA device: compiled by NVRTC once a process, loaded once a device, launched on
//! the device's own stream.
#![allow(unsafe_code)]

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use candle_core::{
    CudaDevice, CudaStorage, DType, Layout, Result,
    backend::BackendStorage,
    bail,
    cuda_backend::{
        CudaDType, DeviceId, WrapErr,
        cudarc::{
            driver::{
                CudaFunction, CudaSlice, CudaStream, CudaView, DevicePtr, LaunchConfig,
                PushKernelArg,
            },
            nvrtc,
        },
    },
};
use half::bf16;

use super::launch::{BLOCK, Key, Launch, Number};

/// The machine code (PTX) of each source, type of values and constants.
static COMPILED: LazyLock<Mutex<HashMap<Key, Arc<str>>>> = LazyLock::new(Default::default);

/// A device, a compiled source, a kernel in it.
type Loaded = (DeviceId, Key, &'static str);

/// Kernels that are ready.
static LOADED: LazyLock<Mutex<HashMap<Loaded, CudaFunction>>> = LazyLock::new(Default::default);

fn ptx(launch: &Launch) -> Result<Arc<str>> {
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let key = launch.key();
    if let Some(ptx) = compiled.get(&key) {
        return Ok(Arc::clone(ptx));
    }
    let ptx: Arc<str> = match nvrtc::compile_ptx(launch.text()?) {
        Ok(ptx) => ptx.to_src().into(),
        Err(error) => bail!("{}: NVRTC rejected the kernels: {error:?}", launch.source.name),
    };
    compiled.insert(key, Arc::clone(&ptx));
    Ok(ptx)
}

fn function(launch: &Launch, device: &CudaDevice) -> Result<CudaFunction> {
    let key = (device.id(), launch.key(), launch.function);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(function) = loaded.get(&key) {
        return Ok(function.clone());
    }
    let module = format!("pad_ops/{:?}", launch.key());
    let function = device.get_or_load_custom_func(launch.function, &module, &ptx(launch)?)?;
    let function = function.into_cuda_function();
    loaded.insert(key, function.clone());
    Ok(function)
}

/// An operand's values.
enum Values<'a> {
    F32(CudaView<'a, f32>),
    BF16(CudaView<'a, bf16>),
    U32(CudaView<'a, u32>),
    U8(CudaView<'a, u8>),
    F64(CudaView<'a, f64>),
    /// An operand that is left out.
    Absent(u64),
}

impl<'a> Values<'a> {
    fn new(launch: &Launch, input: &Option<(&'a CudaStorage, &Layout)>) -> Result<Self> {
        let Some((storage, layout)) = input else { return Ok(Self::Absent(0)) };
        let Some((from, to)) = layout.contiguous_offsets() else {
            bail!("{}: a kernel for contiguous operands, found {layout:?}", launch.function)
        };
        Ok(match storage.dtype() {
            DType::F32 => Self::F32(storage.as_cuda_slice::<f32>()?.slice(from..to)),
            DType::BF16 => Self::BF16(storage.as_cuda_slice::<bf16>()?.slice(from..to)),
            DType::U32 => Self::U32(storage.as_cuda_slice::<u32>()?.slice(from..to)),
            DType::U8 => Self::U8(storage.as_cuda_slice::<u8>()?.slice(from..to)),
            DType::F64 => Self::F64(storage.as_cuda_slice::<f64>()?.slice(from..to)),
            other => bail!("{}: a kernel takes no operands of {other:?}", launch.function),
        })
    }

    /// Where they begin in the device's memory.
    fn address(&self, stream: &CudaStream) -> u64 {
        match self {
            Self::F32(values) => values.device_ptr(stream).0,
            Self::BF16(values) => values.device_ptr(stream).0,
            Self::U32(values) => values.device_ptr(stream).0,
            Self::U8(values) => values.device_ptr(stream).0,
            Self::F64(values) => values.device_ptr(stream).0,
            Self::Absent(address) => *address,
        }
    }
}

/// An array that a kernel writes.
enum Output {
    F32(CudaSlice<f32>),
    BF16(CudaSlice<bf16>),
    F64(CudaSlice<f64>),
    /// Without values.
    Absent(u64),
}

impl Output {
    fn new(launch: &Launch, device: &CudaDevice, dtype: DType, count: usize) -> Result<Self> {
        if count == 0 {
            return Ok(Self::Absent(0));
        }
        // SAFETY: every kernel writes every value of its outputs, and reads none before.
        unsafe {
            Ok(match dtype {
                DType::F32 => Self::F32(device.alloc::<f32>(count)?),
                DType::BF16 => Self::BF16(device.alloc::<bf16>(count)?),
                DType::F64 => Self::F64(device.alloc::<f64>(count)?),
                other => bail!("{}: a kernel gives no results of {other:?}", launch.function),
            })
        }
    }

    fn into_storage(self, device: &CudaDevice) -> Option<CudaStorage> {
        fn wrapped<T: CudaDType>(values: CudaSlice<T>, device: &CudaDevice) -> CudaStorage {
            CudaStorage::wrap_cuda_slice(values, device.clone())
        }
        match self {
            Self::F32(values) => Some(wrapped(values, device)),
            Self::BF16(values) => Some(wrapped(values, device)),
            Self::F64(values) => Some(wrapped(values, device)),
            Self::Absent(_) => None,
        }
    }
}

/// Runs a kernel on contiguous arrays of one device, with the addresses of those of `table` as
/// another array if there are any.
pub(super) fn run(
    launch: &Launch,
    inputs: &[Option<(&CudaStorage, &Layout)>],
    table: &[Option<(&CudaStorage, &Layout)>],
) -> Result<Vec<CudaStorage>> {
    let Some((first, _)) = inputs.iter().chain(table).flatten().next() else {
        bail!("{}: a kernel without operands", launch.function)
    };
    let device = first.device();
    let stream = device.cuda_stream();
    let entries: Vec<Values<'_>> =
        table.iter().map(|entry| Values::new(launch, entry)).collect::<Result<_>>()?;
    let addresses: Vec<u64> = entries.iter().map(|entry| entry.address(&stream)).collect();
    let table = match addresses.is_empty() {
        true => None,
        false => Some(stream.clone_htod(&addresses).w()?),
    };
    let mut outputs: Vec<Output> = launch
        .outputs()
        .map(|(dtype, shape)| Output::new(launch, device, *dtype, shape.elem_count()))
        .collect::<Result<_>>()?;
    launch_on(launch, device, inputs, table.as_ref(), &mut outputs)?;
    Ok(outputs.into_iter().filter_map(|output| output.into_storage(device)).collect())
}

fn launch_on(
    launch: &Launch,
    device: &CudaDevice,
    inputs: &[Option<(&CudaStorage, &Layout)>],
    table: Option<&CudaSlice<u64>>,
    outputs: &mut [Output],
) -> Result<()> {
    let function = function(launch, device)?;
    let inputs: Vec<Values<'_>> =
        inputs.iter().map(|input| Values::new(launch, input)).collect::<Result<_>>()?;
    let blocks = u32::try_from(launch.blocks).map_err(candle_core::Error::wrap)?;
    let config = LaunchConfig {
        grid_dim: (blocks, 1, 1),
        block_dim: (BLOCK as u32, 1, 1),
        shared_mem_bytes: 0,
    };
    let stream = device.cuda_stream();
    let mut arguments = stream.launch_builder(&function);
    for values in &inputs {
        match values {
            Values::F32(values) => arguments.arg(values),
            Values::BF16(values) => arguments.arg(values),
            Values::U32(values) => arguments.arg(values),
            Values::U8(values) => arguments.arg(values),
            Values::F64(values) => arguments.arg(values),
            Values::Absent(address) => arguments.arg(address),
        };
    }
    if let Some(table) = table {
        arguments.arg(table);
    }
    for output in outputs {
        match output {
            Output::F32(values) => arguments.arg(values),
            Output::BF16(values) => arguments.arg(values),
            Output::F64(values) => arguments.arg(values),
            Output::Absent(address) => arguments.arg(&*address),
        };
    }
    for number in &launch.numbers {
        match number {
            Number::Int(number) => arguments.arg(number),
            Number::Float(number) => arguments.arg(number),
            Number::Double(number) => arguments.arg(number),
        };
    }
    // SAFETY: arrays and numbers stand in the order and have the types of the kernel's parameters,
    // and it stays inside them: this crate's tests run the same launches of the same source and
    // watch the arrays' ends.
    unsafe { arguments.launch(config) }.w()?;
    Ok(())
}
