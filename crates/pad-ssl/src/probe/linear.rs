//! A linear layer on frozen features: logistic regression whose weight decay is searched for.

use candle_core::{DType, Tensor};
use pad_ops::rng::{Key, Purpose};

use super::{FeatureSet, fault, lbfgs::Limits, logistic::Logistic};
use crate::Result;

/// A linear probe. For each weight decay of a grid, multinomial logistic regression is fitted on a
/// part of the training features by L-BFGS and scored on the rest; the best weight decay then fits
/// the classifier on all training features (the linear evaluation of CLIP and DINOv2).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LinearProbe {
    /// Weight decays that are tried: factors on half the squared norm of the weights beside the
    /// mean cross entropy. A single one is used as it is. Default: powers of ten from 1e-6 to 10.
    pub weight_decays: Vec<f64>,
    /// Fraction of each class's training images that the weight decay is chosen on. Default 0.2.
    pub held_out_share: f64,
    /// Maximum number of iterations of a fit. Default 500.
    pub max_iterations: usize,
    /// A fit has converged once no entry of the gradient is larger. Default 1e-5.
    pub tolerance: f64,
    /// Whether features are brought to mean 0 and variance 1 with the statistics of the training
    /// set, as the batch norm without weights does in MAE's evaluation. Default `true`.
    pub normalize: bool,
    /// Seed of the held-out images. Default 0.
    pub seed: u64,
}

impl Default for LinearProbe {
    fn default() -> Self {
        Self {
            weight_decays: (-6..=1).map(|power| 10_f64.powi(power)).collect(),
            held_out_share: 0.2,
            max_iterations: 500,
            tolerance: 1e-5,
            normalize: true,
            seed: 0,
        }
    }
}

impl LinearProbe {
    /// Sets the seed of the held-out images.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets the weight decays that are tried.
    #[must_use]
    pub fn with_weight_decays(self, weight_decays: Vec<f64>) -> Self {
        Self { weight_decays, ..self }
    }

    /// Sets whether features are brought to mean 0 and variance 1.
    #[must_use]
    pub fn with_normalize(self, normalize: bool) -> Self {
        Self { normalize, ..self }
    }

    /// Checks the settings and returns every fault at once.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe).
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        let valid = |decay: &f64| decay.is_finite() && *decay >= 0.0;
        if self.weight_decays.is_empty() || !self.weight_decays.iter().all(valid) {
            let found = &self.weight_decays;
            faults.push(format!("`weight_decays` is {found:?}, expected numbers of 0 or more"));
        }
        if !(self.held_out_share > 0.0 && self.held_out_share < 1.0) {
            let found = self.held_out_share;
            faults.push(format!("`held_out_share` is {found}, expected above 0, below 1"));
        }
        if self.max_iterations == 0 {
            faults.push("`max_iterations` is 0, expected at least 1".into());
        }
        if !(self.tolerance > 0.0 && self.tolerance.is_finite()) {
            faults.push(format!("`tolerance` is {}, expected above 0", self.tolerance));
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(fault(format!("linear probe: {}", faults.join("; "))))
    }

    /// Learns from `train` and predicts the class of each image of `query`.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) for settings out of range or features of another
    /// width.
    pub fn classify(&self, train: &FeatureSet, query: &FeatureSet) -> Result<Vec<usize>> {
        train.check_like(query)?;
        self.fit(train)?.classify(query)
    }

