//! A `VarBuilder` backend that serves a model its parameters and records them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use candle_core::{DType, Device, Result as CandleResult, Shape, Tensor};
use candle_nn::{Init, VarBuilder, var_builder::SimpleBackend};
use pad_ops::rng::Key;

use super::{
    LoadReport, Origin, Param, Plan, Planned, Role, StoreSummary, UnplannedRoles, adapter_name,
    inner::Inner, named,
};
use crate::{
    Error, Result,
    checkpoint::{Checkpoint, digest},
};

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
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::params::ParamStore;
    /// use pad_ops::rng::Key;
    /// let values = |seed| {
    ///     let store = ParamStore::scratch(&Device::Cpu, Key::new(seed));
    ///     store.build(|vb| Ok::<_, pad_adapter::Error>(candle_nn::linear(4, 3, vb)?))?;
    ///     Ok::<_, pad_adapter::Error>(store.tensors(|_| true)["weight"].flatten_all()?.to_vec1::<f32>()?)
    /// };
    /// assert_eq!(values(1)?, values(1)?);
    /// assert_ne!(values(1)?, values(2)?);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
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
            not_finite: None,
            drawn: 0,
        })))
    }

    /// A store that serves `checkpoint`, strictly: missing, unexpected and misshapen tensors make
    /// [`ParamStore::build`] fail, except those of roles that [`ParamStore::with_fresh`] and
    /// [`ParamStore::with_unused`] allow.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use candle_core::{DType, Device, Tensor};
    /// use pad_adapter::{Error, checkpoint::Checkpoint, params::{ParamStore, Role}};
    /// use pad_ops::rng::Key;
    /// let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu);
    /// let file = Checkpoint::from_tensors("FILE", BTreeMap::from([("weigth".to_string(), ones(&[3, 4])?)]));
    /// let store = ParamStore::from_checkpoint(file, &Device::Cpu, Key::new(0));
    /// let refused = store.build(|vb| Ok::<_, Error>(candle_nn::linear_no_bias(4, 3, vb)?)).unwrap_err();
    /// assert_eq!(
    ///     refused.to_string(),
    ///     "FILE: the checkpoint is not this model's; missing 1: weight; unexpected 1: weigth"
    /// );
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn from_checkpoint(checkpoint: Checkpoint, device: &Device, key: Key) -> Self {
        let store = Self::scratch(device, key);
        {
            let mut inner = store.lock();
            inner.checkpoint = Some(checkpoint);
            inner.may_be_fresh = Box::new(|_| false);
        }
        store
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves the maps as they are: still sound to read.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Builds a model on this store and checks that checkpoint and model agree.
    ///
    /// # Errors
    /// [`Error::Tensors`] with everything that is missing, unexpected and misshapen; errors of
    /// `build`.
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{Adapter, AdapterConfig, params::{ParamStore, Plan, Rate, Role}};
    /// use pad_ops::rng::Key;
    /// let config = AdapterConfig { bottleneck: 2, ..Default::default() };
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_plan(Plan::everything());
    /// let adapter = store.build(|vb| Adapter::new(8, &config, vb))?;
    /// assert_eq!(store.summary().trained, config.parameter_count(8));
    /// # let _ = (adapter, Role::Head, Rate::default());
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
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
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::params::ParamStore;
    /// use pad_ops::rng::Key;
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// let weight = store.var_builder().pp("mixer").get((3, 4), "weight")?;
    /// store.check()?;
    /// assert_eq!((weight.dims(), store.params()[0].name.as_str()), (&[3, 4][..], "mixer.weight"));
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn var_builder(&self) -> VarBuilder<'static> {
        let device = self.lock().device.clone();
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, device)
    }

    /// Checks that checkpoint and model agree, and warns of [`ParamStore::unplanned`] parameters.
    ///
    /// # Errors
    /// [`Error::Tensors`]; [`Error::UnknownName`] for the name of an adapter that the model lacks.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use candle_core::{DType, Device, Tensor};
    /// use pad_adapter::{Error, checkpoint::Checkpoint, params::{ParamStore, Role}};
    /// use pad_ops::rng::Key;
    /// let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu);
    /// let file = Checkpoint::from_tensors("FILE", BTreeMap::from([("other".to_string(), ones(&[1])?)]));
    /// let store = ParamStore::from_checkpoint(file, &Device::Cpu, Key::new(0));
    /// assert!(store.check().unwrap_err().to_string().ends_with("unexpected 1: other"));
    /// store.var_builder().get(1, "other")?;
    /// assert!(store.check().is_ok());
    /// # let _ = Role::Head;
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn check(&self) -> Result<()> {
        if let Some(unplanned) = self.unplanned() {
            tracing::warn!("{unplanned}");
        }
        let inner = self.lock();
        let known = inner.adapter_names();
        let mut wanted = inner.trained_adapters.iter().flatten().chain(&inner.fresh_adapters);
        if let Some(name) = wanted.find(|name| !known.contains(name.as_str())) {
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
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{Adapter, AdapterConfig, params::{ParamStore, Plan, Rate, Role}};
    /// use pad_ops::rng::Key;
    /// let config = AdapterConfig { bottleneck: 2, ..Default::default() };
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_trained(|_| false);
    /// store.build(|vb| Adapter::new(8, &config, vb.pp("layer.3")))?;
    /// let params = store.params();
    /// assert_eq!((params.len(), params[6].role), (7, Role::Gate(3)));
    /// assert!(params.iter().all(|param| param.var.is_none()));
    /// # let _ = (Plan::nothing(), Rate::default());
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn params(&self) -> Vec<Param> {
        self.lock().served.values().cloned().collect()
    }

    /// The parameters that train, by name, with the rates of the plan.
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{Adapter, AdapterConfig, params::{ParamStore, Plan, Rate, Role}};
    /// use pad_ops::rng::Key;
    /// let config = AdapterConfig { bottleneck: 2, ..Default::default() };
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_trained(Role::is_adapter);
    /// store.build(|vb| Adapter::new(8, &config, vb))?;
    /// let planned = store.planned();
    /// assert_eq!((planned.len(), planned[0].rate), (7, Rate::default()));
    /// # let _ = Plan::nothing();
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
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
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{Adapter, AdapterConfig, params::{ParamStore, Plan, Rate, Role}};
    /// use pad_ops::rng::Key;
    /// let config = AdapterConfig { bottleneck: 2, ..Default::default() };
    /// let build = |plan: Plan| {
    ///     let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_plan(plan);
    ///     store.build(|vb| {
    ///         candle_nn::linear(8, 8, vb.pp("mixer"))?;
    ///         Adapter::new(8, &config, vb)
    ///     })?;
    ///     Ok::<_, pad_adapter::Error>(store.unplanned())
    /// };
    /// assert_eq!(
    ///     build(Plan::of_roles(|role| !role.is_adapter()))?.unwrap().to_string(),
    ///     "the plan trains all 2 tensors (72 values) whose role is unknown: mixer.bias, mixer.weight (roles: \
    ///      `with_roles`; to confirm: `Plan::with_other`)"
    /// );
    /// assert_eq!(build(Plan::of_roles(Role::is_adapter).with_other(None))?, None);
    /// # let _ = Rate::default();
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
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
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{Adapter, AdapterConfig, params::{ParamStore, Plan, Rate, Role}};
    /// use pad_ops::rng::Key;
    /// let config = AdapterConfig { bottleneck: 2, ..Default::default() };
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// store.build(|vb| {
    ///     Adapter::new(8, &config, vb.pp("layer.0"))?;
    ///     Adapter::named("night", 8, &config, vb.pp("layer.0"))
    /// })?;
    /// assert_eq!(store.adapter_names(), ["default", "night"]);
    /// # let _ = (Plan::nothing(), Rate::default(), Role::Head);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn adapter_names(&self) -> Vec<String> {
        self.lock().adapter_names().into_iter().map(String::from).collect()
    }

    /// Renames an adapter at all its places. The model keeps its variables; the tensors have other
    /// names from now on, here and in what is saved. [`DEFAULT_ADAPTER`](super::DEFAULT_ADAPTER) stands for no name.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for an adapter that the model lacks; [`Error::Config`] for a name that is
    /// invalid or taken.
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
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{Adapter, AdapterConfig, params::{ParamStore, Plan, Rate, Role}};
    /// use pad_ops::rng::Key;
    /// let config = AdapterConfig { bottleneck: 2, ..Default::default() };
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_trained(Role::is_adapter);
    /// store.build(|vb| {
    ///     candle_nn::linear(8, 8, vb.pp("blocks.0.fc"))?;
    ///     Adapter::new(8, &config, vb.pp("blocks.0"))
    /// })?;
    /// assert_eq!((store.summary().trained, store.summary().frozen), (74, 72));
    /// # let _ = (Plan::nothing(), Rate::default());
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn summary(&self) -> StoreSummary {
        let mut summary = StoreSummary { unplanned: self.unplanned(), ..StoreSummary::default() };
        for param in self.lock().served.values() {
            summary.add(param.role, param.tensor.elem_count(), param.var.is_some());
        }
        summary
    }

    /// The present values of the parameters whose role `wanted` accepts, by name.
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{Adapter, AdapterConfig, params::{ParamStore, Plan, Rate, Role}};
    /// use pad_ops::rng::Key;
    /// let config = AdapterConfig { bottleneck: 2, ..Default::default() };
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// store.build(|vb| Adapter::new(8, &config, vb.pp("layer.3")))?;
    /// let gates = store.tensors(|role| role == Role::Gate(3));
    /// assert_eq!(gates["layer.3.scalar_pred.weight"].dims(), [1, 16]);
    /// # let _ = (Plan::nothing(), Rate::default());
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
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
