//! Detail of the image for the two finest maps of a pyramid: what a transformer's patches blur.

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};

use crate::{
    error::{Error, Result},
    layers::{ChannelNorm, Conv2d, same_conv2d, torch_conv},
    limits,
};

/// A 3 x 3 convolution, layer norm over channels, GELU (`weight`, `norm.*`).
#[derive(Clone, Debug)]
struct Layer {
    conv: Conv2d,
    norm: ChannelNorm,
}

impl Layer {
    fn new(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        let conv = same_conv2d(inputs, outputs, 3, false, torch_conv(inputs, 3), vb.clone())?;
        Ok(Self { conv, norm: ChannelNorm::new(outputs, vb.pp("norm"))? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(pad_ops::gelu(&self.norm.forward(&self.conv.forward(x)?)?)?)
    }
}

/// A few convolutions on the image itself, whose maps are added to the two finest of
/// [`SimplePyramid`](super::SimplePyramid): objects of the size of a patch are places in it, which
/// the transformer's tokens tell only after long training. After the spatial prior module of
/// ViT-Adapter (Chen et al., 2023), without its attention back into the transformer. Neither
/// ViTDet nor the paper has it.
///
/// Its last layers start at zero: before training the pyramid is as it would be without.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_heads::backbone::SpatialPrior;
/// // For patches of 16 pixels: maps of strides 4 and 8.
/// let prior = SpatialPrior::new(3, 16, 8, 32, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
/// let [fine, coarse] = prior.forward(&Tensor::ones((1, 3, 32, 48), DType::F32, &Device::Cpu)?)?;
/// assert_eq!((fine.dims(), coarse.dims()), (&[1, 32, 8, 12][..], &[1, 32, 4, 6][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SpatialPrior {
    /// Sides of the squares of pixels that become one place of the finest map.
    side: usize,
    fine: [Layer; 2],
    coarse: Layer,
    /// 1 x 1, to the pyramid's width.
    out: [Conv2d; 2],
}

impl SpatialPrior {
    /// Builds the layers over images of `channels`, for a transformer with patches of `patch` pixels
    /// (a multiple of 4), `width` channels wide at the finest map and twice as wide at the next,
    /// towards a pyramid of `outputs` channels. Takes `fine_0`, `fine_1`, `coarse`, `out_0` and
    /// `out_1` from `vb`.
    ///
    /// # Errors
    /// [`Error::Config`] for another patch size, and a width of 0; tensors that `vb` lacks.
    pub fn new(
        channels: usize,
        patch: usize,
        width: usize,
        outputs: usize,
        vb: VarBuilder,
    ) -> Result<Self> {
        Error::faults("spatial prior", Self::faults(patch, width))?;
        let side = patch / 4;
        let out =
            |inputs, name| same_conv2d(inputs, outputs, 1, true, Init::Const(0.0), vb.pp(name));
        Ok(Self {
            side,
            fine: [
                Layer::new(channels * side * side, width, vb.pp("fine_0"))?,
                Layer::new(width, width, vb.pp("fine_1"))?,
            ],
            coarse: Layer::new(4 * width, 2 * width, vb.pp("coarse"))?,
            out: [out(width, "out_0")?, out(2 * width, "out_1")?],
        })
    }

    /// What is wrong with the sizes of a prior; a detector has `spatial_prior` channels of it.
    pub(crate) fn faults(patch: usize, width: usize) -> Vec<String> {
        let mut faults: Vec<String> =
            limits::excesses([("spatial_prior", width, limits::WIDTH)]).collect();
        if width == 0 {
            faults.push("`spatial_prior` is 0, expected at least 1".into());
        }
        if patch == 0 || !patch.is_multiple_of(4) {
            faults.push(format!("`spatial_prior` on patches of {patch}, expected a multiple of 4"));
        }
        faults
    }

