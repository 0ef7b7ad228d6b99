//! Box heads over the maps of a pyramid, alone or as a cascade, with their samples, losses and
//! detections.

use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;
use pad_ops::{
    CrossEntropy, ImageBox, ImageSize, Mode, RoiAlign, batched_nms, cross_entropy2d, rng::Purpose,
    roi_align, softmax,
};

use super::{
    Boxes, Detection, DetectionHeadsConfig, DetectorConfig, RoiSamples, Target, Thresholds,
    box_head::{RoiOutput, Stage},
    boxes::{area, clipped, has_area},
    losses::{nothing, rows, smooth_l1_sum, table, values},
    mask_head::{self, DetectionWithMask, MaskHead},
    matching::{Label, Matcher, ignore_inside, sample},
    samples::key_of,
};
use crate::error::{Error, Result};

/// Side of a box that is pooled from the map of the canonical stride.
const CANONICAL_SIDE: f32 = 224.0;

/// Returns the index of the map that a box is pooled from, of maps of strides 4, 8, 16 and 32: one
/// more for twice the side.
///
/// ```
/// use pad_heads::detection::level_of;
/// let of_side = |side: f32| level_of([0.0, 0.0, side, side]);
/// assert_eq!([of_side(50.0), of_side(112.0), of_side(224.0), of_side(1000.0)], [0, 1, 2, 3]);
/// ```
pub fn level_of(bbox: [f32; 4]) -> usize {
    level_among(bbox, &[4.0, 8.0, 16.0, 32.0], 16.0)
}

/// The index of the map that a box is pooled from: of the largest stride that is not above the one
/// of its side.
fn level_among(bbox: [f32; 4], strides: &[f32], canonical: f32) -> usize {
    // In detectron2's order: levels are whole numbers from 4 on, that of the canonical stride.
    let level = 4.0 + (area(bbox).sqrt() / CANONICAL_SIDE + 1e-8).log2();
    let stride = canonical * (level.floor() - 4.0).exp2();
    strides.iter().rposition(|own| *own <= stride).unwrap_or(0)
}

/// The box heads and the mask head. Parameter names are detectron2's:
/// `box_head.conv{i}.{weight,norm}`, `box_head.fc1`, `box_predictor.{cls_score,bbox_pred}`; in a
/// cascade `box_head.{stage}.*` and so on;
/// `mask_head.{mask_fcn{i}.{weight,norm},deconv,predictor}`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_heads::detection::{
///     Boxes, DetectionHeadsConfig, MaskConfig, RoiHeads, RoiHeadsConfig, Target, Thresholds,
/// };
/// use pad_ops::{ImageSize, Mode, rng::Key};
/// let config = DetectionHeadsConfig {
///     channels: 4,
///     head_dim: 8,
///     classes: 1,
///     masks: true,
///     roi: RoiHeadsConfig { convs: 1, batch_size_per_image: 4, ..Default::default() },
///     mask: MaskConfig { convs: 1, ..Default::default() },
///     ..Default::default()
/// };
/// // Heads without any knowledge, over maps of strides 4 and 8.
/// let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let heads = RoiHeads::over(&config, &[4.0, 8.0], 16.0, vb)?
///     .with_thresholds(Thresholds { score: Some(0.1), ..Default::default() });
/// let map = |side: usize| Tensor::ones((1, 4, side, side), DType::F32, &Device::Cpu);
/// let (maps, sizes) = ([map(8)?, map(4)?], [ImageSize::square(32)]);
/// let boxes: Boxes = vec![[0.0, 0.0, 16.0, 16.0]];
///
/// // A box has 7 x 7 features, and from them equal logits for object and background.
/// assert_eq!(heads.pooled(&maps, &[&boxes])?.dims(), [1, 4, 7, 7]);
/// assert_eq!(heads.forward(&maps, &[&boxes], 0)?.logits.to_vec2::<f32>()?, [[0.0, 0.0]]);
/// let found = heads.detect(&maps, &[boxes.clone()], &sizes)?;
/// assert_eq!((found[0][0].bbox, found[0][0].score), (boxes[0], 0.5));
/// assert_eq!(heads.with_masks(&maps, &found)?[0][0].mask.side, 2 * 14);
///
/// // Training: one sample of at most a quarter of four is an object; its class costs ln 2.
/// let target = Target { boxes: boxes.clone(), labels: vec![0], ..Default::default() };
/// let samples = heads.sample(&[boxes.clone()], &[target.clone()], Mode::Train(Key::new(0)));
/// assert_eq!(samples[0].labels, [0]);
/// let output = heads.forward(&maps, &[&samples[0].boxes], 0)?;
/// let (class, location) = heads.losses(&output, &samples, 0)?;
/// assert!((class.to_scalar::<f32>()? - 2_f32.ln()).abs() < 1e-6);
/// assert_eq!(location.to_scalar::<f32>()?, 0.0); // the proposal is the object's box
/// assert!(heads.mask_loss(&maps, &samples, &[target.clone()]).is_err()); // it has no mask
/// let (class, _) = heads.train(&maps, samples, &[target], &sizes)?; // all of it at once
/// assert!((class.to_scalar::<f32>()? - 2_f32.ln()).abs() < 1e-6);
/// # Ok::<(), pad_heads::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RoiHeads {
    config: DetectionHeadsConfig,
    /// Of the maps that boxes are pooled from.
    strides: Vec<f32>,
    canonical_stride: f32,
    scales: Vec<f32>,
    stages: Vec<Stage>,
    masks: Option<MaskHead>,
}

