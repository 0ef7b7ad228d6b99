//! Where the work is done: the device and the threads.

use std::{fmt, str::FromStr};

use candle_core::Device;
use clap::Args;

use super::values::count;
use crate::run::Result;

/// A device by its name: `cpu`, `cuda`, `cuda:N` or `metal`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceName {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(usize),
    /// An Apple GPU, by its number.
    Metal(usize),
}

impl DeviceName {
    /// Opens the device.
    pub fn open(self) -> Result<Device> {
        let opened = match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) => Device::new_cuda(index),
            Self::Metal(index) => Device::new_metal(index),
        };
        let feature = match self {
            Self::Metal(_) => "metal",
            _ => "cuda",
        };
        opened.map_err(|error| {
            format!("device `{self}`: {error} (the program needs the feature `{feature}`)").into()
        })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Metal(0) => f.write_str("metal"),
            Self::Metal(index) => write!(f, "metal:{index}"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, index.parse::<usize>().ok()),
            None => (text, Some(0)),
        };
        match (kind, index) {
            ("cpu", Some(0)) => Ok(Self::Cpu),
            ("cuda", Some(index)) => Ok(Self::Cuda(index)),
            ("metal", Some(index)) => Ok(Self::Metal(index)),
            _ => Err("expected cpu, cuda, cuda:N or metal".into()),
        }
    }
}

/// Flags of the device and the threads.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine")]
pub struct Compute {
    /// cpu, cuda, cuda:N or metal
    #[arg(long, value_name = "NAME", default_value_t)]
    device: DeviceName,
    /// Threads that compute [default: one per core]
    #[arg(long, value_name = "N", value_parser = count)]
    threads: Option<usize>,
}

impl Compute {
    /// Starts the threads and opens the device.
    pub fn start(&self) -> Result<Device> {
        pad::ops::join_workers(self.threads)?;
        self.device.open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for name in ["cpu", "cuda", "cuda:3", "metal", "metal:1"] {
            assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
        }
        for name in ["gpu", "cpu:1", "cuda:", "cuda:-1", ""] {
            let error = name.parse::<DeviceName>().unwrap_err();
            assert_eq!(error, "expected cpu, cuda, cuda:N or metal", "{name}");
        }
    }
}
