//! What trains: PAD and the baselines it is compared with (section 4 of the paper).

use pad_adapter::params::{ParamStore, Plan, Rate, Role};
use pad_train::{Parameter, weight_decay_for};
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

impl Paradigm {
    /// The plan of a run of `epochs` over an encoder of `depth` blocks. Fixed sine-cosine tables never train.
    pub fn plan(self, depth: usize, epochs: usize) -> Plan {
        let rates = match self {
            Paradigm::Pad { gate_frozen, decoder_embed } => Plan::new(move |role| {
                let through = (gate_frozen * epochs as f64).round() as usize;
                match role {
                    Role::Gate(_) => Some(Rate {
                        frozen_through: (gate_frozen > 0.0).then_some(through),
                        ..Rate::default()
                    }),
                    Role::DecoderEmbed if !decoder_embed => None,
                    role => (!role.is_backbone()).then(Rate::default),
                }
            }),
            Paradigm::DecoderOnly => {
                Plan::of_roles(|role| !role.is_backbone() && !role.is_adapter())
            }
            Paradigm::Full { layer_decay: Some(decay) } => {
                Plan::everything().with_layer_decay(decay, depth)
            }
            Paradigm::Full { layer_decay: None } | Paradigm::Scratch => Plan::everything(),
        };
        Plan::new(move |role| match role {
            Role::PosTable | Role::DecoderPosTable => None,
            role => rates.rate(role),
        })
    }

    /// Whether a role trains in some epoch: the rule for [`ParamStore::with_trained`].
    pub fn trains(self, role: Role) -> bool {
        self.plan(0, 1).rate(role).is_some()
    }

    /// The parameters of a built model as the optimiser takes them: weight decay on matrices alone.
    pub fn parameters(
        self,
        store: &ParamStore,
        depth: usize,
        epochs: usize,
        weight_decay: f64,
    ) -> Vec<Parameter> {
        let plan = self.plan(depth, epochs);
        let planned = store.planned().into_iter().filter_map(|planned| {
            let rate = plan.rate(planned.role)?;
            Some(Parameter {
                name: planned.name,
                weight_decay: weight_decay_for(planned.var.shape(), weight_decay),
                var: planned.var,
                lr_factor: rate.lr_factor,
                frozen_through: rate.frozen_through,
            })
        });
        planned.collect()
    }

    /// Whether it wants adapters in the encoder.
    pub fn has_adapters(self) -> bool {
        matches!(self, Paradigm::Pad { .. })
    }
}
