//! Evaluation of frozen features on labelled images: nearest neighbours and a linear layer.

mod features;
mod knn;
mod lbfgs;
mod linear;
mod logistic;
mod scores;

pub use features::FeatureSet;
pub use knn::NearestNeighbours;
pub use linear::{LinearFit, LinearProbe};
pub use scores::Scores;

use crate::Error;

fn fault(what: impl Into<String>) -> Error {
    Error::Probe { what: what.into() }
}
