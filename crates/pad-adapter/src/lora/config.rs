//! Which layers get low-rank adapters, and of what size.

use std::{fmt, str::FromStr};

use pad_ops::text::unknown_name;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A linear layer of a block that may get a low-rank adapter.
///
/// ```
/// use pad_adapter::LoraTarget;
/// // Queries are the first third of the fused layer's rows.
/// let query = LoraTarget::Query;
/// assert_eq!((query.name(), query.third()), ("query", Some(0)));
/// assert_eq!((query.layer(), query.path()), ("attn.qkv", "attn.query"));
/// assert_eq!((LoraTarget::Fc1.layer(), LoraTarget::Fc1.third()), ("mlp.fc1", None));
/// assert_eq!("fc1".parse::<LoraTarget>()?, LoraTarget::Fc1);
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LoraTarget {
    /// Queries, keys and values by one adapter, as on timm's fused layer.
    Qkv,
    /// Queries alone.
    Query,
    /// Keys alone.
    Key,
    /// Values alone.
    Value,
    /// The projection behind the heads.
    Proj,
    /// The MLP's first layer.
    Fc1,
    /// The MLP's second layer.
    Fc2,
}

impl LoraTarget {
    /// Every target.
    pub const ALL: [Self; 7] =
        [Self::Qkv, Self::Query, Self::Key, Self::Value, Self::Proj, Self::Fc1, Self::Fc2];

    /// Its name in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Qkv => "qkv",
            Self::Query => "query",
            Self::Key => "key",
            Self::Value => "value",
            Self::Proj => "proj",
            Self::Fc1 => "fc1",
            Self::Fc2 => "fc2",
        }
    }

    /// Where its tensors stand inside a block.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Qkv => "attn.qkv",
            Self::Query => "attn.query",
            Self::Key => "attn.key",
            Self::Value => "attn.value",
            Self::Proj => "attn.proj",
            Self::Fc1 => "mlp.fc1",
            Self::Fc2 => "mlp.fc2",
        }
    }

    /// The weight that it adapts, inside a block.
    pub const fn layer(self) -> &'static str {
        match self {
            Self::Qkv | Self::Query | Self::Key | Self::Value => "attn.qkv",
            Self::Proj => "attn.proj",
            Self::Fc1 => "mlp.fc1",
            Self::Fc2 => "mlp.fc2",
        }
    }

    /// Which third of the layer's rows it adapts; `None` for all.
    pub const fn third(self) -> Option<usize> {
        match self {
            Self::Query => Some(0),
            Self::Key => Some(1),
            Self::Value => Some(2),
            _ => None,
        }
    }
}

/// As in configurations: `qkv`, `query`, `key`, `value`, `proj`, `fc1` or `fc2`.
impl fmt::Display for LoraTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for LoraTarget {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|target| target.name() == name);
        found.ok_or_else(|| {
            Error::UnknownName(unknown_name("lora target", name, Self::ALL.map(Self::name)))
        })
    }
}

/// The size of one low-rank adapter.
///
/// ```
/// use pad_adapter::{LoraConfig, LoraSize};
/// // alpha / r, or alpha / sqrt(r) where the configuration says so.
/// let size = LoraSize { rank: 16, alpha: 32.0 };
/// let plain = LoraConfig::default();
/// let stabilized = LoraConfig { rank_stabilized: true, ..plain };
/// assert_eq!((plain.scale(size), stabilized.scale(size)), (2.0, 8.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraSize {
    /// Inner width, `r`.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f64,
}

