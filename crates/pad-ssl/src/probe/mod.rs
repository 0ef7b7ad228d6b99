//! What frozen features are worth: nearest neighbours and a linear layer on labelled images.

mod features;
mod knn;
mod linear;
mod scores;

pub use features::{Features, Pool};
pub use knn::NearestNeighbours;
pub use linear::LinearProbe;
pub use scores::Scores;

use crate::Error;

fn refuse(what: impl Into<String>) -> Error {
    Error::Probe { what: what.into() }
}
