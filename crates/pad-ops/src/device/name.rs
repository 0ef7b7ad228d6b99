//! Names of devices.

use std::{fmt, str::FromStr};

use candle_core::Device;

use crate::{Error, Result};

/// A device by its name: `cpu`, `cuda`, `cuda:N`, `metal` or `metal:N`.
///
/// ```
/// use pad_ops::device::DeviceName;
/// assert_eq!("cuda:1".parse::<DeviceName>()?, DeviceName::Cuda(1));
/// assert_eq!(DeviceName::Metal(0).to_string().parse::<DeviceName>()?, DeviceName::Metal(0));
/// assert!(DeviceName::default().open()?.is_cpu());
/// # Ok::<(), pad_ops::Error>(())
/// ```
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
    ///
    /// # Errors
    /// [`Error::OpenDevice`].
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(ordinal) => super::opening::cuda(ordinal),
            Self::Metal(ordinal) => super::opening::metal(ordinal),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Metal(0) => f.write_str("metal"),
            Self::Metal(ordinal) => write!(f, "metal:{ordinal}"),
        }
    }
}

/// Parses what [`Display`](fmt::Display) writes; `cuda:0` is `cuda`.
impl FromStr for DeviceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, ordinal) = match text.split_once(':') {
            // `parse` would take a sign.
            Some((kind, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                (kind, digits.parse::<usize>().ok())
            }
            Some((kind, _)) => (kind, None),
            None => (text, Some(0)),
        };
        match (kind, ordinal) {
            ("cpu", Some(0)) if text == "cpu" => Ok(Self::Cpu),
            ("cuda", Some(ordinal)) => Ok(Self::Cuda(ordinal)),
            ("metal", Some(ordinal)) => Ok(Self::Metal(ordinal)),
            _ => Err(Error::DeviceName { found: text.into() }),
        }
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
        assert_eq!("cuda:0".parse::<DeviceName>().unwrap(), DeviceName::Cuda(0));
        for name in ["gpu", "cpu:1", "cpu:0", "cuda:", "cuda:-1", "cuda:+1", "cuda:1:2", "CUDA", ""]
        {
            let error = name.parse::<DeviceName>().unwrap_err().to_string();
            assert_eq!(error, format!("expected cpu, cuda, cuda:N or metal, found `{name}`"));
        }
    }
}
