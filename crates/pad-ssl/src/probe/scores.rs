//! Right and wrong answers, class by class.

use serde::Serialize;

use super::{Features, refuse};
use crate::Result;

/// Answers of a probe on a part of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Scores {
    /// Right answers of each class.
    pub correct: Vec<usize>,
    /// Images of each class.
    pub images: Vec<usize>,
}

impl Scores {
    /// Compares answers with labels.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) unless there is an answer for each image.
    pub fn new(answers: &[usize], asked: &Features) -> Result<Self> {
        let labels = asked.labels();
        if answers.len() != labels.len() {
            let found = answers.len();
            return Err(refuse(format!(
                "{found} answers, expected one for each of {}",
                labels.len()
            )));
        }
        let (mut correct, mut images) = (vec![0; asked.classes()], vec![0; asked.classes()]);
        for (&answer, &label) in answers.iter().zip(labels) {
            images[label] += 1;
            correct[label] += usize::from(answer == label);
        }
        Ok(Self { correct, images })
    }

    /// Share of right answers, 0 to 1; 0 without images.
    pub fn accuracy(&self) -> f64 {
        share(self.correct.iter().sum(), self.images.iter().sum())
    }

    /// The same of each class.
    pub fn by_class(&self) -> Vec<f64> {
        self.correct.iter().zip(&self.images).map(|(&right, &all)| share(right, all)).collect()
    }
}

fn share(part: usize, all: usize) -> f64 {
    part as f64 / all.max(1) as f64
}
