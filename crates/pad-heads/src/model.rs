//! A network of a downstream task with its classes and parameters: started on a backbone, trained,
//! saved, and opened again.

use std::{collections::BTreeMap, path::Path};

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use pad_adapter::{
    checkpoint::{Checkpoint, FloatType, InputStats, save},
    params::{ParamStore, Role},
    vit::ViTConfig,
};
use pad_data::{ahead::ToDevice, loader::Batch, transform::Normalize};
use pad_ops::{MatmulPrecision, Mode, rng::Key};
use pad_train::{BoxError, Losses, Parameter, Task};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{Error, Result},
    plan::parameters,
    start::{Start, check_format, metadata, stored_config, stored_normalize, to_json},
};

/// A network of a downstream task: a transformer with heads.
///
/// ```
/// use pad_adapter::params::Role;
/// use pad_heads::{TaskNetwork, detection::Detector, segmentation::Segmentor};
/// /// What files of a network are marked with.
/// fn kind<N: TaskNetwork>() -> &'static str { N::KIND }
/// assert_eq!((kind::<Segmentor>(), kind::<Detector>()), ("segmentor", "detector"));
/// assert_eq!(Segmentor::role_of("backbone.blocks.2.norm1.weight"), Role::Block(2));
/// ```
pub trait TaskNetwork: Sized + 'static {
    /// What a file of it is called, and the name of its configuration in there.
    const KIND: &'static str;

    /// Its hyperparameters.
    type Config: Serialize + DeserializeOwned;

    /// The classes that it tells apart.
    type Classes: Clone;

    /// The classes as files hold them.
    type StoredClasses: Serialize + DeserializeOwned;

    /// The labels of a batch.
    type Labels: ToDevice + Send + 'static;

    /// Builds the network from `vb`'s tensors.
    ///
    /// # Errors
    /// An invalid configuration; tensors that `vb` lacks.
    fn build(config: &Self::Config, vb: VarBuilder<'static>) -> Result<Self>;

    /// The configuration it was built from.
    fn config(&self) -> &Self::Config;

    /// Returns the losses of a batch.
    ///
    /// # Errors
    /// Images or labels that do not fit.
    fn losses(&self, batch: &Batch<Self::Labels>, mode: Mode) -> Result<Losses>;

    /// Sets activation checkpointing of the backbone's blocks. Default: off.
    #[must_use]
    fn with_checkpointing(self, checkpointing: bool) -> Self;

    /// Sets the precision of the matrix products of the backbone's blocks. Default: `f32`.
    #[must_use]
    fn with_matmul_precision(self, precision: MatmulPrecision) -> Self;

    /// Sets whether nothing in the backbone trains: then it runs as in evaluation in training, too,
    /// without drop path and dropout. Default: false.
    #[must_use]
    fn with_frozen_backbone(self, frozen_backbone: bool) -> Self;

    /// Checks a configuration.
    ///
    /// # Errors
    /// [`Error::Config`] with every fault.
    fn validate(config: &Self::Config) -> Result<()>;

    /// The transformer of a configuration.
    fn vit(config: &Self::Config) -> &ViTConfig;

    /// The number of classes, of a configuration and of a list.
    fn class_counts(config: &Self::Config, classes: &Self::Classes) -> [usize; 2];

    /// Returns the classes as files hold them.
    fn to_stored(classes: &Self::Classes) -> Self::StoredClasses;

    /// Returns the classes of a file.
    ///
    /// # Errors
    /// [`Error::Classes`].
    fn from_stored(stored: Self::StoredClasses) -> Result<Self::Classes>;

    /// Returns the role of a parameter by its full name.
    fn role_of(name: &str) -> Role;

    /// Fits the checkpoint of a pre-trained backbone; returns it with a line for each change.
    ///
    /// # Errors
    /// As [`Checkpoint::fit`].
    fn fit(checkpoint: Checkpoint, config: &Self::Config) -> Result<(Checkpoint, Vec<String>)>;

    /// Returns the parameters that do not start at random without a checkpoint, by name.
    ///
    /// # Errors
    /// An invalid configuration.
    fn first_values(config: &Self::Config, device: &Device) -> Result<Vec<(String, Tensor)>> {
        let _ = (config, device);
        Ok(Vec::new())
    }
}

