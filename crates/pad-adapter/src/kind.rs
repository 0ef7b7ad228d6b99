//! The kinds of adapters by name, each as a configuration.

use std::{fmt, str::FromStr};

use pad_ops::text::unknown_name;
use serde::{Deserialize, Serialize};

use crate::{
    AdapterActivation, AdapterConfig, AdapterNorm, AdapterPlacement, Error, LoraConfig, Result,
    Scale,
};

/// A kind of adapter: what the paper compares with, and what others freeze backbones for.
///
/// ```
/// use pad_adapter::{AdapterKind, Scale};
/// let kind: AdapterKind = "adaptformer".parse()?;
/// assert_eq!(kind.adapter().unwrap().scale, Scale::Fixed(0.1));
/// assert!(AdapterKind::Dora.lora().unwrap().dora && AdapterKind::Dora.adapter().is_none());
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum AdapterKind {
    /// PAD's, patchwise scales beside the MLP ([`AdapterConfig::default`]).
    #[default]
    Pad,
    /// AdaptFormer's ([`AdapterConfig::adaptformer`]).
    AdaptFormer,
    /// Houlsby's two a block ([`AdapterConfig::houlsby`]).
    Houlsby,
    /// Pfeiffer's behind the MLP ([`AdapterConfig::pfeiffer`]).
    Pfeiffer,
    /// LoRA ([`LoraConfig::default`]).
    Lora,
    /// LoRA with the scale `alpha / sqrt(r)`.
    RsLora,
    /// LoRA with trained lengths of rows.
    Dora,
}

impl AdapterKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Pad,
        Self::AdaptFormer,
        Self::Houlsby,
        Self::Pfeiffer,
        Self::Lora,
        Self::RsLora,
        Self::Dora,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pad => "pad",
            Self::AdaptFormer => "adaptformer",
            Self::Houlsby => "houlsby",
            Self::Pfeiffer => "pfeiffer",
            Self::Lora => "lora",
            Self::RsLora => "rslora",
            Self::Dora => "dora",
        }
    }

    /// The configuration of a bottleneck; `None` for low-rank adapters.
    pub fn adapter(self) -> Option<AdapterConfig> {
        match self {
            Self::Pad => Some(AdapterConfig::default()),
            Self::AdaptFormer => Some(AdapterConfig::adaptformer()),
            Self::Houlsby => Some(AdapterConfig::houlsby()),
            Self::Pfeiffer => Some(AdapterConfig::pfeiffer()),
            Self::Lora | Self::RsLora | Self::Dora => None,
        }
    }

    /// The configuration of low-rank adapters; `None` for bottlenecks.
    pub fn lora(self) -> Option<LoraConfig> {
        let lora = LoraConfig::default();
        match self {
            Self::Lora => Some(lora),
            Self::RsLora => Some(LoraConfig { rank_stabilized: true, ..lora }),
            Self::Dora => Some(LoraConfig { dora: true, ..lora }),
            Self::Pad | Self::AdaptFormer | Self::Houlsby | Self::Pfeiffer => None,
        }
    }
}

impl AdapterConfig {
    /// AdaptFormer's adapter (Chen et al., 2022): beside the MLP, without a norm, scale 0.1.
    ///
    /// ```
    /// // LoRA-like first values, 64 wide: 2 * 64 * 768 + 64 + 768 values a block of ViT-B.
    /// assert_eq!(pad_adapter::AdapterConfig::adaptformer().parameter_count(768), 99_136);
    /// ```
    pub fn adaptformer() -> Self {
        Self { norm: AdapterNorm::None, scale: Scale::Fixed(0.1), ..Self::default() }
    }

    /// Houlsby's adapters (Houlsby et al., 2019): behind attention and MLP, inside their residual
    /// branches, GELU, no norm, no dropout, scale 1. The last layer starts at zero, where theirs
    /// starts near it.
    ///
    /// ```
    /// let config = pad_adapter::AdapterConfig::houlsby();
    /// assert_eq!(config.block_parameter_count(768), 2 * 99_136);
    /// ```
    pub fn houlsby() -> Self {
        Self {
            norm: AdapterNorm::None,
            dropout: 0.0,
            scale: Scale::Fixed(1.0),
            placement: AdapterPlacement::AfterBoth,
            activation: AdapterActivation::Gelu,
            ..Self::default()
        }
    }

    /// Pfeiffer's adapter (Pfeiffer et al., 2021): behind the MLP, inside its residual branch,
    /// ReLU, no norm, no dropout, scale 1.
    ///
    /// ```
    /// use pad_adapter::{AdapterConfig, AdapterPlacement};
    /// assert_eq!(AdapterConfig::pfeiffer().placement, AdapterPlacement::AfterMlp);
    /// ```
    pub fn pfeiffer() -> Self {
        Self {
            placement: AdapterPlacement::AfterMlp,
            activation: AdapterActivation::Relu,
            ..Self::houlsby()
        }
    }
}

/// As in flags: `pad`, `adaptformer`, `houlsby`, `pfeiffer`, `lora`, `rslora` or `dora`.
impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for AdapterKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| {
            Error::UnknownName(unknown_name("adapter", name, Self::ALL.map(Self::name)))
        })
    }
}

impl From<AdapterKind> for String {
    fn from(kind: AdapterKind) -> Self {
        kind.name().into()
    }
}

impl TryFrom<String> for AdapterKind {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_one_configuration() {
        for kind in AdapterKind::ALL {
            assert_eq!(kind.to_string().parse::<AdapterKind>().unwrap(), kind);
            assert_ne!(kind.adapter().is_some(), kind.lora().is_some(), "{kind}");
            if let Some(adapter) = kind.adapter() {
                adapter.validate().unwrap();
                let text = serde_json::to_string(&adapter).unwrap();
                assert_eq!(serde_json::from_str::<AdapterConfig>(&text).unwrap(), adapter);
            }
        }
        // What earlier versions read stays as they wrote it.
        let text = serde_json::to_string(&AdapterConfig::default()).unwrap();
        assert!(!text.contains("placement") && !text.contains("activation"), "{text}");
        assert_eq!(
            "lorra".parse::<AdapterKind>().unwrap_err().to_string(),
            "adapter: expected pad, adaptformer, houlsby, pfeiffer, lora, rslora or dora, found \
             `lorra` (did you mean `lora`?)"
        );
    }
}