impl RoiHeads {
    /// Builds heads over the first four maps of a pyramid of `config.channels` channels.
    ///
    /// # Errors
    /// Tensors that `vb` lacks.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_nn::VarBuilder;
    /// use pad_adapter::vit::ViTConfig;
    /// use pad_heads::detection::{DetectorConfig, RoiHeads};
    /// let plain = DetectorConfig::on_backbone(ViTConfig::new(16, 16, 2, 2), 1);
    /// let config = DetectorConfig { channels: 4, head_dim: 8, ..plain };
    /// let heads = RoiHeads::new(&config, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
    /// let map = |side: usize| Tensor::ones((1, 4, side, side), DType::F32, &Device::Cpu);
    /// let maps = [map(16)?, map(8)?, map(4)?, map(2)?]; // of an image of 64 x 64
    /// assert_eq!(heads.pooled(&maps, &[&[[0.0, 0.0, 64.0, 64.0]]])?.dims(), [1, 4, 7, 7]);
    /// # Ok::<(), pad_heads::Error>(())
    /// ```
    pub fn new(config: &DetectorConfig, vb: VarBuilder) -> Result<Self> {
        let strides = &config.strides()[..DetectorConfig::POOLED];
        Self::over(&config.heads(), strides, config.vit.patch_size as f32, vb)
    }

    /// Builds heads over maps of `config.channels` channels and the given strides, finest first;
    /// boxes of 224 x 224 pixels are pooled from the map of `canonical_stride`.
    ///
    /// # Errors
    /// Tensors that `vb` lacks.
    pub fn over(
        config: &DetectionHeadsConfig,
        strides: &[f32],
        canonical_stride: f32,
        vb: VarBuilder,
    ) -> Result<Self> {
        let stages = (0..config.stages()).map(|stage| Stage::new(config, stage, &vb));
        Ok(Self {
            strides: strides.to_vec(),
            canonical_stride,
            scales: strides.iter().map(|stride| 1.0 / stride).collect(),
            stages: stages.collect::<Result<_>>()?,
            masks: match config.masks {
                true => Some(MaskHead::new(config, vb.pp("mask_head"))?),
                false => None,
            },
            config: config.clone(),
        })
    }

    /// Replaces the thresholds of detections that are given.
    #[must_use]
    pub fn with_thresholds(self, thresholds: Thresholds) -> Self {
        Self { config: self.config.with_thresholds(thresholds), ..self }
    }

