//! What can go wrong: a setting.

use std::fmt;

/// A setting outside its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingFault {
    /// The setting, e.g. `sensor.netd_kelvin`.
    pub name: &'static str,
    /// The range.
    pub expected: String,
    /// The value given.
    pub found: String,
}

impl fmt::Display for SettingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {}, expected {}", self.name, self.found, self.expected)
    }
}

/// The errors of this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Settings are outside their ranges; all of them are listed.
    #[error("{}", listed(faults))]
    Settings {
        /// The settings, at least one.
        faults: Vec<SettingFault>,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn listed(faults: &[SettingFault]) -> String {
    let texts: Vec<String> = faults.iter().map(SettingFault::to_string).collect();
    texts.join("; ")
}
