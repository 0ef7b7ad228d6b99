//! Which images are searched, and what a region of interest is.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use pad::{
    ImageSize,
    data::roi::{
        self, FelzenszwalbConfig, Histograms, RoiConfig, RoiFilter, SelectiveSearchConfig,
    },
};

use crate::run::Result;

/// What a region is, and which are kept.
#[derive(Args, Debug)]
#[command(next_help_heading = "Search")]
pub struct Search {
    /// Scale of the segmentation: larger values give larger segments
    #[arg(long, value_name = "SCALE", default_value_t = FelzenszwalbConfig::default().scale)]
    segment_scale: f64,
    /// Standard deviation of the Gaussian blur before the segmentation, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = FelzenszwalbConfig::default().sigma)]
    sigma: f64,
    /// Minimum size of a segment, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = FelzenszwalbConfig::default().min_size)]
    min_size: u32,
    /// Value ranges of the texture histograms
    #[arg(long, value_enum, default_value_t)]
    histograms: Histogram,
    /// Minimum size of a region of interest, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = RoiFilter::default().min_pixels)]
    min_pixels: u32,
    /// Minimum width and height of a region of interest, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = RoiFilter::default().min_side)]
    min_side: u32,
    /// Maximum aspect ratio of a region of interest
    #[arg(long, value_name = "RATIO", default_value_t = RoiFilter::default().max_aspect)]
    max_aspect: f64,
}

/// What the texture histograms count.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Histogram {
    /// Those of the reference code: reproduces its regions exactly
    #[default]
    Exact,
    /// The actual ranges of the values
    Corrected,
}

impl Search {
    /// The settings, checked.
    pub fn config(&self) -> Result<RoiConfig> {
        let config = RoiConfig {
            search: SelectiveSearchConfig {
                felzenszwalb: FelzenszwalbConfig {
                    scale: self.segment_scale,
                    sigma: self.sigma,
                    min_size: self.min_size,
                },
                histograms: match self.histograms {
                    Histogram::Exact => Histograms::Exact,
                    Histogram::Corrected => Histograms::Corrected,
                },
            },
            filter: RoiFilter {
                min_pixels: self.min_pixels,
                min_side: self.min_side,
                max_aspect: self.max_aspect,
            },
        };
        // The smallest image there is: settings are checked before the first one is read.
        roi::rois(&[0], ImageSize::new(1, 1), &config)
            .map_err(|error| error.to_string().replace("`scale`", "`segment_scale`"))?;
        Ok(config)
    }
}

/// Every image whose number gives `part` (from 0) when divided by `parts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub part: usize,
    pub parts: usize,
}

impl Part {
    /// Whether image `index` belongs to the part.
    pub fn holds(self, index: usize) -> bool {
        index % self.parts == self.part
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(part, parts)| {
            Some((part.trim().parse::<usize>().ok()?, parts.trim().parse::<usize>().ok()?))
        });
        match numbers {
            Some((part, parts)) if (1..=parts).contains(&part) => {
                Ok(Self { part: part - 1, parts })
            }
            _ => Err("expected I/N with I from 1 to N".into()),
        }
    }
}
