//! Which tokens make an image's feature.

use std::{fmt, str::FromStr};

use candle_core::Tensor;
use pad_adapter::vit::Prefix;
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
    /// By the file's own layers ([`PoolHead`](pad_adapter::vit::PoolHead)): the learnt query of
    /// SigLIP and PE, or the norm of averaged patches.
    Head,
}

impl Pool {
    /// The names of all variants.
    pub const NAMES: [&str; 4] = ["mean", "class", "tokens", "head"];

    /// Pools an encoder's output.
    ///
    /// # Shapes
    /// `tokens` (B, P + L, D), behind the tokens of `prefix`; result (B, D), or for
    /// [`Pool::Tokens`] (B, 1 + L, D) with a class token and (B, L, D) without: registers are no
    /// part of it.
    ///
    /// # Errors
    /// [`Error::Probe`] for the class token of an encoder without one, and for [`Pool::Head`], whose
    /// layers stand in [`Pooling`](crate::embed::Pooling); a tensor of another rank, or without
    /// patches.
    pub fn apply(self, tokens: &Tensor, prefix: Prefix) -> Result<Tensor> {
        Ok(match self {
            Self::Mean => prefix.patches(tokens)?.mean(1)?,
            // Copied: a view would keep the tokens of all patches alive.
            Self::Class if prefix.class => {
                tokens.narrow(1, 0, 1)?.squeeze(1)?.force_contiguous()?
            }
            Self::Class => {
                let what = "the encoder has no class token, expected the pooling mean or tokens";
                return Err(Error::Probe { what: what.into() });
            }
            Self::Tokens => prefix.without_registers(tokens)?.contiguous()?,
            Self::Head => {
                let what =
                    "pooling by layers without them, expected weights that have some (SigLIP, PE)";
                return Err(Error::Probe { what: what.into() });
            }
        })
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mean => "mean",
            Self::Class => "class",
            Self::Tokens => "tokens",
            Self::Head => "head",
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
            "head" => Self::Head,
            _ => return Err(names::unknown("pool", text, &Self::NAMES)),
        })
    }
}