    /// Returns the features of each image's boxes, one image after the other.
    ///
    /// # Shapes
    /// `maps` (B, C, H, W), one for each stride at least -> (R, C, side, side), side = `pooler_resolution`.
    ///
    /// # Errors
    /// [`Error::Maps`](crate::Error::Maps); maps or boxes that do not fit.
    pub fn pooled(&self, maps: &[Tensor], boxes: &[&[[f32; 4]]]) -> Result<Tensor> {
        self.pooled_to(self.config.roi.pooler_resolution, maps, boxes)
    }

    fn pooled_to(&self, side: usize, maps: &[Tensor], boxes: &[&[[f32; 4]]]) -> Result<Tensor> {
        let Some(maps) = maps.get(..self.strides.len()) else {
            let (expected, found) = (self.strides.len(), maps.len());
            return Err(Error::Maps { head: "box head", expected, found });
        };
        let of_image = |(image, boxes): (usize, &&[[f32; 4]])| {
            let level = |bbox| level_among(bbox, &self.strides, self.canonical_stride);
            let roi = |&bbox: &[f32; 4]| ImageBox { map: level(bbox), image, bbox };
            boxes.iter().map(roi).collect::<Vec<_>>()
        };
        let rois: Vec<ImageBox> = boxes.iter().enumerate().flat_map(of_image).collect();
        let options = RoiAlign::square(side);
        Ok(roi_align(maps, &self.scales, &rois, options)?)
    }

    /// Returns the output of head `stage` for each image's boxes.
    ///
    /// # Errors
    /// As [`RoiHeads::pooled`]; a stage out of range.
    pub fn forward(
        &self,
        maps: &[Tensor],
        boxes: &[&[[f32; 4]]],
        stage: usize,
    ) -> Result<RoiOutput> {
        let Some(head) = self.stages.get(stage) else {
            let fault = format!("stage {stage}, expected less than {}", self.stages.len());
            return Err(Error::Config { what: "detector", faults: vec![fault] });
        };
        let pooled = self.pooled(maps, boxes)?;
        if self.stages.len() == 1 {
            return head.forward(&pooled);
        }
        // All stages read the same maps; the gradient that arrives there is their mean.
        let share = 1.0 / self.stages.len() as f64;
        let pooled = ((&pooled * share)? + (pooled.detach() * (1.0 - share))?)?;
        head.forward(&pooled)
    }

    /// Samples boxes for the losses among an image's proposals and its objects' own boxes. The draw
    /// depends on the image's index and `mode` alone.
    pub fn sample(&self, proposals: &[Boxes], targets: &[Target], mode: Mode) -> Vec<RoiSamples> {
        let roi = &self.config.roi;
        let image = |(image, (proposals, target)): (usize, (&Boxes, &Target))| {
            let boxes = [proposals.as_slice(), &target.boxes].concat();
            let all = self.labelled(boxes, target, roi.iou_threshold as f32);
            let labels = self.sampled_labels(&all, target);
            // The proposal network draws for the same image with the layer below.
            let key = key_of(mode).sample(image as u64).layer(1).purpose(Purpose::Sampler);
            let (objects, others) =
                sample(&labels, roi.batch_size_per_image, roi.positive_fraction, &mut key.stream());
            let chosen = [objects, others].concat();
            RoiSamples {
                boxes: chosen.iter().map(|&at| all.boxes[at]).collect(),
                labels: chosen.iter().map(|&at| all.labels[at]).collect(),
                targets: chosen.iter().map(|&at| all.targets[at]).collect(),
                objects: chosen.iter().map(|&at| all.objects[at]).collect(),
            }
        };
        proposals.iter().zip(targets).enumerate().map(image).collect()
    }

    /// What each box is for sampling: background inside ignored regions is ignored.
    fn sampled_labels(&self, samples: &RoiSamples, target: &Target) -> Vec<Label> {
        let background = self.config.classes as u32;
        let label = |&label: &u32| match label == background {
            true => Label::Background,
            false => Label::Object,
        };
        let mut labels: Vec<Label> = samples.labels.iter().map(label).collect();
        ignore_inside(&target.ignored, &samples.boxes, &mut labels);
        labels
    }

