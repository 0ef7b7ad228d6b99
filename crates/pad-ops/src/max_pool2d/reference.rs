//! The maximum as a fold over shifted selections.

use candle_core::{Device, Tensor};

use crate::Result;

/// [`max_pool2d`](crate::max_pool2d) in candle operations: any device and floating dtype. Equal
/// maxima share a gradient.
///
/// # Shapes
/// `x` (B, C, H, W).
///
/// # Errors
/// Any error of candle.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let x = Tensor::new(&[[[[1_f32, 2.0], [4.0, 3.0]]]], &Device::Cpu)?;
/// let y = pad_ops::reference::max_pool2d(&x, 2, 2)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [4.0]);
/// # Ok::<(), pad_ops::Error>(())
/// ```
pub fn max_pool2d_reference(x: &Tensor, kernel: usize, stride: usize) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    let places = |side: usize, from: usize, device: &Device| -> Result<Tensor> {
        let count = (side - kernel) / stride + 1;
        let places: Vec<u32> = (0..count).map(|i| (i * stride + from) as u32).collect();
        Ok(Tensor::new(places, device)?)
    };
    let mut best: Option<Tensor> = None;
    for row in 0..kernel {
        let rows = x.index_select(&places(height, row, x.device())?, 2)?;
        for column in 0..kernel {
            let taken = rows.index_select(&places(width, column, x.device())?, 3)?;
            best = Some(match best {
                Some(best) => best.maximum(&taken)?,
                None => taken,
            });
        }
    }
    Ok(best.map_or_else(|| x.contiguous(), Ok)?)
}
