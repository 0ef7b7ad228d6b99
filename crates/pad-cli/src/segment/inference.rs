//! What may differ from training when a segmentor is used.

use clap::Args;
use pad::data::window::Window;

use super::{Segment, settings::InferenceKind};
use crate::settings::{
    Settings,
    values::{BaseScale, List, Pixels, Text},
};

/// Flags of inference.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Inference")]
pub struct InferenceFlags {
    /// Inference on large images: slide (sliding windows) or whole [default: the run's]
    #[arg(long, value_name = "NAME")]
    inference: Option<InferenceKind>,
    /// Height,width of the sliding window, or one number for both, pixels [default: the run's]
    #[arg(long, value_name = "PIXELS")]
    slide_window: Option<Pixels>,
    /// Stride of the sliding window, pixels [default: the run's]
    #[arg(long, value_name = "PIXELS")]
    stride: Option<Pixels>,
    /// Long and short side to resize images to fit into, pixels, or none [default: the run's]
    #[arg(long, value_name = "LONG,SHORT")]
    base_scale: Option<BaseScale>,
    /// Scales of multi-scale testing, relative to the image [default: the run's]
    #[arg(long, value_name = "SCALES")]
    test_scales: Option<List<f64>>,
    /// Flip testing: average with the mirrored image [default: the run's]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    test_flip: Option<bool>,
    /// Range of 16-bit and float images that is mapped to black and white: LOW,HIGH, LOW%,HIGH%,
    /// plateau, plateau:LIMIT%, clahe or clahe:TILES,LIMIT [default: the run's]
    #[arg(long, value_name = "LOW,HIGH", allow_hyphen_values = true)]
    levels: Option<Window>,
}

impl InferenceFlags {
    /// The settings of a run with these in place of its own.
    pub fn over(&self, mut settings: Settings<Segment>) -> Settings<Segment> {
        let own = &mut settings.own;
        own.inference = self.inference.unwrap_or(own.inference);
        own.slide_window = self.slide_window.or(own.slide_window);
        own.stride = self.stride.or(own.stride);
        own.base_scale = self.base_scale.unwrap_or(own.base_scale);
        own.test_flip = self.test_flip.unwrap_or(own.test_flip);
        if let Some(scales) = &self.test_scales {
            own.test_scales.clone_from(scales);
        }
        settings.run.levels = self.levels.map_or(settings.run.levels, Text);
        settings
    }
}