    /// [`RoiHeads::labelled`] without the background inside ignored regions.
    fn relabelled(&self, boxes: Boxes, target: &Target, overlap: f32) -> RoiSamples {
        let all = self.labelled(boxes, target, overlap);
        let labels = self.sampled_labels(&all, target);
        let kept = |at: &usize| labels.get(*at).is_some_and(|label| *label != Label::Ignored);
        let kept: Vec<usize> = (0..all.boxes.len()).filter(kept).collect();
        RoiSamples {
            boxes: kept.iter().map(|&at| all.boxes[at]).collect(),
            labels: kept.iter().map(|&at| all.labels[at]).collect(),
            targets: kept.iter().map(|&at| all.targets[at]).collect(),
            objects: kept.iter().map(|&at| all.objects[at]).collect(),
        }
    }

    /// Matches every box to its class and object.
    fn labelled(&self, boxes: Boxes, target: &Target, overlap: f32) -> RoiSamples {
        let matcher = Matcher {
            low_threshold: overlap,
            high_threshold: overlap,
            allow_low_quality_matches: false,
        };
        let matches = matcher.boxes(&target.boxes, &boxes);
        let background = self.config.classes as u32;
        let of = |(&object, &label): (&usize, &Label)| match label {
            Label::Object => target.labels.get(object).copied().unwrap_or(background),
            _ => background,
        };
        let labels = matches.objects.iter().zip(&matches.labels).map(of).collect();
        let object =
            |(&object, &own): (&usize, &[f32; 4])| target.boxes.get(object).copied().unwrap_or(own);
        let targets = matches.objects.iter().zip(&boxes).map(object).collect();
        RoiSamples { boxes, labels, targets, objects: matches.objects }
    }

    /// Returns the mean cross-entropy of the samples of all images, and the L1 loss of the objects'
    /// boxes over the number of all samples.
    ///
    /// # Errors
    /// Samples that do not fit the output.
    pub fn losses(
        &self,
        output: &RoiOutput,
        samples: &[RoiSamples],
        stage: usize,
    ) -> Result<(Tensor, Tensor)> {
        let labels: Vec<u32> = samples.iter().flat_map(|image| image.labels.clone()).collect();
        let (count, classes) = output.logits.dims2()?;
        let device = output.logits.device();
        if count == 0 || self.stages.get(stage).is_none() {
            return Ok((nothing(&output.logits)?, nothing(&output.deltas)?));
        }
        let targets = Tensor::from_vec(labels.clone(), (labels.len(), 1, 1), device)?;
        let logits = output.logits.to_dtype(DType::F32)?.reshape((count, classes, 1, 1))?;
        // No label is ignored, not even 255.
        let options = CrossEntropy { ignore_index: None, ..CrossEntropy::default() };
        let classification = cross_entropy2d(&logits, &targets, &options)?;
        let coder = self.stages[stage].coder;
        let background = self.config.classes as u32;
        let (mut places, mut codes) = (Vec::new(), Vec::new());
        let each = samples.iter().flat_map(|image| image.boxes.iter().zip(&image.targets));
        for (row, ((&bbox, &target), &label)) in each.zip(&labels).enumerate() {
            if label < background {
                places.push(match self.config.class_agnostic() {
                    true => row as u32,
                    false => row as u32 * background + label,
                });
                codes.push(coder.encode(bbox, target));
            }
        }
        let deltas = output.deltas.reshape(((), 4))?;
        let location = match places.is_empty() {
            true => nothing(&deltas)?,
            false => {
                let off = (rows(&deltas, places)? - table(&codes, device)?)?;
                smooth_l1_sum(&off, self.config.roi.smooth_l1_beta)?
            }
        };
        Ok((classification, (location / count as f64)?))
    }

