//! What a probe predicted, class by class.

use std::fmt;

use serde::Serialize;

use super::{FeatureSet, fault};
use crate::Result;

/// Predictions of a probe beside the true classes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Scores {
    /// Images by true class (row) and predicted class (column).
    confusion: Vec<Vec<usize>>,
}

impl Scores {
    /// Compares predicted classes with the labels of `val`.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) unless there is one prediction per image, each below
    /// the number of classes.
    pub fn new(predicted: &[usize], val: &FeatureSet) -> Result<Self> {
        Self::of_labels(predicted, val.labels(), val.classes())
    }

    /// Compares predicted classes with the true ones, `labels`, of `classes` classes.
    ///
    /// ```
    /// use pad_ssl::probe::Scores;
    /// let scores = Scores::of_labels(&[0, 1, 1, 1], &[0, 1, 1, 0], 2)?;
    /// assert_eq!((scores.accuracy(), scores.balanced_accuracy()), (0.75, 0.75));
    /// assert_eq!(scores.confusion(), [[1, 1], [0, 2]]);
    /// # Ok::<(), pad_ssl::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) unless there is one prediction per label, and all are
    /// below the number of classes.
    pub fn of_labels(predicted: &[usize], labels: &[usize], classes: usize) -> Result<Self> {
        if predicted.len() != labels.len() {
            let found = predicted.len();
            return Err(fault(format!("{found} predictions, expected {}", labels.len())));
        }
        let mut confusion = vec![vec![0; classes]; classes];
        for (&class, &label) in predicted.iter().zip(labels) {
            if class >= classes {
                return Err(fault(format!("predicted class {class}, expected below {classes}")));
            }
            let row = confusion.get_mut(label);
            row.ok_or_else(|| fault(format!("label {label}, expected below {classes}")))?[class] +=
                1;
        }
        Ok(Self { confusion })
    }

    /// Returns the number of images by true class (row) and predicted class (column).
    pub fn confusion(&self) -> &[Vec<usize>] {
        &self.confusion
    }

    /// Returns the number of images of each class.
    pub fn images(&self) -> Vec<usize> {
        self.confusion.iter().map(|row| row.iter().sum()).collect()
    }

    /// Returns the number of images of each class whose class was predicted.
    pub fn correct(&self) -> Vec<usize> {
        self.confusion.iter().enumerate().map(|(class, row)| row[class]).collect()
    }

    /// Returns the share of images whose class was predicted, 0 to 1.
    pub fn accuracy(&self) -> f64 {
        share(self.correct().iter().sum(), self.images().iter().sum())
    }

    /// Returns the accuracy on the images of each class (its recall); `None` for a class without
    /// images.
    pub fn by_class(&self) -> Vec<Option<f64>> {
        let correct = self.correct();
        let classes = self.images().into_iter().zip(correct);
        classes.map(|(all, correct)| (all > 0).then(|| share(correct, all))).collect()
    }

    /// Returns the mean of [`Scores::by_class`] over the classes that have images: every class
    /// counts the same.
    pub fn balanced_accuracy(&self) -> f64 {
        let by_class: Vec<f64> = self.by_class().into_iter().flatten().collect();
        by_class.iter().sum::<f64>() / by_class.len().max(1) as f64
    }

    /// Returns the share of the most frequent class: the accuracy of always predicting that class.
    pub fn majority_share(&self) -> f64 {
        let images = self.images();
        share(images.iter().copied().max().unwrap_or(0), images.iter().sum())
    }

    /// Returns the confusion matrix as text, one row per true class, one column per predicted
    /// class.
    pub fn confusion_table(&self, classes: &[String]) -> String {
        let name = |class: usize| classes.get(class).map_or("", String::as_str);
        let largest = self.confusion.iter().flatten().copied().max().unwrap_or(0);
        let width = largest.to_string().len().max(3);
        let name_width = classes.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let mut text = format!("{:>name_width$}  predicted", "");
        let row = |cells: &mut dyn Iterator<Item = String>| -> String {
            cells.map(|cell| format!(" {cell:>width$}")).collect()
        };
        let numbers = row(&mut (0..self.confusion.len()).map(|class| class.to_string()));
        text += &format!("\n{:>name_width$}    {numbers}", "");
        for (class, counts) in self.confusion.iter().enumerate() {
            let counts = row(&mut counts.iter().map(ToString::to_string));
            text += &format!("\n{:>name_width$} {class:>2} {counts}", name(class));
        }
        text
    }
}

/// Writes accuracy, balanced accuracy and majority share.
impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| 100.0 * share;
        write!(
            f,
            "accuracy {:.1}%, balanced accuracy {:.1}% (most frequent class {:.1}%)",
            percent(self.accuracy()),
            percent(self.balanced_accuracy()),
            percent(self.majority_share())
        )
    }
}

fn share(part: usize, all: usize) -> f64 {
    part as f64 / all.max(1) as f64
}
