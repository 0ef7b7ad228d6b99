//! What a detector stands on: the feature maps of any network.

use candle_core::Tensor;
use candle_nn::VarBuilder;
use pad_adapter::vit::ViTConfig;
use pad_ops::Mode;

use super::{DetectorConfig, Thresholds};
use crate::{
    backbone::{FeatureExtractor, SimplePyramid, SpatialPrior, WindowedViT},
    error::{Error, Result},
};

/// A network whose maps a [`Detector`](super::Detector) finds objects on: a transformer with a
/// pyramid ([`ViTPyramid`]), or your own, such as a convolutional network.
///
/// All maps have the same number of channels. Strides rise from map to map; proposals come from all
/// maps, boxes are pooled from the first [`pooled`](DetectionFeatures::pooled), larger ones from
/// coarser maps: those of 224 x 224 pixels from the map of
/// [`canonical_stride`](DetectionFeatures::canonical_stride), of half the sides from that of half
/// the stride.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_heads::detection::DetectionFeatures;
/// use pad_ops::{Mode, max_pool2d};
/// /// A network without weights: the image at half and a quarter of its size.
/// struct Halves;
/// impl DetectionFeatures for Halves {
///     fn maps(&self, images: &Tensor, _: Mode) -> pad_heads::Result<Vec<Tensor>> {
///         let half = max_pool2d(images, 2, 2)?;
///         let quarter = max_pool2d(&half, 2, 2)?;
///         Ok(vec![half, quarter])
///     }
///     fn channels(&self) -> usize { 3 }
///     fn strides(&self) -> Vec<f32> { vec![2.0, 4.0] }
/// }
/// let images = Tensor::zeros((1, 3, 32, 48), DType::F32, &Device::Cpu)?;
/// assert_eq!(Halves.maps(&images, Mode::Eval)?[1].dims(), [1, 3, 8, 12]);
/// assert_eq!((Halves.pooled(), Halves.canonical_stride()), (2, 16.0));
/// # Ok::<(), pad_heads::Error>(())
/// ```
pub trait DetectionFeatures: Send + Sync {
    /// Returns the maps of a batch of normalised images, finest first.
    ///
    /// # Shapes
    /// `images` (B, C, H, W), of any size -> (B, [`channels`](DetectionFeatures::channels), h, w)
    /// each, where the centre of pixel (0, 0) of a map lies half a stride from the corner.
    ///
    /// # Errors
    /// Images that do not fit.
    fn maps(&self, images: &Tensor, mode: Mode) -> Result<Vec<Tensor>>;

    /// Channels of every map.
    fn channels(&self) -> usize;

    /// Pixels of the image from one value of a map to the next, finest map first.
    fn strides(&self) -> Vec<f32>;

    /// Number of maps that boxes are pooled from. Default: all.
    fn pooled(&self) -> usize {
        self.strides().len()
    }

    /// Stride of the map that boxes of 224 x 224 pixels are pooled from. Default: 16.
    fn canonical_stride(&self) -> f32 {
        16.0
    }

    /// Replaces the thresholds in a configuration that the network keeps. Default: nothing.
    fn set_thresholds(&mut self, thresholds: Thresholds) {
        let _ = thresholds;
    }
}

impl<T: DetectionFeatures + ?Sized> DetectionFeatures for Box<T> {
    fn maps(&self, images: &Tensor, mode: Mode) -> Result<Vec<Tensor>> {
        (**self).maps(images, mode)
    }

    fn channels(&self) -> usize {
        (**self).channels()
    }

    fn strides(&self) -> Vec<f32> {
        (**self).strides()
    }

    fn pooled(&self) -> usize {
        (**self).pooled()
    }

    fn canonical_stride(&self) -> f32 {
        (**self).canonical_stride()
    }

    fn set_thresholds(&mut self, thresholds: Thresholds) {
        (**self).set_thresholds(thresholds);
    }
}

/// ViTDet's features: a transformer with windows of attention and the simple pyramid over its last
/// map. Parameter names are detectron2's: `net.*`, `simfp_*`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_adapter::vit::ViTConfig;
/// use pad_heads::detection::{DetectionFeatures, DetectorConfig, ViTPyramid};
/// use pad_ops::{ImageSize, Mode};
/// let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
/// let mut config = DetectorConfig { channels: 8, ..DetectorConfig::on_backbone(vit, 1) };
/// config.relative_size = ImageSize::square(64);
/// let net = ViTPyramid::new(&config, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
/// let images = Tensor::zeros((1, 3, 64, 40), DType::F32, &Device::Cpu)?; // 40: padded to 48
/// assert_eq!(net.last_map(&images, Mode::Eval)?.dims(), [1, 16, 4, 3]);
/// assert_eq!(net.strides(), [4.0, 8.0, 16.0, 32.0, 64.0]);
/// assert_eq!((net.channels(), net.config().vit.patch_size), (8, 16));
/// # Ok::<(), pad_heads::Error>(())
/// ```
pub struct ViTPyramid {
    pub(super) net: WindowedViT,
    /// Whether nothing in the transformer trains.
    pub(super) frozen: bool,
    pyramid: SimplePyramid,
    prior: Option<SpatialPrior>,
    config: DetectorConfig,
}