/// A network with the classes that it tells apart and its parameters:
/// [`SegmentationModel`](crate::segmentation::SegmentationModel),
/// [`DetectionModel`](crate::detection::DetectionModel).
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::{checkpoint::Checkpoint, vit::ViTConfig};
/// use pad_data::{sets::segmentation::Classes, transform::Normalize};
/// use pad_heads::{Start, segmentation::{SegmentationModel, SegmentorConfig}};
/// use pad_ops::{ImageSize, MatmulPrecision, rng::Key};
///
/// let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
/// let classes = Classes::new(["ground", "person"])?;
/// let start = Start::new(&Device::Cpu, Key::new(0));
/// // `None`: no pre-trained backbone.
/// let model = SegmentationModel::new(&SegmentorConfig::probe(vit, 2), classes, None, &start)?
///     .with_normalize(Normalize::imagenet())
///     .with_note("sensor", "long-wave")
///     .with_checkpointing(true)
///     .with_matmul_precision(MatmulPrecision::F32);
/// assert_eq!(model.changes().len(), 0); // what had to be done to fit a backbone
/// assert!(model.device().is_cpu());
/// let parameters = model.parameters(0.05); // for an optimiser
/// assert!(parameters.iter().any(|one| one.name == "decode_head.conv_seg.weight"));
///
/// // A file holds weights, configuration, classes and input statistics; it is a backbone, too.
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.safetensors");
/// model.save(&path)?;
/// let opened = SegmentationModel::open(&path, &Device::Cpu)?;
/// assert_eq!(opened.normalize, Some(Normalize::imagenet()));
/// assert_eq!(opened.note("sensor"), Some("long-wave"));
/// let mut file = Checkpoint::open(&path)?;
/// assert_eq!(SegmentationModel::read_backbone(&mut file)?.unwrap().embed_dim, 16);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[non_exhaustive]
pub struct TaskModel<N: TaskNetwork> {
    /// The network.
    pub network: N,
    /// Its parameters.
    pub store: ParamStore,
    /// Its classes.
    pub classes: N::Classes,
    /// Input statistics that it was trained with, if known.
    pub normalize: Option<Normalize>,
    notes: BTreeMap<String, String>,
    device: Device,
    changes: Vec<String>,
}

/// What stands in front of the name of a note in a file's metadata.
const NOTE: &str = "note.";

