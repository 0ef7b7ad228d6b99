//! A model that is pre-trained: network, parameters, and what they were built from.

use std::path::{Path, PathBuf};

use candle_core::Device;
use pad_adapter::{
    checkpoint::{BACKBONE, Checkpoint, save_adapter},
    params::{ParamStore, Role},
};
use pad_ops::rng::Key;
use pad_train::Parameter;

use crate::{
    Error, Mae, MaeConfig, Network, NetworkConfig, ObjectiveKind, Paradigm, Result, TeacherModel,
    files::{ADAPTER, DECODER, MODEL, SaveOptions, save_decoder, save_model},
};

/// What a [`PretrainingModel`] is built from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PretrainingConfig {
    /// Objective.
    pub objective: ObjectiveKind,
    /// Which parameters train.
    pub paradigm: Paradigm,
    /// Network.
    pub network: NetworkConfig,
    /// Epochs of the run, on which the paradigm's plan depends.
    pub epochs: usize,
    /// Seed of random first values.
    pub seed: u64,
}

/// A network to be pre-trained and its parameters.
pub struct PretrainingModel {
    /// The network; an [`Objective`](crate::Objective) for [`Pretraining`](crate::Pretraining).
    pub network: Network,
    /// Its parameters.
    pub store: ParamStore,
    config: PretrainingConfig,
    notes: Vec<String>,
}

impl PretrainingModel {
    /// Builds the model at the start of a run. Encoder and, where the objective has one, decoder
    /// come from `weights` (under this project's names, see [`Checkpoint::to_ours`]). Adapters are
    /// drawn from the seed if these have none at all, and so is a decoder.
    ///
    /// # Errors
    /// [`Error::MissingWeights`] without `weights`, unless the paradigm is [`Paradigm::Scratch`];
    /// [`Error::MissingTeacher`]; [`Error::Config`]; a report of missing, unexpected and misshapen
    /// tensors.
    pub fn start(
        config: PretrainingConfig,
        weights: Option<Checkpoint>,
        teacher: Option<&TeacherModel>,
        device: &Device,
    ) -> Result<Self> {
        let PretrainingConfig { objective, paradigm, network: network_config, .. } = config;
        let mae = network_config.mae;
        mae.validate()?;
        let adapted = mae.encoder.adapter.is_some() || mae.encoder.lora.is_some();
        if paradigm.has_adapters() != adapted {
            let (wanted, found) = match paradigm.has_adapters() {
                true => ("an adapter configuration", "none"),
                false => ("no adapter configuration", "one"),
            };
            let fault = format!("`adapter`: paradigm {paradigm} expects {wanted}, found {found}");
            return Err(Error::Config { what: "pretraining", faults: vec![fault] });
        }
        let weights = weights.filter(|_| paradigm != Paradigm::Scratch);
        if weights.is_none() && paradigm != Paradigm::Scratch {
            return Err(Error::MissingWeights { paradigm: paradigm.to_string() });
        }
        let has_decoder = weights.as_ref().is_some_and(|file| objective.has_decoder(file));
        let key = Key::new(config.seed);
        let mut notes = Vec::new();
        let mut store = match weights {
            Some(mut weights) => {
                let has_adapters = weights.names().any(|name| Role::of(name).is_adapter());
                if !has_decoder {
                    // The decoder of another objective has other tensors of the same names.
                    weights.retain(|name| !Role::of(name).is_decoder());
                }
                notes.extend(weights.fit(&mae.encoder)?);
                ParamStore::from_checkpoint(weights, device, key).with_fresh(move |role| {
                    (role.is_adapter() && !has_adapters)
                        || role == Role::DecoderPosTable
                        || (role.is_decoder() && !has_decoder)
                })
            }
            None => ParamStore::scratch(device, key),
        };
        for (name, table) in Mae::tables(&mae, device)? {
            store = store.with_value(name, table);
        }
        let store = store.with_plan(paradigm.plan(mae.encoder.depth, config.epochs));
        let network = store.build(|vb| Network::new(objective, &network_config, teacher, vb))?;
        Ok(Self { network, store, config, notes })
    }

    /// Returns what the model was built from.
    pub fn config(&self) -> &PretrainingConfig {
        &self.config
    }

    /// Returns the configuration of encoder and decoder.
    pub fn mae_config(&self) -> &MaeConfig {
        &self.config.network.mae
    }

    /// Returns lines for the log: what was fitted to the configuration.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns the parameters for the optimiser, weight decay on matrices alone.
    pub fn parameters(&self, weight_decay: f64) -> Vec<Parameter> {
        crate::parameters(&self.store, weight_decay)
    }

    /// Writes what was trained to `folder`, which is created where it is missing: [`ADAPTER`] and
    /// [`DECODER`] for a model with adapters, else [`MODEL`]. Returns the paths of the files.
    ///
    /// # Errors
    /// The folder or a file cannot be written.
    pub fn save(&self, folder: &Path, options: &SaveOptions) -> Result<Vec<PathBuf>> {
        pad_ops::fs::create_folder(folder)
            .map_err(|cause| pad_adapter::Error::Io { path: folder.into(), cause })?;
        let config = self.mae_config();
        if config.encoder.adapter.is_none() && config.encoder.lora.is_none() {
            let path = folder.join(MODEL);
            save_model(&path, config, &self.store, options)?;
            return Ok(vec![path]);
        }
        let (adapter, decoder) = (folder.join(ADAPTER), folder.join(DECODER));
        let mut notes = options.metadata();
        if let Some(source) = &options.backbone {
            notes.insert(BACKBONE.into(), source.clone());
        }
        save_adapter(&adapter, &self.store, config.encoder, &notes)?;
        save_decoder(&decoder, config, &self.store, options)?;
        Ok(vec![adapter, decoder])
    }
}
