//! How all images of a set are read, in batches and in order.

use clap::Args;
use pad::data::LoaderConfig;

use super::values::{count, share};

/// Flags of reading.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Reading")]
pub struct Reading {
    /// Images per forward pass
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = count)]
    batch_size: usize,
    /// Threads that read images; results do not depend on it
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: usize,
    /// Share of unreadable images that is tolerated, 0 to 1
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
