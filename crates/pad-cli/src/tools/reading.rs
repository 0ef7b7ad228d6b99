//! How all images of a set are read, in batches and in order, and what is read of a file.

use std::sync::Arc;

use clap::Args;
use pad::data::{
    Dataset, LoaderConfig, Sample, SharedDataset,
    dataset::ReadAs,
    image::{DecodeOptions, RadiometricMode},
};

use super::values::{count, share};

/// Flags of reading.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Reading")]
pub struct Reading {
    /// Images per forward pass
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = count)]
    batch_size: usize,
    /// Number of data loading threads; results do not depend on it
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: usize,
    /// Maximum share of unreadable images, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share)]
    max_unreadable: f64,
}

impl Reading {
    /// Every image once and in order.
    pub fn loader(&self) -> LoaderConfig {
        LoaderConfig {
            batch_size: self.batch_size,
            workers: self.workers,
            max_unreadable: self.max_unreadable,
            shuffle: false,
            drop_last: false,
            ..Default::default()
        }
    }
}

/// Flags of what is read of a file.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Files")]
pub struct Files {
    /// How radiometric files are read: auto (kelvin if the file has the camera's constants, else
    /// counts), raw (counts; of a GeoTIFF without scale and offset), kelvin, celsius, or picture
    /// (the colour picture in the file) [default: that of the run, if weights of a run are used,
    /// else auto]
    #[arg(long, value_name = "MODE")]
    radiometric: Option<RadiometricMode>,
    /// Page of a TIFF, or frame of a sequence or NumPy array, from 0 [default: that of the run, if
    /// weights of a run are used, else the first]
    #[arg(long, value_name = "N")]
    page: Option<usize>,
    /// Keep the fourth sample of RGBA (the second of grey with alpha) as a band, e.g. thermal
    /// beside RGB
    #[arg(long)]
    alpha_is_band: bool,
}

impl Files {
    /// The flags, over what a run says.
    pub fn over(&self, run: &DecodeOptions) -> DecodeOptions {
        DecodeOptions {
            radiometric: self.radiometric.unwrap_or(run.radiometric),
            page: self.page.or(run.page),
            alpha_is_band: self.alpha_is_band || run.alpha_is_band,
            ..run.clone()
        }
    }
}

/// A set whose files are read as `choice` says.
pub fn read_as<S: Sample>(
    images: impl Dataset<Sample = S> + 'static,
    choice: DecodeOptions,
) -> SharedDataset<S> {
    Arc::new(ReadAs::new(images, choice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_before_the_run() {
        let run = DecodeOptions {
            radiometric: RadiometricMode::Raw,
            page: Some(3),
            ..Default::default()
        };
        assert_eq!(Files::default().over(&run), run);
        let flags = Files {
            radiometric: Some(RadiometricMode::Picture),
            page: Some(0),
            alpha_is_band: true,
        };
        let found = flags.over(&run);
        assert_eq!(found.radiometric, RadiometricMode::Picture);
        assert_eq!((found.page, found.alpha_is_band), (Some(0), true));
    }
}
