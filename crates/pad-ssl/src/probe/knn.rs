//! Nearest neighbours by cosine with weighted votes (Wu et al., 2018; the evaluation of DINO).

use candle_core::{D, Tensor};

use super::{FeatureSet, fault};
use crate::Result;

/// A classifier by a weighted vote of the nearest training images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NearestNeighbours {
    /// Number of neighbours; all training images if there are fewer. Default 20.
    pub k: usize,
    /// A neighbour's weight is `exp(cosine / temperature)`. Default 0.07.
    pub temperature: f64,
}

impl Default for NearestNeighbours {
    fn default() -> Self {
        Self { k: 20, temperature: 0.07 }
    }
}

/// Query images per matrix product, which bounds the memory of the similarities.
const CHUNK: usize = 256;

impl NearestNeighbours {
    /// Predicts the class of each image of `query`. Ties between classes and between neighbours go
    /// to the lower index.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) for `k` or `temperature` of 0 or less, or features of
    /// another width.
    pub fn classify(&self, train: &FeatureSet, query: &FeatureSet) -> Result<Vec<usize>> {
        if self.k == 0 || !(self.temperature > 0.0 && self.temperature.is_finite()) {
            let (k, temperature) = (self.k, self.temperature);
            return Err(fault(format!(
                "`k` is {k} and `temperature` {temperature}, expected at least 1 and above 0"
            )));
        }
        train.check_like(query)?;
        let (known, queries) = (unit(train.values())?.t()?, unit(query.values())?);
        let images = queries.dim(0)?;
        let mut predicted = Vec::with_capacity(images);
        for first in (0..images).step_by(CHUNK) {
            let rows = queries.narrow(0, first, CHUNK.min(images - first))?;
            for cosines in rows.matmul(&known)?.to_vec2::<f32>()? {
                predicted.push(self.vote(&cosines, train));
            }
        }
        Ok(predicted)
    }

    fn vote(&self, cosines: &[f32], train: &FeatureSet) -> usize {
        let mut order: Vec<usize> = (0..cosines.len()).collect();
        let by_distance =
            |&a: &usize, &b: &usize| cosines[b].total_cmp(&cosines[a]).then(a.cmp(&b));
        let k = self.k.min(order.len());
        if k < order.len() {
            order.select_nth_unstable_by(k, by_distance);
            order.truncate(k);
        }
        order.sort_unstable_by(by_distance); // sums must not depend on the selection
        let mut votes = vec![0.0_f64; train.classes()];
        for image in order {
            votes[train.labels()[image]] += (f64::from(cosines[image]) / self.temperature).exp();
        }
        let best = votes.iter().copied().fold(0.0, f64::max);
        votes.iter().position(|&vote| vote == best).unwrap_or(0)
    }
}

/// Scales rows to length 1; a row of zeros stays.
fn unit(x: &Tensor) -> Result<Tensor> {
    let norm = (x.sqr()?.sum_keepdim(D::Minus1)? + 1e-24)?.sqrt()?;
    Ok(x.broadcast_div(&norm)?)
}
