//! A network of any objective.

use candle_core::Tensor;
use candle_nn::VarBuilder;
use pad_adapter::vit::ViT;
use pad_ops::{Mode, rng::Key};
use pad_train::Losses;

use crate::{
    Error, FeatureLoss, Mae, Masking, NetworkConfig, Objective, ObjectiveKind, Result,
    TeacherModel,
    student::{Student, missing_teacher},
};

/// A network whose objective is chosen while the program runs. Its draw is the keys themselves.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::{params::ParamStore, vit::ViTConfig};
/// use pad_ops::{ImageSize, rng::Key};
/// use pad_ssl::{MaeConfig, Network, NetworkConfig, ObjectiveKind};
///
/// let encoder = ViTConfig { image_size: ImageSize::square(64), ..ViTConfig::new(16, 16, 2, 2) };
/// let kind: ObjectiveKind = "simmim".parse()?;
/// let mae = MaeConfig { encoder, mask_ratio: kind.mask_ratio(), ..Default::default() };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
/// let network = store.build(|vb| Network::new(kind, &NetworkConfig::new(mae), None, vb))?;
/// assert_eq!(network.encoder().config().depth, 2);
/// assert!(network.mae().is_none());
/// # Ok::<(), pad_ssl::Error>(())
/// ```
pub struct Network {
    kind: ObjectiveKind,
    student: Box<dyn Student>,
}

impl Network {
    /// Builds the network of the objective `kind` from `vb`'s tensors. A `teacher` is used where
    /// objective or masking learn from one.
    ///
    /// # Errors
    /// [`Error::MissingTeacher`]; [`Error::Config`]; errors of `vb`, such as a tensor of another
    /// shape.
    pub fn new(
        kind: ObjectiveKind,
        config: &NetworkConfig,
        teacher: Option<&TeacherModel>,
        vb: VarBuilder,
    ) -> Result<Self> {
        if teacher.is_none() {
            if kind.needs_teacher() {
                return Err(missing_teacher(kind.name()));
            }
            if config.masking == Some(Masking::Attention) {
                let what = format!("masking {}", Masking::Attention);
                return Err(Error::MissingTeacher { what });
            }
        }
        check(kind, config)?;
        let student = (kind.spec().build)(config, teacher, vb)?;
        Ok(Self { kind, student })
    }

    /// Returns the objective.
    pub fn kind(&self) -> ObjectiveKind {
        self.kind
    }

    /// Returns the encoder.
    pub fn encoder(&self) -> &ViT {
        self.student.encoder()
    }

    /// Returns the autoencoder of [`ObjectiveKind::Mae`], for reconstructions; `None` for other
    /// objectives.
    pub fn mae(&self) -> Option<&Mae> {
        self.student.as_any().downcast_ref()
    }
}

/// Checks that nothing is set which the objective `kind` does not have.
fn check(kind: ObjectiveKind, config: &NetworkConfig) -> Result<()> {
    if kind == ObjectiveKind::Features {
        return Ok(());
    }
    let set = [
        ("all_patches", config.all_patches),
        ("feature_loss", config.feature_loss != FeatureLoss::default()),
    ];
    let own = ObjectiveKind::Features.name();
    let faults: Vec<String> = set
        .into_iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| format!("`{name}` is set, expected with objective {own} alone"))
        .collect();
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Error::Config { what: kind.name(), faults }),
    }
}

impl Objective for Network {
    type Draw = Vec<Key>;

    fn draw(&self, _: &Tensor, keys: &[Key]) -> Result<Vec<Key>> {
        Ok(keys.to_vec())
    }

    fn loss(&self, images: &Tensor, keys: &Vec<Key>, mode: Mode) -> Result<Losses> {
        self.student.keyed_loss(images, keys, mode)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::MaeConfig;

    #[test]
    fn settings_of_another_objective_are_refused() {
        let plain = NetworkConfig::new(MaeConfig::default());
        let text = |kind, config: NetworkConfig| {
            let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
            Network::new(kind, &config, None, vb).err().unwrap().to_string()
        };
        let both =
            NetworkConfig { all_patches: true, feature_loss: FeatureLoss::SmoothL1, ..plain };
        assert_eq!(
            text(ObjectiveKind::Mae, both),
            "mae: `all_patches` is set, expected with objective features alone; \
             `feature_loss` is set, expected with objective features alone"
        );
        let one = NetworkConfig { all_patches: true, ..plain };
        assert_eq!(
            text(ObjectiveKind::SimMim, one),
            "simmim: `all_patches` is set, expected with objective features alone"
        );
    }
}
