//! MSIP, the multi-source infrared pre-training set of the paper (section III): 178,756 images of
//! eight public sources.
//!
//! The sources are downloaded by hand (as their licences require) and unpacked below one folder;
//! the table [`SOURCES`] says which of their images belong to the set. [`SourcePlan`] finds the files,
//! [`build`] brings them into the layout `NAME/thermal/*` with a [`Manifest`] per source,
//! [`verify`] checks the set later.
//!
//! ```
//! use pad_data::msip::{EXPECTED, SOURCES};
//!
//! assert_eq!(SOURCES.iter().map(|source| source.expected).sum::<usize>(), EXPECTED);
//! assert_eq!(EXPECTED, 178_756);
//! ```

mod build;
mod likeness;
mod manifest;
mod pattern;
mod plan;
mod source;

pub use self::{
    build::{BuildConfig, Built, Placing, Progress, build},
    likeness::{Likeness, near_duplicates},
    manifest::{Entry, MANIFEST, Manifest, verify},
    plan::{PlacedImage, SourcePlan},
    source::{EXPECTED, Order, SOURCES, SourceSpec},
};
