//! Test support for the PAD crates: finite-difference checks, golden files, tolerances.
//!
//! The functions are assertions: they panic on a difference. This crate is never published.

mod api;
mod close;
mod crates;
mod forbidden;
mod golden;
mod gradcheck;
mod processor;
mod skip;

pub use api::{examples_on_items, import_circles, public_api, public_types};
pub use close::{close, largest, relative_difference};
pub use crates::{LibraryCrate, library_crates, repository};
pub use golden::{expect_cases, golden, golden_folder, index};
pub use gradcheck::{Precision, gradcheck, numbers};
pub use processor::processor;
pub use skip::skipped;

/// The examples of the first page and of the guides compile and run.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/guides/adapter.md")]
    struct Adapter;
    #[doc = include_str!("../../../docs/guides/infrared.md")]
    struct Infrared;
    #[doc = include_str!("../../../docs/guides/crates.md")]
    struct Crates;
    #[doc = include_str!("../../../docs/training.md")]
    struct Training;
}
