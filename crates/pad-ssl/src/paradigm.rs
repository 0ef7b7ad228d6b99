//! What trains: PAD and the baselines it is compared with (section 4 of the paper).

use std::{fmt, str::FromStr};

use pad_adapter::params::{ParamStore, Plan, Rate, Role};
use pad_train::Parameter;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, names};

/// Which parameters are pre-trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Paradigm {
    /// PAD: the backbone is frozen; adapters, decoder and mask token train.
    Pad {
        /// Fraction of the epochs in which the gates of patchwise scales stay at zero (all scales
        /// are 0.5): they are frozen while `epoch <= round(fraction * epochs)`. 0.6 in the paper.
        gate_frozen: f64,
        /// Whether the decoder's first layer trains. The paper freezes it, which suits a decoder
        /// that comes from a checkpoint.
        decoder_embed: bool,
    },
    /// All weights train from a checkpoint, without adapters. The position tables are fixed.
    Full {
        /// Factor on the learning rate per block towards the input. 0.7 in the paper's baseline;
        /// `None` = 1.
        layer_decay: Option<f64>,
    },
    /// All weights train from random first values. The position tables are fixed.
    Scratch,
    /// The backbone is frozen and has no adapters; only the decoder trains: the baseline without
    /// adapters.
    DecoderOnly,
}

impl Default for Paradigm {
    fn default() -> Self {
        Self::Pad { gate_frozen: 0.6, decoder_embed: false }
    }
}

impl Paradigm {
    /// Returns the paradigm without its parameters.
    pub fn kind(self) -> ParadigmKind {
        match self {
            Self::Pad { .. } => ParadigmKind::Pad,
            Self::Full { .. } => ParadigmKind::Full,
            Self::Scratch => ParadigmKind::Scratch,
            Self::DecoderOnly => ParadigmKind::DecoderOnly,
        }
    }

    /// Returns how each role trains in a run of `epochs` over an encoder of `depth` blocks.
    pub fn plan(self, depth: usize, epochs: usize) -> Plan {
        // Fixed sine-cosine tables.
        let is_table = |role| matches!(role, Role::PosTable | Role::DecoderPosTable);
        match self {
            Self::Pad { gate_frozen, decoder_embed } => Plan::new(move |role| match role {
                Role::Gate(_) => {
                    let frozen_through = gates_frozen_through(gate_frozen, epochs);
                    Some(Rate { frozen_through, ..Rate::default() })
                }
                Role::DecoderEmbed if !decoder_embed => None,
                role if role.is_backbone() || is_table(role) => None,
                _ => Some(Rate::default()),
            }),
            Self::DecoderOnly => Plan::of_roles(move |role| {
                !(role.is_backbone() || role.is_adapter() || is_table(role))
            }),
            Self::Scratch | Self::Full { layer_decay: None } => {
                Plan::of_roles(move |role| !is_table(role))
            }
            Self::Full { layer_decay: Some(decay) } => {
                Plan::of_roles(move |role| !is_table(role)).with_layer_decay(decay, depth)
            }
        }
    }

    /// Returns whether a role trains in some epoch.
    pub fn trains(self, role: Role) -> bool {
        self.plan(0, 1).rate(role).is_some()
    }

    /// Returns whether the encoder has adapters.
    pub fn has_adapters(self) -> bool {
        matches!(self, Self::Pad { .. })
    }
}

/// Writes the name of its [`ParadigmKind`].
impl fmt::Display for Paradigm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind().fmt(f)
    }
}

/// Returns the parameters of `store` that its plan trains, for the optimiser: `weight_decay` on
/// matrices and tensors of higher rank, none on vectors.
pub fn parameters(store: &ParamStore, weight_decay: f64) -> Vec<Parameter> {
    let planned = store.planned().into_iter().map(|planned| {
        Parameter::new(planned.name, planned.var)
            .with_weight_decay(weight_decay)
            .with_lr_factor(planned.rate.lr_factor)
            .with_frozen_through(planned.rate.frozen_through)
    });
    planned.collect()
}

