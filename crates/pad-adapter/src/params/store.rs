//! A `VarBuilder` backend that serves a model its parameters and records them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use candle_core::{DType, Device, Result as CandleResult, Shape, Tensor, Var};
use candle_nn::{Init, VarBuilder, var_builder::SimpleBackend};
use pad_ops::rng::Key;

use super::{
    LoadReport, Misshapen, Origin, Param, Plan, Planned, Role, StoreSummary, UnplannedRoles,
    adapter_name, initial::initial, named,
};
use crate::{
    Error, Result,
    checkpoint::{Checkpoint, digest},
};

type Rule = Box<dyn Fn(Role) -> bool + Send + Sync>;

/// A rule over names of tensors.
type NameRule = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// From the name of a tensor to its role.
type Roles = Box<dyn Fn(&str) -> Role + Send + Sync>;

struct Inner {
    device: Device,
    key: Key,
    checkpoint: Option<Checkpoint>,
    values: BTreeMap<String, Tensor>,
    role_of: Roles,
    plan: Plan,
    may_be_fresh: Rule,
    may_be_unused: Rule,
    is_optional: NameRule,
    /// Names of the adapters that may be fresh, and of those that train; `None` for all.
    fresh_adapters: BTreeSet<String>,
    trained_adapters: Option<BTreeSet<String>>,
    served: BTreeMap<String, Param>,
    misshapen: Vec<Misshapen>,
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
            role_of: Box::new(Role::of),
            plan: Plan::nothing(),
            may_be_fresh: Box::new(|_| true),
            may_be_unused: Box::new(|_| false),
            is_optional: Box::new(|_| false),
            fresh_adapters: BTreeSet::new(),
            trained_adapters: None,
            served: BTreeMap::new(),
            misshapen: Vec::new(),
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

    /// Sets which tensors are optional, by name: they may be missing from the checkpoint, and are
    /// then initialised, and the model need not have them (a buffer such as `position_ids`, a bias
    /// that some files lack). Shapes are compared all the same.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use candle_core::{DType, Device, Tensor};
    /// use pad_adapter::{Error, checkpoint::Checkpoint, params::ParamStore};
    /// use pad_ops::rng::Key;
    ///
    /// let file = Checkpoint::from_tensors("FILE", BTreeMap::from([
    ///     ("weight".to_string(), Tensor::ones((3, 4), DType::F32, &Device::Cpu)?),
    ///     ("position_ids".to_string(), Tensor::zeros(77, DType::I64, &Device::Cpu)?),
    /// ]));
    /// let build = |store: ParamStore| store.build(|vb| Ok::<_, Error>(candle_nn::linear(4, 3, vb)?));
    /// let strict = ParamStore::from_checkpoint(file.clone(), &Device::Cpu, Key::new(0));
    /// assert_eq!(
    ///     build(strict).unwrap_err().to_string(),
    ///     "FILE: the checkpoint is not this model's; missing 1: bias; unexpected 1: position_ids"
    /// );
    /// let store = ParamStore::from_checkpoint(file, &Device::Cpu, Key::new(0))
    ///     .with_optional(|name| name == "bias" || name.ends_with("position_ids"));
    /// build(store)?;
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn with_optional(self, rule: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.lock().is_optional = Box::new(rule);
        self
    }

