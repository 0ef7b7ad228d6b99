//! The place that serves a model its parameters: a `VarBuilder` backend that knows what it served.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use candle_core::{DType, Device, Result as CandleResult, Shape, Tensor, Var};
use candle_nn::{Init, VarBuilder, init::NormalOrUniform, var_builder::SimpleBackend};
use pad_ops::rng::{Key, Purpose};
use sha2::{Digest, Sha256};

use super::{LoadReport, Misshapen, Role, Summary};
use crate::{Error, Result, checkpoint::Checkpoint};

/// Where a parameter's first value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The checkpoint.
    Checkpoint,
    /// A tensor given with [`ParamStore::preset`].
    Preset,
    /// Its initialiser, drawn from the store's key and its own name.
    Init,
}

/// A parameter that a model asked for.
#[derive(Clone, Debug)]
pub struct Param {
    /// Its full name.
    pub name: String,
    /// Its part.
    pub role: Role,
    /// Its value; for a trained one this is the variable's own tensor.
    pub tensor: Tensor,
    /// The variable, if it trains.
    pub var: Option<Var>,
    /// Where its first value came from.
    pub origin: Origin,
}

type Rule = Box<dyn Fn(Role) -> bool + Send + Sync>;

struct Inner {
    device: Device,
    key: Key,
    checkpoint: Option<Checkpoint>,
    presets: BTreeMap<String, Tensor>,
    role_of: fn(&str) -> Role,
    trains: Rule,
    may_be_fresh: Rule,
    may_be_unused: Rule,
    served: BTreeMap<String, Param>,
    misshapen: Vec<Misshapen>,
}

/// Serves a model its parameters by name, from a checkpoint or an initialiser, and hands out a variable only where the
/// role trains: every other tensor is plain, so no gradient of it is ever computed.
///
/// Ordinary candle code builds on it (`candle_nn::linear(d, 3 * d, vb.pp("qkv"))`), a foreign model's too; strict
/// loading, freezing and counting then hold by construction. Random first values depend on the key and on the
/// parameter's name alone, not on the order of construction.
///
/// ```
/// use candle_core::{Device, DType};
/// use pad_adapter::{params::{ParamStore, Role}, vit::{ViT, ViTConfig}, AdapterConfig};
/// use pad_ops::rng::Key;
///
/// let config = ViTConfig { adapter: Some(AdapterConfig::default()), ..ViTConfig::new(16, 32, 2, 2) };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(1)).train(Role::is_adapter);
/// let vit = store.build(|vb| ViT::new(&config, vb))?;
/// assert_eq!(store.summary().trained, 2 * config.adapter.unwrap().parameter_count(32));
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone)]
pub struct ParamStore(Arc<Mutex<Inner>>);

