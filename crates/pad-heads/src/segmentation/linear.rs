//! A linear classifier per pixel, a probe of frozen features (DINOv2's linear segmentation).

use candle_core::Tensor;
use candle_nn::VarBuilder;
use pad_ops::{Mode, SumOver};

use super::{Classifier, map_at, size_of};
use crate::{
    error::{Error, Result},
    layers::BatchNorm,
};

/// Batch norm (`bn`) of the concatenated maps, then one linear map per pixel (`conv_seg`).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_heads::segmentation::LinearHead;
/// use pad_ops::Mode;
/// let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let head = LinearHead::new(&[8, 4], 3, vb)?;
/// let map = |c, side| Tensor::ones((1, c, side, side), DType::F32, &Device::Cpu);
/// // The second map is resized to the first one's size.
/// assert_eq!(head.forward(&[map(8, 6)?, map(4, 3)?], Mode::Eval)?.dims(), [1, 3, 6, 6]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LinearHead {
    norm: BatchNorm,
    classifier: Classifier,
    maps: usize,
}

impl LinearHead {
    /// Builds a head over maps of `inputs` channels each.
    ///
    /// # Errors
    /// Tensors that `vb` lacks.
    pub fn new(inputs: &[usize], classes: usize, vb: VarBuilder) -> Result<Self> {
        let channels = inputs.iter().sum();
        Ok(Self {
            norm: BatchNorm::new(channels, vb.pp("bn"))?,
            classifier: Classifier::new(channels, classes, 0.0, u32::MAX, &vb)?,
            maps: inputs.len(),
        })
    }

    /// See [`BatchNorm::synchronize`](crate::layers::BatchNorm::synchronize).
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::VarBuilder;
    /// use pad_heads::segmentation::LinearHead;
    /// use pad_ops::SumOver;
    /// let mut head = LinearHead::new(&[8], 3, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
    /// head.synchronize(&SumOver::new(|_| Ok(()))); // a group of one
    /// assert!(format!("{head:?}").contains("SumOver"));
    /// # Ok::<(), pad_heads::Error>(())
    /// ```
    pub fn synchronize(&mut self, over: &SumOver) {
        self.norm.synchronize(over);
    }

    /// # Shapes
    /// Maps (B, C_i, h_i, w_i), resized to the first one's size -> logits (B, classes, h_0, w_0).
    ///
    /// # Errors
    /// [`Error::Maps`] for another number of maps; maps that do not fit.
    pub fn forward(&self, maps: &[Tensor], mode: Mode) -> Result<Tensor> {
        if maps.len() != self.maps {
            return Err(Error::Maps { head: "linear", expected: self.maps, found: maps.len() });
        }
        let size = size_of(map_at("linear", maps, 0)?)?;
        let resize = |map: &Tensor| pad_ops::resize_bilinear(map, size, false);
        let maps = maps.iter().map(resize).collect::<pad_ops::Result<Vec<_>>>()?;
        self.classifier.forward(&self.norm.forward(&Tensor::cat(&maps, 1)?, mode)?, mode)
    }
}
