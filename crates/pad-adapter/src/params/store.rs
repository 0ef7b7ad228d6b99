//! A `VarBuilder` backend that serves a model its parameters and records them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use candle_core::{DType, Device, Result as CandleResult, Shape, Tensor, Var};
use candle_nn::{Init, VarBuilder, init::NormalOrUniform, var_builder::SimpleBackend};
use pad_ops::{
    rng::{Key, Purpose},
    text::shown,
};

use super::{LoadReport, Misshapen, Plan, Rate, Role, StoreSummary};
use crate::{
    Error, Result,
    checkpoint::{
        Checkpoint, digest,
        finite::{NotFinite, not_finite},
    },
};

/// The most parameters of a model. The largest published transformers have some thousands.
const MOST_PARAMETERS: usize = 1 << 16;

/// The most bytes of first values where the machine does not say how much memory it has.
const MOST_BYTES: u64 = 1 << 40;

/// Where a parameter's first value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The checkpoint.
    Checkpoint,
    /// A tensor given with [`ParamStore::with_value`].
    Given,
    /// Its initialiser, drawn from the store's key and its own name.
    Init,
}

/// A parameter of a model.
#[derive(Clone, Debug)]
#[non_exhaustive]
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

/// A parameter that trains.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Planned {
    /// Its full name.
    pub name: String,
    /// Its part.
    pub role: Role,
    /// Its variable.
    pub var: Var,
    /// How fast it trains, and from when on.
    pub rate: Rate,
}

type Rule = Box<dyn Fn(Role) -> bool + Send + Sync>;

struct Inner {
    device: Device,
    key: Key,
    checkpoint: Option<Checkpoint>,
    values: BTreeMap<String, Tensor>,
    role_of: fn(&str) -> Role,
    plan: Plan,
    may_be_fresh: Rule,
    may_be_unused: Rule,
    served: BTreeMap<String, Param>,
    misshapen: Vec<Misshapen>,
    /// The first tensor of the checkpoint that is not finite.
    not_finite: Option<(String, NotFinite)>,
    /// Bytes of all values that were initialised.
    drawn: u64,
}

/// Serves a model its parameters by name, from a checkpoint or an initialiser, and hands out a
/// variable only where the role trains: every other tensor is plain, so no gradient of it is ever
/// computed.
///
/// Ordinary candle code builds on it (`candle_nn::linear(d, 3 * d, vb.pp("qkv"))`), a foreign
/// model's too; strict loading, freezing and counting then hold by construction. Random first
/// values depend on the key and on the parameter's name alone, not on the order of construction.
///
/// ```
/// use candle_core::{Device, DType};
/// use pad_adapter::{AdapterConfig, params::{ParamStore, Role}, vit::{ViT, ViTConfig}};
/// use pad_ops::rng::Key;
///
/// let adapter = Some(AdapterConfig::default());
/// let config = ViTConfig { adapter, ..ViTConfig::new(16, 32, 2, 2) };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(1)).with_trained(Role::is_adapter);
/// let vit = store.build(|vb| ViT::new(&config, vb))?;
/// assert_eq!(store.summary().trained, 2 * config.adapter.unwrap().parameter_count(32));
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone)]
pub struct ParamStore(Arc<Mutex<Inner>>);

