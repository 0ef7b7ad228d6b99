//! The rules of a store: what trains, what may be missing, which name is which part.

use candle_core::Tensor;

use super::{ParamStore, Plan, Role};

impl ParamStore {
    /// Sets which roles train, and how fast.
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{Adapter, AdapterConfig, params::{ParamStore, Plan, Rate, Role}};
    /// use pad_ops::rng::Key;
    /// let config = AdapterConfig { bottleneck: 2, ..Default::default() };
    /// let slow = Rate { lr_factor: 0.1, ..Rate::default() };
    /// let plan = Plan::new(move |role| matches!(role, Role::Adapter(_)).then_some(slow));
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_plan(plan);
    /// store.build(|vb| Adapter::new(8, &config, vb))?;
    /// let planned = store.planned();
    /// assert_eq!((planned.len(), planned[0].rate.lr_factor), (6, 0.1)); // all but the gate
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    #[must_use]
    pub fn with_plan(self, plan: Plan) -> Self {
        self.lock().plan = plan;
        self
    }

    /// Sets which roles train, at the run's learning rate: `|role| role.is_adapter()`.
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{Adapter, AdapterConfig, params::{ParamStore, Plan, Rate, Role}};
    /// use pad_ops::rng::Key;
    /// let config = AdapterConfig { bottleneck: 2, ..Default::default() };
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0))
    ///     .with_trained(|role| matches!(role, Role::Gate(_)));
    /// store.build(|vb| Adapter::new(8, &config, vb))?;
    /// assert_eq!(store.summary().trained, 16);
    /// # let _ = (Plan::nothing(), Rate::default());
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    #[must_use]
    pub fn with_trained(self, rule: impl Fn(Role) -> bool + Send + Sync + 'static) -> Self {
        self.with_plan(Plan::of_roles(rule))
    }

    /// Sets which roles may be missing from the checkpoint and are then initialised (adapters on an
    /// RGB backbone).
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use candle_core::{DType, Device, Tensor};
    /// use pad_adapter::{Error, checkpoint::Checkpoint, params::{ParamStore, Role}};
    /// use pad_ops::rng::Key;
    /// let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu);
    /// let file = Checkpoint::from_tensors("FILE", BTreeMap::from([("mixer.weight".to_string(), ones(&[3, 4])?)]));
    /// let store = ParamStore::from_checkpoint(file, &Device::Cpu, Key::new(0))
    ///     .with_fresh(|role| role == Role::Head);
    /// store.build(|vb| {
    ///     candle_nn::linear_no_bias(4, 3, vb.pp("mixer"))?;
    ///     Ok::<_, Error>(candle_nn::linear(3, 2, vb.pp("head"))?)
    /// })?;
    /// assert_eq!(store.params().len(), 3); // the head's two are drawn
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    #[must_use]
    pub fn with_fresh(self, rule: impl Fn(Role) -> bool + Send + Sync + 'static) -> Self {
        self.lock().may_be_fresh = Box::new(rule);
        self
    }

    /// Sets which roles of the checkpoint the model need not have (a decoder, when only the encoder
    /// is built).
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use candle_core::{DType, Device, Tensor};
    /// use pad_adapter::{Error, checkpoint::Checkpoint, params::{ParamStore, Role}};
    /// use pad_ops::rng::Key;
    /// let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu);
    /// let file = Checkpoint::from_tensors("FILE", BTreeMap::from([
    ///     ("mixer.weight".to_string(), ones(&[3, 4])?),
    ///     ("head.weight".to_string(), ones(&[2, 3])?),
    /// ]));
    /// let store = ParamStore::from_checkpoint(file, &Device::Cpu, Key::new(0))
    ///     .with_unused(|role| role == Role::Head);
    /// store.build(|vb| Ok::<_, Error>(candle_nn::linear_no_bias(4, 3, vb.pp("mixer"))?))?;
    /// assert_eq!(store.params().len(), 1);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
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
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use pad_adapter::params::ParamStore;
    /// use pad_ops::rng::Key;
    /// let table = Tensor::new(&[0.5_f32, 1.5], &Device::Cpu)?;
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_value("positions", table);
    /// let positions = store.build(|vb| Ok::<_, pad_adapter::Error>(vb.get(2, "positions")?))?;
    /// assert_eq!(positions.to_vec1::<f32>()?, [0.5, 1.5]);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    #[must_use]
    pub fn with_value(self, name: impl Into<String>, value: Tensor) -> Self {
        self.lock().values.insert(name.into(), value);
        self
    }
}
