//! Which parts of a network train, at which rate and with which weight decay.

use std::{fmt, str::FromStr};

use pad_adapter::params::{ParamStore, Plan, Role};
use pad_train::Parameter;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    layers::is_running_statistic,
};

/// Which parts of a network train.
///
/// ```
/// use pad_heads::Trained;
/// assert_eq!("adapters-and-heads".parse::<Trained>()?, Trained::AdaptersAndHeads);
/// # Ok::<(), pad_heads::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Trained {
    /// Every part.
    #[default]
    Everything,
    /// Adapters and heads; the backbone is frozen.
    AdaptersAndHeads,
    /// Heads alone: a probe.
    Heads,
}

impl Trained {
    /// The names, as [`FromStr`] reads them.
    pub const NAMES: &[&str] = &["everything", "adapters-and-heads", "heads"];

    /// Returns whether a role trains.
    pub fn includes(self, role: Role) -> bool {
        match self {
            Trained::Everything => true,
            Trained::AdaptersAndHeads => role.is_adapter() || role == Role::Head,
            Trained::Heads => role == Role::Head,
        }
    }

    /// Returns whether the backbone itself trains.
    pub fn trains_backbone(self) -> bool {
        self == Trained::Everything
    }

    /// The plan for a network of `depth` blocks whose learning rate falls by the factor
    /// `layer_decay` from each layer to the one below it (1: the same rate everywhere). Heads and
    /// pyramid have factor 1, block `i` and its adapter `layer_decay ^ (depth - i)`, patch
    /// embedding, class token and position table `layer_decay ^ (depth + 1)`.
    ///
    /// ```
    /// use pad_adapter::params::Role;
    /// use pad_heads::Trained;
    /// let trained = Trained::AdaptersAndHeads;
    /// assert!(trained.includes(Role::Head) && !trained.trains_backbone());
    /// let factor = |role| trained.plan(0.5, 12).rate(role).map(|rate| rate.lr_factor);
    /// assert_eq!(factor(Role::Head), Some(1.0));
    /// assert_eq!(factor(Role::Adapter(10)), Some(0.25)); // 0.5 ^ (12 - 10)
    /// assert_eq!(factor(Role::Block(10)), None);
    /// ```
    pub fn plan(self, layer_decay: f64, depth: usize) -> Plan {
        Plan::of_roles(move |role| self.includes(role)).with_layer_decay(layer_decay, depth)
    }
}

impl fmt::Display for Trained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Trained::Everything => "everything",
            Trained::AdaptersAndHeads => "adapters-and-heads",
            Trained::Heads => "heads",
        })
    }
}

impl FromStr for Trained {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "everything" => Ok(Trained::Everything),
            "adapters-and-heads" => Ok(Trained::AdaptersAndHeads),
            "heads" => Ok(Trained::Heads),
            found => Err(unknown_name("trained parts", Self::NAMES, found)),
        }
    }
}

/// The error for a name that is not one of `known`.
pub(crate) fn unknown_name(
    what: &'static str,
    known: &'static [&'static str],
    found: &str,
) -> Error {
    pad_ops::Error::UnknownName { what, known, found: found.to_string() }.into()
}

/// Returns the parameters of `store` for an optimiser, at the rates of the store's plan.
///
/// Weight decay goes to all tensors of two or more axes. The original means to spare `pos_embed`
/// and `cls_token`, but compares names without their prefix `backbone.` and decays them all the
/// same, relative position tables too. This does as the original does, not as it says: its
/// published results were made so.
///
/// Running statistics of batch norms are among the parameters, so that checkpoints hold them, but
/// get no update.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::params::{ParamStore, Role};
/// use pad_heads::parameters;
/// use pad_ops::rng::Key;
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0))
///     .with_roles(|name| if name.starts_with("head") { Role::Head } else { Role::Other })
///     .with_trained(|role| role == Role::Head);
/// store.build(|vb| {
///     candle_nn::linear(4, 4, vb.pp("body"))?;
///     Ok::<_, pad_heads::Error>(candle_nn::linear(4, 2, vb.pp("head"))?)
/// })?;
/// let decays: Vec<_> =
///     parameters(&store, 0.05).into_iter().map(|one| (one.name, one.weight_decay)).collect();
/// assert_eq!(decays, [("head.bias".to_string(), 0.0), ("head.weight".to_string(), 0.05)]);
/// # Ok::<(), pad_heads::Error>(())
/// ```
pub fn parameters(store: &ParamStore, weight_decay: f64) -> Vec<Parameter> {
    let parameter = |planned: pad_adapter::params::Planned| {
        if is_running_statistic(&planned.name) {
            return Parameter::buffer(planned.name, planned.var);
        }
        Parameter::new(planned.name, planned.var)
            .with_lr_factor(planned.rate.lr_factor)
            .with_frozen_through(planned.rate.frozen_through)
            .with_weight_decay(weight_decay)
    };
    store.planned().into_iter().map(parameter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in Trained::NAMES {
            assert_eq!(name.parse::<Trained>().unwrap().to_string(), *name);
        }
        assert_eq!(
            "head".parse::<Trained>().unwrap_err().to_string(),
            "trained parts: expected everything, adapters-and-heads or heads, found `head` (did you mean `heads`?)"
        );
    }
}
