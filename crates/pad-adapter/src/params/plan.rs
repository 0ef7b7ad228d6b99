//! Which parameters train, and how fast.

use std::{fmt, sync::Arc};

use super::Role;

/// How a parameter trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Factor on the run's learning rate. Default 1.
    pub lr_factor: f64,
    /// Last epoch (from 0) in which the parameter stays frozen. Default: it trains from the first
    /// step.
    pub frozen_through: Option<usize>,
}

impl Default for Rate {
    fn default() -> Self {
        Self { lr_factor: 1.0, frozen_through: None }
    }
}

type Rule = dyn Fn(Role) -> Option<Rate> + Send + Sync;

/// Which roles train, and how fast: a rate for each role, `None` for a frozen one.
///
/// ```
/// use pad_adapter::params::{Plan, Role};
///
/// let plan = Plan::everything().with_layer_decay(0.5, 12);
/// assert_eq!(plan.rate(Role::Head).unwrap().lr_factor, 1.0);
/// assert_eq!(plan.rate(Role::Block(11)).unwrap().lr_factor, 0.5);
/// assert_eq!(Plan::of_roles(Role::is_adapter).rate(Role::Block(11)), None);
/// ```
#[derive(Clone)]
pub struct Plan(Arc<Rule>);

impl Plan {
    /// A plan from a function of the role.
    pub fn new(rule: impl Fn(Role) -> Option<Rate> + Send + Sync + 'static) -> Self {
        Self(Arc::new(rule))
    }

    /// The plan that trains the roles for which `trains` returns true, at the run's learning rate.
    pub fn of_roles(trains: impl Fn(Role) -> bool + Send + Sync + 'static) -> Self {
        Self::new(move |role| trains(role).then(Rate::default))
    }

    /// The plan that trains every role.
    pub fn everything() -> Self {
        Self::of_roles(|_| true)
    }

    /// The plan that trains no role.
    pub fn nothing() -> Self {
        Self::of_roles(|_| false)
    }

    /// Multiplies the learning rates by `decay^(depth + 1 - layer)`, with [`Role::layer`] in a
    /// network of `depth` blocks: they fall from the head (factor 1) down to the patch embedding,
    /// BEiT's and MAE's rule.
    #[must_use]
    pub fn with_layer_decay(self, decay: f64, depth: usize) -> Self {
        Self::new(move |role| {
            let rate = self.rate(role)?;
            let layers_above = (depth + 1).saturating_sub(role.layer(depth));
            let lr_factor = rate.lr_factor * decay.powi(layers_above as i32);
            Some(Rate { lr_factor, ..rate })
        })
    }

    /// The rate of a role; `None` if it is frozen in every epoch.
    pub fn rate(&self, role: Role) -> Option<Rate> {
        (self.0)(role)
    }
}

/// The rates of the roles of a network with one block.
impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates = Role::families().map(|role| (role.family(), self.rate(role)));
        f.debug_map().entries(rates).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_decay_falls_from_the_head_to_the_patches() {
        let plan = Plan::of_roles(|role| role != Role::PosTable).with_layer_decay(0.5, 2);
        let factor = |role| plan.rate(role).map(|rate| rate.lr_factor);
        assert_eq!(factor(Role::PosTable), None);
        for role in [Role::PatchEmbed, Role::ClassToken] {
            assert_eq!(factor(role), Some(0.125), "{role:?}");
        }
        for role in [Role::Block(1), Role::Adapter(1), Role::Gate(1)] {
            assert_eq!(factor(role), Some(0.5), "{role:?}");
        }
        for role in [Role::FinalNorm, Role::Head, Role::Decoder, Role::MaskToken, Role::Block(9)] {
            assert_eq!(factor(role), Some(1.0), "{role:?}");
        }
        let late = Plan::new(|_| Some(Rate { lr_factor: 2.0, frozen_through: Some(3) }));
        let rate = late.with_layer_decay(0.5, 2).rate(Role::Block(0)).unwrap();
        assert_eq!(rate, Rate { lr_factor: 0.5, frozen_through: Some(3) });
    }
}
