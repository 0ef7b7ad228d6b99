//! Multinomial logistic regression with an L2 penalty on the weights, fitted on all examples at
//! once.

use candle_core::{D, Device, Tensor};

use super::lbfgs::{Limits, minimize};
use crate::Result;

/// Weights (C, D) and biases (C) of a linear classifier.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Logistic {
    /// Row-major, a class after the other, then the biases.
    values: Vec<f64>,
    classes: usize,
    dim: usize,
}

impl Logistic {
    /// A classifier for which all classes are equally likely.
    pub(super) fn zeros(classes: usize, dim: usize) -> Self {
        Self { values: vec![0.0; classes * (dim + 1)], classes, dim }
    }

    /// Minimises the mean cross entropy plus `weight_decay / 2` times the squared norm of the
    /// weights, from these values on. The problem is convex: the start decides only how long it
    /// takes.
    ///
    /// # Shapes
    /// `x` (N, D), `f64`; N `labels`.
    pub(super) fn fit(
        self,
        x: &Tensor,
        labels: &[usize],
        weight_decay: f64,
        limits: Limits,
    ) -> Result<Self> {
        let (classes, dim, images) = (self.classes, self.dim, labels.len());
        let transposed = x.t()?;
        let values = minimize(self.values, limits, |values| {
            let (weights, biases) = values.split_at(classes * dim);
            let logits = x.matmul(&matrix(weights, (classes, dim))?.t()?)?;
            let mut rows: Vec<f64> = logits.flatten_all()?.to_vec1()?;
            // The rows become the gradient of the loss to the logits.
            let mut loss = 0.0;
            let mut bias_grad = vec![0.0; classes];
            for (row, &label) in rows.chunks_exact_mut(classes).zip(labels) {
                row.iter_mut().zip(biases).for_each(|(logit, bias)| *logit += bias);
                let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let true_logit = row[label];
                row.iter_mut().for_each(|logit| *logit = (*logit - highest).exp());
                let sum: f64 = row.iter().sum();
                loss += sum.ln() + highest - true_logit;
                row.iter_mut().for_each(|share| *share /= sum);
                row[label] -= 1.0;
                bias_grad.iter_mut().zip(row.iter()).for_each(|(sum, error)| *sum += error);
            }
            let errors = Tensor::from_vec(rows, (images, classes), &Device::Cpu)?;
            let grad = transposed.matmul(&errors)?.t()?.contiguous()?;
            let mut grad: Vec<f64> = grad.flatten_all()?.to_vec1()?;
            grad.extend(bias_grad);
            grad.iter_mut().for_each(|grad| *grad /= images as f64);
            let penalty: f64 = weights.iter().map(|weight| weight * weight).sum();
            let decayed = grad.iter_mut().zip(weights);
            decayed.for_each(|(grad, weight)| *grad += weight_decay * weight);
            Ok((loss / images as f64 + 0.5 * weight_decay * penalty, grad))
        })?;
        Ok(Self { values, classes, dim })
    }

    /// Returns the most likely class of each row of `x` (N, D), `f64`.
    pub(super) fn classify(&self, x: &Tensor) -> Result<Vec<usize>> {
        let (weights, biases) = self.values.split_at(self.classes * self.dim);
        let weights = matrix(weights, (self.classes, self.dim))?;
        let logits = x.matmul(&weights.t()?)?.broadcast_add(&Tensor::new(biases, &Device::Cpu)?)?;
        let classes: Vec<u32> = logits.argmax(D::Minus1)?.to_vec1()?;
        Ok(classes.into_iter().map(|class| class as usize).collect())
    }
}

fn matrix(values: &[f64], shape: (usize, usize)) -> Result<Tensor> {
    Ok(Tensor::from_slice(values, shape, &Device::Cpu)?)
}
