//! How predicted features are compared with a teacher's.

use std::{fmt, str::FromStr};

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, cosine::cosine_distance, names::unknown};

/// How a prediction is compared with the teacher's features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureLoss {
    /// `2 - 2 cos`, which ignores lengths.
    #[default]
    Cosine,
    /// Smooth L1 (beta 1) to features that are normalised token by token, as in data2vec.
    SmoothL1,
}

impl FeatureLoss {
    /// The names that [`str::parse`] takes.
    pub const NAMES: [&str; 2] = ["cosine", "smooth-l1"];

    /// Returns the mean loss of predicted features, (.., T), to a teacher's of the same shape.
    ///
    /// # Errors
    /// Tensors of different shapes.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use pad_ssl::FeatureLoss;
    /// let loss: FeatureLoss = "cosine".parse()?;
    /// let features = Tensor::new(&[[3_f32, 4.0]], &Device::Cpu)?;
    /// let opposite = (&features * -2.0)?;
    /// assert_eq!(loss.between(&opposite, &features)?.to_scalar::<f32>()?, 4.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn between(self, pred: &Tensor, target: &Tensor) -> Result<Tensor> {
        let loss = match self {
            Self::Cosine => cosine_distance(pred, target)?,
            Self::SmoothL1 => smooth_l1(pred, &normalized(target)?)?,
        };
        Ok(loss.mean_all()?)
    }
}

impl fmt::Display for FeatureLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cosine => "cosine",
            Self::SmoothL1 => "smooth-l1",
        })
    }
}

impl FromStr for FeatureLoss {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "cosine" => Ok(Self::Cosine),
            "smooth-l1" => Ok(Self::SmoothL1),
            found => Err(unknown("feature loss", found, &Self::NAMES)),
        }
    }
}

/// Normalises each vector to mean 0 and variance 1.
fn normalized(x: &Tensor) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    Ok(centred.broadcast_div(&(variance + 1e-6)?.sqrt()?)?)
}

/// Returns `d^2 / 2` for `|d| < 1`, else `|d| - 1/2`.
fn smooth_l1(pred: &Tensor, target: &Tensor) -> Result<Tensor> {
    let distance = (pred - target)?.abs()?;
    let beyond = (&distance - 1.0)?.relu()?;
    Ok((((distance - &beyond)?.sqr()? * 0.5)? + beyond)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn smooth_l1_and_its_gradient() {
        let x = Var::new(&[0.5_f32, -0.5, 3.0, -2.0], &Device::Cpu).unwrap();
        let loss = smooth_l1(x.as_tensor(), &x.zeros_like().unwrap()).unwrap();
        assert_eq!(loss.to_vec1::<f32>().unwrap(), [0.125, 0.125, 2.5, 1.5]);
        let grads = loss.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&x).unwrap().to_vec1::<f32>().unwrap(), [0.5, -0.5, 1.0, -1.0]);
    }
}
