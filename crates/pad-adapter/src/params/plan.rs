//! Which parameters train, and how fast.

use std::{fmt, sync::Arc};

use super::Role;

/// How a parameter trains.
///
/// ```
/// use pad_adapter::params::Rate;
/// assert_eq!(Rate::default(), Rate { lr_factor: 1.0, frozen_through: None });
/// ```
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
pub struct Plan {
    rule: Arc<Rule>,
    /// What was said of [`Role::Other`] alone.
    other: Option<Option<Rate>>,
}

impl Plan {
    /// A plan from a function of the role.
    ///
    /// ```
    /// use pad_adapter::params::{Plan, Rate, Role};
    /// // Gates thaw after epoch 5, the head learns ten times as fast, the rest is frozen.
    /// let plan = Plan::new(|role| match role {
    ///     Role::Gate(_) => Some(Rate { frozen_through: Some(5), ..Rate::default() }),
    ///     Role::Head => Some(Rate { lr_factor: 10.0, ..Rate::default() }),
    ///     role => role.is_adapter().then(Rate::default),
    /// });
    /// assert_eq!(plan.rate(Role::Gate(3)).unwrap().frozen_through, Some(5));
    /// assert_eq!(plan.rate(Role::Block(3)), None);
    /// ```
    pub fn new(rule: impl Fn(Role) -> Option<Rate> + Send + Sync + 'static) -> Self {
        Self { rule: Arc::new(rule), other: None }
    }

    /// Sets how parameters train whose role is unknown ([`Role::Other`]), `None` for frozen, and
    /// confirms it: a store then does not warn of a plan that trains or freezes all of them (see
    /// [`UnplannedRoles`](super::UnplannedRoles)).
    ///
    /// ```
    /// use pad_adapter::params::{Plan, Rate, Role};
    /// let plan = Plan::of_roles(Role::is_adapter).with_other(None);
    /// assert_eq!(plan.rate(Role::Other), None);
    /// let plan = plan.with_other(Some(Rate { lr_factor: 0.1, ..Rate::default() }));
    /// assert_eq!(plan.rate(Role::Other).unwrap().lr_factor, 0.1);
    /// ```
    #[must_use]
    pub fn with_other(self, rate: Option<Rate>) -> Self {
        Self { other: Some(rate), ..self }
    }

    /// Whether the plan was made with [`Role::Other`] in mind: by [`Plan::with_other`], or because
    /// it does the same with every role.
    pub(super) fn decides_other(&self) -> bool {
        let trained = Role::families().filter(|&role| self.rate(role).is_some()).count();
        self.other.is_some() || trained == 0 || trained == Role::families().count()
    }

    /// The plan that trains the roles for which `trains` returns true, at the run's learning rate.
    ///
    /// ```
    /// use pad_adapter::params::{Plan, Role};
    /// let plan = Plan::of_roles(|role| role.is_adapter() || role == Role::Head);
    /// assert_eq!(plan.rate(Role::Adapter(0)).unwrap().lr_factor, 1.0);
    /// assert_eq!(plan.rate(Role::Other), None);
    /// ```
    pub fn of_roles(trains: impl Fn(Role) -> bool + Send + Sync + 'static) -> Self {
        Self::new(move |role| trains(role).then(Rate::default))
    }

    /// The plan that trains every role.
    ///
    /// ```
    /// use pad_adapter::params::{Plan, Role};
    /// assert_eq!(Plan::everything().rate(Role::Other).unwrap().lr_factor, 1.0);
    /// ```
    pub fn everything() -> Self {
        Self::of_roles(|_| true)
    }

    /// The plan that trains no role.
    ///
    /// ```
    /// use pad_adapter::params::{Plan, Role};
    /// assert_eq!(Plan::nothing().rate(Role::Head), None);
    /// ```
    pub fn nothing() -> Self {
        Self::of_roles(|_| false)
    }

    /// Multiplies the learning rates by `decay^(depth + 1 - layer)`, with [`Role::layer`] in a
    /// network of `depth` blocks: they fall from the head (factor 1) down to the patch embedding,
    /// BEiT's and MAE's rule.
    ///
    /// ```
    /// use pad_adapter::params::{Plan, Role};
    /// let plan = Plan::everything().with_layer_decay(0.5, 2);
    /// assert_eq!(plan.rate(Role::Block(0)).unwrap().lr_factor, 0.25);
    /// ```
    #[must_use]
    pub fn with_layer_decay(self, decay: f64, depth: usize) -> Self {
        let decayed = move |role: Role, rate: Rate| {
            let layers_above = (depth + 1).saturating_sub(role.layer(depth));
            let lr_factor = rate.lr_factor * decay.powi(layers_above as i32);
            Rate { lr_factor, ..rate }
        };
        let other = self.other.map(|rate| rate.map(|rate| decayed(Role::Other, rate)));
        let rule = self.rule;
        let rule = move |role| rule(role).map(|rate| decayed(role, rate));
        Self { rule: Arc::new(rule), other }
    }

    /// The rate of a role; `None` if it is frozen in every epoch.
    ///
    /// ```
    /// use pad_adapter::params::{Plan, Rate, Role};
    /// assert_eq!(Plan::everything().rate(Role::Head), Some(Rate::default()));
    /// ```
    pub fn rate(&self, role: Role) -> Option<Rate> {
        match self.other {
            Some(rate) if role == Role::Other => rate,
            _ => (self.rule)(role),
        }
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
        let confirmed = Plan::of_roles(Role::is_adapter).with_other(Some(Rate::default()));
        assert_eq!(confirmed.with_layer_decay(0.5, 2).rate(Role::Other), Some(Rate::default()));
        let late = Plan::new(|_| Some(Rate { lr_factor: 2.0, frozen_through: Some(3) }));
        let rate = late.with_layer_decay(0.5, 2).rate(Role::Block(0)).unwrap();
        assert_eq!(rate, Rate { lr_factor: 0.5, frozen_through: Some(3) });
    }

    #[test]
    fn plans_that_were_made_with_unknown_roles_in_mind() {
        for (plan, decides) in [
            (Plan::everything(), true),
            (Plan::nothing(), true),
            (Plan::of_roles(Role::is_adapter), false),
            (Plan::of_roles(|role| !role.is_adapter()), false),
            (Plan::of_roles(Role::is_adapter).with_other(None), true),
            (Plan::of_roles(Role::is_adapter).with_other(None).with_layer_decay(0.5, 2), true),
            (Plan::everything().with_layer_decay(0.5, 2), true),
        ] {
            assert_eq!(plan.decides_other(), decides, "{plan:?}");
        }
    }
}
