//! A segmentor as a training task.

use candle_core::Tensor;
<<<<<<< HEAD
use pad_adapter::params::Role;
=======
use pad_adapter::params::{ParamStore, Plan, Planned, Role};
>>>>>>> w-adapter
use pad_ops::Mode;
use pad_train::{BoxError, Losses, Task};

use super::Segmentor;

<<<<<<< HEAD
/// Returns the role of a segmentor's parameter by its full name, for
/// [`ParamStore::with_roles`](pad_adapter::params::ParamStore::with_roles). The names of the backbone start with
=======
/// The role of a segmentor's parameter by its full name, for [`ParamStore::with_roles`]: the backbone's parts stand behind
>>>>>>> w-adapter
/// `backbone.`; the pyramid counts as head, since no pre-training has it.
pub fn role_of(name: &str) -> Role {
    name.strip_prefix("backbone.").map_or(Role::Head, Role::of)
}

<<<<<<< HEAD
=======
/// Which parts train, for [`ParamStore::with_trained`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trained {
    /// All of it.
    #[default]
    Everything,
    /// Adapters and heads (`--freeze-backbone`).
    AdaptersAndHeads,
    /// Heads alone: a probe.
    Heads,
}

impl Trained {
    /// Whether a role trains.
    pub fn includes(self, role: Role) -> bool {
        match self {
            Trained::Everything => true,
            Trained::AdaptersAndHeads => role.is_adapter() || role == Role::Head,
            Trained::Heads => role == Role::Head,
        }
    }
}

/// Learning rates that fall from the heads down to the patches, BEiT's rule and the original's.
///
/// The factor of a layer is `rate ^ (depth + 1 - layer)`: layer 0 is the patch embedding, the class token and the position
/// table, layer `i + 1` is block `i` with its adapter, heads and pyramid have factor 1.
///
/// Weight decay goes to all tensors of two axes and more. The original means to spare `pos_embed` and `cls_token`, but
/// compares names without their prefix `backbone.` and decays them all the same, relative position tables too. This does
/// as the original does, not as it says: its published results were made so.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LayerDecay {
    /// Factor from a layer to the one below. Default 0.65.
    pub rate: f64,
    /// Decoupled weight decay. Default 0.05.
    pub weight_decay: f64,
}

impl Default for LayerDecay {
    fn default() -> Self {
        Self { rate: 0.65, weight_decay: 0.05 }
    }
}

impl LayerDecay {
    /// What multiplies the learning rate of a role in a network of `depth` blocks.
    pub fn factor(&self, role: Role, depth: usize) -> f64 {
        let plan = Plan::everything().with_layer_decay(self.rate, depth);
        plan.rate(role).unwrap_or_default().lr_factor
    }

    /// The trained parameters of `store` for an optimiser. Running statistics are among them so that checkpoints hold
    /// them, but they never get an update.
    pub fn parameters(&self, store: &ParamStore, depth: usize) -> Vec<Parameter> {
        let parameter = |planned: Planned| {
            let role = planned.role;
            let parameter = Parameter::new(planned.name, planned.var);
            if is_statistic(&parameter.name) {
                return Parameter { frozen_through: Some(usize::MAX), ..parameter };
            }
            Parameter {
                lr_factor: self.factor(role, depth),
                weight_decay: weight_decay_for(parameter.var.shape(), self.weight_decay),
                ..parameter
            }
        };
        store.planned().into_iter().map(parameter).collect()
    }
}

>>>>>>> w-adapter
/// Images with a class for every pixel.
#[derive(Clone, Debug)]
pub struct SegmentationBatch {
    /// (B, C, H, W), normalised, sides that the patch divides.
    pub images: Tensor,
    /// (B, H, W), `u8` or `u32`.
    pub labels: Tensor,
}

/// Trains a segmentor.
#[derive(Clone, Copy)]
pub struct SegmentationTask<'a> {
    segmentor: &'a Segmentor,
}

impl<'a> SegmentationTask<'a> {
    /// The task of training `segmentor`.
    pub fn new(segmentor: &'a Segmentor) -> Self {
        Self { segmentor }
    }
}

impl Task for SegmentationTask<'_> {
    type Batch = SegmentationBatch;

    fn losses(&self, batch: &SegmentationBatch, mode: Mode) -> Result<Losses, BoxError> {
        Ok(self.segmentor.losses(&batch.images, &batch.labels, mode)?)
    }
}