/// The adapter of each target; `None` for a layer without one.
///
/// ```
/// use pad_adapter::{LoraSize, LoraTarget, LoraTargets};
/// let mut targets = LoraTargets::default();
/// targets.set(LoraTarget::Fc2, LoraSize { rank: 4, alpha: 8.0 });
/// assert_eq!(targets.get(LoraTarget::Fc2).map(|size| size.rank), Some(4));
/// assert_eq!(targets.get(LoraTarget::Fc1), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraTargets {
    /// Queries, keys and values together.
    pub qkv: Option<LoraSize>,
    /// Queries.
    pub query: Option<LoraSize>,
    /// Keys.
    pub key: Option<LoraSize>,
    /// Values.
    pub value: Option<LoraSize>,
    /// The projection behind the heads.
    pub proj: Option<LoraSize>,
    /// The MLP's first layer.
    pub fc1: Option<LoraSize>,
    /// The MLP's second layer.
    pub fc2: Option<LoraSize>,
}

impl LoraTargets {
    /// The adapter of `target`.
    pub const fn get(&self, target: LoraTarget) -> Option<LoraSize> {
        match target {
            LoraTarget::Qkv => self.qkv,
            LoraTarget::Query => self.query,
            LoraTarget::Key => self.key,
            LoraTarget::Value => self.value,
            LoraTarget::Proj => self.proj,
            LoraTarget::Fc1 => self.fc1,
            LoraTarget::Fc2 => self.fc2,
        }
    }

    /// Sets the adapter of `target`.
    pub fn set(&mut self, target: LoraTarget, size: LoraSize) {
        let place = match target {
            LoraTarget::Qkv => &mut self.qkv,
            LoraTarget::Query => &mut self.query,
            LoraTarget::Key => &mut self.key,
            LoraTarget::Value => &mut self.value,
            LoraTarget::Proj => &mut self.proj,
            LoraTarget::Fc1 => &mut self.fc1,
            LoraTarget::Fc2 => &mut self.fc2,
        };
        *place = Some(size);
    }
}

/// Low-rank adapters of the blocks' linear layers (LoRA, Hu et al., 2021): `y = W x + b + s B A x`
/// with `A` (r, I) and `B` (O, r), `s = alpha / r`. At first `B` is zero. `A x` and `B` of it are
/// products beside `W x`: no weight is made anew.
///
/// ```
/// use pad_adapter::{LoraConfig, LoraTarget};
/// let lora = LoraConfig::new(8, 16.0, &[LoraTarget::Query, LoraTarget::Value]);
/// // ViT-S: A (8, 384) and B (384, 8) each.
/// assert_eq!(lora.parameter_count(384, 4 * 384, 4 * 384), 2 * 2 * 8 * 384);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// The adapted layers.
    pub targets: LoraTargets,
    /// Whether `s = alpha / sqrt(r)` (rsLoRA, Kalajdzievski, 2023). Default: false.
    pub rank_stabilized: bool,
    /// Whether each row's length is a parameter of its own (DoRA, Liu et al., 2024): `m (W + s B A)
    /// / |W + s B A|`, the length a constant in the backward. Default: false.
    pub dora: bool,
    /// Whether the biases of adapted layers train, too. Default: false.
    pub bias: bool,
    /// Dropout on the input of `A`, probability; `W` sees all of it (with [`LoraConfig::dora`],
    /// too). Default 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropout: f64,
}

/// Keeps the default out of files, which earlier versions read.
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl Default for LoraConfig {
    /// Rank 8, alpha 16, on queries and values.
    fn default() -> Self {
        Self::new(8, 16.0, &[LoraTarget::Query, LoraTarget::Value])
    }
}

impl LoraConfig {
    /// LoRA of one size on `targets`.
    pub fn new(rank: usize, alpha: f64, targets: &[LoraTarget]) -> Self {
        let mut all = LoraTargets::default();
        targets.iter().for_each(|&target| all.set(target, LoraSize { rank, alpha }));
        Self { targets: all, rank_stabilized: false, dora: false, bias: false, dropout: 0.0 }
    }