impl ParamStore {
    /// A store without a checkpoint: every parameter is initialised from `key`. Nothing trains until
    /// [`ParamStore::train`] says so.
    pub fn scratch(device: &Device, key: Key) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            device: device.clone(),
            key,
            checkpoint: None,
            presets: BTreeMap::new(),
            role_of: Role::of,
            trains: Box::new(|_| false),
            may_be_fresh: Box::new(|_| true),
            may_be_unused: Box::new(|_| false),
            served: BTreeMap::new(),
            misshapen: Vec::new(),
        })))
    }

    /// A store that serves `checkpoint`, strictly: what is missing in it, unexpected or misshapen makes
    /// [`ParamStore::build`] fail, but for the roles that [`ParamStore::fresh`] and [`ParamStore::unused`] allow.
    pub fn from_checkpoint(checkpoint: Checkpoint, device: &Device, key: Key) -> Self {
        let store = Self::scratch(device, key);
        {
            let mut inner = store.lock();
            inner.checkpoint = Some(checkpoint);
            inner.may_be_fresh = Box::new(|_| false);
        }
        store
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves the maps as they are: still sound to read.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which roles train, in some epoch at least.
    #[must_use]
    pub fn train(self, rule: impl Fn(Role) -> bool + Send + Sync + 'static) -> Self {
        self.lock().trains = Box::new(rule);
        self
    }

    /// Which roles may be absent from the checkpoint and are then initialised (adapters on an RGB backbone).
    #[must_use]
    pub fn fresh(self, rule: impl Fn(Role) -> bool + Send + Sync + 'static) -> Self {
        self.lock().may_be_fresh = Box::new(rule);
        self
    }

    /// Which roles of the checkpoint the model may leave alone (a decoder, when only the encoder is built).
    #[must_use]
    pub fn unused(self, rule: impl Fn(Role) -> bool + Send + Sync + 'static) -> Self {
        self.lock().may_be_unused = Box::new(rule);
        self
    }

    /// How roles are told from names, for a foreign model. Default: [`Role::of`].
    #[must_use]
    pub fn roles(self, role_of: fn(&str) -> Role) -> Self {
        self.lock().role_of = role_of;
        self
    }

    /// A first value for `name` where the checkpoint has none: sine-cosine tables, for one.
    #[must_use]
    pub fn preset(self, name: impl Into<String>, value: Tensor) -> Self {
        self.lock().presets.insert(name.into(), value);
        self
    }

    /// Builds a model on this store and checks that checkpoint and model agree.
    ///
    /// # Errors
    /// [`Error::Tensors`] with everything that is missing, unexpected and misshapen; whatever `build` returns.
    pub fn build<M, E: From<Error>>(
        &self,
        build: impl FnOnce(VarBuilder<'static>) -> Result<M, E>,
    ) -> Result<M, E> {
        let model = build(self.var_builder())?;
        self.check()?;
        Ok(model)
    }

    /// The `VarBuilder` itself, in `f32`. Call [`ParamStore::check`] when the model is built.
    pub fn var_builder(&self) -> VarBuilder<'static> {
        let device = self.lock().device.clone();
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, device)
    }

    /// Asks that checkpoint and model agree.
    ///
    /// # Errors
    /// [`Error::Tensors`].
    pub fn check(&self) -> Result<()> {
        let inner = self.lock();
        let Some(checkpoint) = &inner.checkpoint else { return Ok(()) };
        let missing = inner.served.values().filter(|param| {
            param.origin != Origin::Checkpoint
                && !(inner.may_be_fresh)(param.role)
                && !inner.misshapen.iter().any(|bad| bad.name == param.name)
        });
        let unexpected = checkpoint.names().filter(|name| {
            !inner.served.contains_key(*name) && !(inner.may_be_unused)((inner.role_of)(name))
        });
        let report = LoadReport {
            file: checkpoint.path().to_path_buf(),
            missing: missing.map(|param| param.name.clone()).collect(),
            unexpected: unexpected.map(ToString::to_string).collect(),
            misshapen: inner.misshapen.clone(),
        };
        if report.is_clean() { Ok(()) } else { Err(Error::Tensors(report)) }
    }

    /// Every parameter served, by name.
    pub fn params(&self) -> Vec<Param> {
        self.lock().served.values().cloned().collect()
    }

    /// The parameters that train, by name.
    pub fn trained(&self) -> Vec<(String, Role, Var)> {
        let inner = self.lock();
        let trained = inner.served.values();
        trained.filter_map(|p| Some((p.name.clone(), p.role, p.var.clone()?))).collect()
    }

    /// Trained and frozen counts, by role.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for param in self.lock().served.values() {
            summary.add(param.role, param.tensor.elem_count(), param.var.is_some());
        }
        summary
    }

    /// The present values of the parameters whose role `wanted` accepts, by name.
    pub fn tensors(&self, wanted: impl Fn(Role) -> bool) -> BTreeMap<String, Tensor> {
        let inner = self.lock();
        let chosen = inner.served.values().filter(|param| wanted(param.role));
        chosen.map(|param| (param.name.clone(), param.tensor.clone())).collect()
    }

    /// SHA-256 of the backbone, as 64 hexadecimal digits: names, shapes and `f32` values of class token, blocks and
    /// final norm. Patch embedding and position table are left out, since the same backbone carries other ones for
    /// other image sizes and channel counts.
    ///
    /// # Errors
    /// Whatever candle says when values are copied from a device.
    pub fn backbone_digest(&self) -> Result<String> {
        let identity =
            |role: Role| matches!(role, Role::ClassToken | Role::Block(_) | Role::FinalNorm);
        let mut hash = Sha256::new();
        for (name, tensor) in self.tensors(identity) {
            hash.update(name.as_bytes());
            hash.update([0]);
            for &side in tensor.dims() {
                hash.update((side as u64).to_le_bytes());
            }
            let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            hash.update(&bytes);
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl Inner {
    /// The first value of `name`, of shape `shape`, and where it came from.
    fn first_value(
        &mut self,
        shape: &Shape,
        name: &str,
        init: Init,
    ) -> CandleResult<(Tensor, Origin)> {
        if let Some(found) = self.checkpoint.as_ref().and_then(|file| file.get(name)) {
            if found.shape() == shape {
                return Ok((found.clone(), Origin::Checkpoint));
            }
            // Recorded, so that the report names every misshapen tensor and not only the first.
            self.misshapen.push(Misshapen {
                name: name.to_string(),
                expected: shape.dims().to_vec(),
                found: found.dims().to_vec(),
            });
        } else if let Some(preset) = self.presets.get(name) {
            if preset.shape() == shape {
                return Ok((preset.clone(), Origin::Preset));
            }
            self.misshapen.push(Misshapen {
                name: name.to_string(),
                expected: shape.dims().to_vec(),
                found: preset.dims().to_vec(),
            });
        }
        Ok((initial(shape, name, init, self.key)?, Origin::Init))
    }

    /// The tensor `name`, made and recorded on first request; a variable if its role trains and `may_train`.
    fn serve(
        &mut self,
        shape: Shape,
        name: &str,
        init: Init,
        (dtype, device): (DType, &Device),
        may_train: bool,
    ) -> CandleResult<Tensor> {
        if let Some(known) = self.served.get(name) {
            if known.tensor.shape() == &shape {
                return Ok(known.tensor.clone()); // shared by two layers
            }
            candle_core::bail!(
                "`{name}` was asked for with shape {:?} and again with {shape:?}",
                known.tensor.shape()
            );
        }
        let (value, origin) = self.first_value(&shape, name, init)?;
        let value = value.to_dtype(dtype)?.to_device(device)?.contiguous()?;
        let role = (self.role_of)(name);
        let trains = may_train && (self.trains)(role);
        let var = if trains { Some(Var::from_tensor(&value)?) } else { None };
        let tensor = var.as_ref().map_or(value, |var| var.as_tensor().clone());
        let param = Param { name: name.to_string(), role, tensor: tensor.clone(), var, origin };
        self.served.insert(name.to_string(), param);
        Ok(tensor)
    }
}

/// Draws a first value from the run's key and the parameter's name.
fn initial(shape: &Shape, name: &str, init: Init, key: Key) -> CandleResult<Tensor> {
    let mut stream = key.purpose(Purpose::Init).named(name).stream();
    let count = shape.elem_count();
    let mut uniform = |low: f64, high: f64| -> Vec<f32> {
        (0..count).map(|_| stream.range_f64(low, high) as f32).collect()
    };
    let values = match init {
        Init::Const(value) => vec![value as f32; count],
        Init::Uniform { lo, up } => uniform(lo, up),
        Init::Randn { mean, stdev } => {
            (0..count).map(|_| (mean + stdev * stream.normal()) as f32).collect()
        }
        Init::Kaiming { dist, fan, non_linearity } => {
            let std = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            match dist {
                NormalOrUniform::Uniform => uniform(-3_f64.sqrt() * std, 3_f64.sqrt() * std),
                NormalOrUniform::Normal => {
                    (0..count).map(|_| (std * stream.normal()) as f32).collect()
                }
            }
        }
    };
    Tensor::from_vec(values, shape, &Device::Cpu)
}

impl SimpleBackend for ParamStore {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> CandleResult<Tensor> {
        self.lock().serve(shape, name, init, (dtype, device), true)
    }

    /// Serves a constant: a tensor that is there already and never trains, whatever its role.
    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        let mut inner = self.lock();
        let known = inner.served.get(name).map(|param| param.tensor.shape().clone());
        let stored = || inner.checkpoint.as_ref()?.get(name).map(|t| t.shape().clone());
        let preset = || inner.presets.get(name).map(|t| t.shape().clone());
        let Some(shape) = known.or_else(stored).or_else(preset) else {
            candle_core::bail!("`{name}` is in no checkpoint and its shape is unknown");
        };
        inner.serve(shape, name, Init::Const(0.0), (dtype, device), false)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        let inner = self.lock();
        inner.served.contains_key(name)
            || inner.presets.contains_key(name)
            || inner.checkpoint.as_ref().is_some_and(|file| file.get(name).is_some())
    }
}