    /// Returns what is added to the two finest maps.
    ///
    /// # Shapes
    /// `images` (B, C, H, W), sides that half a patch divides -> (B, `outputs`, 4 H / patch, 4 W /
    /// patch), (B, `outputs`, 2 H / patch, 2 W / patch).
    ///
    /// # Errors
    /// [`Error::Batch`] for images of other sides.
    pub fn forward(&self, images: &Tensor) -> Result<[Tensor; 2]> {
        let (_, _, height, width) = images.dims4()?;
        let half = 2 * self.side;
        if !height.is_multiple_of(half) || !width.is_multiple_of(half) {
            return Err(Error::Batch {
                found: format!("images of {height}x{width} for a spatial prior"),
                expected: format!("sides that are multiples of {half}, half a patch"),
            });
        }
        let [first, second] = &self.fine;
        let fine = second.forward(&first.forward(&squares(images, self.side)?)?)?;
        let coarse = self.coarse.forward(&squares(&fine, 2)?)?;
        Ok([self.out[0].forward(&fine)?, self.out[1].forward(&coarse)?])
    }
}

/// The values of each square of `side` x `side` places as channels of one place (PyTorch's
/// `pixel_unshuffle`).
///
/// # Shapes
/// (B, C, H, W), sides that `side` divides -> (B, C * side * side, H / side, W / side).
fn squares(x: &Tensor, side: usize) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let (rows, columns) = (height / side, width / side);
    let x = x.reshape(vec![batch, channels, rows, side, columns, side])?;
    let x = x.permute(vec![0, 1, 3, 5, 2, 4])?.contiguous()?;
    Ok(x.reshape((batch, channels * side * side, rows, columns))?)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};
    use pad_adapter::params::ParamStore;
    use pad_ops::rng::Key;
    use pad_testkit::numbers;

    use super::*;

    #[test]
    fn a_square_is_the_channels_of_one_place() {
        let x = Tensor::arange(0_f32, 32.0, &Device::Cpu).unwrap().reshape((1, 2, 4, 4)).unwrap();
        let y = squares(&x, 2).unwrap();
        assert_eq!(y.dims(), [1, 8, 2, 2]);
        let place = |row: usize, column: usize| -> Vec<f32> {
            let channels = y.narrow(2, row, 1).unwrap().narrow(3, column, 1).unwrap();
            channels.flatten_all().unwrap().to_vec1().unwrap()
        };
        assert_eq!(place(0, 1), [2.0, 3.0, 6.0, 7.0, 18.0, 19.0, 22.0, 23.0]);
    }

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        let new = |patch, width| {
            let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
            SpatialPrior::new(3, patch, width, 8, vb)
        };
        for (patch, width, what) in [
            (14, 8, "`spatial_prior` on patches of 14, expected a multiple of 4"),
            (0, 8, "`spatial_prior` on patches of 0, expected a multiple of 4"),
            (16, 0, "`spatial_prior` is 0, expected at least 1"),
        ] {
            let error = new(patch, width).unwrap_err().to_string();
            assert_eq!(error, format!("spatial prior: {what}"));
        }
        let images = Tensor::zeros((1, 3, 36, 32), DType::F32, &Device::Cpu).unwrap();
        let error = new(16, 8).unwrap().forward(&images).unwrap_err().to_string();
        assert!(error.contains("36x32") && error.contains("multiples of 8"), "{error}");
    }

    /// Adds nothing at first; then gradients reach every layer, and are those of differences.
    #[test]
    fn it_starts_at_nothing_and_learns() {
        let store = ParamStore::scratch(&Device::Cpu, Key::new(3)).with_trained(|_| true);
        let prior = store.build(|vb| SpatialPrior::new(3, 8, 4, 6, vb)).unwrap();
        let images = numbers(&[2, 3, 16, 24], DType::F32, 5);
        for map in prior.forward(&images).unwrap() {
            assert_eq!(map.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
        }
        let loss = || {
            let [fine, coarse] = prior.forward(&images).unwrap();
            let fine = (fine + 0.5).unwrap().sqr().unwrap().sum_all().unwrap();
            (fine + (coarse + 0.5).unwrap().sqr().unwrap().sum_all().unwrap()).unwrap()
        };
        let value = || f64::from(loss().to_scalar::<f32>().unwrap());
        let params: Vec<(String, Var)> =
            store.params().into_iter().map(|param| (param.name, param.var.unwrap())).collect();
        assert_eq!(params.len(), 3 * 3 + 2 * 2);
        let of_out = |name: &str| name.starts_with("out_") && name.ends_with("weight");
        for (_, var) in params.iter().filter(|(name, _)| of_out(name)) {
            var.set(&(numbers(var.dims(), DType::F32, 11) * 0.3).unwrap()).unwrap();
        }
        let grads = loss().backward().unwrap();
        for (name, var) in &params {
            let grad = grads.get(var.as_tensor()).unwrap_or_else(|| panic!("{name}: no gradient"));
            // Along its own direction the loss falls by the square of its length.
            let length = grad.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
            assert!(length > 0.0, "{name}");
            let before = var.as_tensor().copy().unwrap();
            let step = 2e-3 / f64::from(length);
            let at = |sign: f64| {
                var.set(&(&before + (grad * (sign * step)).unwrap()).unwrap()).unwrap();
                value()
            };
            let difference = (at(1.0) - at(-1.0)) / (2.0 * 2e-3);
            var.set(&before).unwrap();
            let error = (difference - f64::from(length)).abs() / f64::from(length);
            assert!(error < 2e-2, "{name}: {difference} beside {length}");
        }
    }
}
