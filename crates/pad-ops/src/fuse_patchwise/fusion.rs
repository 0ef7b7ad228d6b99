//! The input of the gate.

use serde::{Deserialize, Serialize};

/// The input of the gate (`fusion_method` in the original).
///
/// ```
/// use pad_ops::Fusion;
/// assert_eq!(Fusion::default(), Fusion::Concat);
/// assert_eq!((Fusion::Concat.gate_width(768), Fusion::Sum.gate_width(768)), (1536, 768));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fusion {
    /// Both branches side by side, gate (1, 2 D): MLP first, adapter second.
    #[default]
    Concat,
    /// Their sum, gate (1, D).
    Sum,
    /// The adapter's output alone, gate (1, D).
    Side,
    /// The MLP's output alone, gate (1, D).
    Gside,
}

impl Fusion {
    /// Returns the length of the gate's weight for tokens of `embed_dim` values.
    pub fn gate_width(self, embed_dim: usize) -> usize {
        if self == Fusion::Concat { 2 * embed_dim } else { embed_dim }
    }

    /// Where the gate's weights for the MLP's output and for the adapter's begin; `None`: it does
    /// not look there.
    pub(crate) fn places(self, embed_dim: usize) -> [Option<usize>; 2] {
        match self {
            Fusion::Concat => [Some(0), Some(embed_dim)],
            Fusion::Sum => [Some(0), Some(0)],
            Fusion::Side => [None, Some(0)],
            Fusion::Gside => [Some(0), None],
        }
    }
}
