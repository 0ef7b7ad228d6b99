//! What a store knows: its rules, and the parameters that it has served.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Result as CandleResult, Shape, Tensor, Var};
use candle_nn::Init;
use pad_ops::{rng::Key, text::shown};

use super::{Misshapen, Origin, Param, Plan, Role, adapter_name, initial::initial};
use crate::checkpoint::{
    Checkpoint,
    finite::{NotFinite, not_finite},
};

/// The most parameters of a model. The largest published transformers have some thousands.
const MAX_PARAMETERS: usize = 1 << 16;

/// The most bytes of first values where the machine does not say how much memory it has.
const MAX_BYTES: u64 = 1 << 40;

pub(super) type Rule = Box<dyn Fn(Role) -> bool + Send + Sync>;

/// A rule over names of tensors.
pub(super) type NameRule = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// From the name of a tensor to its role.
pub(super) type Roles = Box<dyn Fn(&str) -> Role + Send + Sync>;

/// Rules and served parameters of a [`ParamStore`](super::ParamStore).
pub(super) struct Inner {
    pub(super) device: Device,
    pub(super) key: Key,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) values: BTreeMap<String, Tensor>,
    pub(super) role_of: Roles,
    pub(super) plan: Plan,
    pub(super) may_be_fresh: Rule,
    pub(super) may_be_unused: Rule,
    pub(super) is_optional: NameRule,
    /// Names of the adapters that may be fresh, and of those that train; `None` for all.
    pub(super) fresh_adapters: BTreeSet<String>,
    pub(super) trained_adapters: Option<BTreeSet<String>>,
    pub(super) served: BTreeMap<String, Param>,
    pub(super) misshapen: Vec<Misshapen>,
    /// The first tensor of the checkpoint that is not finite.
    pub(super) not_finite: Option<(String, NotFinite)>,
    /// Bytes of all values that were initialised.
    pub(super) drawn: u64,
}

impl Inner {
    pub(super) fn adapter_names(&self) -> BTreeSet<&str> {
        self.served.keys().filter_map(|name| adapter_name(name)).collect()
    }

    /// The role of a tensor; one of an adapter is an adapter's, whatever the model's rule says.
    pub(super) fn role(&self, name: &str) -> Role {
        let role = (self.role_of)(name);
        let own = Role::of(name);
        if own.is_adapter() && !role.is_adapter() { own } else { role }
    }

    /// Whether a tensor belongs to a named adapter that may be fresh.
    pub(super) fn is_fresh_adapter(&self, tensor: &str) -> bool {
        adapter_name(tensor).is_some_and(|name| self.fresh_adapters.contains(name))
    }

    /// Whether a tensor trains by its adapter's name; true for one that is not an adapter's.
    pub(super) fn trains_by_name(&self, tensor: &str) -> bool {
        let Some(trained) = &self.trained_adapters else { return true };
        adapter_name(tensor).is_none_or(|name| trained.contains(name))
    }

    /// The first value of `name`, of shape `shape`, and where it came from.
    pub(super) fn first_value(
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
        if !self.may_be_initialised(name) {
            // The model will not be built: nothing is drawn for it, whatever size it claims.
            let nothing = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
            return Ok((nothing.broadcast_as(shape)?, Origin::Init));
        }
        self.drawn = self.drawn.saturating_add(4 * shape.elem_count() as u64);
        let memory = pad_ops::machine::memory_bytes().unwrap_or(MAX_BYTES);
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

    /// Whether a tensor that the checkpoint lacks may be a fresh one.
    fn may_be_initialised(&self, name: &str) -> bool {
        self.checkpoint.is_none()
            || (self.may_be_fresh)(self.role(name))
            || (self.is_optional)(name)
            || self.is_fresh_adapter(name)
    }

    /// The tensor `name`, made and recorded on first request; a variable if its role trains and
    /// `may_train`.
    pub(super) fn serve(
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
        if self.served.len() >= MAX_PARAMETERS {
            candle_core::bail!(
                "`{}`: a model of more than {MAX_PARAMETERS} parameters",
                shown(name)
            );
        }
        let (value, origin) = self.first_value(&shape, name, init)?;
        let role = self.role(name);
        let is_placeholder = origin == Origin::Init && !self.may_be_initialised(name);
        let value = match is_placeholder {
            true => value,
            false => {
                let value = value.to_dtype(dtype)?;
                // As the model takes it: a value of 64 bits may be too large for 32.
                if origin == Origin::Checkpoint && self.not_finite.is_none() {
                    let found = not_finite(&value)?;
                    self.not_finite = found.map(|found| (name.to_string(), found));
                }
                value.to_device(device)?.contiguous()?
            }
        };
        let trains = may_train
            && !is_placeholder
            && self.trains_by_name(name)
            && self.plan.rate(role).is_some();
        let var = if trains { Some(Var::from_tensor(&value)?) } else { None };
        let tensor = var.as_ref().map_or(value, |var| var.as_tensor().clone());
        let param = Param { name: name.to_string(), role, tensor: tensor.clone(), var, origin };
        self.served.insert(name.to_string(), param);
        Ok(tensor)
    }
}
