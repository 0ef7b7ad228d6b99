//! Backbone, pyramid, proposals, box and mask heads.

use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;
use pad_ops::{ImageSize, MatmulPrecision, Mode};
use pad_train::Losses;

use super::{
    Boxes, Detection, DetectionBatch, DetectionFeatures, DetectionHeadsConfig, DetectionWithMask,
    DetectorConfig, RoiHeads, RoiSamples, Rpn, RpnOutput, RpnSamples, Target, Thresholds,
    ViTPyramid,
};
use crate::{
    backbone::{FeatureExtractor, WindowedViT},
    error::{Error, Result},
};

/// The samples that the losses of a batch are computed on, one entry per image.
///
/// ```
/// use pad_heads::detection::{LossSamples, RpnSamples};
/// // Two anchors of one image, an object and background: `Detector::losses_on` takes it.
/// let anchors = RpnSamples {
///     positives: vec![17],
///     boxes: vec![[0.0, 0.0, 8.0, 8.0]],
///     negatives: vec![3],
/// };
/// let samples = LossSamples { rpn: vec![anchors], ..Default::default() };
/// assert_eq!((samples.rpn.len(), samples.roi.len()), (1, 0));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossSamples {
    /// Anchors.
    pub rpn: Vec<RpnSamples>,
    /// Boxes.
    pub roi: Vec<RoiSamples>,
}

/// A network that detects objects on the maps of `F`: by default a transformer with ViTDet's
/// pyramid ([`Detector::new`]), else any [`DetectionFeatures`] ([`Detector::from_features`]).
///
/// Images (B, C, H, W), normalised, and the size of each, in; losses or lists of objects out. Boxes
/// are left, top, right and bottom edge in pixels of the input, continuous.
/// [`DetectionModel`](super::DetectionModel) holds one with its classes, opens and saves files and
/// takes stored images of any size; [`coco`](super::coco) measures.
///
/// Parameter names are the original's (detectron2): `backbone.net.*`, `backbone.simfp_*`,
/// `proposal_generator.rpn_head.*`, `roi_heads.*`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_adapter::{params::{ParamStore, Role}, vit::ViTConfig};
/// use pad_heads::detection::{
///     DetectionBatch, DetectionTargets, Detector, DetectorConfig, Target, Thresholds, role_of,
/// };
/// use pad_ops::{ImageSize, MatmulPrecision, Mode, rng::Key};
///
/// // A small one, from random weights: a ViT of two blocks and narrow heads, two classes.
/// let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
/// let config = DetectorConfig {
///     channels: 8,
///     head_dim: 8,
///     relative_size: ImageSize::square(64),
///     ..DetectorConfig::on_backbone(vit, 2)
/// };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0))
///     .with_roles(role_of)
///     .with_trained(|role| role == Role::Head); // the backbone is frozen
/// let detector = store.build(|vb| Detector::new(&config, vb))?
///     .with_frozen_backbone(true) // no drop path in it
///     .with_checkpointing(false)
///     .with_matmul_precision(MatmulPrecision::F32);
///
/// // Two images in one tensor, normalised, each at the upper left: 64 rows of 48, 64 rows of 64.
/// let images = Tensor::zeros((2, 3, 64, 64), DType::F32, &Device::Cpu)?;
/// let sizes = vec![ImageSize::new(64, 48), ImageSize::square(64)];
///
/// // Training: boxes are left, top, right and bottom edge, pixels. The second image is empty.
/// let boxes = vec![[8.0, 8.0, 40.0, 40.0]];
/// let labels = vec![1];
/// let targets = vec![Target { boxes, labels, ..Default::default() }, Target::default()];
/// let labels = DetectionTargets { sizes: sizes.clone(), targets };
/// let batch = DetectionBatch::new(images.clone(), labels);
/// let losses = detector.losses(&batch, Mode::Train(Key::new(1)))?;
/// let names: Vec<&str> = losses.parts.iter().map(|(name, _)| *name).collect();
/// assert_eq!(names, ["rpn_cls", "rpn_loc", "cls", "box_reg"]);
/// losses.total.backward()?;
///
/// // Evaluation: objects of each image, best first, in pixels of `images`.
/// let detector = detector.with_thresholds(Thresholds { score: Some(0.1), ..Default::default() })?;
/// let found = detector.detect(&images, &sizes)?;
/// assert_eq!(found.len(), 2);
/// assert!(found[0].iter().all(|object| object.score > 0.1 && object.bbox[2] <= 48.0));
///
/// // Its parts: the transformer's last map, the pyramid's five.
/// assert_eq!(detector.features(&images, Mode::Eval)?.dims(), [2, 16, 4, 4]);
/// let sides: Vec<usize> =
///     detector.maps(&images, Mode::Eval)?.iter().map(|map| map.dims()[3]).collect();
/// assert_eq!(sides, [16, 8, 4, 2, 1]);
/// assert_eq!((detector.config().classes, detector.backbone().config().vit.depth), (2, 2));
/// # Ok::<(), pad_heads::Error>(())
/// ```
pub struct Detector<F = ViTPyramid> {
    config: DetectionHeadsConfig,
    features: F,
    rpn: Rpn,
    heads: RoiHeads,
}

