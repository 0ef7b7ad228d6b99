//! What trains: PAD and the baselines it is compared with (section 4 of the paper).

use pad_adapter::params::{ParamStore, Role};
use pad_train::Parameter;
use serde::{Deserialize, Serialize};

/// A way to pre-train.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Paradigm {
    /// PAD: the backbone is frozen, adapters, decoder and mask token train.
    Pad {
        /// Share of the epochs in which the gates of patchwise scales stay at zero (all scales 0.5): they are frozen
        /// while `epoch <= round(share * epochs)`. The paper's 0.6.
        gate_frozen: f64,
        /// Whether the decoder's first layer trains too. The paper freezes it, which makes sense only where it comes
        /// from a checkpoint.
        decoder_embed: bool,
    },
    /// Every weight trains on from a checkpoint, without adapters; the fixed position tables stay.
    Full {
        /// Learning rate falls towards the input by this factor per block; 0.7 in the paper's baseline.
        layer_decay: Option<f64>,
    },
    /// Every weight trains from random first values.
    Scratch,
    /// The backbone is frozen and has no adapters; only the decoder trains: what adapters are measured against.
    DecoderOnly,
}

impl Default for Paradigm {
    fn default() -> Self {
        Paradigm::Pad { gate_frozen: 0.6, decoder_embed: false }
    }
}

/// How a parameter trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Factor on the learning rate.
    pub lr_factor: f64,
    /// Last epoch in which it stays frozen, if any.
    pub frozen_through: Option<usize>,
}

impl Paradigm {
    /// How a role trains in a run of `epochs` over an encoder of `depth` blocks; `None` = never.
    pub fn plan(self, role: Role, depth: usize, epochs: usize) -> Option<Rate> {
        let plain = Some(Rate { lr_factor: 1.0, frozen_through: None });
        if matches!(role, Role::PosTable | Role::DecoderPosTable) {
            return None; // fixed sine-cosine tables
        }
        match self {
            Paradigm::Pad { gate_frozen, decoder_embed } => match role {
                Role::Gate(_) => {
                    let through = (gate_frozen * epochs as f64).round() as usize;
                    let frozen_through = (gate_frozen > 0.0).then_some(through);
                    Some(Rate { lr_factor: 1.0, frozen_through })
                }
                Role::DecoderEmbed if !decoder_embed => None,
                role if role.is_backbone() => None,
                _ => plain,
            },
            Paradigm::DecoderOnly if role.is_backbone() || role.is_adapter() => None,
            Paradigm::DecoderOnly | Paradigm::Scratch | Paradigm::Full { layer_decay: None } => {
                plain
            }
            Paradigm::Full { layer_decay: Some(decay) } => {
                let layer = match role {
                    Role::PatchEmbed | Role::ClassToken => 0,
                    Role::Block(i) | Role::Adapter(i) | Role::Gate(i) => i + 1,
                    _ => depth + 1,
                };
                let power = (depth + 1 - layer.min(depth + 1)) as i32;
                Some(Rate { lr_factor: decay.powi(power), frozen_through: None })
            }
        }
    }

    /// Whether a role trains in some epoch: the rule for [`ParamStore::train`].
    pub fn trains(self, role: Role) -> bool {
        self.plan(role, usize::MAX - 1, 1).is_some()
    }

    /// The parameters of a built model as the optimiser takes them: weight decay on matrices alone.
    pub fn parameters(
        self,
        store: &ParamStore,
        depth: usize,
        epochs: usize,
        weight_decay: f64,
    ) -> Vec<Parameter> {
        let trained = store.trained().into_iter();
        let planned = trained.filter_map(|(name, role, var)| {
            let rate = self.plan(role, depth, epochs)?;
            let parameter = Parameter::new(name, var)
                .with_lr_factor(rate.lr_factor)
                .with_frozen_through(rate.frozen_through)
                .with_weight_decay(weight_decay);
            Some(parameter)
        });
        planned.collect()
    }

    /// Whether it wants adapters in the encoder.
    pub fn has_adapters(self) -> bool {
        matches!(self, Paradigm::Pad { .. })
    }
}
