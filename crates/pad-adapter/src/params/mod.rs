//! Parameters: where their first values come from, what part they play, which of them train.

mod plan;
mod report;
mod role;
mod store;

pub use plan::{Plan, Rate};
pub use report::{LoadReport, Misshapen, StoreSummary};
pub use role::Role;
pub use store::{Origin, Param, ParamStore, Planned};
