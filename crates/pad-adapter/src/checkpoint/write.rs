//! Safetensors files, written atomically.

use std::{collections::BTreeMap, io::Write, path::Path};

use candle_core::{DType, Tensor};

use super::finite::not_finite;
use crate::{Error, Result};

/// The type that floating-point values are stored in.
///
/// ```
/// use std::collections::BTreeMap;
/// use candle_core::{DType, Device, Tensor};
/// use pad_adapter::checkpoint::{Checkpoint, FloatType, save};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("half.safetensors");
/// let third = BTreeMap::from([("x".to_string(), Tensor::new(&[1_f32 / 3.0], &Device::Cpu)?)]);
/// save(&path, &third, &BTreeMap::new(), FloatType::F16)?;
/// let read = Checkpoint::open(&path)?;
/// assert_eq!(read.get("x").unwrap().to_dtype(DType::F32)?.to_vec1::<f32>()?, [0.33325195]);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FloatType {
    /// As they are in memory.
    #[default]
    AsIs,
    /// 32-bit.
    F32,
    /// 16-bit, IEEE: half the size, about three decimal digits. Values beyond 65,504 are an error.
    F16,
}

/// Writes tensors and metadata to a safetensors file, atomically.
///
/// # Errors
/// [`Error::Io`], for a full disk for example; the old file then stays as it was.
///
/// ```
/// use std::collections::BTreeMap;
/// use candle_core::{Device, Tensor};
/// use pad_adapter::checkpoint::{Checkpoint, FloatType, save};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("model.safetensors");
/// let tensors = BTreeMap::from([("x".to_string(), Tensor::new(&[2_f32, 3.0], &Device::Cpu)?)]);
/// save(&path, &tensors, &BTreeMap::from([("note".to_string(), "mine".to_string())]), FloatType::AsIs)?;
/// let read = Checkpoint::open(&path)?;
/// assert_eq!(read.get("x").unwrap().to_vec1::<f32>()?, [2.0, 3.0]);
/// assert_eq!(read.metadata()["note"], "mine");
/// # Ok::<(), pad_adapter::Error>(())
/// ```
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
            FloatType::F16 => narrowed(tensor, name, path)?,
        };
        stored.push((name.as_str(), tensor.to_device(&candle_core::Device::Cpu)?.contiguous()?));
    }
    let metadata = (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect());
    let bytes = safetensors::serialize(stored, metadata).map_err(|error| Error::Format {
        path: path.to_path_buf(),
        what: format!("cannot be written: {error}"),
    })?;
    let (header, values) = sorted_header(&bytes).map_err(|what| Error::Format {
        path: path.to_path_buf(),
        what: format!("cannot be written: {what}"),
    })?;
    pad_ops::fs::write_atomic(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        file.write_all(values)
    })
    .map_err(|cause| Error::Io { path: path.to_path_buf(), cause })
}

/// The tensor in 16 bits, which end at 65,504.
fn narrowed(tensor: &Tensor, name: &str, path: &Path) -> Result<Tensor> {
    let narrow = tensor.to_dtype(DType::F16)?;
    if let Some(found) = not_finite(&narrow)?
        && not_finite(tensor)?.is_none()
    {
        let value = tensor.flatten_all()?.narrow(0, found.index, 1)?.to_dtype(DType::F64)?;
        let value = value.to_vec1::<f64>()?.first().copied().unwrap_or(found.value);
        let what = format!(
            "`{name}`: value {value} at {}, expected at most 65504 for 16-bit floats",
            found.index
        );
        return Err(Error::Format { path: path.to_path_buf(), what });
    }
    Ok(narrow)
}

/// The header of a safetensors file with its entries sorted, and the values behind it: metadata
/// come out of a hash map in another order each time, and equal contents should be equal files.
fn sorted_header(bytes: &[u8]) -> std::result::Result<(Vec<u8>, &[u8]), String> {
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or("no header")?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|e| e.to_string())?;
    let (header, values) = rest.split_at_checked(length).ok_or("a header that is cut off")?;
    let entries: serde_json::Value =
        serde_json::from_slice(header).map_err(|error| error.to_string())?;
    let mut header = serde_json::to_vec(&entries).map_err(|error| error.to_string())?;
    while !header.len().is_multiple_of(8) {
        header.push(b' '); // values stay aligned
    }
    Ok((header, values))
}
