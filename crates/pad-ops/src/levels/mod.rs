//! Values of 8-bit levels, from a table for each channel: how images that travel to a GPU as bytes
//! are normalised there, with the bits of the CPU.

mod device;

use candle_core::{DType, Tensor};

use crate::{Error, Result, check, gpu};

/// Levels of 8 bits.
const LEVELS: usize = 256;

/// Returns `tables[c][level]` for each level of channel `c`. No gradient.
///
/// # Shapes
/// `levels` (B, C, H, W), u8; `tables` (C, 256), f32 -> (B, C, H, W), f32.
///
/// # Errors
/// [`Error::Shape`], `DType` or `Device` naming the operand that does not fit.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let levels = Tensor::new(&[[[[0_u8, 255]]]], &Device::Cpu)?;
/// let tables = Tensor::arange(0_f32, 256.0, &Device::Cpu)?.reshape((1, 256))?;
/// let values = pad_ops::look_up_levels(&levels, &tables)?;
/// assert_eq!(values.flatten_all()?.to_vec1::<f32>()?, [0.0, 255.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn look_up_levels(levels: &Tensor, tables: &Tensor) -> Result<Tensor> {
    const OP: &str = "look_up_levels";
    check::expect_rank(OP, "levels", levels, 4, "(B, C, H, W)")?;
    for (arg, tensor, dtype) in [("levels", levels, DType::U8), ("tables", tables, DType::F32)] {
        if tensor.dtype() != dtype {
            let (expected, found) = (dtype.as_str().to_string(), tensor.dtype());
            return Err(Error::DType { op: OP, arg, expected, found });
        }
    }
    let channels = levels.dim(1)?;
    check::expect_shape(OP, "tables", tables, &[channels, LEVELS])?;
    let (levels, tables) = (levels.detach(), tables.detach());
    if levels.elem_count() > 0 && gpu::has_kernel([&tables]) {
        return Ok(device::apply(&levels, &tables)?);
    }
    look_up(&levels, &tables)
}

/// On the host, for every device.
fn look_up(levels: &Tensor, tables: &Tensor) -> Result<Tensor> {
    let (_, channels, height, width) = levels.dims4()?;
    let area = (height * width).max(1);
    let rows = tables.to_vec2::<f32>()?;
    let mut values = Vec::with_capacity(levels.elem_count());
    for (at, plane) in levels.flatten_all()?.to_vec1::<u8>()?.chunks(area).enumerate() {
        let table = &rows[at % channels.max(1)];
        values.extend(plane.iter().map(|&level| table[usize::from(level)]));
    }
    Ok(Tensor::from_vec(values, levels.shape(), tables.device())?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::gpu::emulated;

    fn tables(channels: usize) -> Tensor {
        let values = (0..channels * LEVELS).map(|at| (at as f32 * 0.37).sin());
        Tensor::from_vec(values.collect(), (channels, LEVELS), &Device::Cpu).unwrap()
    }

    fn levels(shape: (usize, usize, usize, usize)) -> Tensor {
        let count = shape.0 * shape.1 * shape.2 * shape.3;
        let levels = (0..count).map(|at| (at * 97 % 256) as u8).collect::<Vec<_>>();
        Tensor::from_vec(levels, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn the_device_gives_the_bits_of_the_host() {
        for shape in [(2, 3, 5, 7), (1, 1, 1, 1), (3, 4, 4, 8), (2, 2, 1, 3)] {
            let (levels, tables) = (levels(shape), tables(shape.1));
            let host = look_up_levels(&levels, &tables).unwrap();
            assert_eq!(host.dims4().unwrap(), shape);
            let values = host.to_vec1_of_all();
            let bytes = levels.flatten_all().unwrap().to_vec1::<u8>().unwrap();
            let (area, rows) = (shape.2 * shape.3, tables.to_vec2::<f32>().unwrap());
            for (at, (value, level)) in values.iter().zip(&bytes).enumerate() {
                assert_eq!(*value, rows[at / area % shape.1][usize::from(*level)]);
            }
            if emulated::has_compiler() {
                let found = emulated::through(|| look_up_levels(&levels, &tables)).unwrap();
                assert_eq!(found.to_vec1_of_all(), values, "{shape:?}");
            }
        }
    }

    /// The values of a tensor in their order.
    trait Values {
        fn to_vec1_of_all(&self) -> Vec<f32>;
    }

    impl Values for Tensor {
        fn to_vec1_of_all(&self) -> Vec<f32> {
            self.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        }
    }

    #[test]
    fn refusals() {
        let text = |levels: &Tensor, tables: &Tensor| {
            look_up_levels(levels, tables).unwrap_err().to_string()
        };
        let (good, three) = (levels((1, 3, 2, 2)), tables(3));
        assert!(text(&good, &tables(2)).contains("tables"), "{}", text(&good, &tables(2)));
        assert!(text(&good.to_dtype(DType::F32).unwrap(), &three).contains("levels"));
        assert!(text(&good, &three.to_dtype(DType::F64).unwrap()).contains("tables"));
        assert!(text(&good.squeeze(0).unwrap(), &three).contains("levels"));
        let empty = look_up_levels(&levels((0, 3, 2, 2)), &three).unwrap();
        assert_eq!((empty.dims(), empty.dtype()), (&[0, 3, 2, 2][..], DType::F32));
    }
}
