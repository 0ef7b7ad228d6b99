//! A parameter of a model, as a store knows it.

use candle_core::{Tensor, Var};

use super::{Rate, Role};

/// Where a parameter's first value came from.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_adapter::params::{Origin, ParamStore};
/// use pad_ops::rng::Key;
///
/// let bias = Tensor::ones(3, DType::F32, &Device::Cpu)?;
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_value("bias", bias);
/// store.build(|vb| Ok::<_, pad_adapter::Error>(candle_nn::linear(4, 3, vb)?))?;
/// let origins: Vec<Origin> = store.params().into_iter().map(|param| param.origin).collect();
/// assert_eq!(origins, [Origin::Given, Origin::Init]); // bias, weight
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The checkpoint.
    Checkpoint,
    /// A tensor given with [`ParamStore::with_value`](super::ParamStore::with_value).
    Given,
    /// Its initialiser, drawn from the store's key and its own name.
    Init,
}

/// A parameter of a model.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::params::{Origin, ParamStore, Role};
/// use pad_ops::rng::Key;
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_trained(|_| true);
/// store.build(|vb| Ok::<_, pad_adapter::Error>(candle_nn::linear_no_bias(4, 3, vb.pp("head"))?))?;
/// let param = &store.params()[0];
/// assert_eq!((param.name.as_str(), param.role, param.origin), ("head.weight", Role::Head, Origin::Init));
/// assert!(param.var.is_some());
/// # Ok::<(), pad_adapter::Error>(())
/// ```
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
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::params::{ParamStore, Role};
/// use pad_ops::rng::Key;
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_trained(|role| role == Role::Head);
/// store.build(|vb| Ok::<_, pad_adapter::Error>(candle_nn::linear_no_bias(4, 3, vb.pp("head"))?))?;
/// let planned = &store.planned()[0];
/// assert_eq!((planned.var.dims(), planned.rate.lr_factor), (&[3, 4][..], 1.0));
/// # Ok::<(), pad_adapter::Error>(())
/// ```
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
