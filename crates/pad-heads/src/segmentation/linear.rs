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
