//! Four sizes from four maps of one size (the `fpn1` .. `fpn4` of the original's and of BEiT's
//! segmentation backbones).

use candle_core::Tensor;
use candle_nn::VarBuilder;
use pad_ops::{Mode, SumOver};

use crate::{
    error::{Error, Result},
    layers::{BatchNorm, ConvTranspose2x2},
};

/// Times 4 (transposed convolution, batch norm, GELU, transposed convolution), times 2 (transposed
/// convolution), as it is, and half (maximum over 2 x 2).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_heads::backbone::Pyramid;
/// use pad_ops::Mode;
/// let pyramid = Pyramid::new(4, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
/// let map = Tensor::ones((1, 4, 6, 6), DType::F32, &Device::Cpu)?;
/// let maps = pyramid.forward(&[map.clone(), map.clone(), map.clone(), map], Mode::Eval)?;
/// let sides: Vec<usize> = maps.iter().map(|map| map.dims()[2]).collect();
/// assert_eq!(sides, [24, 12, 6, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pyramid {
    first: ConvTranspose2x2,
    norm: BatchNorm,
    second: ConvTranspose2x2,
    double: ConvTranspose2x2,
}

impl Pyramid {
    /// Number of maps, in and out.
    pub const LEVELS: usize = 4;

    /// Takes `fpn1.0`, `fpn1.1`, `fpn1.3` and `fpn2.0` from `vb`.
    ///
    /// # Errors
    /// Tensors that `vb` lacks.
    pub fn new(channels: usize, vb: VarBuilder) -> Result<Self> {
        let (fpn1, fpn2) = (vb.pp("fpn1"), vb.pp("fpn2"));
        Ok(Self {
            first: ConvTranspose2x2::new(channels, fpn1.pp(0))?,
            norm: BatchNorm::new(channels, fpn1.pp(1))?,
            second: ConvTranspose2x2::new(channels, fpn1.pp(3))?,
            double: ConvTranspose2x2::new(channels, fpn2.pp(0))?,
        })
    }

    /// See [`BatchNorm::synchronize`](crate::layers::BatchNorm::synchronize).
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::VarBuilder;
    /// use pad_heads::backbone::Pyramid;
    /// use pad_ops::SumOver;
    /// let mut pyramid = Pyramid::new(4, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
    /// pyramid.synchronize(&SumOver::new(|_| Ok(()))); // a group of one, see `layers::sum_over`
    /// assert_eq!(Pyramid::LEVELS, 4);
    /// # Ok::<(), pad_heads::Error>(())
    /// ```
    pub fn synchronize(&mut self, over: &SumOver) {
        self.norm.synchronize(over);
    }

    /// # Shapes
    /// Four maps (B, D, h, w) -> (B, D, 4 h, 4 w), (B, D, 2 h, 2 w), (B, D, h, w), (B, D, h / 2, w
    /// / 2).
    ///
    /// # Errors
    /// [`Error::Maps`] for another number of maps; maps that do not fit, or with a side of one
    /// patch.
    pub fn forward(&self, maps: &[Tensor], mode: Mode) -> Result<Vec<Tensor>> {
        let [quadruple, double, same, half] = maps else {
            return Err(Error::Maps { head: "pyramid", expected: Self::LEVELS, found: maps.len() });
        };
        let first = self.norm.forward(&self.first.forward(quadruple)?, mode)?;
        Ok(vec![
            self.second.forward(&pad_ops::gelu(&first)?)?,
            self.double.forward(double)?,
            same.clone(),
            pad_ops::max_pool2d(half, 2, 2)?,
        ])
    }
}