impl ViTPyramid {
    /// Builds the network from `vb`'s tensors.
    ///
    /// # Errors
    /// [`Error::Config`]; tensors that `vb` lacks.
    pub fn new(config: &DetectorConfig, vb: VarBuilder) -> Result<Self> {
        let ViTConfig { in_channels, patch_size, .. } = config.vit;
        let prior = |width| {
            let vb = vb.pp("spatial_prior");
            SpatialPrior::new(in_channels, patch_size, width, config.channels, vb)
        };
        Ok(Self {
            prior: config.spatial_prior.map(prior).transpose()?,
            net: WindowedViT::new(&config.backbone(), vb.pp("net"))?,
            frozen: false,
            pyramid: SimplePyramid::new(config.vit.embed_dim, config.channels, vb)?,
            config: config.clone(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &DetectorConfig {
        &self.config
    }

    /// Returns the transformer's last map. Images whose sides the patch does not divide, or of a
    /// single patch, are padded with zeros at the right and the bottom.
    ///
    /// # Shapes
    /// `images` (B, C, H, W), normalised -> (B, D, h, w).
    ///
    /// # Errors
    /// Images that do not fit.
    pub fn last_map(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.last_map_of(&self.padded(images)?, mode)
    }

    /// Images of whole patches, and of at least two.
    fn padded(&self, images: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = images.dims4()?;
        let patch = self.config.vit.patch_size;
        // The pyramid halves the patch grid once.
        let whole = |side: usize| side.next_multiple_of(patch).max(2 * patch);
        let images = images.pad_with_zeros(2, 0, whole(height) - height)?;
        Ok(images.pad_with_zeros(3, 0, whole(width) - width)?)
    }

    fn last_map_of(&self, padded: &Tensor, mode: Mode) -> Result<Tensor> {
        let last = self.net.depth().saturating_sub(1);
        let mode = if self.frozen { Mode::Eval } else { mode };
        let mut maps = self.net.maps(padded, &[last], mode)?;
        maps.pop().ok_or(Error::Maps { head: "pyramid", expected: 1, found: 0 })
    }
}

impl DetectionFeatures for ViTPyramid {
    fn maps(&self, images: &Tensor, mode: Mode) -> Result<Vec<Tensor>> {
        let images = self.padded(images)?;
        let mut maps = self.pyramid.forward(&self.last_map_of(&images, mode)?)?;
        if let Some(prior) = &self.prior {
            for (map, detail) in maps.iter_mut().zip(prior.forward(&images)?) {
                *map = (&*map + detail)?;
            }
        }
        Ok(maps)
    }

    fn channels(&self) -> usize {
        self.config.channels
    }

    fn strides(&self) -> Vec<f32> {
        self.config.strides().to_vec()
    }

    fn pooled(&self) -> usize {
        DetectorConfig::POOLED
    }

    fn canonical_stride(&self) -> f32 {
        self.config.vit.patch_size as f32
    }

    fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.config = self.config.clone().with_thresholds(thresholds);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use pad_adapter::params::ParamStore;
    use pad_ops::{ImageSize, rng::Key};
    use pad_testkit::numbers;

    use super::*;

    /// Detail is added to the two finest maps alone, to each by its own layer, and none at first.
    #[test]
    fn the_prior_joins_the_two_finest_maps() {
        let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(8, 16, 1, 2) };
        let plain = DetectorConfig {
            channels: 8,
            relative_size: ImageSize::square(32),
            ..DetectorConfig::on_backbone(vit, 2)
        };
        let config = DetectorConfig { spatial_prior: Some(4), ..plain };
        let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_trained(|_| true);
        let mut features = store.build(|vb| ViTPyramid::new(&config, vb)).unwrap();
        let images = numbers(&[1, 3, 32, 48], DType::F32, 5);
        let maps = |features: &ViTPyramid| -> Vec<Vec<f32>> {
            let maps = features.maps(&images, Mode::Eval).unwrap();
            maps.iter().map(|map| map.flatten_all().unwrap().to_vec1().unwrap()).collect()
        };
        let prior = features.prior.take();
        assert!(prior.is_some());
        let first = maps(&features);
        features.prior = prior;
        assert_eq!(maps(&features), first);
        for place in 0..2 {
            let wanted = format!("out_{place}.weight");
            for param in store.params().iter().filter(|param| param.name.contains("out_")) {
                let var = param.var.as_ref().unwrap();
                let value = match param.name.ends_with(&wanted) {
                    true => numbers(var.dims(), DType::F32, 7),
                    false => var.zeros_like().unwrap(),
                };
                var.set(&value).unwrap();
            }
            let changed: Vec<bool> =
                maps(&features).iter().zip(&first).map(|(now, before)| now != before).collect();
            assert_eq!(changed, [0, 1, 2, 3, 4].map(|map| map == place));
        }
    }
}