impl ParamStore {
    /// A store without a checkpoint: every parameter is initialised from `key`. Nothing trains
    /// without [`ParamStore::with_plan`] or [`ParamStore::with_trained`].
    pub fn scratch(device: &Device, key: Key) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            device: device.clone(),
            key,
            checkpoint: None,
            values: BTreeMap::new(),
            role_of: Role::of,
            plan: Plan::nothing(),
            may_be_fresh: Box::new(|_| true),
            may_be_unused: Box::new(|_| false),
            served: BTreeMap::new(),
            misshapen: Vec::new(),
            not_finite: None,
            drawn: 0,
        })))
    }

    /// A store that serves `checkpoint`, strictly: missing, unexpected and misshapen tensors make
    /// [`ParamStore::build`] fail, except those of roles that [`ParamStore::with_fresh`] and
    /// [`ParamStore::with_unused`] allow.
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

    /// Sets which roles train, and how fast.
    #[must_use]
    pub fn with_plan(self, plan: Plan) -> Self {
        self.lock().plan = plan;
        self
    }

    /// Sets which roles train, at the run's learning rate: `|role| role.is_adapter()`.
    #[must_use]
    pub fn with_trained(self, rule: impl Fn(Role) -> bool + Send + Sync + 'static) -> Self {
        self.with_plan(Plan::of_roles(rule))
    }

    /// Sets which roles may be missing from the checkpoint and are then initialised (adapters on an
    /// RGB backbone).
    #[must_use]
    pub fn with_fresh(self, rule: impl Fn(Role) -> bool + Send + Sync + 'static) -> Self {
        self.lock().may_be_fresh = Box::new(rule);
        self
    }

    /// Sets which roles of the checkpoint the model need not have (a decoder, when only the encoder
    /// is built).
    #[must_use]
    pub fn with_unused(self, rule: impl Fn(Role) -> bool + Send + Sync + 'static) -> Self {
        self.lock().may_be_unused = Box::new(rule);
        self
    }

    /// Sets how roles follow from names, for a foreign model. Default: [`Role::of`].
    #[must_use]
    pub fn with_roles(self, role_of: fn(&str) -> Role) -> Self {
        self.lock().role_of = role_of;
        self
    }

    /// Adds a first value for `name`, used where the checkpoint has none: sine-cosine tables, for
    /// one.
    #[must_use]
    pub fn with_value(self, name: impl Into<String>, value: Tensor) -> Self {
        self.lock().values.insert(name.into(), value);
        self
    }

    /// Builds a model on this store and checks that checkpoint and model agree.
    ///
    /// # Errors
    /// [`Error::Tensors`] with everything that is missing, unexpected and misshapen;
    /// [`Error::NotFinite`] for a tensor with NaN or infinite values; errors of `build`, those of a
    /// model that is larger than the machine's memory among them.
    pub fn build<M, E: From<Error>>(
        &self,
        build: impl FnOnce(VarBuilder<'static>) -> Result<M, E>,
    ) -> Result<M, E> {
        let model = build(self.var_builder())?;
        self.check()?;
        Ok(model)
    }

    /// The `VarBuilder` of this store, in `f32`. Call [`ParamStore::check`] when the model is
    /// built.
    pub fn var_builder(&self) -> VarBuilder<'static> {
        let device = self.lock().device.clone();
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, device)
    }

    /// Checks that checkpoint and model agree, and that every value is finite.
    ///
    /// # Errors
    /// [`Error::Tensors`]; [`Error::NotFinite`].
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
        if !report.is_clean() {
            return Err(Error::Tensors(report));
        }
        match &inner.not_finite {
            Some((name, found)) => {
                let tensor = inner.served.get(name).map(|param| &param.tensor);
                let tensor = tensor.or_else(|| checkpoint.get(name));
                Err(match tensor {
                    Some(tensor) => Error::not_finite(checkpoint.path(), name, tensor, *found),
                    None => Error::Tensors(report),
                })
            }
            None => Ok(()),
        }
    }

    /// Every parameter served, by name.
    pub fn params(&self) -> Vec<Param> {
        self.lock().served.values().cloned().collect()
    }

    /// The parameters that train, by name, with the rates of the plan.
    pub fn planned(&self) -> Vec<Planned> {
        let inner = self.lock();
        let planned = inner.served.values().filter_map(|param| {
            let (var, rate) = (param.var.clone()?, inner.plan.rate(param.role)?);
            Some(Planned { name: param.name.clone(), role: param.role, var, rate })
        });
        planned.collect()
    }

    /// Trained and frozen counts, by role.
    pub fn summary(&self) -> StoreSummary {
        let mut summary = StoreSummary::default();
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

    /// The digest of the backbone, as [`Checkpoint::backbone_digest`] gives it for a checkpoint
    /// with these tensors.
    ///
    /// # Errors
    /// [`Error::Config`] if the store has no parameter of a backbone; candle's errors when values
    /// are copied from a device.
    pub fn backbone_digest(&self) -> Result<String> {
        let backbone = self.tensors(digest::is_part);
        digest::backbone(backbone.iter(), digest::Tables::Without)?.ok_or_else(|| Error::Config {
            what: "backbone digest",
            faults: vec!["the store has no class token, block or final norm".into()],
        })
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
                if self.not_finite.is_none() {
                    let found = not_finite(found)?;
                    self.not_finite = found.map(|found| (name.to_string(), found));
                }
                return Ok((found.clone(), Origin::Checkpoint));
            }
            // Recorded, so that the report names every misshapen tensor and not only the first.
            self.misshapen.push(Misshapen {
                name: name.to_string(),
                expected: shape.dims().to_vec(),
                found: found.dims().to_vec(),
            });
        } else if let Some(value) = self.values.get(name) {
            if value.shape() == shape {
                return Ok((value.clone(), Origin::Given));
            }
            self.misshapen.push(Misshapen {
                name: name.to_string(),
                expected: shape.dims().to_vec(),
                found: value.dims().to_vec(),
            });
        }
        if self.checkpoint.is_some() && !(self.may_be_fresh)((self.role_of)(name)) {
            // The model will not be built: nothing is drawn for it, whatever size it claims.
            let nothing = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
            return Ok((nothing.broadcast_as(shape)?, Origin::Init));
        }
        self.drawn = self.drawn.saturating_add(4 * shape.elem_count() as u64);
        let memory = pad_ops::machine::memory_bytes().unwrap_or(MOST_BYTES);
        if self.drawn > memory {
            candle_core::bail!(
                "`{}` of shape {shape:?}: the model takes {} MiB or more, this machine has {} MiB",
                shown(name),
                self.drawn >> 20,
                memory >> 20
            );
        }
        Ok((initial(shape, name, init, self.key)?, Origin::Init))
    }

    /// The tensor `name`, made and recorded on first request; a variable if its role trains and
    /// `may_train`.
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
                "`{name}`: expected shape {:?} as in its first use, found {shape:?}",
                known.tensor.shape()
            );
        }
        let values =
            shape.dims().iter().try_fold(8_usize, |all, &side| all.checked_mul(side.max(1)));
        if values.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
            candle_core::bail!("`{}`: shape {shape:?} is beyond any memory", shown(name));
        }
        if self.served.len() >= MOST_PARAMETERS {
            candle_core::bail!(
                "`{}`: a model of more than {MOST_PARAMETERS} parameters",
                shown(name)
            );
        }
        let (value, origin) = self.first_value(&shape, name, init)?;
        let role = (self.role_of)(name);
        let is_placeholder =
            origin == Origin::Init && self.checkpoint.is_some() && !(self.may_be_fresh)(role);
        let value = match is_placeholder {
            true => value,
            false => value.to_dtype(dtype)?.to_device(device)?.contiguous()?,
        };
        let trains = may_train && !is_placeholder && self.plan.rate(role).is_some();
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

    /// Serves a constant: a tensor of the checkpoint or a given value, which never trains.
    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        let mut inner = self.lock();
        let known = inner.served.get(name).map(|param| param.tensor.shape().clone());
        let stored = || inner.checkpoint.as_ref()?.get(name).map(|t| t.shape().clone());
        let given = || inner.values.get(name).map(|t| t.shape().clone());
        let Some(shape) = known.or_else(stored).or_else(given) else {
            candle_core::bail!("`{name}` is not in the checkpoint and its shape is unknown");
        };
        inner.serve(shape, name, Init::Const(0.0), (dtype, device), false)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        let inner = self.lock();
        inner.served.contains_key(name)
            || inner.values.contains_key(name)
            || inner.checkpoint.as_ref().is_some_and(|file| file.get(name).is_some())
    }
}
