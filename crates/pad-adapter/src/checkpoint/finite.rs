//! Weights that are no numbers: one NaN makes every feature NaN, without a word.

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};

/// The first value of a tensor that is not finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NotFinite {
    /// Its place among the tensor's values, row major.
    pub(crate) index: usize,
    /// NaN or infinite.
    pub(crate) value: f64,
    /// The number of such values in the tensor.
    pub(crate) count: usize,
}

/// Returns the first value of `tensor` that is not finite; `None` for a sound one and for integers.
///
/// # Errors
/// candle's errors when values are copied.
pub(crate) fn not_finite(tensor: &Tensor) -> candle_core::Result<Option<NotFinite>> {
    if !tensor.dtype().is_float() || tensor.elem_count() == 0 {
        return Ok(None);
    }
    let tensor = tensor.to_device(&Device::Cpu)?;
    // Values of narrow types are few enough to be widened; all others are looked at in place.
    let tensor = match tensor.dtype() {
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => tensor.contiguous()?,
        _ => tensor.to_dtype(DType::F32)?.contiguous()?,
    };
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(values) = &*storage else { return Ok(None) };
    let (start, count) = (layout.start_offset(), layout.shape().elem_count());
    let range = start..start + count;
    Ok(match values {
        CpuStorage::F32(values) => first(&values[range], |v| f64::from(*v)),
        CpuStorage::F64(values) => first(&values[range], |v| *v),
        CpuStorage::F16(values) => first(&values[range], |v| f64::from(f32::from(*v))),
        CpuStorage::BF16(values) => first(&values[range], |v| f64::from(f32::from(*v))),
        _ => None,
    })
}

fn first<T>(values: &[T], number: impl Fn(&T) -> f64) -> Option<NotFinite> {
    let index = values.iter().position(|value| !number(value).is_finite())?;
    let count = values[index..].iter().filter(|value| !number(value).is_finite()).count();
    Some(NotFinite { index, value: number(&values[index]), count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_and_their_number() {
        let values = [1.0_f32, 2.0, f32::NAN, 4.0, f32::INFINITY, 6.0];
        let tensor = Tensor::new(&values, &Device::Cpu).unwrap().reshape((2, 3)).unwrap();
        let found = not_finite(&tensor).unwrap().unwrap();
        assert!(found.value.is_nan());
        assert_eq!((found.index, found.count), (2, 2));
        // A view: its own order, its own values.
        let view = tensor.t().unwrap();
        assert_eq!(not_finite(&view).unwrap().unwrap().index, 3);
        assert_eq!(not_finite(&tensor.narrow(1, 0, 1).unwrap()).unwrap(), None);
        for dtype in [DType::F16, DType::BF16, DType::F64] {
            let tensor = tensor.to_dtype(dtype).unwrap();
            assert_eq!(not_finite(&tensor).unwrap().unwrap().index, 2, "{dtype:?}");
        }
        let whole = Tensor::new(&[1_u8, 255], &Device::Cpu).unwrap();
        assert_eq!(not_finite(&whole).unwrap(), None);
    }
}
