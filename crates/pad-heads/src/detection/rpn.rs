//! The region proposal network (Ren et al., 2015) over a pyramid.

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use pad_ops::{ImageSize, Mode, batched_nms, rng::Purpose};

use super::{
    Boxes, Target,
    anchors::{cell, spread},
    boxes::{BoxCoder, clipped, has_area},
    config::{RpnConfig, TopN},
    losses::{binary_cross_entropy_sum, nothing, rows, smooth_l1_sum, table, values},
    matching::{Matcher, ignore_inside, sample},
    samples::key_of,
};
use crate::{
    error::{Error, Result},
    layers::{Conv2d, same_conv2d},
};

/// The outputs of each level.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_heads::detection::RpnOutput;
/// // One map of 2 x 3 places, three anchors at each.
/// let zeros = |channels: usize| Tensor::zeros((1, channels, 2, 3), DType::F32, &Device::Cpu);
/// let output = RpnOutput { logits: vec![zeros(3)?], deltas: vec![zeros(4 * 3)?] };
/// assert_eq!(output.logits[0].elem_count(), 18); // anchors
/// # Ok::<(), pad_heads::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RpnOutput {
    /// (B, A, H, W): objectness, one for each anchor of a place.
    pub logits: Vec<Tensor>,
    /// (B, 4 A, H, W): the object's box relative to the anchor.
    pub deltas: Vec<Tensor>,
}

impl RpnOutput {
    /// Returns all logits in the order of anchors: (B, N).
    fn flat_logits(&self) -> Result<Tensor> {
        let flat = |x: &Tensor| x.permute((0, 2, 3, 1))?.contiguous()?.flatten_from(1);
        let levels = self.logits.iter().map(flat).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&levels, 1)?)
    }

    /// Returns all boxes in the order of anchors: (B, N, 4).
    fn flat_deltas(&self) -> Result<Tensor> {
        let flat = |x: &Tensor| {
            let (batch, channels, height, width) = x.dims4()?;
            let x = x.reshape((batch, channels / 4, 4, height, width))?;
            let x = x.permute((0, 3, 4, 1, 2))?.contiguous()?;
            x.reshape((batch, height * width * (channels / 4), 4))
        };
        let levels = self.deltas.iter().map(flat).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&levels, 1)?)
    }
}

/// The proposals of an image, best first.
///
/// ```
/// use pad_heads::detection::Proposals;
/// let none = Proposals::default();
/// let best = Proposals { boxes: vec![[0.0, 0.0, 8.0, 8.0]], logits: vec![1.5] };
/// assert_eq!((none.boxes.len(), best.boxes.len()), (0, best.logits.len()));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proposals {
    /// Boxes inside the image.
    pub boxes: Boxes,
    /// Their logits.
    pub logits: Vec<f32>,
}

/// The anchors of an image that the losses are computed on.
///
/// ```
/// use pad_heads::detection::RpnSamples;
/// let object = [0.0, 0.0, 8.0, 8.0];
/// let samples = RpnSamples { positives: vec![4], boxes: vec![object], negatives: vec![0, 8] };
/// assert_eq!(samples.positives.len(), samples.boxes.len());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RpnSamples {
    /// Indices of anchors that are objects.
    pub positives: Vec<usize>,
    /// Box of each one's object.
    pub boxes: Boxes,
    /// Indices of anchors that are background.
    pub negatives: Vec<usize>,
}

/// Convolutions that all levels share, a logit and a box for each anchor. Parameter names are
/// detectron2's: `rpn_head.conv.conv{i}` (`rpn_head.conv` if there is one),
/// `rpn_head.objectness_logits`, `rpn_head.anchor_deltas`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_heads::detection::{Rpn, RpnConfig, Target};
/// use pad_ops::{ImageSize, Mode, rng::Key};
/// let config = RpnConfig {
///     convs: 1,
///     anchor_sizes: vec![8.0], // one map
///     aspect_ratios: vec![1.0],
///     batch_size_per_image: 4,
///     ..Default::default()
/// };
/// let rpn = Rpn::new(&config, 2, &[4.0], VarBuilder::zeros(DType::F32, &Device::Cpu))?;
/// let map = Tensor::ones((1, 2, 3, 3), DType::F32, &Device::Cpu)?; // of an image of 12 x 12
/// let output = rpn.forward(&[map])?;
/// assert_eq!(output.logits[0].dims(), [1, 1, 3, 3]); // 0 everywhere, without weights
///
/// // Nine anchors, centred at multiples of the stride; clipped, they are the proposals.
/// let anchors = rpn.anchors(&output)?;
/// assert_eq!(anchors[0][4], [0.0, 0.0, 8.0, 8.0]);
/// let sizes = [ImageSize::square(12)];
/// let proposals = rpn.proposals(&output, &anchors, &sizes, Mode::Eval)?;
/// assert!(proposals[0].boxes.contains(&[0.0, 0.0, 8.0, 8.0]));
///
/// // Of the four samples one is the object, whose box is right; each costs ln 2.
/// let target = Target { boxes: vec![anchors[0][4]], labels: vec![0], ..Default::default() };
/// let samples = rpn.sample(&anchors, &[target], Mode::Train(Key::new(0)));
/// assert_eq!((samples[0].positives.as_slice(), samples[0].negatives.len()), (&[4][..], 3));
/// let (objectness, location) = rpn.losses(&output, &anchors, &samples)?;
/// assert!((objectness.to_scalar::<f32>()? - 2_f32.ln()).abs() < 1e-6);
/// assert_eq!(location.to_scalar::<f32>()?, 0.0);
/// # Ok::<(), pad_heads::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rpn {
    config: RpnConfig,
    convs: Vec<Conv2d>,
    logits: Conv2d,
    deltas: Conv2d,
    strides: Vec<f32>,
    cells: Vec<Vec<[f32; 4]>>,
}

