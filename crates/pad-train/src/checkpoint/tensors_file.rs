//! safetensors files: written as a stream without a second copy of the tensors, read whole.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
};

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use safetensors::SafeTensors;
use serde_json::{Map, Value, json};

use super::format::FileFacts;
use crate::{Error, Result};

/// Tensors and metadata of one file, still as bytes.
pub(super) struct TensorsFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl TensorsFile {
    pub(super) fn read(path: PathBuf) -> Result<Self> {
        let bytes = pad_ops::fs::read(&path).map_err(Error::io(&path))?;
        Ok(Self { path, bytes })
    }

    fn damaged(&self, what: String) -> Error {
        Error::Damaged { path: self.path.clone(), what }
    }

    pub(super) fn metadata(&self) -> Result<BTreeMap<String, String>> {
        let header = SafeTensors::read_metadata(&self.bytes);
        let (_, header) = header.map_err(|error| self.damaged(error.to_string()))?;
        Ok(header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    pub(super) fn tensors(&self, device: &Device) -> Result<BTreeMap<String, Tensor>> {
        let file = SafeTensors::deserialize(&self.bytes);
        let file = file.map_err(|error| self.damaged(error.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let dtype = DType::try_from(view.dtype());
            let tensor = dtype.and_then(|dtype| {
                Tensor::from_raw_buffer(view.data(), dtype, view.shape(), device)
            });
            let wrap = |cause| Error::Candle {
                doing: format!("{}: reading `{name}`", self.path.display()),
                cause,
            };
            tensors.insert(name.to_string(), tensor.map_err(wrap)?);
        }
        Ok(tensors)
    }
}

/// Writes a file: eight bytes of header length, the header (JSON, padded to eight bytes), the
/// tensors. Those with wider elements come first, so that each is aligned; then by name, so that
/// equal tensors give equal files.
pub(super) fn write(
    out: &mut impl Write,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> io::Result<FileFacts> {
    let mut order: Vec<(&String, &Tensor)> = tensors.iter().collect();
    order.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype().size_in_bytes()));

    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    let mut offset = 0;
    for (name, tensor) in &order {
        let end = offset + tensor.elem_count() * tensor.dtype().size_in_bytes();
        let dtype = name_of(tensor.dtype()).ok_or_else(|| {
            io::Error::other(format!("`{name}`: {} cannot be saved", tensor.dtype().as_str()))
        })?;
        let entry = json!({"dtype": dtype, "shape": tensor.dims(), "data_offsets": [offset, end]});
        header.insert((*name).clone(), entry);
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    let mut out = Counted { out, facts: FileFacts { bytes: 0, crc32c: 0 } };
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (name, tensor) in order {
        write_values(&mut out, tensor)
            .map_err(|error| io::Error::new(error.kind(), format!("`{name}`: {error}")))?;
    }
    Ok(out.facts)
}

fn name_of(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::F64 => Some("F64"),
        DType::F32 => Some("F32"),
        DType::F16 => Some("F16"),
        DType::BF16 => Some("BF16"),
        DType::I64 => Some("I64"),
        _ => None,
    }
}

fn write_values(out: &mut impl Write, tensor: &Tensor) -> io::Result<()> {
    let tensor = tensor.to_device(&Device::Cpu).and_then(|tensor| tensor.contiguous());
    let tensor = tensor.map_err(io::Error::other)?;
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets())
    else {
        return Err(io::Error::other("expected a contiguous tensor on the CPU"));
    };
    macro_rules! write_all {
        ($($variant:ident),*) => {
            match storage {
                $(CpuStorage::$variant(values) => {
                    let mut bytes = Vec::with_capacity(1 << 16);
                    for chunk in values[start..end].chunks(1 << 13) {
                        bytes.clear();
                        chunk.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
                        out.write_all(&bytes)?;
                    }
                    Ok(())
                })*
                _ => Err(io::Error::other("this dtype cannot be saved")),
            }
        };
    }
    write_all!(F64, F32, F16, BF16, I64)
}

/// Passes bytes on and remembers how many and which.
struct Counted<W> {
    out: W,
    facts: FileFacts,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.facts.bytes += written as u64;
        self.facts.crc32c = crc32c::crc32c_append(self.facts.crc32c, &bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