    /// Checks the configuration and reports all faults at once.
    ///
    /// # Errors
    /// [`Error::Config`].
    ///
    /// ```
    /// use pad_adapter::{LoraConfig, LoraTarget};
    /// let wrong = LoraConfig::new(0, 8.0, &[LoraTarget::Proj]);
    /// let error = wrong.validate().unwrap_err().to_string();
    /// assert_eq!(error, "lora: `proj`: `rank` is 0, expected at least 1");
    /// ```
    pub fn validate(&self) -> Result<()> {
        let faults = self.faults();
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::Config { what: "lora", faults })
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut count = 0;
        for target in LoraTarget::ALL {
            let Some(size) = self.targets.get(target) else { continue };
            count += 1;
            if size.rank == 0 {
                let name = target.name();
                faults.push(format!("`{name}`: `rank` is 0, expected at least 1"));
            }
            if !size.alpha.is_finite() {
                let name = target.name();
                faults
                    .push(format!("`{name}`: `alpha` is {}, expected a finite number", size.alpha));
            }
        }
        let parts = [LoraTarget::Query, LoraTarget::Key, LoraTarget::Value];
        if self.targets.qkv.is_some() && parts.iter().any(|&part| self.targets.get(part).is_some())
        {
            faults.push("`qkv` beside query, key or value, expected one or the other".into());
        }
        if !(0.0..1.0).contains(&self.dropout) {
            faults.push(format!("`dropout` is {}, expected 0 <= dropout < 1", self.dropout));
        }
        if count == 0 {
            faults.push("no `targets`, expected at least one layer".into());
        }
        faults
    }

    /// The factor on `B A` of an adapter of this size.
    ///
    /// ```
    /// use pad_adapter::{LoraConfig, LoraSize};
    /// assert_eq!(LoraConfig::default().scale(LoraSize { rank: 4, alpha: 8.0 }), 2.0);
    /// ```
    pub fn scale(&self, size: LoraSize) -> f64 {
        let rank = size.rank as f64;
        size.alpha / if self.rank_stabilized { rank.sqrt() } else { rank }
    }

    /// The number of trained values of one block with tokens of `embed_dim` values and an MLP
    /// whose first layer gives `fc1` and whose second takes `fc2` values.
    pub fn parameter_count(&self, embed_dim: usize, fc1: usize, fc2: usize) -> usize {
        let d = embed_dim;
        let of = |target| {
            let Some(size): Option<LoraSize> = self.targets.get(target) else { return 0 };
            let (inputs, outputs) = match target {
                LoraTarget::Qkv => (d, 3 * d),
                LoraTarget::Fc1 => (d, fc1),
                LoraTarget::Fc2 => (fc2, d),
                _ => (d, d),
            };
            let rows = usize::from(self.dora) + usize::from(self.bias);
            size.rank * (inputs + outputs) + rows * outputs
        };
        LoraTarget::ALL.into_iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        LoraConfig::default().validate().unwrap();
        let mut wrong = LoraConfig::new(0, f64::NAN, &[LoraTarget::Qkv, LoraTarget::Key]);
        wrong.dora = true;
        wrong.dropout = 1.0;
        let text = wrong.validate().unwrap_err().to_string();
        for part in
            ["`qkv`: `rank` is 0", "`key`: `alpha` is NaN", "`qkv` beside query", "`dropout` is 1"]
        {
            assert!(text.contains(part), "{text}");
        }
        let none = LoraConfig::new(4, 8.0, &[]);
        assert_eq!(
            none.validate().unwrap_err().to_string(),
            "lora: no `targets`, expected at least one layer"
        );
    }

    #[test]
    fn configurations_go_through_files() {
        let lora = LoraConfig { rank_stabilized: true, ..LoraConfig::default() };
        let text = serde_json::to_string(&lora).unwrap();
        assert_eq!(serde_json::from_str::<LoraConfig>(&text).unwrap(), lora);
        assert!(!text.contains("dropout"), "{text}");
        let dropped = LoraConfig { dropout: 0.05, ..lora };
        let text = serde_json::to_string(&dropped).unwrap();
        assert_eq!(serde_json::from_str::<LoraConfig>(&text).unwrap(), dropped);
    }
}