impl Rpn {
    /// Builds a network over maps of `channels` channels and the given strides, one for each anchor
    /// size.
    ///
    /// # Errors
    /// Tensors that `vb` lacks.
    pub fn new(
        config: &RpnConfig,
        channels: usize,
        strides: &[f32],
        vb: VarBuilder,
    ) -> Result<Self> {
        let vb = vb.pp("rpn_head");
        let init = Init::Randn { mean: 0.0, stdev: 0.01 };
        let anchors = config.aspect_ratios.len();
        let conv = |i: usize| {
            let at = if config.convs == 1 {
                vb.pp("conv")
            } else {
                vb.pp("conv").pp(format!("conv{i}"))
            };
            same_conv2d(channels, channels, 3, true, init, at)
        };
        let cells = config.anchor_sizes.iter().map(|&size| cell(size, &config.aspect_ratios));
        Ok(Self {
            convs: (0..config.convs).map(conv).collect::<Result<_>>()?,
            logits: same_conv2d(channels, anchors, 1, true, init, vb.pp("objectness_logits"))?,
            deltas: same_conv2d(channels, 4 * anchors, 1, true, init, vb.pp("anchor_deltas"))?,
            strides: strides.to_vec(),
            cells: cells.collect(),
            config: config.clone(),
        })
    }

    /// # Shapes
    /// `maps` (B, C, H, W) each.
    ///
    /// # Errors
    /// Maps that do not fit.
    pub fn forward(&self, maps: &[Tensor]) -> Result<RpnOutput> {
        let (mut logits, mut deltas) = (Vec::new(), Vec::new());
        for map in maps {
            let mut x = map.clone();
            for conv in &self.convs {
                x = conv.forward(&x)?.relu()?;
            }
            logits.push(self.logits.forward(&x)?);
            deltas.push(self.deltas.forward(&x)?);
        }
        Ok(RpnOutput { logits, deltas })
    }

    /// Returns the anchors of each level, the same for every image: rows, columns, aspect ratios.
    ///
    /// # Errors
    /// Maps that do not fit.
    pub fn anchors(&self, output: &RpnOutput) -> Result<Vec<Boxes>> {
        let levels = output.logits.iter().zip(&self.cells).zip(&self.strides);
        let level = |((logits, cell), &stride): ((&Tensor, &Vec<[f32; 4]>), &f32)| {
            let (_, _, height, width) = logits.dims4()?;
            Ok(spread(cell, height, width, stride))
        };
        levels.map(level).collect()
    }

    /// Returns the best boxes of each image, clipped to `sizes`: of each level the best
    /// `pre_nms_top_n`, suppressed within their level, then the best `post_nms_top_n` of all. Boxes
    /// that are not finite or have no area are dropped.
    ///
    /// # Errors
    /// [`Error::Batch`] for an output that does not fit `anchors` and `sizes`.
    pub fn proposals(
        &self,
        output: &RpnOutput,
        anchors: &[Boxes],
        sizes: &[ImageSize],
        mode: Mode,
    ) -> Result<Vec<Proposals>> {
        let of_mode = |count: TopN| if mode == Mode::Eval { count.test } else { count.train };
        let before = of_mode(self.config.pre_nms_top_n);
        let after = of_mode(self.config.post_nms_top_n);
        let count: usize = anchors.iter().map(Vec::len).sum();
        let logits = values(&output.flat_logits()?)?;
        let deltas = values(&output.flat_deltas()?)?;
        if logits.len() != sizes.len() * count || deltas.len() != 4 * logits.len() {
            return Err(Error::Batch {
                found: format!("{} logits and {} deltas", logits.len(), deltas.len()),
                expected: format!("1 and 4 for each of {count} anchors of {} images", sizes.len()),
            });
        }
        let image = |(image, &size): (usize, &ImageSize)| {
            let (mut boxes, mut scores, mut levels) = (Boxes::new(), Vec::new(), Vec::new());
            let mut first = image * count;
            for (level, anchors) in anchors.iter().enumerate() {
                let logits = &logits[first..first + anchors.len()];
                for at in best(logits, before) {
                    let delta = &deltas[4 * (first + at)..][..4];
                    let delta = [delta[0], delta[1], delta[2], delta[3]];
                    let bbox = BoxCoder::ANCHORS.decode(anchors[at], &delta);
                    let inside = clipped(bbox, size);
                    if bbox.iter().all(|edge| edge.is_finite()) && has_area(inside) {
                        boxes.push(inside);
                        scores.push(logits[at]);
                        levels.push(level as u32);
                    }
                }
                first += anchors.len();
            }
            let mut kept = batched_nms(&boxes, &scores, &levels, self.config.nms_threshold as f32)?;
            kept.truncate(after);
            Ok(Proposals {
                boxes: kept.iter().map(|&at| boxes[at]).collect(),
                logits: kept.iter().map(|&at| scores[at]).collect(),
            })
        };
        sizes.iter().enumerate().map(image).collect()
    }