    /// Returns the losses of all stages on the samples, summed: classes, boxes.
    ///
    /// # Errors
    /// Maps that do not fit.
    pub fn train(
        &self,
        maps: &[Tensor],
        samples: Vec<RoiSamples>,
        targets: &[Target],
        sizes: &[ImageSize],
    ) -> Result<(Tensor, Tensor)> {
        let mut samples = samples;
        let mut total: Option<(Tensor, Tensor)> = None;
        for (number, stage) in self.stages.iter().enumerate() {
            if number > 0 {
                let images = samples.into_iter().zip(targets);
                samples = images
                    .map(|(image, target)| self.relabelled(image.boxes, target, stage.overlap))
                    .collect();
            }
            let boxes: Vec<&[[f32; 4]]> = samples.iter().map(|image| &image.boxes[..]).collect();
            // Ignored regions may leave nothing to learn from.
            if boxes.iter().all(|boxes| boxes.is_empty()) {
                break;
            }
            let output = self.forward(maps, &boxes, number)?;
            let (classes, places) = self.losses(&output, &samples, number)?;
            total = Some(match total {
                None => (classes, places),
                Some((a, b)) => ((a + classes)?, (b + places)?),
            });
            if number + 1 < self.stages.len() {
                let mut refined = self.refined(stage, &boxes, &output, sizes)?;
                // Boxes without an area have no features.
                refined.iter_mut().for_each(|boxes| boxes.retain(|&bbox| has_area(bbox)));
                samples = refined
                    .into_iter()
                    .map(|boxes| RoiSamples { boxes, ..RoiSamples::default() })
                    .collect();
            }
        }
        match total {
            Some(total) => Ok(total),
            None => {
                let first = self.first_of(maps, "box head")?;
                Ok((nothing(first)?, nothing(first)?))
            }
        }
    }

    /// The first map: what a loss of nothing depends on.
    fn first_of<'a>(&self, maps: &'a [Tensor], head: &'static str) -> Result<&'a Tensor> {
        maps.first().ok_or(Error::Maps { head, expected: self.strides.len(), found: 0 })
    }

    /// Returns the loss of the mask head on the samples that are objects; `None` without a mask
    /// head.
    ///
    /// # Errors
    /// Maps that do not fit; [`Error::Batch`](crate::Error::Batch) for objects without a mask.
    pub fn mask_loss(
        &self,
        maps: &[Tensor],
        samples: &[RoiSamples],
        targets: &[Target],
    ) -> Result<Option<Tensor>> {
        let Some(head) = &self.masks else { return Ok(None) };
        let objects = mask_head::objects(samples, self.config.classes);
        let boxes: Vec<&[[f32; 4]]> = objects.iter().map(|image| &image.boxes[..]).collect();
        if boxes.iter().all(|boxes| boxes.is_empty()) {
            return Ok(Some(nothing(self.first_of(maps, "mask head")?)?));
        }
        let logits =
            head.forward(&self.pooled_to(self.config.mask.pooler_resolution, maps, &boxes)?)?;
        Ok(Some(mask_head::loss(&logits, &objects, targets)?))
    }

    /// Adds masks to each image's detections.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) without a mask head; maps that do not fit.
    pub fn with_masks(
        &self,
        maps: &[Tensor],
        detections: &[Vec<Detection>],
    ) -> Result<Vec<Vec<DetectionWithMask>>> {
        let Some(head) = &self.masks else {
            let faults = vec!["`masks` is false, expected true".into()];
            return Err(Error::Config { what: "detector", faults });
        };
        let labels: Vec<u32> = detections.iter().flatten().map(|found| found.label).collect();
        let mut masks = Vec::new();
        if !labels.is_empty() {
            let boxes: Vec<Boxes> = detections
                .iter()
                .map(|image| image.iter().map(|found| found.bbox).collect())
                .collect();
            let boxes: Vec<&[[f32; 4]]> = boxes.iter().map(Vec::as_slice).collect();
            let logits =
                head.forward(&self.pooled_to(self.config.mask.pooler_resolution, maps, &boxes)?)?;
            masks = mask_head::probabilities(&logits, &labels)?;
        }
        let mut masks = masks.into_iter();
        let with_masks = |image: &Vec<Detection>| {
            image
                .iter()
                .zip(masks.by_ref())
                .map(|(&detection, mask)| DetectionWithMask { detection, mask })
                .collect()
        };
        Ok(detections.iter().map(with_masks).collect())
    }

