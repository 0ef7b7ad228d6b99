//! Kernels on a CUDA device: compiled by NVRTC once a process, loaded once a device, launched on
//! candle's own stream.
#![allow(unsafe_code)]

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use candle_core::{
    CudaDevice, CudaStorage, DType, Layout, Result,
    backend::BackendStorage,
    bail,
    cuda_backend::{
        CudaDType, WrapErr,
        cudarc::{
            driver::{CudaFunction, CudaView, DeviceRepr, LaunchConfig, PushKernelArg},
            nvrtc,
        },
    },
};
use half::bf16;

use super::launch::{BLOCK, Launch, Number};

/// The machine code (PTX) of each source and type of values.
static COMPILED: Mutex<Option<HashMap<(&'static str, DType), String>>> = Mutex::new(None);

fn ptx(launch: &Launch) -> Result<String> {
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let compiled = compiled.get_or_insert_with(HashMap::new);
    let key = (launch.source.name, launch.values);
    if let Some(ptx) = compiled.get(&key) {
        return Ok(ptx.clone());
    }
    let ptx = match nvrtc::compile_ptx(launch.text()?) {
        Ok(ptx) => ptx.to_src(),
        Err(error) => bail!("{}: NVRTC rejected the kernels: {error:?}", launch.source.name),
    };
    compiled.insert(key, ptx.clone());
    Ok(ptx)
}

/// An operand's values.
enum Values<'a> {
    F32(CudaView<'a, f32>),
    BF16(CudaView<'a, bf16>),
    U32(CudaView<'a, u32>),
}

impl<'a> Values<'a> {
    fn new(launch: &Launch, storage: &'a CudaStorage, layout: &Layout) -> Result<Self> {
        let Some((from, to)) = layout.contiguous_offsets() else {
            bail!("{}: a kernel for contiguous operands, found {layout:?}", launch.function)
        };
        Ok(match storage.dtype() {
            DType::F32 => Self::F32(storage.as_cuda_slice::<f32>()?.slice(from..to)),
            DType::BF16 => Self::BF16(storage.as_cuda_slice::<bf16>()?.slice(from..to)),
            DType::U32 => Self::U32(storage.as_cuda_slice::<u32>()?.slice(from..to)),
            other => bail!("{}: operands of f32, bf16 or u32, found {other:?}", launch.function),
        })
    }
}

/// Runs a kernel on contiguous arrays of one device.
pub(super) fn run(launch: &Launch, inputs: &[(&CudaStorage, &Layout)]) -> Result<CudaStorage> {
    let Some((first, _)) = inputs.first() else {
        bail!("{}: a kernel without operands", launch.function)
    };
    let device = first.device();
    let module = format!("pad_ops/{}/{}", launch.source.name, launch.values.as_str());
    let function = device.get_or_load_custom_func(launch.function, &module, &ptx(launch)?)?;
    let values: Vec<Values<'_>> = inputs
        .iter()
        .map(|(storage, layout)| Values::new(launch, storage, layout))
        .collect::<Result<_>>()?;
    match launch.output.0 {
        DType::F32 => launch_into::<f32>(launch, device, &function, &values),
        DType::BF16 => launch_into::<bf16>(launch, device, &function, &values),
        other => bail!("{}: results of f32 or bf16, found {other:?}", launch.function),
    }
}

fn launch_into<T: CudaDType + DeviceRepr>(
    launch: &Launch,
    device: &CudaDevice,
    function: &CudaFunction,
    inputs: &[Values<'_>],
) -> Result<CudaStorage> {
    let blocks = u32::try_from(launch.blocks).map_err(candle_core::Error::wrap)?;
    let config = LaunchConfig {
        grid_dim: (blocks, 1, 1),
        block_dim: (BLOCK as u32, 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: every kernel writes every value of its output, and reads none before.
    let mut output = unsafe { device.alloc::<T>(launch.output.1.elem_count())? };
    let stream = device.cuda_stream();
    let mut arguments = stream.launch_builder(function);
    for values in inputs {
        match values {
            Values::F32(values) => arguments.arg(values),
            Values::BF16(values) => arguments.arg(values),
            Values::U32(values) => arguments.arg(values),
        };
    }
    arguments.arg(&mut output);
    for number in &launch.numbers {
        match number {
            Number::Int(number) => arguments.arg(number),
            Number::Float(number) => arguments.arg(number),
        };
    }
    // SAFETY: arrays and numbers stand in the order and have the types of the kernel's parameters,
    // and it stays inside them: this crate's tests run the same launches of the same source and
    // watch the arrays' ends.
    unsafe { arguments.launch(config) }.w()?;
    drop(arguments);
    Ok(CudaStorage::wrap_cuda_slice(output, device.clone()))
}