impl Detector {
    /// Builds a detector on a transformer from `vb`'s tensors.
    ///
    /// # Errors
    /// [`Error::Config`]; tensors that `vb` lacks.
    pub fn new(config: &DetectorConfig, vb: VarBuilder) -> Result<Self> {
        config.validate()?;
        let features = ViTPyramid::new(config, vb.pp("backbone"))?;
        Self::from_features(&config.heads(), features, vb)
    }

    /// Sets activation checkpointing of the backbone's blocks, see
    /// [`FeatureExtractor::set_checkpointing`]. Default: off.
    #[must_use]
    pub fn with_checkpointing(mut self, checkpointing: bool) -> Self {
        self.features.net.set_checkpointing(checkpointing);
        self
    }

    /// Sets the precision of the matrix products of the backbone's blocks. Attention with windows or
    /// relative positions stays in `f32`, the MLP behind it does not. Default: `f32`.
    #[must_use]
    pub fn with_matmul_precision(mut self, precision: MatmulPrecision) -> Self {
        self.features.net.set_matmul_precision(precision);
        self
    }

    /// Sets whether nothing in the transformer trains: then it runs as in evaluation in training,
    /// too, without drop path and dropout, which would be noise that nothing learns from. Default:
    /// false.
    #[must_use]
    pub fn with_frozen_backbone(mut self, frozen_backbone: bool) -> Self {
        self.features.frozen = frozen_backbone;
        self
    }

    /// The configuration.
    pub fn config(&self) -> &DetectorConfig {
        self.features.config()
    }

    /// The transformer.
    pub fn backbone(&self) -> &WindowedViT {
        &self.features.net
    }

    /// Returns the transformer's last map, see [`ViTPyramid::last_map`].
    ///
    /// # Shapes
    /// `images` (B, C, H, W), normalised -> (B, D, h, w).
    ///
    /// # Errors
    /// Images that do not fit.
    pub fn features(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.features.last_map(images, mode)
    }
}

