//! What a detector is as the network of a task.

use candle_nn::VarBuilder;
use pad_adapter::{checkpoint::Checkpoint, params::Role, vit::ViTConfig};
use pad_data::{sets::detection::BoxClasses, transform::detection::DetectionTargets};
use pad_ops::{MatmulPrecision, Mode};
use pad_train::Losses;

use super::{
    DetectionBatch, Detector, DetectorConfig, Thresholds, pretrained::pretrained, role::role_of,
};
use crate::{
    error::Result,
    model::{NetworkTask, TaskModel, TaskNetwork},
};

/// A detector, the names and numbers of its classes, and its parameters.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::vit::ViTConfig;
/// use pad_data::sets::detection::BoxClasses;
/// use pad_heads::{Start, detection::{DetectionModel, DetectorConfig}};
/// use pad_ops::{ImageSize, rng::Key};
///
/// let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
/// let config = DetectorConfig {
///     channels: 8,
///     head_dim: 8,
///     relative_size: ImageSize::square(64),
///     ..DetectorConfig::on_backbone(vit, 2)
/// };
/// let classes = BoxClasses::named(["person", "car"])?;
/// let start = Start::new(&Device::Cpu, Key::new(0));
/// let model = DetectionModel::new(&config, classes, None, &start)?;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.safetensors");
/// model.save(&path)?;
/// let opened = DetectionModel::open(&path, &Device::Cpu)?;
/// assert_eq!(opened.classes, model.classes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type DetectionModel = TaskModel<Detector>;

/// Trains a detector.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_adapter::vit::ViTConfig;
/// use pad_heads::detection::{
///     DetectionBatch, DetectionTargets, DetectionTask, Detector, DetectorConfig, Target,
/// };
/// use pad_ops::ImageSize;
/// use pad_train::Task;
/// let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
/// let config = DetectorConfig { channels: 8, head_dim: 8, ..DetectorConfig::on_backbone(vit, 1) };
/// let detector = Detector::new(&config, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
/// let task = DetectionTask::new(&detector); // what `Trainer::run` takes
/// let images = Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let sizes = vec![ImageSize::square(32); 2];
/// let targets = vec![Target::default(); 2];
/// let batch = DetectionBatch::new(images, DetectionTargets { sizes, targets });
/// assert_eq!(task.images_in(&batch), 2);
/// # Ok::<(), pad_heads::Error>(())
/// ```
pub type DetectionTask<'a> = NetworkTask<'a, Detector>;

impl TaskModel<Detector> {
    /// Replaces the thresholds that are given.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config).
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::vit::ViTConfig;
    /// use pad_data::sets::detection::BoxClasses;
    /// use pad_heads::{Start, detection::{DetectionModel, DetectorConfig, Thresholds}};
    /// use pad_ops::{ImageSize, rng::Key};
    /// let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
    /// let plain = DetectorConfig::on_backbone(vit, 2);
    /// let config = DetectorConfig { channels: 8, head_dim: 8, ..plain };
    /// let classes = BoxClasses::named(["person", "car"])?;
    /// let start = Start::new(&Device::Cpu, Key::new(0));
    /// let model = DetectionModel::new(&config, classes, None, &start)?
    ///     .with_thresholds(Thresholds { max_detections: Some(5), ..Default::default() })?;
    /// assert_eq!(model.network.config().max_detections, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_thresholds(mut self, thresholds: Thresholds) -> Result<Self> {
        self.network = self.network.with_thresholds(thresholds)?;
        Ok(self)
    }
}

impl TaskNetwork for Detector {
    const KIND: &'static str = "detector";

    type Config = DetectorConfig;
    type Classes = BoxClasses;
    type StoredClasses = BoxClasses;
    type Labels = DetectionTargets;

    fn build(config: &DetectorConfig, vb: VarBuilder<'static>) -> Result<Self> {
        Detector::new(config, vb)
    }

    fn config(&self) -> &DetectorConfig {
        Detector::config(self)
    }

    fn losses(&self, batch: &DetectionBatch, mode: Mode) -> Result<Losses> {
        Detector::losses(self, batch, mode)
    }

    fn with_checkpointing(self, checkpointing: bool) -> Self {
        Detector::with_checkpointing(self, checkpointing)
    }

    fn with_matmul_precision(self, precision: MatmulPrecision) -> Self {
        Detector::with_matmul_precision(self, precision)
    }

    fn with_frozen_backbone(self, frozen_backbone: bool) -> Self {
        Detector::with_frozen_backbone(self, frozen_backbone)
    }

    fn validate(config: &DetectorConfig) -> Result<()> {
        config.validate()
    }

    fn vit(config: &DetectorConfig) -> &ViTConfig {
        &config.vit
    }

    fn class_counts(config: &DetectorConfig, classes: &BoxClasses) -> [usize; 2] {
        [config.classes, classes.len()]
    }

    fn to_stored(classes: &BoxClasses) -> BoxClasses {
        classes.clone()
    }

    fn from_stored(stored: BoxClasses) -> Result<BoxClasses> {
        Ok(stored)
    }

    fn role_of(name: &str) -> Role {
        role_of(name)
    }

    fn fit(checkpoint: Checkpoint, config: &DetectorConfig) -> Result<(Checkpoint, Vec<String>)> {
        pretrained(checkpoint, config)
    }
}