    /// Refines each image's boxes by a stage of the cascade, clipped to the image.
    fn refined(
        &self,
        stage: &Stage,
        boxes: &[&[[f32; 4]]],
        output: &RoiOutput,
        sizes: &[ImageSize],
    ) -> Result<Vec<Boxes>> {
        let decoded = stage.decoded(&boxes.concat(), &output.deltas)?;
        let mut decoded = decoded.into_iter();
        let image = |(boxes, &size): (&&[[f32; 4]], &ImageSize)| {
            let taken = decoded.by_ref().take(boxes.len());
            taken
                .zip(boxes.iter())
                .map(|(new, &old)| {
                    let new = new.first().copied().unwrap_or(old);
                    // A box that diverged stays where it was.
                    let finite = new.iter().all(|edge| edge.is_finite());
                    clipped(if finite { new } else { old }, size)
                })
                .collect()
        };
        Ok(boxes.iter().zip(sizes).map(image).collect())
    }

    /// Returns the detections among each image's proposals, best first: boxes inside the image with
    /// a score above `score_threshold`, suppressed within their class, at most `max_detections`.
    ///
    /// # Errors
    /// Maps that do not fit.
    pub fn detect(
        &self,
        maps: &[Tensor],
        proposals: &[Boxes],
        sizes: &[ImageSize],
    ) -> Result<Vec<Vec<Detection>>> {
        if proposals.iter().all(Vec::is_empty) {
            return Ok(vec![Vec::new(); sizes.len()]);
        }
        let mut boxes = proposals.to_vec();
        let mut scores: Option<Vec<f32>> = None;
        let mut decoded = Vec::new();
        for (number, stage) in self.stages.iter().enumerate() {
            let slices: Vec<&[[f32; 4]]> = boxes.iter().map(Vec::as_slice).collect();
            let output = self.forward(maps, &slices, number)?;
            let of_stage = values(&softmax(&output.logits.to_dtype(DType::F32)?)?)?;
            match &mut scores {
                None => scores = Some(of_stage),
                Some(scores) => scores.iter_mut().zip(of_stage).for_each(|(a, b)| *a += b),
            }
            if number + 1 < self.stages.len() {
                boxes = self.refined(stage, &slices, &output, sizes)?;
            } else {
                decoded = stage.decoded(&boxes.concat(), &output.deltas)?;
            }
        }
        let share = 1.0 / self.stages.len() as f32;
        let scores: Vec<f32> = scores.unwrap_or_default().iter().map(|s| s * share).collect();
        let mut first = 0;
        let image = |(boxes, &size): (&Boxes, &ImageSize)| {
            let rows = first..first + boxes.len();
            first = rows.end;
            self.best(
                &decoded[rows.clone()],
                &scores[rows.start * (self.config.classes + 1)..],
                size,
            )
        };
        boxes.iter().zip(sizes).map(image).collect()
    }

    /// Returns the detections of one image from the boxes and scores of its rows.
    fn best(&self, decoded: &[Boxes], scores: &[f32], size: ImageSize) -> Result<Vec<Detection>> {
        let classes = self.config.classes;
        let mut found: Vec<Detection> = Vec::new();
        for (boxes, scores) in decoded.iter().zip(scores.chunks_exact(classes + 1)) {
            let finite = boxes.iter().flatten().chain(scores).all(|value| value.is_finite());
            if !finite {
                continue;
            }
            for (label, &score) in scores[..classes].iter().enumerate() {
                if score > self.config.score_threshold as f32 {
                    let bbox = boxes[if boxes.len() == 1 { 0 } else { label }];
                    found.push(Detection { bbox: clipped(bbox, size), score, label: label as u32 });
                }
            }
        }
        let boxes: Boxes = found.iter().map(|one| one.bbox).collect();
        let scores: Vec<f32> = found.iter().map(|one| one.score).collect();
        let labels: Vec<u32> = found.iter().map(|one| one.label).collect();
        let mut kept = batched_nms(&boxes, &scores, &labels, self.config.nms_threshold as f32)?;
        kept.truncate(self.config.max_detections);
        Ok(kept.into_iter().map(|at| found[at]).collect())
    }
}
