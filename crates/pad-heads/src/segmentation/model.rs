//! A segmentor with its classes and parameters: started on a backbone, saved, and opened again.

use std::{collections::BTreeMap, path::Path};

use candle_core::Device;
use pad_adapter::{
    checkpoint::{Checkpoint, FloatType, InputStats, save},
    params::{ParamStore, Role},
    vit::{ViTConfig, sin_cos_table},
};
use pad_data::{draw::Color, sets::segmentation::Classes, transform::Normalize};
use pad_ops::{MatmulPrecision, rng::Key};
use pad_train::Parameter;
use serde::{Deserialize, Serialize};

use super::{BackboneKind, Segmentor, SegmentorConfig, pretrained, role_of};
use crate::{
    error::{Error, Result},
    plan::parameters,
    start::{Start, check_format, metadata, stored_config, stored_normalize, to_json},
};

const FORMAT: &str = "pad-segmentor/1";

/// The classes in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredClasses {
    names: Vec<String>,
    palette: Vec<Color>,
    ignore: u8,
}

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
#[non_exhaustive]
pub struct SegmentationModel {
    /// The network.
    pub segmentor: Segmentor,
    /// Its parameters.
    pub store: ParamStore,
    /// Its classes.
    pub classes: Classes,
    /// Input statistics that it was trained with, if known.
    pub normalize: Option<Normalize>,
    device: Device,
    changes: Vec<String>,
}

impl SegmentationModel {
    /// Builds a new segmentor, on the checkpoint of a pre-trained backbone (as
    /// [`Backbone::into_checkpoint`](pad_adapter::checkpoint::Backbone::into_checkpoint) gives it)
    /// or from random first values. Adapters that the checkpoint lacks are initialised.
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::Classes`] for another number of classes; as [`pretrained`];
    /// whatever the checkpoint lacks.
    pub fn new(
        config: &SegmentorConfig,
        classes: Classes,
        backbone: Option<Checkpoint>,
        start: &Start,
    ) -> Result<Self> {
        config.validate()?;
        expect_classes(config, &classes)?;
        let vit = config.backbone.vit();
        let mut changes = Vec::new();
        let checkpoint = match backbone {
            None => None,
            Some(mut checkpoint) => {
                changes.extend(start.without_unused_adapters(&mut checkpoint, vit));
                let (checkpoint, fitted) = pretrained(checkpoint, &config.backbone)?;
                changes.extend(fitted);
                Some(checkpoint)
            }
        };
        let scratch = checkpoint.is_none();
        let mut store = start.store(checkpoint, role_of, vit.depth);
        if scratch && let BackboneKind::Plain(vit) = &config.backbone {
            let table = sin_cos_table(vit.embed_dim, vit.pos_table_grid()?, &start.device)?;
            store = store.with_value("backbone.pos_embed", table);
        }
        let segmentor = store.build(|vb| Segmentor::new(config, vb))?;
        let device = start.device.clone();
        Ok(Self { segmentor, store, classes, normalize: None, device, changes })
    }

    /// Opens a file that [`SegmentationModel::save`] wrote, strictly. Nothing trains.
    ///
    /// # Errors
    /// [`Error::Metadata`] for another kind of file; [`Error::Classes`]; what is missing,
    /// unexpected or misshapen.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        const KIND: &str = "segmentor";
        let checkpoint = Checkpoint::open(path)?;
        let config: SegmentorConfig = metadata(&checkpoint, "segmentor", KIND)?;
        check_format(&checkpoint, FORMAT)?;
        config.validate()?;
        let stored: StoredClasses = metadata(&checkpoint, "classes", KIND)?;
        if stored.palette.len() != stored.names.len() {
            return Err(Error::Classes {
                expected: format!("a colour for each of {} classes", stored.names.len()),
                found: stored.palette.len().to_string(),
            });
        }
        let mut classes = Classes::new(stored.names)?;
        (classes.palette, classes.ignore) = (stored.palette, stored.ignore);
        expect_classes(&config, &classes)?;
        let normalize = stored_normalize(&checkpoint)?;
        let store =
            ParamStore::from_checkpoint(checkpoint, device, Key::new(0)).with_roles(role_of);
        let segmentor = store.build(|vb| Segmentor::new(&config, vb))?;
        let device = device.clone();
        Ok(Self { segmentor, store, classes, normalize, device, changes: Vec::new() })
    }

    /// Writes the whole segmentor to a safetensors file, atomically. Its metadata hold
    /// configuration, classes and input statistics.
    ///
    /// # Errors
    /// [`Error::Adapter`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let Classes { names, palette, ignore, .. } = self.classes.clone();
        let config = self.segmentor.config();
        let classes = StoredClasses { names, palette, ignore };
        let mut metadata = BTreeMap::from([
            ("format".to_string(), FORMAT.to_string()),
            ("segmentor".into(), to_json(path, "segmentor", config)?),
            ("vit".into(), to_json(path, "vit", config.backbone.vit())?),
            ("classes".into(), to_json(path, "classes", &classes)?),
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

    /// Sets activation checkpointing of the backbone's blocks. It has no effect on results.
    /// Default: off.
    #[must_use]
    pub fn with_checkpointing(self, checkpointing: bool) -> Self {
        Self { segmentor: self.segmentor.with_checkpointing(checkpointing), ..self }
    }

    /// Sets the precision of the matrix products of the backbone's blocks; those with relative
    /// positions or layer scale stay in `f32`. Default: `f32`.
    #[must_use]
    pub fn with_matmul_precision(self, precision: MatmulPrecision) -> Self {
        Self { segmentor: self.segmentor.with_matmul_precision(precision), ..self }
    }

    /// What was changed to fit the checkpoint to the segmentor, one line each.
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
fn expect_classes(config: &SegmentorConfig, classes: &Classes) -> Result<()> {
    if classes.len() == config.classes {
        return Ok(());
    }
    let (expected, found) = (config.classes.to_string(), classes.len().to_string());
    Err(Error::Classes { expected, found })
}

/// Reads the backbone of a segmentor's file, for
/// [`BackboneOptions::with_reader`](pad_adapter::checkpoint::BackboneOptions::with_reader): pyramid
/// and heads are removed. Returns `None` for a file of another kind.
///
/// # Errors
/// A file whose configuration is invalid.
pub fn read_backbone(checkpoint: &mut Checkpoint) -> pad_adapter::Result<Option<ViTConfig>> {
    let Some(config) = stored_config::<SegmentorConfig>(checkpoint, "segmentor")? else {
        return Ok(None);
    };
    checkpoint.retain(|name| role_of(name) != Role::Head);
    Ok(Some(*config.backbone.vit()))
}
