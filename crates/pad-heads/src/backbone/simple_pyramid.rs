//! The simple feature pyramid of ViTDet (Li et al., 2022): five sizes of the last map alone.

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};

use crate::{
    error::Result,
    layers::{ChannelNorm, Conv2d, ConvTranspose2x2, same_conv2d, torch_conv},
};

/// Convolution without bias, then layer norm over channels (`weight`, `norm.*`).
#[derive(Clone, Debug)]
struct ConvNorm {
    conv: Conv2d,
    norm: ChannelNorm,
}

impl ConvNorm {
    fn new(inputs: usize, outputs: usize, kernel: usize, vb: VarBuilder) -> Result<Self> {
        let init: Init = torch_conv(inputs, kernel);
        let conv = same_conv2d(inputs, outputs, kernel, false, init, vb.clone())?;
        Ok(Self { conv, norm: ChannelNorm::new(outputs, vb.pp("norm"))? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(&self.conv.forward(x)?)
    }
}

/// The last two layers of every level: 1 x 1 to the pyramid's width, then 3 x 3.
#[derive(Clone, Debug)]
struct Lateral([ConvNorm; 2]);

impl Lateral {
    fn new(inputs: usize, outputs: usize, first: usize, vb: &VarBuilder) -> Result<Self> {
        Ok(Self([
            ConvNorm::new(inputs, outputs, 1, vb.pp(first))?,
            ConvNorm::new(outputs, outputs, 3, vb.pp(first + 1))?,
        ]))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0[1].forward(&self.0[0].forward(x)?)
    }
}

/// Maps of 4, 2, 1, 1/2 and 1/4 times the size of one. Parameter names are detectron2's, `simfp_2`
/// .. `simfp_5`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_heads::backbone::SimplePyramid;
/// let pyramid = SimplePyramid::new(8, 4, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
/// let maps = pyramid.forward(&Tensor::ones((1, 8, 6, 6), DType::F32, &Device::Cpu)?)?;
/// let sides: Vec<usize> = maps.iter().map(|map| map.dims()[2]).collect();
/// assert_eq!(sides, [24, 12, 6, 3, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimplePyramid {
    quadruple: (ConvTranspose2x2, ChannelNorm, ConvTranspose2x2, Lateral),
    double: (ConvTranspose2x2, Lateral),
    same: Lateral,
    half: Lateral,
}

impl SimplePyramid {
    /// Number of maps, each half as large as the one before, rounded down (the last one up).
    pub const LEVELS: usize = 5;

    /// Builds a pyramid of `outputs` channels over a map of `inputs`.
    ///
    /// # Errors
    /// Tensors that `vb` lacks.
    pub fn new(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        let [two, three, four, five] =
            ["simfp_2", "simfp_3", "simfp_4", "simfp_5"].map(|name| vb.pp(name));
        let (half, quarter) = (inputs / 2, inputs / 4);
        Ok(Self {
            quadruple: (
                ConvTranspose2x2::between(inputs, half, two.pp(0))?,
                ChannelNorm::new(half, two.pp(1))?,
                ConvTranspose2x2::between(half, quarter, two.pp(3))?,
                Lateral::new(quarter, outputs, 4, &two)?,
            ),
            double: (
                ConvTranspose2x2::between(inputs, half, three.pp(0))?,
                Lateral::new(half, outputs, 1, &three)?,
            ),
            same: Lateral::new(inputs, outputs, 0, &four)?,
            half: Lateral::new(inputs, outputs, 1, &five)?,
        })
    }

    /// # Shapes
    /// `map` (B, `inputs`, h, w), both sides at least 2 -> (B, `outputs`, 4 h, 4 w), .., (B,
    /// `outputs`, h / 2, w / 2), and every second pixel of the last.
    ///
    /// # Errors
    /// A map that does not fit.
    pub fn forward(&self, map: &Tensor) -> Result<Vec<Tensor>> {
        let (up, norm, upper, lateral) = &self.quadruple;
        let quadruple = pad_ops::gelu(&norm.forward(&up.forward(map)?)?)?;
        let quadruple = lateral.forward(&upper.forward(&quadruple)?)?;
        let double = self.double.1.forward(&self.double.0.forward(map)?)?;
        let half = self.half.forward(&pad_ops::max_pool2d(map, 2, 2)?)?;
        let quarter = pad_ops::max_pool2d(&half, 1, 2)?;
        Ok(vec![quadruple, double, self.same.forward(map)?, half, quarter])
    }
}