    /// Sets the names of adapters that may be missing from the checkpoint and are then initialised,
    /// beside the roles of [`ParamStore::with_fresh`]: of several adapters in one model, those that
    /// are new.
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{Adapter, AdapterConfig, checkpoint::Checkpoint, params::ParamStore};
    /// use pad_ops::rng::Key;
    ///
    /// let config = AdapterConfig { bottleneck: 2, ..Default::default() };
    /// let day = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// day.build(|vb| Adapter::named("day", 8, &config, vb))?;
    /// let weights = Checkpoint::from_tensors("FILE", day.tensors(|_| true));
    /// // Day is loaded and frozen, night is new and trains.
    /// let store = ParamStore::from_checkpoint(weights, &Device::Cpu, Key::new(1))
    ///     .with_trained(|role| role.is_adapter())
    ///     .with_fresh_adapters(["night"])
    ///     .with_trained_adapters(["night"]);
    /// store.build(|vb| {
    ///     Adapter::named("day", 8, &config, vb.clone())?;
    ///     Adapter::named("night", 8, &config, vb)
    /// })?;
    /// assert_eq!(store.summary().trained, config.parameter_count(8));
    /// assert_eq!(store.adapter_names(), ["day", "night"]);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    #[must_use]
    pub fn with_fresh_adapters<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        self.lock().fresh_adapters = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the names of the adapters that train, of those whose roles the plan trains; the others
    /// are frozen. [`DEFAULT_ADAPTER`](super::DEFAULT_ADAPTER) stands for adapters without a name. Default: all. A name that
    /// no adapter of the model has makes [`ParamStore::build`] fail.
    ///
    /// Example: [`ParamStore::with_fresh_adapters`].
    #[must_use]
    pub fn with_trained_adapters<N: Into<String>>(
        self,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        self.lock().trained_adapters = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Sets how roles follow from names, for a foreign model. Default: [`Role::of`], which gives
    /// [`Role::Other`] to names that it does not know. Tensors of adapters are adapters' whatever the
    /// rule says of them.
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::params::{ParamStore, Role};
    /// use pad_ops::rng::Key;
    ///
    /// let prefix = "vision_model.".to_string(); // a closure may own what it needs
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0))
    ///     .with_roles(move |name| match name.strip_prefix(&prefix) {
    ///         Some(inside) => Role::of(inside),
    ///         None => Role::Head,
    ///     });
    /// store.build(|vb| {
    ///     candle_nn::linear(4, 3, vb.pp("vision_model.blocks.0.fc1"))?;
    ///     Ok::<_, pad_adapter::Error>(candle_nn::linear(3, 2, vb.pp("answer"))?)
    /// })?;
    /// assert_eq!(store.tensors(|role| role == Role::Block(0)).len(), 2);
    /// assert_eq!(store.tensors(|role| role == Role::Head)["answer.bias"].dims(), [2]);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    #[must_use]
    pub fn with_roles(self, role_of: impl Fn(&str) -> Role + Send + Sync + 'static) -> Self {
        self.lock().role_of = Box::new(role_of);
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
    /// [`Error::Tensors`] with everything that is missing, unexpected and misshapen; errors of
    /// `build`.
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

    /// Checks that checkpoint and model agree, and warns of [`ParamStore::unplanned`] parameters.
    ///
    /// # Errors
    /// [`Error::Tensors`]; [`Error::UnknownName`] for the name of an adapter that the model lacks.
    pub fn check(&self) -> Result<()> {
        if let Some(unplanned) = self.unplanned() {
            tracing::warn!("{unplanned}");
        }
        let inner = self.lock();
        let known = inner.adapter_names();
        let wanted = inner.trained_adapters.iter().flatten().chain(&inner.fresh_adapters);
        for name in wanted.filter(|name| !known.contains(name.as_str())) {
            return Err(named::unknown(name, known.iter().copied()));
        }
        let Some(checkpoint) = &inner.checkpoint else { return Ok(()) };
        let missing = inner.served.values().filter(|param| {
            param.origin != Origin::Checkpoint
                && !(inner.may_be_fresh)(param.role)
                && !(inner.is_optional)(&param.name)
                && !inner.is_fresh_adapter(&param.name)
                && !inner.misshapen.iter().any(|bad| bad.name == param.name)
        });
        let unexpected = checkpoint.names().filter(|name| {
            !inner.served.contains_key(*name)
                && !(inner.is_optional)(name)
                && !(inner.may_be_unused)(inner.role(name))
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

    /// The parameters that train, by name, with the rates of the plan.
    pub fn planned(&self) -> Vec<Planned> {
        let inner = self.lock();
        let planned = inner.served.values().filter_map(|param| {
            let (var, rate) = (param.var.clone()?, inner.plan.rate(param.role)?);
            Some(Planned { name: param.name.clone(), role: param.role, var, rate })
        });
        planned.collect()
    }

    /// The parameters of unknown role ([`Role::Other`]), if the plan trains or freezes all of them
    /// and was not made with them in mind (by [`Plan::with_other`], or by treating every role
    /// alike); else `None`.
    pub fn unplanned(&self) -> Option<UnplannedRoles> {
        let inner = self.lock();
        if inner.plan.decides_other() {
            return None;
        }
        let unknown = inner.served.values().filter(|param| param.role == Role::Other);
        let unknown = unknown.map(|param| (param.name.as_str(), param.tensor.elem_count()));
        UnplannedRoles::new(unknown, inner.plan.rate(Role::Other).is_some())
    }

    /// The names of the model's adapters, in alphabetical order; [`DEFAULT_ADAPTER`](super::DEFAULT_ADAPTER) for those that
    /// were built without a name ([`Adapter::new`](crate::Adapter::new)).
    pub fn adapter_names(&self) -> Vec<String> {
        self.lock().adapter_names().into_iter().map(String::from).collect()
    }

    /// Renames an adapter at all its places. The model keeps its variables; the tensors have other
    /// names from now on, here and in what is saved. [`DEFAULT_ADAPTER`](super::DEFAULT_ADAPTER) stands for no name.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for an adapter that the model lacks; [`Error::Config`] for a name that
    /// cannot be one or is taken.
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{Adapter, AdapterConfig, params::{DEFAULT_ADAPTER, ParamStore}};
    /// use pad_ops::rng::Key;
    ///
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// store.build(|vb| Adapter::new(8, &AdapterConfig::default(), vb.pp("layer.0")))?;
    /// store.rename_adapter(DEFAULT_ADAPTER, "night")?;
    /// let names: Vec<String> = store.tensors(|role| role.is_adapter()).into_keys().collect();
    /// assert_eq!(names[0], "layer.0.adapters.night.adaptmlp.adapter_layer_norm_before.bias");
    /// assert_eq!(names.len(), 7);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn rename_adapter(&self, from: &str, to: &str) -> Result<()> {
        let mut inner = self.lock();
        let known = inner.adapter_names();
        if !known.contains(from) {
            return Err(named::unknown(from, known.iter().copied()));
        }
        named::check_name(to)?;
        if from == to {
            return Ok(());
        }
        if known.contains(to) {
            let faults = vec![format!("`{to}` is the name of another adapter of the model")];
            return Err(Error::Config { what: "adapter", faults });
        }
        let served = std::mem::take(&mut inner.served).into_values().map(|mut param| {
            if adapter_name(&param.name) == Some(from)
                && let Some(name) = named::renamed(&param.name, to)
            {
                param.name = name;
            }
            (param.name.clone(), param)
        });
        inner.served = served.collect();
        if inner.fresh_adapters.remove(from) {
            inner.fresh_adapters.insert(to.to_string());
        }
        if let Some(list) = &mut inner.trained_adapters
            && list.remove(from)
        {
            list.insert(to.to_string());
        }
        Ok(())
    }

    /// Trained and frozen counts, by role.
    pub fn summary(&self) -> StoreSummary {
        let mut summary = StoreSummary { unplanned: self.unplanned(), ..StoreSummary::default() };
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

    /// The digest of the backbone: of every parameter that is neither an adapter's, nor a head's,
    /// nor a decoder's, by its role. SHA-256 as 64 hexadecimal digits. For names of this project it
    /// is what [`Checkpoint::backbone_digest`] gives for a checkpoint with these tensors; as there,
    /// what [`Checkpoint::fit`] changes is left out.
    ///
    /// # Errors
    /// [`Error::Config`] if the store has no parameter of a backbone, so that the digest would be
    /// one of nothing; candle's errors when values are copied from a device.
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::params::{ParamStore, Role};
    /// use pad_ops::rng::Key;
    ///
    /// let digest = |seed, role: Role| {
    ///     let store = ParamStore::scratch(&Device::Cpu, Key::new(seed)).with_roles(move |_| role);
    ///     store.build(|vb| Ok::<_, pad_adapter::Error>(candle_nn::linear(4, 3, vb.pp("mixer"))?))?;
    ///     store.backbone_digest()
    /// };
    /// assert_eq!(digest(1, Role::Other)?.len(), 64);
    /// assert_ne!(digest(1, Role::Other)?, digest(2, Role::Other)?);
    /// assert_eq!(
    ///     digest(1, Role::Head).unwrap_err().to_string(),
    ///     "backbone digest: all 2 parameters are adapters', heads' or decoders', so no backbone is left"
    /// );
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn backbone_digest(&self) -> Result<String> {
        let inner = self.lock();
        let parts = inner.served.values().filter(|param| digest::is_part(&param.name, param.role));
        let parts = parts.map(|param| (&param.name, &param.tensor));
        digest::backbone(parts, digest::Tables::Without)?.ok_or_else(|| Error::Config {
            what: "backbone digest",
            faults: vec![format!(
                "all {} parameters are adapters', heads' or decoders', so no backbone is left",
                inner.served.len()
            )],
        })
    }
}

impl Inner {
    fn adapter_names(&self) -> BTreeSet<&str> {
        self.served.keys().filter_map(|name| adapter_name(name)).collect()
    }

    /// The role of a tensor; one of an adapter is an adapter's, whatever the model's rule says.
    fn role(&self, name: &str) -> Role {
        let role = (self.role_of)(name);
        let own = Role::of(name);
        if own.is_adapter() && !role.is_adapter() { own } else { role }
    }

    /// Whether a tensor belongs to a named adapter that may be fresh.
    fn is_fresh_adapter(&self, tensor: &str) -> bool {
        adapter_name(tensor).is_some_and(|name| self.fresh_adapters.contains(name))
    }

    /// Whether a tensor trains by its adapter's name; true for one that is no adapter's.
    fn trains_by_name(&self, tensor: &str) -> bool {
        let Some(trained) = &self.trained_adapters else { return true };
        adapter_name(tensor).is_none_or(|name| trained.contains(name))
    }

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
        let (value, origin) = self.first_value(&shape, name, init)?;
        let value = value.to_dtype(dtype)?.to_device(device)?.contiguous()?;
        let role = self.role(name);
        let trains = may_train && self.trains_by_name(name) && self.plan.rate(role).is_some();
        let var = if trains { Some(Var::from_tensor(&value)?) } else { None };
        let tensor = var.as_ref().map_or(value, |var| var.as_tensor().clone());
        let param = Param { name: name.to_string(), role, tensor: tensor.clone(), var, origin };
        self.served.insert(name.to_string(), param);
        Ok(tensor)
    }
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
