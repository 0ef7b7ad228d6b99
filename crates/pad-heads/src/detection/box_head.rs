//! One box head: a class and a refined box from the features of a box (Fast R-CNN's, with ViTDet's
//! four convolutions).

use candle_core::{D, Tensor};
use candle_nn::{Init, VarBuilder};
use pad_adapter::vit::layers::Linear;

use super::{Boxes, DetectionHeadsConfig, boxes::BoxCoder, losses::values};
use crate::{
    error::Result,
    layers::{ChannelNorm, Conv2d, msra, same_conv2d},
};

/// The output of one box head.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_heads::detection::RoiOutput;
/// // Five boxes, two classes: three logits a box, a refined box for each class.
/// let zeros = |width: usize| Tensor::zeros((5, width), DType::F32, &Device::Cpu);
/// let output = RoiOutput { logits: zeros(2 + 1)?, deltas: zeros(4 * 2)? };
/// assert_eq!((output.logits.dim(1)?, output.deltas.dim(1)?), (3, 8));
/// # Ok::<(), pad_heads::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RoiOutput {
    /// (R, classes + 1), background last.
    pub logits: Tensor,
    /// (R, 4 classes), or (R, 4) if boxes are the same for all classes.
    pub deltas: Tensor,
}

/// Convolutions with norm over channels, a linear layer, then a linear layer each for classes and
/// boxes.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    convs: Vec<(Conv2d, ChannelNorm)>,
    hidden: Linear,
    classes: Linear,
    boxes: Linear,
    pub(super) coder: BoxCoder,
    /// Overlap with an object from which on a box is one.
    pub(super) overlap: f32,
}

impl Stage {
    /// Head number `stage` of a cascade.
    pub(super) fn new(
        config: &DetectionHeadsConfig,
        stage: usize,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let (channels, hidden) = (config.channels, config.head_dim);
        let at = |name: &str| match config.cascade {
            true => vb.pp(name).pp(stage),
            false => vb.pp(name),
        };
        let (head, predictor) = (at("box_head"), at("box_predictor"));
        let conv = |i: usize| {
            let at = head.pp(format!("conv{}", i + 1));
            let conv = same_conv2d(channels, channels, 3, false, msra(channels, 3), at.clone())?;
            Ok((conv, ChannelNorm::new(channels, at.pp("norm"))?))
        };
        let inputs = channels * config.roi.pooler_resolution * config.roi.pooler_resolution;
        // Caffe2's Xavier fill: Kaiming uniform with a = 1.
        let bound = (3.0 / inputs as f64).sqrt();
        let uniform = Init::Uniform { lo: -bound, up: bound };
        let normal = |stdev| Init::Randn { mean: 0.0, stdev };
        let outputs = if config.class_agnostic() { 4 } else { 4 * config.classes };
        let (classes, boxes) = (predictor.pp("cls_score"), predictor.pp("bbox_pred"));
        let step = stage as f32;
        let [place, side] = [10.0, 5.0].map(|weight: f32| weight * (step + 1.0));
        Ok(Self {
            convs: (0..config.roi.convs).map(conv).collect::<Result<_>>()?,
            hidden: Linear::new(inputs, hidden, true, uniform, head.pp("fc1"))?,
            classes: Linear::new(hidden, config.classes + 1, true, normal(0.01), classes)?,
            boxes: Linear::new(hidden, outputs, true, normal(0.001), boxes)?,
            coder: BoxCoder { weights: [place, place, side, side] },
            overlap: config.roi.iou_threshold as f32 + 0.1 * step,
        })
    }

    /// Features (R, C, side, side) to classes and boxes.
    pub(super) fn forward(&self, pooled: &Tensor) -> Result<RoiOutput> {
        let mut x = pooled.clone();
        for (conv, norm) in &self.convs {
            x = norm.forward(&conv.forward(&x)?)?.relu()?;
        }
        let x = self.hidden.forward(&x.flatten_from(1)?)?.relu()?;
        Ok(RoiOutput { logits: self.classes.forward(&x)?, deltas: self.boxes.forward(&x)? })
    }

    /// Applies `deltas` (R, 4 or 4 classes) to `boxes`, class by class.
    pub(super) fn decoded(&self, boxes: &[[f32; 4]], deltas: &Tensor) -> Result<Vec<Boxes>> {
        let values = values(deltas)?;
        let width = deltas.dim(D::Minus1)?;
        let decode = |(&bbox, deltas): (&[f32; 4], &[f32])| {
            let of_class = |d: &[f32]| self.coder.decode(bbox, &[d[0], d[1], d[2], d[3]]);
            deltas.chunks_exact(4).map(of_class).collect()
        };
        Ok(boxes.iter().zip(values.chunks_exact(width)).map(decode).collect())
    }
}
