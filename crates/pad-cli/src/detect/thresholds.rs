//! What may differ from training when a detector is used.

use clap::Args;
use pad::data::window::Window;

use super::Detect;
use crate::{
    settings::{Settings, values::Text},
    tools::values,
};

/// Flags of detections.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Detections")]
pub struct ThresholdFlags {
    /// Minimum score of a detection, 0 to 1 [default: the run's for eval, 0.3 for predict]
    #[arg(long, value_name = "SCORE", value_parser = values::share)]
    score_threshold: Option<f64>,
    /// IoU threshold of non-maximum suppression, 0 to 1 [default: the run's]
    #[arg(long, value_name = "IOU", value_parser = values::share)]
    nms_threshold: Option<f64>,
    /// Maximum number of detections per image [default: the run's]
    #[arg(long, value_name = "N", value_parser = values::count)]
    max_detections: Option<usize>,
    /// Side of the square to resize images to fit into, pixels [default: the run's]
    #[arg(long, value_name = "PIXELS", value_parser = values::count)]
    test_size: Option<usize>,
    /// Range of 16-bit and float images that is mapped to black and white: LOW,HIGH, LOW%,HIGH%,
    /// plateau, plateau:LIMIT%, clahe or clahe:TILES,LIMIT [default: the run's]
    #[arg(long, value_name = "LOW,HIGH", allow_hyphen_values = true)]
    levels: Option<Window>,
}

impl ThresholdFlags {
    /// The settings of a run with these in place of its own, and with `score` where none is given.
    pub fn over(&self, mut settings: Settings<Detect>, score: Option<f64>) -> Settings<Detect> {
        let own = &mut settings.own;
        own.score_threshold = self.score_threshold.or(score).unwrap_or(own.score_threshold);
        own.nms_threshold = self.nms_threshold.unwrap_or(own.nms_threshold);
        own.max_detections = self.max_detections.unwrap_or(own.max_detections);
        own.test_size = self.test_size.or(own.test_size);
        settings.run.levels = self.levels.map_or(settings.run.levels, Text);
        settings
    }
}
