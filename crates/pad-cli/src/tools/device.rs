//! Where the work is done: the device and the threads.

use candle_core::Device;
use clap::Args;

pub use pad::ops::device::DeviceName;

use super::values::count;
use crate::run::Result;

/// Flags of the device and the threads.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine")]
pub struct Compute {
    /// Device: cpu, cuda, cuda:N or metal
    #[arg(long, value_name = "NAME", default_value_t)]
    device: DeviceName,
    /// Number of compute threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = count)]
    threads: Option<usize>,
}

impl Compute {
    /// Starts the threads and opens the device.
    pub fn start(&self) -> Result<Device> {
        pad::ops::join_workers(self.threads)?;
        Ok(self.device.open()?)
    }
}
