//! UPerNet (Xiao et al., 2018): a pooling pyramid over the smallest map, a feature pyramid over
//! all.

use candle_core::Tensor;
use candle_nn::VarBuilder;
use pad_ops::{ImageSize, Mode, SumOver};
use serde::{Deserialize, Serialize};

use super::{Classifier, size_of};
use crate::{
    error::{Error, Result},
    layers::ConvNormRelu,
    limits,
};

/// Hyperparameters of a [`UperHead`]; the default is the original's on a ViT-B.
///
/// ```
/// use pad_heads::segmentation::UperConfig;
/// assert_eq!(UperConfig::default().pool_scales, [1, 2, 3, 6]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UperConfig {
    /// Channels inside the head. Default 768.
    pub channels: usize,
    /// Sides of the pooled maps. Default 1, 2, 3, 6.
    pub pool_scales: Vec<usize>,
    /// Dropout rate of channels in front of the classifier. Default 0.1.
    pub dropout: f64,
    /// Whether corner pixels are aligned when maps are resized inside the head. Default: false.
    pub align_corners: bool,
}

impl Default for UperConfig {
    fn default() -> Self {
        Self { channels: 768, pool_scales: vec![1, 2, 3, 6], dropout: 0.1, align_corners: false }
    }
}

impl UperConfig {
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.channels == 0 {
            faults.push("`channels` is 0, expected at least 1".to_string());
        }
        if self.pool_scales.contains(&0) {
            faults.push("`pool_scales` has a 0, expected sides of at least 1".to_string());
        }
        if !(0.0..1.0).contains(&self.dropout) {
            faults.push(format!("`dropout` is {}, expected 0 <= dropout < 1", self.dropout));
        }
        let largest = self.pool_scales.iter().max().copied().unwrap_or_default();
        faults.extend(limits::excesses([
            ("channels", self.channels, limits::WIDTH),
            ("pool_scales", largest, limits::SIDE),
            ("the number of `pool_scales`", self.pool_scales.len(), limits::ENTRIES),
        ]));
        faults
    }
}

/// The head; names as in mmsegmentation's `UPerHead`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_heads::segmentation::{UperConfig, UperHead};
/// use pad_ops::Mode;
/// let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let config = UperConfig { channels: 4, ..Default::default() };
/// let head = UperHead::new(&config, &[8, 8], 3, vb)?;
/// let map = |side| Tensor::ones((1, 8, side, side), DType::F32, &Device::Cpu);
/// assert_eq!(head.forward(&[map(12)?, map(6)?], Mode::Eval)?.dims(), [1, 3, 12, 12]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct UperHead {
    pools: Vec<(usize, ConvNormRelu)>,
    bottleneck: ConvNormRelu,
    laterals: Vec<ConvNormRelu>,
    outputs: Vec<ConvNormRelu>,
    fuse: ConvNormRelu,
    classifier: Classifier,
    align_corners: bool,
}

impl UperHead {
    /// Builds a head over two or more maps of `inputs` channels each, largest map first.
    ///
    /// # Errors
    /// [`Error::Config`]; tensors that `vb` lacks.
    pub fn new(
        config: &UperConfig,
        inputs: &[usize],
        classes: usize,
        vb: VarBuilder,
    ) -> Result<Self> {
        let Some((&last, lower)) = inputs.split_last() else {
            return Err(Error::Maps { head: "upernet", expected: 2, found: 0 });
        };
        Error::faults("upernet", config.faults())?;
        let channels = config.channels;
        let pools = (config.pool_scales.iter().enumerate())
            .map(|(i, &side)| {
                let vb = vb.pp("psp_modules").pp(i).pp(1);
                Ok((side, ConvNormRelu::new(last, channels, 1, vb)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let pyramid = |name: &str, kernel: usize, of: fn(usize, usize) -> usize| {
            let layer = |(i, &inputs): (usize, &usize)| {
                ConvNormRelu::new(of(inputs, channels), channels, kernel, vb.pp(name).pp(i))
            };
            lower.iter().enumerate().map(layer).collect::<Result<Vec<_>>>()
        };
        let pooled = last + pools.len() * channels;
        Ok(Self {
            bottleneck: ConvNormRelu::new(pooled, channels, 3, vb.pp("bottleneck"))?,
            pools,
            laterals: pyramid("lateral_convs", 1, |inputs, _| inputs)?,
            outputs: pyramid("fpn_convs", 3, |_, channels| channels)?,
            fuse: {
                let vb = vb.pp("fpn_bottleneck");
                ConvNormRelu::new(inputs.len() * channels, channels, 3, vb)?
            },
            classifier: Classifier::new(channels, classes, config.dropout, u32::MAX, &vb)?,
            align_corners: config.align_corners,
        })
    }

    /// See [`BatchNorm::synchronize`](crate::layers::BatchNorm::synchronize).
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::VarBuilder;
    /// use pad_heads::segmentation::{UperConfig, UperHead};
    /// use pad_ops::SumOver;
    /// let config = UperConfig { channels: 4, ..Default::default() };
    /// let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
    /// let mut head = UperHead::new(&config, &[8, 8], 3, vb)?;
    /// head.synchronize(&SumOver::new(|_| Ok(()))); // a group of one
    /// assert!(format!("{head:?}").contains("SumOver"));
    /// # Ok::<(), pad_heads::Error>(())
    /// ```
    pub fn synchronize(&mut self, over: &SumOver) {
        let pools = self.pools.iter_mut().map(|(_, layer)| layer);
        let levels = self.laterals.iter_mut().chain(&mut self.outputs);
        let single = [&mut self.bottleneck, &mut self.fuse];
        pools.chain(levels).chain(single).for_each(|layer| layer.synchronize(over));
    }

    /// # Shapes
    /// Maps (B, C_i, h_i, w_i), largest first -> logits (B, classes, h_0, w_0).
    ///
    /// # Errors
    /// [`Error::Maps`] for another number of maps; maps that do not fit.
    pub fn forward(&self, maps: &[Tensor], mode: Mode) -> Result<Tensor> {
        let expected = self.laterals.len() + 1;
        let refuse = || Error::Maps { head: "upernet", expected, found: maps.len() };
        let (last, lower) = maps.split_last().ok_or_else(refuse)?;
        if maps.len() != expected {
            return Err(refuse());
        }
        let resize = |x: &Tensor, to: &Tensor| -> Result<Tensor> {
            Ok(pad_ops::resize_bilinear(x, size_of(to)?, self.align_corners)?)
        };
        let mut pooled = vec![last.clone()];
        for (side, conv) in &self.pools {
            let small = pad_ops::adaptive_avg_pool2d(last, ImageSize::square(*side))?;
            pooled.push(resize(&conv.forward(&small, mode)?, last)?);
        }
        let mut above = self.bottleneck.forward(&Tensor::cat(&pooled, 1)?, mode)?;
        // From the smallest map to the largest.
        let mut outputs = vec![above.clone()];
        for ((map, lateral), output) in lower.iter().zip(&self.laterals).zip(&self.outputs).rev() {
            let lateral = lateral.forward(map, mode)?;
            above = (&lateral + resize(&above, &lateral)?)?;
            outputs.push(output.forward(&above, mode)?);
        }
        outputs.reverse();
        let resized = outputs.iter().map(|map| resize(map, &outputs[0]));
        let resized = resized.collect::<Result<Vec<_>>>()?;
        let fused = self.fuse.forward(&Tensor::cat(&resized, 1)?, mode)?;
        self.classifier.forward(&fused, mode)
    }
}
