//! Pre-trained models from files.

use candle_core::Device;
use pad_adapter::{
    checkpoint::{Backbone, BackboneOptions, Checkpoint},
    params::{ParamStore, Role},
    vit::{PoolHead, ViT, ViTConfig},
};
use pad_data::transform::Normalize;
use pad_ops::{ImageSize, rng::Key};

use crate::{
    Error, Mae, Result,
    files::DECODER,
    stored::{StoredMae, normalize, read_backbone},
};

/// How a pre-trained model is opened.
#[derive(Clone, Default)]
pub struct OpenOptions {
    backbone: BackboneOptions,
    config: Option<ViTConfig>,
    image_size: Option<ImageSize>,
    device: Option<Device>,
}

impl OpenOptions {
    /// Sets how the backbone is found and checked. Default: [`BackboneOptions::default`]. A reader
    /// for this crate's files is added.
    #[must_use]
    pub fn with_backbone(self, backbone: BackboneOptions) -> Self {
        Self { backbone, ..self }
    }

    /// Sets the encoder's configuration. Default `None`: that of the file.
    #[must_use]
    pub fn with_config(self, config: Option<ViTConfig>) -> Self {
        Self { config, ..self }
    }

    /// Sets the size of the images that the model will take; the position table is fitted to it.
    /// Default `None`: that of the file.
    #[must_use]
    pub fn with_image_size(self, image_size: Option<ImageSize>) -> Self {
        Self { image_size, ..self }
    }

    /// Sets where the weights go. Default: the CPU.
    #[must_use]
    pub fn with_device(self, device: &Device) -> Self {
        Self { device: Some(device.clone()), ..self }
    }

    fn backbone(&self, source: &str) -> Result<Backbone> {
        Ok(Backbone::open(source, &self.backbone.clone().with_reader(read_backbone))?)
    }

    /// Returns the encoder's configuration: the given one or that of `backbone`, at the wanted
    /// size.
    fn encoder(&self, backbone: &Backbone) -> Result<ViTConfig> {
        let config = match self.config {
            Some(config) => backbone.config_as(config)?,
            None => backbone.config()?,
        };
        let image_size = self.image_size.unwrap_or(config.image_size);
        let config = ViTConfig { image_size, ..config };
        config.validate()?;
        Ok(config)
    }

    fn device(&self) -> Device {
        self.device.clone().unwrap_or(Device::Cpu)
    }
}

/// An opened encoder.
#[derive(Clone)]
#[non_exhaustive]
pub struct OpenedEncoder {
    /// The encoder, adapters included.
    pub vit: ViT,
    /// Its parameters.
    pub store: ParamStore,
    /// The layers of the file that pool its tokens, if it has some.
    pub pool_head: Option<PoolHead>,
    /// Statistics of the images that the weights were trained on, if the file has them.
    pub input_stats: Option<Normalize>,
    /// Lines for the log: what was converted, fitted or assumed.
    pub notes: Vec<String>,
}

/// Opens an encoder for inference: a file of any format, a run folder, or an adapter file with its
/// backbone (see [`Backbone::open`]).
///
/// # Errors
/// A file that cannot be read or does not say which model it holds; an adapter of another backbone;
/// a report of missing, unexpected and misshapen tensors.
pub fn open_encoder(source: &str, options: &OpenOptions) -> Result<OpenedEncoder> {
    let Prepared { config, checkpoint, pool_head, input_stats, notes, device } =
        prepare(source, options)?;
    let store = ParamStore::from_checkpoint(checkpoint, &device, Key::new(0))
        .with_unused(|role: Role| role.is_decoder());
    let vit = store.build(|vb| ViT::new(&config, vb))?;
    Ok(OpenedEncoder { vit, store, pool_head, input_stats, notes })
}

