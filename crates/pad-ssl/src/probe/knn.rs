//! Nearest neighbours by cosine with weighted votes (Wu et al., 2018; the evaluation of DINO).

use candle_core::{D, Tensor};

use super::{Features, refuse};
use crate::Result;

/// A vote of the nearest training images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NearestNeighbours {
    /// Neighbours that vote; all training images if there are fewer. Default 20.
    pub k: usize,
    /// A neighbour's vote is `exp(cosine / temperature)`. Default 0.07.
    pub temperature: f64,
}

impl Default for NearestNeighbours {
    fn default() -> Self {
        Self { k: 20, temperature: 0.07 }
    }
}

/// Images that are asked at once: bounds the matrix of similarities.
const CHUNK: usize = 256;

impl NearestNeighbours {
    /// The class of each image of `asked`. Among equal votes the first class wins, among equally near images the
    /// first.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) for no neighbour, a temperature of 0 or less, or features of another
    /// width.
    pub fn classify(&self, train: &Features, asked: &Features) -> Result<Vec<usize>> {
        if self.k == 0 || !(self.temperature > 0.0 && self.temperature.is_finite()) {
            let (k, temperature) = (self.k, self.temperature);
            return Err(refuse(format!(
                "k {k} and temperature {temperature}, expected at least 1 and above 0"
            )));
        }
        train.expect_like(asked)?;
        let (known, queries) = (unit(train.values())?.t()?, unit(asked.values())?);
        let images = queries.dim(0)?;
        let mut answers = Vec::with_capacity(images);
        for first in (0..images).step_by(CHUNK) {
            let rows = queries.narrow(0, first, CHUNK.min(images - first))?;
            for cosines in rows.matmul(&known)?.to_vec2::<f32>()? {
                answers.push(self.vote(&cosines, train));
            }
        }
        Ok(answers)
    }

    fn vote(&self, cosines: &[f32], train: &Features) -> usize {
        let mut order: Vec<usize> = (0..cosines.len()).collect();
        let nearer = |&a: &usize, &b: &usize| cosines[b].total_cmp(&cosines[a]).then(a.cmp(&b));
        let k = self.k.min(order.len());
        if k < order.len() {
            order.select_nth_unstable_by(k, nearer);
            order.truncate(k);
        }
        order.sort_unstable_by(nearer); // sums must not depend on the selection
        let mut votes = vec![0.0_f64; train.classes()];
        for image in order {
            votes[train.labels()[image]] += (f64::from(cosines[image]) / self.temperature).exp();
        }
        let best = votes.iter().copied().fold(0.0, f64::max);
        votes.iter().position(|&vote| vote == best).unwrap_or(0)
    }
}

/// Rows at length 1; a row of zeros stays.
fn unit(x: &Tensor) -> Result<Tensor> {
    let norm = (x.sqr()?.sum_keepdim(D::Minus1)? + 1e-24)?.sqrt()?;
    Ok(x.broadcast_div(&norm)?)
}
