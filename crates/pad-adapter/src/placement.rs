//! Where an adapter stands in a block, and what it has between its layers.

use std::{fmt, str::FromStr};

use pad_ops::text::unknown_name;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Where a block has its adapter.
///
/// ```
/// use pad_adapter::AdapterPlacement;
/// assert_eq!("after-mlp".parse::<AdapterPlacement>()?, AdapterPlacement::AfterMlp);
/// assert_eq!(AdapterPlacement::default().to_string(), "parallel");
/// assert_eq!(AdapterPlacement::AfterBoth.adapters(), 2);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AdapterPlacement {
    /// Beside the MLP, on the residual stream: `x + s A(x) + g MLP(LN(x))` (PAD; AdaptFormer, Chen
    /// et al., 2022).
    #[default]
    Parallel,
    /// Behind the MLP, on its output: `x + g (m + s A(m))` with `m = MLP(LN(x))` (Pfeiffer et al.,
    /// 2021).
    AfterMlp,
    /// Two of them, behind attention and behind the MLP (Houlsby et al., 2019).
    AfterBoth,
}

impl AdapterPlacement {
    /// Every placement.
    const ALL: [Self; 3] = [Self::Parallel, Self::AfterMlp, Self::AfterBoth];

    const fn name(self) -> &'static str {
        match self {
            Self::Parallel => "parallel",
            Self::AfterMlp => "after-mlp",
            Self::AfterBoth => "after-both",
        }
    }

    /// The number of adapters of a block.
    pub const fn adapters(self) -> usize {
        match self {
            Self::Parallel | Self::AfterMlp => 1,
            Self::AfterBoth => 2,
        }
    }
}

/// As in files.
impl fmt::Display for AdapterPlacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for AdapterPlacement {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|placement| placement.name() == name);
        found.ok_or_else(|| {
            Error::UnknownName(unknown_name("adapter placement", name, Self::ALL.map(Self::name)))
        })
    }
}

/// The activation between an adapter's two layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AdapterActivation {
    /// ReLU (PAD, AdaptFormer).
    #[default]
    Relu,
    /// The exact GELU (Houlsby et al.).
    Gelu,
}
