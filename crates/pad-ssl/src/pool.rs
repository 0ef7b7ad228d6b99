//! Which tokens make an image's feature.

use std::{fmt, str::FromStr};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, names};

/// Which tokens make an image's feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The mean over the patches.
    #[default]
    Mean,
    /// The class token.
    Class,
    /// All tokens, class token first, without pooling.
    Tokens,
}

impl Pool {
    /// The names of all variants.
    pub const NAMES: [&str; 3] = ["mean", "class", "tokens"];

    /// Pools an encoder's output.
    ///
    /// # Shapes
    /// `tokens` (B, 1 + L, D), class token first; result (B, D), or (B, 1 + L, D) for
    /// [`Pool::Tokens`].
    ///
    /// # Errors
    /// A tensor of another rank, or without patches.
    pub fn apply(self, tokens: &Tensor) -> Result<Tensor> {
        let (_, count, _) = tokens.dims3()?;
        Ok(match self {
            Self::Mean => tokens.narrow(1, 1, count.saturating_sub(1))?.mean(1)?,
            Self::Class => tokens.narrow(1, 0, 1)?.squeeze(1)?,
            Self::Tokens => tokens.clone(),
        })
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mean => "mean",
            Self::Class => "class",
            Self::Tokens => "tokens",
        })
    }
}

impl FromStr for Pool {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "mean" => Self::Mean,
            "class" => Self::Class,
            "tokens" => Self::Tokens,
            _ => return Err(names::unknown("pool", text, &Self::NAMES)),
        })
    }
}
