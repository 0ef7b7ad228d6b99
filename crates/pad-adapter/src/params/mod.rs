//! Parameters: where their first values come from, what part they play, which of them train.

mod initial;
mod inner;
pub(crate) mod named;
mod param;
mod plan;
mod report;
mod role;
mod rules;
mod store;

pub use named::{DEFAULT_ADAPTER, adapter_name};
pub use param::{Origin, Param, Planned};
pub use plan::{Plan, Rate};
pub use report::{LoadReport, Misshapen, StoreSummary, UnplannedRoles};
pub use role::Role;
pub use store::ParamStore;
