//! What a segmentor is as the network of a task.

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use pad_adapter::{
    checkpoint::Checkpoint,
    params::Role,
    vit::{ViTConfig, sin_cos_table},
};
use pad_data::{draw::Color, sets::segmentation::Classes};
use pad_ops::{MatmulPrecision, Mode};
use pad_train::Losses;
use serde::{Deserialize, Serialize};

pub use pad_data::loader::SegmentationBatch;

use super::{BackboneKind, Segmentor, SegmentorConfig, pretrained::pretrained, role::role_of};
use crate::{
    error::{Error, Result},
    model::{NetworkTask, TaskModel, TaskNetwork},
};

/// A segmentor, the names and colours of its classes, and its parameters.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::vit::ViTConfig;
/// use pad_data::sets::segmentation::Classes;
/// use pad_heads::{Start, segmentation::{SegmentationModel, SegmentorConfig}};
/// use pad_ops::{ImageSize, rng::Key};
///
/// let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
/// let classes = Classes::new(["ground", "person"])?;
/// let start = Start::new(&Device::Cpu, Key::new(0));
/// let model = SegmentationModel::new(&SegmentorConfig::probe(vit, 2), classes, None, &start)?;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.safetensors");
/// model.save(&path)?;
/// let opened = SegmentationModel::open(&path, &Device::Cpu)?;
/// assert_eq!(opened.classes, model.classes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type SegmentationModel = TaskModel<Segmentor>;

/// Trains a segmentor.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_adapter::vit::ViTConfig;
/// use pad_data::Batch;
/// use pad_heads::segmentation::{SegmentationTask, Segmentor, SegmentorConfig};
/// use pad_train::Task;
/// let config = SegmentorConfig::probe(ViTConfig::new(16, 16, 1, 2), 2);
/// let segmentor = Segmentor::new(&config, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
/// let task = SegmentationTask::new(&segmentor);
/// let images = Tensor::zeros((4, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let labels = Tensor::zeros((4, 32, 32), DType::U8, &Device::Cpu)?;
/// assert_eq!(task.images_in(&Batch::new(images, labels)), 4);
/// # Ok::<(), pad_heads::Error>(())
/// ```
pub type SegmentationTask<'a> = NetworkTask<'a, Segmentor>;

/// The classes in a file.
///
/// ```
/// use pad_data::sets::segmentation::Classes;
/// use pad_heads::{TaskNetwork, segmentation::Segmentor};
/// let stored = Segmentor::to_stored(&Classes::new(["ground", "person"])?);
/// let json = serde_json::to_value(&stored)?;
/// assert_eq!((&json["names"][1], &json["ignore"]), (&"person".into(), &255.into()));
/// assert_eq!(Segmentor::from_stored(stored)?.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredClasses {
    names: Vec<String>,
    palette: Vec<Color>,
    ignore: u8,
}

impl TaskNetwork for Segmentor {
    const KIND: &'static str = "segmentor";

    type Config = SegmentorConfig;
    type Classes = Classes;
    type StoredClasses = StoredClasses;
    type Labels = Tensor;

    fn build(config: &SegmentorConfig, vb: VarBuilder<'static>) -> Result<Self> {
        Segmentor::new(config, vb)
    }

    fn config(&self) -> &SegmentorConfig {
        Segmentor::config(self)
    }

    fn losses(&self, batch: &SegmentationBatch, mode: Mode) -> Result<Losses> {
        Segmentor::losses(self, &batch.images, &batch.labels, mode)
    }

    fn with_checkpointing(self, checkpointing: bool) -> Self {
        Segmentor::with_checkpointing(self, checkpointing)
    }

    fn with_matmul_precision(self, precision: MatmulPrecision) -> Self {
        Segmentor::with_matmul_precision(self, precision)
    }

    fn with_frozen_backbone(self, frozen_backbone: bool) -> Self {
        Segmentor::with_frozen_backbone(self, frozen_backbone)
    }

    fn validate(config: &SegmentorConfig) -> Result<()> {
        config.validate()
    }

    fn vit(config: &SegmentorConfig) -> &ViTConfig {
        config.backbone.vit()
    }

    fn class_counts(config: &SegmentorConfig, classes: &Classes) -> [usize; 2] {
        [config.classes, classes.len()]
    }

    fn to_stored(classes: &Classes) -> StoredClasses {
        let Classes { names, palette, ignore, .. } = classes.clone();
        StoredClasses { names, palette, ignore }
    }

    fn from_stored(stored: StoredClasses) -> Result<Classes> {
        if stored.palette.len() != stored.names.len() {
            return Err(Error::Classes {
                expected: format!("a colour for each of {} classes", stored.names.len()),
                found: stored.palette.len().to_string(),
            });
        }
        let mut classes = Classes::new(stored.names)?;
        (classes.palette, classes.ignore) = (stored.palette, stored.ignore);
        Ok(classes)
    }

    fn role_of(name: &str) -> Role {
        role_of(name)
    }

    fn fit(checkpoint: Checkpoint, config: &SegmentorConfig) -> Result<(Checkpoint, Vec<String>)> {
        pretrained(checkpoint, &config.backbone)
    }

    fn first_values(config: &SegmentorConfig, device: &Device) -> Result<Vec<(String, Tensor)>> {
        let BackboneKind::Plain(vit) = &config.backbone else { return Ok(Vec::new()) };
        let table = sin_cos_table(vit.embed_dim, vit.pos_table_grid()?, device)?;
        Ok(vec![("backbone.pos_embed".into(), table)])
    }
}