/// A [`Paradigm`] without its parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum ParadigmKind {
    /// [`Paradigm::Pad`].
    #[default]
    Pad,
    /// [`Paradigm::Full`].
    Full,
    /// [`Paradigm::Scratch`].
    Scratch,
    /// [`Paradigm::DecoderOnly`].
    DecoderOnly,
}

impl ParadigmKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Pad, Self::Full, Self::Scratch, Self::DecoderOnly];

    /// The names of all kinds.
    pub const NAMES: [&str; 4] =
        [Self::Pad.name(), Self::Full.name(), Self::Scratch.name(), Self::DecoderOnly.name()];

    /// Returns the kind's name: `pad`, `full`, `scratch` or `decoder-only`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pad => "pad",
            Self::Full => "full",
            Self::Scratch => "scratch",
            Self::DecoderOnly => "decoder-only",
        }
    }

    /// Returns whether the encoder has adapters.
    pub fn has_adapters(self) -> bool {
        Paradigm::from(self).has_adapters()
    }
}

/// The paradigm with its default parameters.
impl From<ParadigmKind> for Paradigm {
    fn from(kind: ParadigmKind) -> Self {
        match kind {
            ParadigmKind::Pad => Self::default(),
            ParadigmKind::Full => Self::Full { layer_decay: None },
            ParadigmKind::Scratch => Self::Scratch,
            ParadigmKind::DecoderOnly => Self::DecoderOnly,
        }
    }
}

impl fmt::Display for ParadigmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ParadigmKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| names::unknown("paradigm", text, &Self::NAMES))
    }
}

impl From<ParadigmKind> for String {
    fn from(kind: ParadigmKind) -> Self {
        kind.name().into()
    }
}

impl TryFrom<String> for ParadigmKind {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// The last epoch in which gates are frozen, of a run of `epochs`: as in the original (epoch 60 of 100
/// at 0.6). Unless they are frozen for all of it, the last epoch trains them: a short run would end
/// with the scales that it began with.
fn gates_frozen_through(share: f64, epochs: usize) -> Option<usize> {
    let through = (share * epochs as f64).round() as usize;
    match share {
        share if share <= 0.0 => None,
        share if share >= 1.0 => Some(through),
        _ => epochs.checked_sub(2).map(|most| through.min(most)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for kind in ParadigmKind::ALL {
            assert_eq!(kind.to_string().parse::<ParadigmKind>().unwrap(), kind);
            assert_eq!(Paradigm::from(kind).kind(), kind);
        }
        assert_eq!(
            "padd".parse::<ParadigmKind>().unwrap_err().to_string(),
            "paradigm: expected pad, full, scratch or decoder-only, found `padd` (did you mean \
             `pad`?)"
        );
    }

    #[test]
    fn plans() {
        let plan = Paradigm::Full { layer_decay: Some(0.5) }.plan(2, 10);
        let factor = |role| plan.rate(role).map(|rate| rate.lr_factor);
        assert_eq!(factor(Role::PatchEmbed), Some(0.125));
        assert_eq!(factor(Role::Block(1)), Some(0.5));
        assert_eq!(factor(Role::Decoder), Some(1.0));
        assert_eq!(factor(Role::PosTable), None);
        let pad = Paradigm::default().plan(2, 10);
        assert_eq!(pad.rate(Role::Gate(0)).and_then(|rate| rate.frozen_through), Some(6));
        let through = |epochs| {
            let rate = Paradigm::default().plan(2, epochs).rate(Role::Gate(0));
            rate.and_then(|rate| rate.frozen_through)
        };
        assert_eq!([1, 2, 3, 5, 100].map(through), [None, Some(0), Some(1), Some(3), Some(60)]);
        assert_eq!(pad.rate(Role::DecoderEmbed), None);
        assert_eq!(pad.rate(Role::Block(0)), None);
        assert!(!Paradigm::DecoderOnly.trains(Role::Adapter(0)));
    }
}
