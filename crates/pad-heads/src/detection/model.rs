//! A detector with its classes and parameters: started on a backbone, saved, and opened again.

use std::{collections::BTreeMap, path::Path};

use candle_core::Device;
use pad_adapter::{
    checkpoint::{Checkpoint, FloatType, InputStats, save},
    params::{ParamStore, Role},
    vit::ViTConfig,
};
use pad_data::{sets::detection::BoxClasses, transform::Normalize};
use pad_ops::{MatmulPrecision, rng::Key};
use pad_train::Parameter;

use super::{Detector, DetectorConfig, Thresholds, pretrained, role_of};
use crate::{
    error::{Error, Result},
    plan::parameters,
    start::{Start, check_format, metadata, stored_config, stored_normalize, to_json},
};

const FORMAT: &str = "pad-detector/1";

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
#[non_exhaustive]
pub struct DetectionModel {
    /// The network.
    pub detector: Detector,
    /// Its parameters.
    pub store: ParamStore,
    /// Its classes.
    pub classes: BoxClasses,
    /// Input statistics that it was trained with, if known.
    pub normalize: Option<Normalize>,
    device: Device,
    changes: Vec<String>,
}

impl DetectionModel {
    /// Builds a new detector, on the checkpoint of a pre-trained backbone (as
    /// [`Backbone::into_checkpoint`](pad_adapter::checkpoint::Backbone::into_checkpoint) gives it)
    /// or from random first values. Adapters that the checkpoint lacks are initialised.
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::Classes`] for another number of classes; as [`pretrained`];
    /// whatever the checkpoint lacks.
    pub fn new(
        config: &DetectorConfig,
        classes: BoxClasses,
        backbone: Option<Checkpoint>,
        start: &Start,
    ) -> Result<Self> {
        config.validate()?;
        expect_classes(config, &classes)?;
        let mut changes = Vec::new();
        let checkpoint = match backbone {
            None => None,
            Some(mut checkpoint) => {
                changes.extend(start.without_unused_adapters(&mut checkpoint, &config.vit));
                let (checkpoint, fitted) = pretrained(checkpoint, config)?;
                changes.extend(fitted);
                Some(checkpoint)
            }
        };
        let store = start.store(checkpoint, role_of, config.vit.depth);
        let detector = store.build(|vb| Detector::new(config, vb))?;
        let device = start.device.clone();
        Ok(Self { detector, store, classes, normalize: None, device, changes })
    }

    /// Opens a file that [`DetectionModel::save`] wrote, strictly. Nothing trains.
    ///
    /// # Errors
    /// [`Error::Metadata`] for another kind of file; [`Error::Classes`]; what is missing,
    /// unexpected or misshapen.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        const KIND: &str = "detector";
        let checkpoint = Checkpoint::open(path)?;
        let config: DetectorConfig = metadata(&checkpoint, "detector", KIND)?;
        check_format(&checkpoint, FORMAT)?;
        config.validate()?;
        let classes: BoxClasses = metadata(&checkpoint, "classes", KIND)?;
        expect_classes(&config, &classes)?;
        let normalize = stored_normalize(&checkpoint)?;
        let store =
            ParamStore::from_checkpoint(checkpoint, device, Key::new(0)).with_roles(role_of);
        let detector = store.build(|vb| Detector::new(&config, vb))?;
        let device = device.clone();
        Ok(Self { detector, store, classes, normalize, device, changes: Vec::new() })
    }

    /// Writes the whole detector to a safetensors file, atomically. Its metadata hold
    /// configuration, classes and input statistics.
    ///
    /// # Errors
    /// [`Error::Adapter`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let config = self.detector.config();
        let mut metadata = BTreeMap::from([
            ("format".to_string(), FORMAT.to_string()),
            ("detector".into(), to_json(path, "detector", config)?),
            ("vit".into(), to_json(path, "vit", &config.vit)?),
            ("classes".into(), to_json(path, "classes", &self.classes)?),
        ]);
        if let Some(Normalize { mean, std }) = self.normalize {
            InputStats { mean, std }.write(&mut metadata);
        }
        Ok(save(path, &self.store.tensors(|_| true), &metadata, FloatType::AsIs)?)
    }

    /// Sets the input statistics that the file will hold.
    #[must_use]
    pub fn with_normalize(self, normalize: Normalize) -> Self {
        Self { normalize: Some(normalize), ..self }
    }

    /// Replaces the thresholds that are given.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn with_thresholds(self, thresholds: Thresholds) -> Result<Self> {
        Ok(Self { detector: self.detector.with_thresholds(thresholds)?, ..self })
    }

    /// Sets activation checkpointing of the backbone's blocks. It has no effect on results.
    /// Default: off.
    #[must_use]
    pub fn with_checkpointing(self, checkpointing: bool) -> Self {
        Self { detector: self.detector.with_checkpointing(checkpointing), ..self }
    }

    /// Sets the precision of the matrix products of the backbone's blocks; those with relative
    /// positions or layer scale stay in `f32`. Default: `f32`.
    #[must_use]
    pub fn with_matmul_precision(self, precision: MatmulPrecision) -> Self {
        Self { detector: self.detector.with_matmul_precision(precision), ..self }
    }

    /// What was changed to fit the checkpoint to the detector, one line each.
    pub fn changes(&self) -> &[String] {
        &self.changes
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Its parameters for an optimiser, see [`parameters`].
    pub fn parameters(&self, weight_decay: f64) -> Vec<Parameter> {
        parameters(&self.store, weight_decay)
    }
}

/// Checks that classes and configuration agree.
fn expect_classes(config: &DetectorConfig, classes: &BoxClasses) -> Result<()> {
    if classes.len() == config.classes {
        return Ok(());
    }
    let (expected, found) = (config.classes.to_string(), classes.len().to_string());
    Err(Error::Classes { expected, found })
}

/// Reads the backbone of a detector's file, for
/// [`BackboneOptions::with_reader`](pad_adapter::checkpoint::BackboneOptions::with_reader): pyramid
/// and heads are removed. Returns `None` for a file of another kind.
///
/// # Errors
/// A file whose configuration is invalid.
pub fn read_backbone(checkpoint: &mut Checkpoint) -> pad_adapter::Result<Option<ViTConfig>> {
    let Some(config) = stored_config::<DetectorConfig>(checkpoint, "detector")? else {
        return Ok(None);
    };
    checkpoint.retain(|name| role_of(name) != Role::Head);
    Ok(Some(config.vit))
}
