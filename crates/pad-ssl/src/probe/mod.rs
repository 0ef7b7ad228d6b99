//! What an encoder is worth on labelled images: nearest neighbours and a linear layer on its frozen
//! features, or the encoder itself fine-tuned.
//!
//! ```
//! use pad_ssl::probe::{FeatureSet, NearestNeighbours, Scores};
//! use candle_core::{Device, Tensor};
//! let set = |rows: &[[f32; 2]], labels: &[usize]| {
//!     let rows = Tensor::from_slice(rows.as_flattened(), (rows.len(), 2), &Device::Cpu)?;
//!     FeatureSet::new(&rows, labels.to_vec(), 2)
//! };
//! let train = set(&[[1.0, 0.1], [0.1, 1.0]], &[0, 1])?;
//! let val = set(&[[3.0, 0.0], [0.0, 0.5], [2.0, 1.0]], &[0, 1, 1])?;
//! let predicted = NearestNeighbours::default().classify(&train, &val)?;
//! assert_eq!(predicted, [0, 1, 0]);
//! assert!((Scores::new(&predicted, &val)?.accuracy() - 2.0 / 3.0).abs() < 1e-12);
//! # Ok::<(), pad_ssl::Error>(())
//! ```

mod classifier;
mod features;
mod finetune;
mod knn;
mod lbfgs;
mod linear;
mod logistic;
mod scores;

pub use classifier::{Classifier, ClassifierConfig, OpenedClassifier};
pub use features::FeatureSet;
pub use finetune::{Classification, FineTuning};
pub use knn::NearestNeighbours;
pub use linear::{LinearFit, LinearProbe};
pub use scores::Scores;

use crate::Error;

fn fault(what: impl Into<String>) -> Error {
    Error::Probe { what: what.into() }
}