    /// Chooses a weight decay and learns from `train`.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) for settings out of range.
    pub fn fit(&self, train: &FeatureSet) -> Result<LinearFit> {
        self.validate()?;
        let statistics = match self.normalize {
            true => Some(Statistics::of(train.values())?),
            false => None,
        };
        let (x, labels) = (prepared(&statistics, train.values())?, train.labels());
        let limits = Limits { iterations: self.max_iterations, tolerance: self.tolerance };
        // Strong decays first: each fit starts from the one before and needs few iterations.
        let mut decays = self.weight_decays.clone();
        decays.sort_by(|a, b| b.total_cmp(a));
        let start = Logistic::zeros(train.classes(), x.dim(1)?);
        let (part, held_out) = self.split(labels, train.classes());
        let mut tried = Vec::new();
        let mut chosen = decays[0];
        // A training set of one image per class has nothing to choose on.
        if decays.len() > 1 && !held_out.is_empty() {
            let (part_x, part_labels) = rows(&x, labels, &part)?;
            let (val_x, val_labels) = rows(&x, labels, &held_out)?;
            let mut fitted = start.clone();
            let mut best = -1.0;
            for &decay in &decays {
                fitted = fitted.fit(&part_x, &part_labels, decay, limits)?;
                let predicted = fitted.classify(&val_x)?;
                let right = predicted.iter().zip(&val_labels).filter(|(a, b)| a == b).count();
                let accuracy = right as f64 / val_labels.len() as f64;
                tried.push((decay, accuracy));
                // Among equals the strongest decay.
                if accuracy > best {
                    (best, chosen) = (accuracy, decay);
                }
            }
        }
        let classifier = start.fit(&x, labels, chosen, limits)?;
        Ok(LinearFit { weight_decay: chosen, tried, statistics, classifier })
    }

    /// Splits images into those to learn from and those to choose on: of each class with at least
    /// two images a share, at least one and never all.
    fn split(&self, labels: &[usize], classes: usize) -> (Vec<u32>, Vec<u32>) {
        let (mut part, mut held_out) = (Vec::new(), Vec::new());
        for class in 0..classes {
            let mut images: Vec<u32> =
                (0..labels.len() as u32).filter(|&i| labels[i as usize] == class).collect();
            let key = Key::new(self.seed).sample(class as u64).purpose(Purpose::Shuffle);
            key.stream().shuffle(&mut images);
            let wanted = (images.len() as f64 * self.held_out_share).round() as usize;
            let count = wanted.max(1).min(images.len().saturating_sub(1));
            held_out.extend_from_slice(&images[..count]);
            part.extend_from_slice(&images[count..]);
        }
        part.sort_unstable();
        held_out.sort_unstable();
        (part, held_out)
    }
}

/// A fitted linear probe.
#[derive(Clone, Debug)]
pub struct LinearFit {
    weight_decay: f64,
    tried: Vec<(f64, f64)>,
    statistics: Option<Statistics>,
    classifier: Logistic,
}

impl LinearFit {
    /// Returns the weight decay that was chosen.
    pub fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    /// Returns each weight decay that was tried with its accuracy on the held-out images; empty if
    /// there was no choice.
    pub fn tried(&self) -> &[(f64, f64)] {
        &self.tried
    }

    /// Predicts the class of each image of `query`.
    ///
    /// # Errors
    /// Features of another width.
    pub fn classify(&self, query: &FeatureSet) -> Result<Vec<usize>> {
        self.classifier.classify(&prepared(&self.statistics, query.values())?)
    }
}

/// Returns features as the classifier takes them: `f64`, normalised if there are statistics.
fn prepared(statistics: &Option<Statistics>, values: &Tensor) -> Result<Tensor> {
    let values = values.to_dtype(DType::F64)?;
    match statistics {
        Some(statistics) => statistics.apply(&values),
        None => Ok(values),
    }
}

/// Returns the rows of `x` and the labels that `indices` name.
fn rows(x: &Tensor, labels: &[usize], indices: &[u32]) -> Result<(Tensor, Vec<usize>)> {
    let chosen = x.index_select(&Tensor::new(indices, x.device())?, 0)?;
    Ok((chosen, indices.iter().map(|&index| labels[index as usize]).collect()))
}

/// Mean and standard deviation of each value over a set, `f64`.
#[derive(Clone, Debug)]
struct Statistics {
    mean: Tensor,
    std: Tensor,
}

impl Statistics {
    fn of(values: &Tensor) -> Result<Self> {
        let values = values.to_dtype(DType::F64)?;
        let mean = values.mean_keepdim(0)?;
        let variance = values.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?;
        Ok(Self { mean, std: (variance + 1e-6)?.sqrt()? })
    }

    fn apply(&self, values: &Tensor) -> Result<Tensor> {
        Ok(values.broadcast_sub(&self.mean)?.broadcast_div(&self.std)?)
    }
}