impl<F: DetectionFeatures> Detector<F> {
    /// Builds a detector on `features`, a network of any kind; takes `proposal_generator.*` and
    /// `roi_heads.*` from `vb`.
    ///
    /// # Errors
    /// [`Error::Config`] for heads that do not fit the maps; tensors that `vb` lacks.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_nn::VarBuilder;
    /// use pad_heads::detection::{
    ///     DetectionBatch, DetectionFeatures, DetectionHeadsConfig, DetectionTargets, Detector,
    ///     LossSamples, RpnConfig, Target,
    /// };
    /// use pad_ops::{ImageSize, Mode, max_pool2d, rng::Key};
    ///
    /// /// Your own network: here the image at half and a quarter of its size.
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
    /// let config = DetectionHeadsConfig {
    ///     channels: 3,
    ///     classes: 1,
    ///     rpn: RpnConfig { anchor_sizes: vec![8.0, 16.0], ..Default::default() },
    ///     ..Default::default()
    /// };
    /// let vb = VarBuilder::zeros(DType::F32, &Device::Cpu); // heads without any knowledge
    /// let detector = Detector::from_features(&config, Halves, vb)?;
    /// assert_eq!((detector.network().channels(), detector.heads_config().classes), (3, 1));
    ///
    /// // The losses on samples that are given: both classes are as probable, ln 2 for each box.
    /// let images = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
    /// let boxes = vec![[0.0, 0.0, 16.0, 16.0]];
    /// let target = Target { boxes: boxes.clone(), labels: vec![0], ..Default::default() };
    /// let mode = Mode::Train(Key::new(0));
    /// let output = detector.rpn().forward(&detector.maps(&images, mode)?)?;
    /// let anchors = detector.rpn().anchors(&output)?;
    /// let samples = LossSamples {
    ///     rpn: detector.rpn().sample(&anchors, &[target.clone()], mode),
    ///     roi: detector.heads().sample(&[boxes], &[target.clone()], mode),
    /// };
    /// let sizes = vec![ImageSize::square(32)];
    /// let batch = DetectionBatch::new(images, DetectionTargets { sizes, targets: vec![target] });
    /// let losses = detector.losses_on(&batch, samples, mode)?;
    /// let (_, cls) = losses.parts.iter().find(|(name, _)| *name == "cls").unwrap();
    /// assert!((cls.to_scalar::<f32>()? - 2_f32.ln()).abs() < 1e-6);
    /// # Ok::<(), pad_heads::Error>(())
    /// ```
    pub fn from_features(
        config: &DetectionHeadsConfig,
        features: F,
        vb: VarBuilder,
    ) -> Result<Self> {
        let (strides, pooled) = (features.strides(), features.pooled());
        let mut faults = config.faults(strides.len());
        let rising = strides.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || !strides.iter().all(|stride| stride.is_finite() && *stride > 0.0) {
            faults.push(format!("strides {strides:?}, expected rising ones above 0"));
        }
        if !(features.canonical_stride().is_finite() && features.canonical_stride() > 0.0) {
            faults.push(format!(
                "canonical stride {}, expected one above 0",
                features.canonical_stride()
            ));
        }
        if features.channels() != config.channels {
            let (found, expected) = (config.channels, features.channels());
            faults.push(format!("`channels` is {found}, expected {expected}, those of the maps"));
        }
        if !(1..=strides.len()).contains(&pooled) {
            let maps = strides.len();
            faults.push(format!("boxes are pooled from {pooled} maps, expected 1 to {maps}"));
        }
        Error::faults("detector", faults)?;
        let proposals = vb.pp("proposal_generator");
        Ok(Self {
            rpn: Rpn::new(&config.rpn, config.channels, &strides, proposals)?,
            heads: RoiHeads::over(
                config,
                &strides[..pooled],
                features.canonical_stride(),
                vb.pp("roi_heads"),
            )?,
            config: config.clone(),
            features,
        })
    }

