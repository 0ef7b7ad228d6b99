//! Safetensors files that are whole or absent.

use std::{collections::BTreeMap, io::Write, path::Path};

use candle_core::{DType, Tensor};

use crate::{Error, Result};

/// How floating values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FloatType {
    /// As they are in memory.
    #[default]
    AsIs,
    /// 32-bit.
    F32,
    /// 16-bit, IEEE: half the size, about three decimal digits.
    F16,
}

/// Writes tensors and metadata to a safetensors file, atomically.
///
/// # Errors
/// [`Error::Io`] (a full disk, for one; the old file is then untouched).
pub fn save(
    path: impl AsRef<Path>,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
    float_type: FloatType,
) -> Result<()> {
    let path = path.as_ref();
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let tensor = match float_type {
            FloatType::AsIs => tensor.clone(),
            _ if !tensor.dtype().is_float() => tensor.clone(),
            FloatType::F32 => tensor.to_dtype(DType::F32)?,
            FloatType::F16 => tensor.to_dtype(DType::F16)?,
        };
        stored.push((name.as_str(), tensor.to_device(&candle_core::Device::Cpu)?.contiguous()?));
    }
    let metadata = (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect());
    let bytes = safetensors::serialize(stored, metadata).map_err(|error| Error::Format {
        path: path.to_path_buf(),
        what: format!("cannot be written: {error}"),
    })?;
    pad_ops::fs::write_atomic(path, |file| file.write_all(&bytes))
        .map_err(|source| Error::Io { path: path.to_path_buf(), source })
}