impl<N: TaskNetwork> TaskModel<N> {
    /// Builds a new network, on the checkpoint of a pre-trained backbone (as
    /// [`Backbone::into_checkpoint`](pad_adapter::checkpoint::Backbone::into_checkpoint) gives it)
    /// or from random first values. Adapters are initialised if the checkpoint has none. A backbone
    /// in which nothing trains, adapters included, has neither drop path nor dropout in training.
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::Classes`] for another number of classes; as
    /// [`TaskNetwork::fit`]; whatever the checkpoint lacks.
    pub fn new(
        config: &N::Config,
        classes: N::Classes,
        backbone: Option<Checkpoint>,
        start: &Start,
    ) -> Result<Self> {
        N::validate(config)?;
        expect_classes::<N>(config, &classes)?;
        let vit = N::vit(config);
        let mut changes = Vec::new();
        let mut first_values = Vec::new();
        let checkpoint = match backbone {
            None => {
                first_values = N::first_values(config, &start.device)?;
                None
            }
            Some(mut checkpoint) => {
                changes.extend(start.without_unused_adapters(&mut checkpoint, vit));
                let (checkpoint, fitted) = N::fit(checkpoint, config)?;
                changes.extend(fitted);
                Some(checkpoint)
            }
        };
        let mut store = start.store(checkpoint, N::role_of, vit.depth);
        for (name, value) in first_values {
            store = store.with_value(&name, value);
        }
        let network = store.build(|vb| N::build(config, vb))?;
        // Adapters that train are the backbone's: their blocks are dropped as the paper's are.
        let trains = store.planned().iter().any(|one| N::role_of(&one.name) != Role::Head);
        let network = network.with_frozen_backbone(!trains);
        let device = start.device.clone();
        let notes = BTreeMap::new();
        Ok(Self { network, store, classes, normalize: None, notes, device, changes })
    }

    /// Opens a file that [`TaskModel::save`] wrote, strictly. Nothing trains.
    ///
    /// # Errors
    /// [`Error::Metadata`] for another kind of file; [`Error::Classes`]; what is missing,
    /// unexpected or misshapen.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::from_checkpoint(Checkpoint::open(path)?, device)
    }

    /// As [`TaskModel::open`], of a file that is open already or lies in memory
    /// ([`Checkpoint::from_safetensors`]).
    ///
    /// # Errors
    /// As [`TaskModel::open`].
    pub fn from_checkpoint(checkpoint: Checkpoint, device: &Device) -> Result<Self> {
        let config: N::Config = metadata(&checkpoint, N::KIND, N::KIND)?;
        check_format(&checkpoint, &format_of::<N>())?;
        N::validate(&config)?;
        let classes = N::from_stored(metadata(&checkpoint, "classes", N::KIND)?)?;
        expect_classes::<N>(&config, &classes)?;
        let normalize = stored_normalize(&checkpoint)?;
        let notes = checkpoint
            .metadata()
            .iter()
            .filter_map(|(key, text)| Some((key.strip_prefix(NOTE)?.to_string(), text.clone())));
        let notes = notes.collect();
        let store =
            ParamStore::from_checkpoint(checkpoint, device, Key::new(0)).with_roles(N::role_of);
        let network = store.build(|vb| N::build(&config, vb))?;
        let device = device.clone();
        Ok(Self { network, store, classes, normalize, notes, device, changes: Vec::new() })
    }

    /// Writes the whole model to a safetensors file, atomically. Its metadata hold configuration,
    /// classes and input statistics.
    ///
    /// # Errors
    /// [`Error::Adapter`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let config = self.network.config();
        let classes = N::to_stored(&self.classes);
        let mut metadata = BTreeMap::from([
            ("format".to_string(), format_of::<N>()),
            (N::KIND.into(), to_json(path, N::KIND, config)?),
            ("vit".into(), to_json(path, "vit", N::vit(config))?),
            ("classes".into(), to_json(path, "classes", &classes)?),
        ]);
        if let Some(Normalize { mean, std }) = self.normalize {
            InputStats { mean, std }.write(&mut metadata);
        }
        let notes = self.notes.iter();
        metadata.extend(notes.map(|(name, text)| (format!("{NOTE}{name}"), text.clone())));
        Ok(save(path, &self.store.tensors(|_| true), &metadata, FloatType::AsIs)?)
    }

    /// Adds a text to what [`TaskModel::save`] writes, under a name: how the model is to be used, for
    /// one. [`TaskModel::note`] of the opened file returns it.
    #[must_use]
    pub fn with_note(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.notes.insert(name.into(), text.into());
        self
    }

    /// Returns the text of [`TaskModel::with_note`].
    pub fn note(&self, name: &str) -> Option<&str> {
        self.notes.get(name).map(String::as_str)
    }

    /// Reads the backbone of such a file, for
    /// [`BackboneOptions::with_reader`](pad_adapter::checkpoint::BackboneOptions::with_reader):
    /// pyramid and heads are removed. Returns `None` for a file of another kind.
    ///
    /// # Errors
    /// A file whose configuration is invalid.
    pub fn read_backbone(checkpoint: &mut Checkpoint) -> pad_adapter::Result<Option<ViTConfig>> {
        let Some(config) = stored_config::<N::Config>(checkpoint, N::KIND)? else {
            return Ok(None);
        };
        checkpoint.retain(|name| N::role_of(name) != Role::Head);
        Ok(Some(*N::vit(&config)))
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
        Self { network: self.network.with_checkpointing(checkpointing), ..self }
    }

    /// Sets the precision of the matrix products of the backbone's blocks; those with relative
    /// positions or layer scale stay in `f32`. Default: `f32`.
    #[must_use]
    pub fn with_matmul_precision(self, precision: MatmulPrecision) -> Self {
        Self { network: self.network.with_matmul_precision(precision), ..self }
    }

    /// What was changed to fit the checkpoint to the network, one line each.
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

/// The entry `format` of a file's metadata.
fn format_of<N: TaskNetwork>() -> String {
    format!("pad-{}/1", N::KIND)
}

/// Checks that classes and configuration agree.
fn expect_classes<N: TaskNetwork>(config: &N::Config, classes: &N::Classes) -> Result<()> {
    let [expected, found] = N::class_counts(config, classes);
    if expected == found {
        return Ok(());
    }
    Err(Error::Classes { expected: expected.to_string(), found: found.to_string() })
}

/// Trains a network.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use pad_adapter::vit::ViTConfig;
/// use pad_data::Batch;
/// use pad_heads::{NetworkTask, segmentation::{Segmentor, SegmentorConfig}};
/// use pad_ops::{ImageSize, Mode};
/// use pad_train::Task;
/// let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
/// let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let segmentor = Segmentor::new(&SegmentorConfig::probe(vit, 2), vb)?;
/// let task = NetworkTask::new(&segmentor); // what `Trainer::run` takes
/// let images = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let labels = Tensor::zeros((1, 32, 32), DType::U8, &Device::Cpu)?;
/// let losses = task.losses(&Batch::new(images, labels), Mode::Eval)?;
/// assert!((losses.total.to_scalar::<f32>()? - 2_f32.ln()).abs() < 1e-5); // two equal logits
/// # Ok::<(), pad_train::BoxError>(())
/// ```
pub struct NetworkTask<'a, N> {
    network: &'a N,
}

impl<N> Clone for NetworkTask<'_, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N> Copy for NetworkTask<'_, N> {}

impl<'a, N: TaskNetwork> NetworkTask<'a, N> {
    /// Creates the task of training `network`.
    pub fn new(network: &'a N) -> Self {
        Self { network }
    }
}

impl<N: TaskNetwork> Task for NetworkTask<'_, N> {
    type Batch = Batch<N::Labels>;

    fn losses(&self, batch: &Self::Batch, mode: Mode) -> Result<Losses, BoxError> {
        Ok(self.network.losses(batch, mode)?)
    }

    fn images_in(&self, batch: &Self::Batch) -> usize {
        batch.len()
    }
}