/// What an encoder is built from.
pub(crate) struct Prepared {
    /// Its configuration, with the adapters that the file has.
    pub(crate) config: ViTConfig,
    /// Its weights, fitted to the configuration.
    pub(crate) checkpoint: Checkpoint,
    /// The layers of the file that pool its tokens.
    pub(crate) pool_head: Option<PoolHead>,
    /// Statistics of the images that the weights were trained on.
    pub(crate) input_stats: Option<Normalize>,
    /// Lines for the log.
    pub(crate) notes: Vec<String>,
    /// Where the weights go.
    pub(crate) device: Device,
}

/// Opens a file and fits its weights to the wanted configuration.
pub(crate) fn prepare(source: &str, options: &OpenOptions) -> Result<Prepared> {
    let backbone = options.backbone(source)?;
    let config = options.encoder(&backbone)?;
    let has = backbone.has_adapters();
    let (adapter, lora) = (config.adapter.filter(|_| has), config.lora.filter(|_| has));
    let config = ViTConfig { adapter, lora, ..config };
    let device = options.device();
    let (input_stats, mut notes) = described(&backbone);
    // An encoder is of use without them.
    let pool_head = backbone.pool_head(&device).unwrap_or_else(|error| {
        notes.push(format!("pooling left out: {error}"));
        None
    });
    let mut checkpoint = backbone.into_checkpoint();
    // CLIP's projection to the space of its texts is not part of the encoder.
    checkpoint.remove("proj");
    notes.extend(checkpoint.fit(&config)?);
    Ok(Prepared { config, checkpoint, pool_head, input_stats, notes, device })
}

/// An opened autoencoder.
#[derive(Clone)]
#[non_exhaustive]
pub struct OpenedMae {
    /// The autoencoder, adapters included.
    pub mae: Mae,
    /// Its parameters.
    pub store: ParamStore,
    /// Statistics of the images that the weights were trained on, if the file has them.
    pub input_stats: Option<Normalize>,
    /// Lines for the log: what was converted, fitted or assumed.
    pub notes: Vec<String>,
}

impl Mae {
    /// Opens an autoencoder with its decoder: a file that holds both, a run folder (the whole
    /// model, or backbone, adapter and decoder), or an adapter file with a decoder beside it.
    ///
    /// # Errors
    /// As [`open_encoder`]; [`Error::MissingDecoder`] if there is no decoder, or one of another
    /// objective.
    pub fn open(source: &str, options: &OpenOptions) -> Result<OpenedMae> {
        let backbone = options.backbone(source)?;
        let encoder = options.encoder(&backbone)?;
        let (input_stats, mut notes) = described(&backbone);
        // A run leaves its decoder beside its adapters.
        let beside = backbone.adapter_file().map(|file| file.path().with_file_name(DECODER));
        let mut checkpoint = backbone.into_checkpoint();
        if let Some(beside) = beside.filter(|path| path.is_file()) {
            let decoder = Checkpoint::open(&beside)?;
            if let Some(json) = decoder.metadata().get("mae") {
                checkpoint.set_metadata("mae", json.clone());
            }
            checkpoint.merge(decoder);
        }
        let stored = StoredMae::of(&checkpoint, encoder)?;
        notes.extend(stored.assumption());
        if !crate::ObjectiveKind::Mae.has_decoder(&checkpoint) {
            return Err(Error::MissingDecoder { model: source.into() });
        }
        let config = crate::MaeConfig { encoder, ..stored.config };
        config.validate()?;
        notes.extend(checkpoint.fit(&config.encoder)?);
        let device = options.device();
        let mut store = ParamStore::from_checkpoint(checkpoint, &device, Key::new(0));
        for (name, table) in Self::tables(&config, &device)? {
            store = store.with_value(name, table);
        }
        let store = store.with_fresh(|role| role == Role::DecoderPosTable);
        let mae = store.build(|vb| Self::new(&config, vb))?;
        Ok(OpenedMae { mae, store, input_stats, notes })
    }
}

/// Returns the input statistics of `backbone`, and what its conversion changed.
fn described(backbone: &Backbone) -> (Option<Normalize>, Vec<String>) {
    let report = backbone.report();
    let notes = if report.is_unchanged() { Vec::new() } else { vec![report.summary()] };
    (backbone.input_stats().map(normalize), notes)
}
