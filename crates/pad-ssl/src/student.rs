//! What every objective tells of itself: how it is called, what its paper chose, how its network is
//! built.

use std::any::Any;

use candle_nn::VarBuilder;
use pad_adapter::vit::ViT;
use pad_ops::MatmulPrecision;

use crate::{
    Error, FeatureLoss, Masking, Result, TeacherModel, mae_config::MaeConfig, objective::KeyedLoss,
};

/// A network that an objective trains, whichever it is.
pub(crate) trait Student: KeyedLoss + Send + Sync {
    /// Returns the encoder, which is what pre-training is for.
    fn encoder(&self) -> &ViT;

    /// Returns the network itself, to be downcast.
    fn as_any(&self) -> &dyn Any;
}

/// Hyperparameters of a [`Network`](crate::Network), whichever its objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetworkConfig {
    /// Encoder, decoder (of objectives that have one) and mask ratio.
    pub mae: MaeConfig,
    /// Masking strategy. Default `None`: the objective's own.
    pub masking: Option<Masking>,
    /// Whether blocks keep only their inputs for the backward and compute the rest again. Default
    /// `false`.
    pub checkpointing: bool,
    /// What the blocks' linear layers multiply in. Default `f32`.
    pub matmul_precision: MatmulPrecision,
    /// How predicted features are compared with the teacher's, in feature targets. Default
    /// [`FeatureLoss::Cosine`].
    pub feature_loss: FeatureLoss,
    /// Whether the loss of feature targets includes kept patches: distillation. Default `false`.
    pub all_patches: bool,
}

impl NetworkConfig {
    /// The hyperparameters `mae` with everything else at its default.
    pub fn new(mae: MaeConfig) -> Self {
        Self {
            mae,
            masking: None,
            checkpointing: false,
            matmul_precision: MatmulPrecision::F32,
            feature_loss: FeatureLoss::default(),
            all_patches: false,
        }
    }
}

/// An objective's entry in the table of [`ObjectiveKind`](crate::ObjectiveKind).
pub(crate) struct Spec {
    /// Its name.
    pub(crate) name: &'static str,
    /// Fraction of patches that its paper removes.
    pub(crate) mask_ratio: f64,
    /// Masking strategy of its paper.
    pub(crate) masking: Masking,
    /// Whether it learns from a teacher.
    pub(crate) needs_teacher: bool,
    /// A tensor that only its own decoder has; `None` if it has no decoder worth keeping.
    pub(crate) decoder_tensor: Option<&'static str>,
    /// Builds its network.
    pub(crate) build: Build,
}

/// Builds the network of an objective. The teacher is given wherever the caller has one.
pub(crate) type Build =
    fn(&NetworkConfig, Option<&TeacherModel>, VarBuilder) -> Result<Box<dyn Student>>;

/// Returns the error for an objective that was given no teacher.
pub(crate) fn missing_teacher(name: &str) -> Error {
    Error::MissingTeacher { what: format!("objective {name}") }
}
