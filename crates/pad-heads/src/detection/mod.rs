//! Object detection: ViTDet's Faster R-CNN, Mask R-CNN and Cascade R-CNN (Li et al., 2022), and
//! COCO evaluation.
//!
//! [`Detector`] finds objects on images of any size; [`DetectionTask`] trains it;
//! [`DetectionModel`] is a detector with its classes and parameters, which opens and saves files
//! and takes stored images. Parameter names are those of the original (detectron2), so files go
//! both ways. Boxes are left, top, right and bottom edge, pixels, continuous.

mod anchors;
mod batch;
mod box_head;
pub mod boxes;
pub mod coco;
mod config;
mod detector;
mod detector_config;
mod evaluation;
mod features;
mod losses;
mod macs;
mod mask_head;
pub mod matching;
mod model;
mod predict;
mod pretrained;
mod report;
mod roi_heads;
mod role;
mod rpn;
mod samples;

pub use batch::{Boxes, Detection, DetectionBatch, DetectionTargets, Target, rescaled};
pub use box_head::RoiOutput;
pub use config::{DetectionHeadsConfig, MaskConfig, RoiHeadsConfig, RpnConfig, Thresholds, TopN};
pub use detector::{Detector, LossSamples};
pub use detector_config::DetectorConfig;
pub use evaluation::{DetectionDataset, DetectionEvaluator, measure};
pub use features::{DetectionFeatures, ViTPyramid};
pub use mask_head::{DetectionWithMask, SoftMask};
pub use model::{DetectionModel, DetectionTask};
pub use predict::{PredictedObject, PredictedObjects};
pub use pretrained::pretrained;
pub use report::DetectionReport;
pub use roi_heads::{RoiHeads, level_of};
pub use role::role_of;
pub use rpn::{Proposals, Rpn, RpnOutput, RpnSamples};
pub use samples::RoiSamples;

/// Factor on the learning rate from each layer to the one below it in ViTDet-B.
pub const LAYER_DECAY: f64 = 0.7;

/// Weight decay of ViTDet-B.
pub const WEIGHT_DECAY: f64 = 0.1;
