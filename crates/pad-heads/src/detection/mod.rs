//! Object detection: ViTDet's Faster R-CNN, Mask R-CNN and Cascade R-CNN (Li et al., 2022), and COCO evaluation.
//!
//! [`Detector`] finds objects on images of any size; [`DetectionTask`] trains it. Parameter names are those of the original
//! (detectron2), so files go both ways. Boxes are left, top, right and bottom edge, pixels, continuous.

mod anchors;
mod batch;
pub mod boxes;
pub mod coco;
mod config;
mod detector;
mod losses;
mod mask_head;
pub mod matching;
mod pretrained;
mod roi_heads;
mod rpn;
mod training;

use training::key_of;

pub use crate::segmentation::{LayerDecay, Trained};
pub use batch::{Boxes, Detection, DetectionBatch, Target, rescaled};
pub use config::{DetectorConfig, MaskConfig, RoiConfig, RpnConfig, TopN};
pub use detector::{Detector, LossSamples};
pub use mask_head::{DetectionWithMask, SoftMask};
pub use pretrained::pretrained;
pub use roi_heads::{RoiHeads, RoiOutput, RoiSamples, level_of};
pub use rpn::{Proposals, Rpn, RpnOutput, RpnSamples};
pub use training::{DetectionTask, LAYER_DECAY, role_of};
