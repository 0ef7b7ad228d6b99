//! A fully convolutional head on one map: the auxiliary loss of UPerNet.

use candle_core::Tensor;
use candle_nn::VarBuilder;
use pad_ops::{Mode, SumOver};
use serde::{Deserialize, Serialize};

use super::{Classifier, map_at};
use crate::{error::Result, layers::ConvNormRelu};

/// Hyperparameters of an auxiliary [`FcnHead`]; the default is the original's.
///
/// ```
/// use pad_heads::segmentation::FcnConfig;
/// let config = FcnConfig::default();
/// assert_eq!((config.channels, config.in_index, config.loss_weight), (256, 2, 0.4));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FcnConfig {
    /// Channels inside the head. Default 256.
    pub channels: usize,
    /// Index of its input map. Default 2.
    pub in_index: usize,
    /// Dropout rate of channels in front of the classifier. Default 0.1.
    pub dropout: f64,
    /// Factor on its loss. Default 0.4.
    pub loss_weight: f64,
}

impl Default for FcnConfig {
    fn default() -> Self {
        Self { channels: 256, in_index: 2, dropout: 0.1, loss_weight: 0.4 }
    }
}

/// One 3 x 3 convolution and a classifier; names as in mmsegmentation's `FCNHead`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_heads::segmentation::{FcnConfig, FcnHead};
/// use pad_ops::Mode;
/// let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let config = FcnConfig { channels: 4, in_index: 0, ..Default::default() };
/// let head = FcnHead::new(&config, 8, 3, vb)?;
/// let map = Tensor::ones((1, 8, 6, 7), DType::F32, &Device::Cpu)?;
/// assert_eq!(head.forward(&[map], Mode::Eval)?.dims(), [1, 3, 6, 7]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct FcnHead {
    conv: ConvNormRelu,
    classifier: Classifier,
    in_index: usize,
}

impl FcnHead {
    /// Builds a head over a map of `inputs` channels.
    ///
    /// # Errors
    /// Tensors that `vb` lacks.
    pub fn new(config: &FcnConfig, inputs: usize, classes: usize, vb: VarBuilder) -> Result<Self> {
        let (channels, layer) = (config.channels, u32::MAX - 1);
        Ok(Self {
            conv: ConvNormRelu::new(inputs, channels, 3, vb.pp("convs").pp(0))?,
            classifier: Classifier::new(channels, classes, config.dropout, layer, &vb)?,
            in_index: config.in_index,
        })
    }

    /// See [`BatchNorm::synchronize`](crate::layers::BatchNorm::synchronize).
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::VarBuilder;
    /// use pad_heads::segmentation::{FcnConfig, FcnHead};
    /// use pad_ops::SumOver;
    /// let (config, vb) = (FcnConfig::default(), VarBuilder::zeros(DType::F32, &Device::Cpu));
    /// let mut head = FcnHead::new(&config, 8, 3, vb)?;
    /// head.synchronize(&SumOver::new(|_| Ok(()))); // a group of one
    /// assert_eq!(config.channels, 256);
    /// # Ok::<(), pad_heads::Error>(())
    /// ```
    pub fn synchronize(&mut self, over: &SumOver) {
        self.conv.synchronize(over);
    }

    /// # Shapes
    /// Maps (B, C, h_i, w_i) -> logits (B, classes, h, w) of its input map.
    ///
    /// # Errors
    /// [`Error::Maps`](crate::Error::Maps) if its map is missing; a map that does not fit.
    pub fn forward(&self, maps: &[Tensor], mode: Mode) -> Result<Tensor> {
        let map = map_at("fcn", maps, self.in_index)?;
        self.classifier.forward(&self.conv.forward(map, mode)?, mode)
    }
}