    /// Samples the anchors that the losses of each image are computed on. The draw depends on the
    /// image's index and `mode` alone.
    pub fn sample(&self, anchors: &[Boxes], targets: &[Target], mode: Mode) -> Vec<RpnSamples> {
        let anchors = anchors.concat();
        let [low_threshold, high_threshold] =
            self.config.iou_thresholds.map(|threshold| threshold as f32);
        let matcher = Matcher { low_threshold, high_threshold, allow_low_quality_matches: true };
        let image = |(image, target): (usize, &Target)| {
            let mut matches = matcher.boxes(&target.boxes, &anchors);
            ignore_inside(&target.ignored, &anchors, &mut matches.labels);
            let key = key_of(mode).sample(image as u64).purpose(Purpose::Sampler);
            let (count, share) = (self.config.batch_size_per_image, self.config.positive_fraction);
            let (positives, negatives) = sample(&matches.labels, count, share, &mut key.stream());
            let boxes = positives.iter().map(|&at| target.boxes[matches.objects[at]]).collect();
            RpnSamples { positives, boxes, negatives }
        };
        targets.iter().enumerate().map(image).collect()
    }

    /// Returns the binary cross-entropy of the samples and the L1 loss of the objects' boxes, each
    /// a sum divided by `batch_size_per_image` times the number of images.
    ///
    /// # Errors
    /// Samples that are not anchors.
    pub fn losses(
        &self,
        output: &RpnOutput,
        anchors: &[Boxes],
        samples: &[RpnSamples],
    ) -> Result<(Tensor, Tensor)> {
        let anchors = anchors.concat();
        let (logits, deltas) = (output.flat_logits()?, output.flat_deltas()?);
        let (mut taken, mut targets) = (Vec::new(), Vec::new());
        let (mut objects, mut codes) = (Vec::new(), Vec::new());
        for (image, samples) in samples.iter().enumerate() {
            let place = |at: usize| (image * anchors.len() + at) as u32;
            let mut places = samples.positives.iter().chain(&samples.negatives);
            if let Some(at) = places.find(|&&at| at >= anchors.len()) {
                return Err(Error::Batch {
                    expected: format!("samples below {} anchors", anchors.len()),
                    found: format!("{at}"),
                });
            }
            if samples.positives.len() != samples.boxes.len() {
                return Err(Error::Batch {
                    expected: format!("a box for each of {} positives", samples.positives.len()),
                    found: format!("{}", samples.boxes.len()),
                });
            }
            for (&at, &bbox) in samples.positives.iter().zip(&samples.boxes) {
                objects.push(place(at));
                codes.push(BoxCoder::ANCHORS.encode(anchors[at], bbox));
            }
            taken.extend(samples.positives.iter().map(|&at| place(at)));
            targets.extend(vec![1.0_f32; samples.positives.len()]);
            taken.extend(samples.negatives.iter().map(|&at| place(at)));
            targets.extend(vec![0.0_f32; samples.negatives.len()]);
        }
        let share = 1.0 / (self.config.batch_size_per_image * samples.len().max(1)) as f64;
        let device = logits.device();
        let logits = logits.flatten_all()?;
        let classification = match taken.is_empty() {
            true => nothing(&logits)?,
            false => {
                let targets = Tensor::from_vec(targets, taken.len(), device)?;
                binary_cross_entropy_sum(&rows(&logits, taken)?, &targets)?
            }
        };
        let deltas = deltas.reshape(((), 4))?;
        let location = match objects.is_empty() {
            true => nothing(&deltas)?,
            false => {
                let off = (rows(&deltas, objects)? - table(&codes, device)?)?;
                smooth_l1_sum(&off, self.config.smooth_l1_beta)?
            }
        };
        Ok(((classification * share)?, (location * share)?))
    }
}

/// Returns the indices of the `count` largest finite values, largest first, the first of equals
/// first.
fn best(values: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).filter(|&at| values[at].is_finite()).collect();
    let compare = |a: &usize, b: &usize| values[*b].total_cmp(&values[*a]).then(a.cmp(b));
    if count < order.len() {
        order.select_nth_unstable_by(count, compare);
        order.truncate(count);
    }
    order.sort_unstable_by(compare);
    order
}
