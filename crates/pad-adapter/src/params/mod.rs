//! Parameters: where their first values come from, what part they play, which of them train.

mod report;
mod role;
mod store;

pub use report::{LoadReport, Misshapen, Summary};
pub use role::Role;
pub use store::{Origin, Param, ParamStore};
