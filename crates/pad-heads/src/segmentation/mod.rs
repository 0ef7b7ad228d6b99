//! Semantic segmentation: heads over feature maps, losses, inference in windows, training,
//! evaluation.
//!
//! [`Segmentor`] is any ViT with a decode head and, in training, an auxiliary one;
//! [`SegmentationModel`] is a segmentor with its classes and parameters, which opens and saves
//! files and takes stored images. Parameter names are those of the original (mmsegmentation):
//! `backbone.*`, `decode_head.*`, `auxiliary_head.*`, so files go both ways.

mod config;
mod evaluation;
mod fcn;
mod inference;
mod linear;
mod macs;
mod model;
mod predict;
mod pretrained;
mod report;
mod role;
mod segmentor;
mod uper;

pub use config::{BackboneForm, BackboneKind, HeadKind, SegmentorConfig};
pub use evaluation::{SegmentationDataset, SegmentationEvaluator, measure};
pub use fcn::{FcnConfig, FcnHead};
pub use inference::{
    Augmentation, InferenceMode, SlidingWindow, predict, predict_logits, resized_logits,
};
pub use linear::LinearHead;
pub use model::{SegmentationBatch, SegmentationModel, SegmentationTask, StoredClasses};
/// Intersection over union and accuracies, of [`pad_metrics::confusion`].
pub use pad_metrics::confusion as metrics;
pub use predict::{PredictedClasses, SegmentationInference};
pub use pretrained::pretrained;
pub use report::SegmentationReport;
pub use role::role_of;
pub use segmentor::Segmentor;
pub use uper::{UperConfig, UperHead};

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use pad_ops::{ImageSize, Mode};

use crate::{
    error::{Error, Result},
    layers::{Conv2d, same_conv2d},
};

/// Factor on the learning rate from each layer to the one below it, BEiT's and the original's.
pub const LAYER_DECAY: f64 = 0.65;

/// Weight decay of the original.
pub const WEIGHT_DECAY: f64 = 0.05;

/// The last layer of every head: dropout of whole channels, then one linear map per pixel
/// (`conv_seg`).
#[derive(Clone, Debug)]
struct Classifier {
    conv: Conv2d,
    dropout: f64,
    layer: u32,
}

impl Classifier {
    /// Dropout draws from `layer` of the mode's key; heads count down from the largest number,
    /// blocks up from 0.
    fn new(
        channels: usize,
        classes: usize,
        dropout: f64,
        layer: u32,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let init = Init::Randn { mean: 0.0, stdev: 0.01 };
        let conv = same_conv2d(channels, classes, 1, true, init, vb.pp("conv_seg"))?;
        Ok(Self { conv, dropout, layer })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        // A channel of an image is dropped as a whole, as drop path drops a sample.
        let planes = x.reshape((batch * channels, height, width))?;
        let planes = pad_ops::drop_path(&planes, self.dropout, mode.layer(self.layer))?;
        Ok(self.conv.forward(&planes.reshape((batch, channels, height, width))?)?)
    }
}

/// Height and width of a map (B, C, H, W).
fn size_of(map: &Tensor) -> Result<ImageSize> {
    let (_, _, height, width) = map.dims4()?;
    Ok(ImageSize { height, width })
}

/// `maps[index]`, for a head of that name.
fn map_at<'a>(head: &'static str, maps: &'a [Tensor], index: usize) -> Result<&'a Tensor> {
    maps.get(index).ok_or(Error::Maps { head, expected: index + 1, found: maps.len() })
}
