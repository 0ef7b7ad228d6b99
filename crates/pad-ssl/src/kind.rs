//! The objectives by name.

use std::{fmt, str::FromStr};

use pad_adapter::checkpoint::Checkpoint;
use serde::{Deserialize, Serialize};

use crate::{Error, Masking, Result, feature_target, mae, milan, names, simmim, student::Spec};

/// Which objective a network is trained with. A new one is a file with a `Spec` and an entry here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum ObjectiveKind {
    /// [`Mae`](crate::Mae).
    #[default]
    Mae,
    /// [`Milan`](crate::Milan).
    Milan,
    /// [`SimMim`](crate::SimMim).
    SimMim,
    /// [`FeatureTarget`](crate::FeatureTarget).
    Features,
}

impl ObjectiveKind {
    /// All objectives.
    pub const ALL: [Self; 4] = [Self::Mae, Self::Milan, Self::SimMim, Self::Features];

    /// The names of all objectives.
    pub const NAMES: [&str; 4] =
        [mae::SPEC.name, milan::SPEC.name, simmim::SPEC.name, feature_target::SPEC.name];

    pub(crate) const fn spec(self) -> &'static Spec {
        match self {
            Self::Mae => &mae::SPEC,
            Self::Milan => &milan::SPEC,
            Self::SimMim => &simmim::SPEC,
            Self::Features => &feature_target::SPEC,
        }
    }

    /// Returns the objective's name: `mae`, `milan`, `simmim` or `features`.
    pub const fn name(self) -> &'static str {
        self.spec().name
    }

    /// Returns the fraction of patches that the objective's paper removes.
    pub const fn mask_ratio(self) -> f64 {
        self.spec().mask_ratio
    }

    /// Returns the masking strategy of the objective's paper.
    pub const fn masking(self) -> Masking {
        self.spec().masking
    }

    /// Returns whether the objective learns from a teacher.
    pub const fn needs_teacher(self) -> bool {
        self.spec().needs_teacher
    }

    /// Returns whether `checkpoint` holds a decoder that this objective can train further.
    pub fn has_decoder(self, checkpoint: &Checkpoint) -> bool {
        let holds = |name: &str| checkpoint.get(name).is_some();
        self.spec().decoder_tensor.is_some_and(|own| holds(own) && holds("decoder_embed.weight"))
    }
}

impl fmt::Display for ObjectiveKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ObjectiveKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| names::unknown("objective", text, &Self::NAMES))
    }
}

impl From<ObjectiveKind> for String {
    fn from(kind: ObjectiveKind) -> Self {
        kind.name().into()
    }
}

impl TryFrom<String> for ObjectiveKind {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for kind in ObjectiveKind::ALL {
            assert_eq!(kind.to_string().parse::<ObjectiveKind>().unwrap(), kind);
        }
        let error = "simim".parse::<ObjectiveKind>().unwrap_err().to_string();
        assert_eq!(
            error,
            "objective: expected mae, milan, simmim or features, found `simim` (did you mean \
             `simmim`?)"
        );
    }
}