    /// Replaces the thresholds of detections that are given.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn with_thresholds(mut self, thresholds: Thresholds) -> Result<Self> {
        let config = self.config.with_thresholds(thresholds);
        Error::faults("detector", config.faults(self.features.strides().len()))?;
        self.features.set_thresholds(thresholds);
        self.heads = self.heads.with_thresholds(thresholds);
        self.config = config;
        Ok(self)
    }

    /// The configuration of the heads.
    pub fn heads_config(&self) -> &DetectionHeadsConfig {
        &self.config
    }

    /// The region proposal network.
    pub fn rpn(&self) -> &Rpn {
        &self.rpn
    }

    /// The box and mask heads.
    pub fn heads(&self) -> &RoiHeads {
        &self.heads
    }

    /// The network that the heads stand on.
    pub fn network(&self) -> &F {
        &self.features
    }

    /// Returns the maps that the heads see, finest first.
    ///
    /// # Shapes
    /// `images` (B, C, H, W), normalised.
    ///
    /// # Errors
    /// Images that do not fit; [`Error::Maps`] for another number of maps than the network's
    /// strides.
    pub fn maps(&self, images: &Tensor, mode: Mode) -> Result<Vec<Tensor>> {
        let maps = self.features.maps(images, mode)?;
        let expected = self.features.strides().len();
        if maps.len() != expected {
            return Err(Error::Maps { head: "detector", expected, found: maps.len() });
        }
        Ok(maps)
    }

    /// Returns the losses of a batch: `rpn_cls`, `rpn_loc`, `cls` and `box_reg`, and `mask` with a
    /// mask head; their sum is minimised. Samples are drawn from `mode`'s key.
    ///
    /// # Errors
    /// [`Error::Batch`]; images that do not fit.
    pub fn losses(&self, batch: &DetectionBatch, mode: Mode) -> Result<Losses> {
        self.check(batch)?;
        let maps = self.maps(&batch.images, mode)?;
        let output = self.rpn.forward(&maps)?;
        let anchors = self.rpn.anchors(&output)?;
        let rpn = self.rpn.sample(&anchors, &batch.labels.targets, mode);
        // Proposals are constants to the heads: no gradient goes through them.
        let proposals = self.rpn.proposals(&output, &anchors, &batch.labels.sizes, mode)?;
        let proposals: Vec<Boxes> = proposals.into_iter().map(|image| image.boxes).collect();
        let roi = self.heads.sample(&proposals, &batch.labels.targets, mode);
        self.summed(batch, &maps, (&output, &anchors), LossSamples { rpn, roi })
    }

    /// Returns the losses of a batch on given samples.
    ///
    /// # Errors
    /// As [`Detector::losses`].
    pub fn losses_on(
        &self,
        batch: &DetectionBatch,
        samples: LossSamples,
        mode: Mode,
    ) -> Result<Losses> {
        self.check(batch)?;
        let maps = self.maps(&batch.images, mode)?;
        let output = self.rpn.forward(&maps)?;
        let anchors = self.rpn.anchors(&output)?;
        self.summed(batch, &maps, (&output, &anchors), samples)
    }

    /// The sum of all losses and its parts.
    fn summed(
        &self,
        batch: &DetectionBatch,
        maps: &[Tensor],
        (output, anchors): (&RpnOutput, &[Boxes]),
        samples: LossSamples,
    ) -> Result<Losses> {
        let (rpn_cls, rpn_loc) = self.rpn.losses(output, anchors, &samples.rpn)?;
        let mask = self.heads.mask_loss(maps, &samples.roi, &batch.labels.targets)?;
        let (cls, box_reg) =
            self.heads.train(maps, samples.roi, &batch.labels.targets, &batch.labels.sizes)?;
        let parts =
            [("rpn_cls", rpn_cls), ("rpn_loc", rpn_loc), ("cls", cls), ("box_reg", box_reg)];
        let mut total = Tensor::zeros((), DType::F32, batch.images.device())?;
        let parts: Vec<_> = parts.into_iter().chain(mask.map(|mask| ("mask", mask))).collect();
        for (_, part) in &parts {
            total = (total + part)?;
        }
        let losses = Losses::new(total);
        Ok(parts.into_iter().fold(losses, |losses, (name, part)| losses.with_part(name, part)))
    }

    /// Detects the objects in each image, best first, in pixels of `images`, inside `sizes`.
    ///
    /// # Shapes
    /// `images` (B, C, H, W), normalised, each image at the upper left and of its size in `sizes`.
    ///
    /// # Errors
    /// [`Error::Batch`]; images that do not fit.
    pub fn detect(&self, images: &Tensor, sizes: &[ImageSize]) -> Result<Vec<Vec<Detection>>> {
        check_sizes(images, sizes)?;
        self.found(&self.maps(images, Mode::Eval)?, sizes)
    }

    /// Detects as [`Detector::detect`] does, with masks.
    ///
    /// # Shapes
    /// As [`Detector::detect`].
    ///
    /// # Errors
    /// As [`Detector::detect`]; [`Error::Config`] without a mask head.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_nn::VarBuilder;
    /// use pad_adapter::vit::ViTConfig;
    /// use pad_heads::detection::{Detector, DetectorConfig};
    /// use pad_ops::ImageSize;
    /// let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
    /// let config = DetectorConfig {
    ///     masks: true,
    ///     channels: 8,
    ///     head_dim: 8,
    ///     relative_size: ImageSize::square(64),
    ///     ..DetectorConfig::on_backbone(vit, 1)
    /// };
    /// // Without weights a proposal is an object with probability 1/2, and so is each part of it.
    /// let detector = Detector::new(&config, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
    /// let images = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
    /// let size = ImageSize::square(32);
    /// let found = detector.detect_with_masks(&images, &[size])?;
    /// let first = &found[0][0];
    /// assert_eq!((first.detection.score, first.mask.side, first.mask.values[0]), (0.5, 28, 0.5));
    /// assert_eq!(first.mask.paste(first.detection.bbox, size)?.size(), size); // its pixels
    /// # Ok::<(), pad_heads::Error>(())
    /// ```
    pub fn detect_with_masks(
        &self,
        images: &Tensor,
        sizes: &[ImageSize],
    ) -> Result<Vec<Vec<DetectionWithMask>>> {
        check_sizes(images, sizes)?;
        let maps = self.maps(images, Mode::Eval)?;
        self.heads.with_masks(&maps, &self.found(&maps, sizes)?)
    }

    fn found(&self, maps: &[Tensor], sizes: &[ImageSize]) -> Result<Vec<Vec<Detection>>> {
        let output = self.rpn.forward(maps)?;
        let anchors = self.rpn.anchors(&output)?;
        let proposals = self.rpn.proposals(&output, &anchors, sizes, Mode::Eval)?;
        let proposals: Vec<Boxes> = proposals.into_iter().map(|image| image.boxes).collect();
        self.heads.detect(maps, &proposals, sizes)
    }

    fn check(&self, batch: &DetectionBatch) -> Result<()> {
        check_sizes(&batch.images, &batch.labels.sizes)?;
        let refuse = |found: String, expected: String| Err(Error::Batch { found, expected });
        let (images, targets) = (batch.labels.sizes.len(), batch.labels.targets.len());
        if images != targets {
            return refuse(
                format!("{targets} targets"),
                format!("one for each of {images} images"),
            );
        }
        for (image, (target, size)) in
            batch.labels.targets.iter().zip(&batch.labels.sizes).enumerate()
        {
            let Target { boxes, labels, masks, .. } = target;
            if boxes.len() != labels.len() {
                let expected = format!("one for each of its {} boxes", boxes.len());
                return refuse(format!("image {image} with {} labels", labels.len()), expected);
            }
            if self.config.masks && masks.len() != boxes.len() {
                let expected = format!("one for each of its {} boxes", boxes.len());
                return refuse(format!("image {image} with {} masks", masks.len()), expected);
            }
            let classes = self.config.classes;
            if let Some(label) = labels.iter().find(|&&label| label as usize >= classes) {
                return refuse(
                    format!("image {image} with label {label}"),
                    format!("less than {classes}"),
                );
            }
            let (width, height) = (size.width as f32, size.height as f32);
            let fits = |b: &&[f32; 4]| {
                b[0] >= 0.0
                    && b[1] >= 0.0
                    && b[2] <= width
                    && b[3] <= height
                    && super::boxes::has_area(**b)
            };
            if let Some(bbox) = boxes.iter().find(|bbox| !fits(bbox)) {
                let expected = format!("boxes of an area above 0 inside its {size}");
                return refuse(format!("image {image} with box {bbox:?}"), expected);
            }
        }
        Ok(())
    }
}

/// Checks that there is a size for each image, and that it fits into the batch.
fn check_sizes(images: &Tensor, sizes: &[ImageSize]) -> Result<()> {
    let (batch, _, height, width) = images.dims4()?;
    if sizes.len() != batch {
        let expected = format!("one for each of {batch} images");
        return Err(Error::Batch { found: format!("{} sizes", sizes.len()), expected });
    }
    let fits = |size: &&ImageSize| {
        (1..=height).contains(&size.height) && (1..=width).contains(&size.width)
    };
    match sizes.iter().find(|size| !fits(size)) {
        None => Ok(()),
        Some(size) => Err(Error::Batch {
            found: format!("an image of size {size}"),
            expected: format!("at least 1x1, at most {height}x{width}, the batch's"),
        }),
    }
}
