//! Intersection over union and accuracies, from a confusion matrix.
//!
//! The numbers are those of mmsegmentation 0.x's `mIoU` metric
//! (`mmseg/core/evaluation/metrics.py`): pixels whose label is the ignored one are left out,
//! whatever is predicted there; a class that is neither labelled nor predicted has no IoU (`None`)
//! and is left out of the means.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::MetricsError;

/// A confusion matrix: how often each class was predicted where each class is labelled, over any
/// number of images.
///
/// Counts are integers, so results do not depend on the order of images or the number of threads.
///
/// ```
/// use pad_metrics::confusion::Confusion;
/// let mut confusion = Confusion::new(2, Some(255))?;
/// confusion.add(&[0, 1, 1, 0], &[0, 1, 0, 255])?; // predictions, labels
/// assert_eq!(confusion.counts(), [1, 1, 0, 1]); // by label, then prediction
/// assert_eq!(confusion.metrics().mean_iou, Some(0.5));
/// # Ok::<(), pad_metrics::MetricsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Confusion {
    classes: usize,
    ignore: Option<u8>,
    /// `(label, prediction)`, row-major.
    counts: Vec<u64>,
}

/// What a file may hold.
#[derive(Deserialize)]
struct Stored {
    classes: usize,
    ignore: Option<u8>,
    counts: Vec<u64>,
}

impl TryFrom<Stored> for Confusion {
    type Error = String;

    fn try_from(Stored { classes, ignore, counts }: Stored) -> Result<Self, String> {
        let empty = Self::new(classes, ignore).map_err(|error| error.to_string())?;
        if counts.len() != empty.counts.len() {
            let (expected, found) = (empty.counts.len(), counts.len());
            return Err(format!("{found} counts of {classes} classes, expected {expected}"));
        }
        Ok(Self { counts, ..empty })
    }
}

impl Confusion {
    /// Returns an empty matrix. Pixels labelled `ignore` (usually 255) are not counted.
    ///
    /// # Errors
    /// [`MetricsError::Classes`] unless there are 1 to 255 classes.
    pub fn new(classes: usize, ignore: Option<u8>) -> Result<Self, MetricsError> {
        if !(1..=255).contains(&classes) {
            return Err(MetricsError::Classes { found: classes });
        }
        Ok(Self { classes, ignore, counts: vec![0; classes * classes] })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Pixels by `(label, prediction)`, row-major, `classes * classes` numbers.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Counts one image: predicted classes and labels of its pixels, in the same order.
    ///
    /// # Errors
    /// [`MetricsError::Size`], [`MetricsError::Class`]; the matrix is then unchanged.
    pub fn add(&mut self, prediction: &[u8], labels: &[u8]) -> Result<(), MetricsError> {
        self.add_all(&[(prediction, labels)])
    }

    /// Counts several images, `(prediction, labels)` each, on all threads of the current rayon
    /// pool.
    ///
    /// # Errors
    /// As [`Confusion::add`], for the first invalid image; the matrix is then unchanged.
    ///
    /// ```
    /// use pad_metrics::confusion::Confusion;
    /// // Two processes, or two halves of a set.
    /// let mut first = Confusion::new(2, Some(255))?;
    /// first.add_all(&[(&[0, 1], &[0, 1]), (&[1, 1], &[0, 255])])?;
    /// let mut second = Confusion::new(2, Some(255))?;
    /// second.add(&[0], &[1])?;
    /// first.merge(&second)?;
    /// assert_eq!((first.classes(), first.counts()), (2, &[1, 1, 1, 1][..]));
    /// # Ok::<(), pad_metrics::MetricsError>(())
    /// ```
    pub fn add_all(&mut self, images: &[(&[u8], &[u8])]) -> Result<(), MetricsError> {
        let parts: Vec<_> = images
            .par_iter()
            .enumerate()
            .map(|(image, &(prediction, labels))| self.count(image, prediction, labels))
            .collect();
        // In order, so that the error is the first image's for any number of threads.
        let parts = parts.into_iter().collect::<Result<Vec<_>, _>>()?;
        for part in parts {
            self.counts.iter_mut().zip(&part).for_each(|(sum, count)| *sum += count);
        }
        Ok(())
    }

    /// The counts of one image.
    fn count(
        &self,
        image: usize,
        prediction: &[u8],
        labels: &[u8],
    ) -> Result<Vec<u64>, MetricsError> {
        if prediction.len() != labels.len() {
            let (predicted, labelled) = (prediction.len(), labels.len());
            return Err(MetricsError::Size { image, predicted, labelled });
        }
        // Counts all pairs of bytes first and checks them afterwards. Four tables, because
        // neighbours are mostly equal and one counter would wait for itself.
        let mut tables = vec![[0_u32; 1 << 16]; 4];
        let mut all = vec![0_u64; 1 << 16];
        // Chunks keep the 32-bit counters from overflowing.
        for (prediction, labels) in prediction.chunks(1 << 30).zip(labels.chunks(1 << 30)) {
            for (place, (&predicted, &label)) in prediction.iter().zip(labels).enumerate() {
                let pair = usize::from(label) << 8 | usize::from(predicted);
                tables[place & 3][pair] += 1;
            }
            for table in &mut tables {
                for (sum, count) in all.iter_mut().zip(table.iter_mut()) {
                    *sum += u64::from(std::mem::take(count));
                }
            }
        }
        let ignored = |label: usize| self.ignore.is_some_and(|ignore| usize::from(ignore) == label);
        let mut counts = vec![0; self.classes * self.classes];
        for (label, row) in all.chunks_exact(256).enumerate() {
            if ignored(label) {
                continue;
            }
            let wrong = |&(predicted, &count): &(usize, &u64)| {
                count > 0 && (label >= self.classes || predicted >= self.classes)
            };
            if row.iter().enumerate().any(|pair| wrong(&pair)) {
                return Err(self.first_wrong(image, prediction, labels));
            }
            if label < self.classes {
                counts[label * self.classes..][..self.classes]
                    .copy_from_slice(&row[..self.classes]);
            }
        }
        Ok(counts)
    }

    /// The error of the first invalid pixel.
    fn first_wrong(&self, image: usize, prediction: &[u8], labels: &[u8]) -> MetricsError {
        let classes = self.classes;
        let pixels = prediction.iter().zip(labels).enumerate();
        let fault = |what, pixel, value| MetricsError::Class { image, what, pixel, value, classes };
        for (pixel, (&predicted, &label)) in pixels {
            if self.ignore == Some(label) {
                continue;
            }
            if usize::from(label) >= classes {
                return fault("label", pixel, label);
            }
            if usize::from(predicted) >= classes {
                return fault("prediction", pixel, predicted);
            }
        }
        fault("label", 0, 0)
    }

    /// Adds the counts of another process or part of a set.
    ///
    /// # Errors
    /// [`MetricsError::Merge`] if it has other classes or ignores another label.
    pub fn merge(&mut self, other: &Self) -> Result<(), MetricsError> {
        if (self.classes, self.ignore) != (other.classes, other.ignore) {
            return Err(MetricsError::Merge {
                expected: self.classes,
                ignore: self.ignore,
                found: other.classes,
                found_ignore: other.ignore,
            });
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        Ok(())
    }

    /// The metrics of all images counted so far.
    pub fn metrics(&self) -> SegmentationMetrics {
        let n = self.classes;
        let row = |class: usize| self.counts[class * n..][..n].iter().sum::<u64>();
        let column = |class: usize| (0..n).map(|label| self.counts[label * n + class]).sum::<u64>();
        let hit = |class: usize| self.counts[class * n + class];
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let iou: Vec<Option<f64>> = (0..n)
            .map(|class| ratio(hit(class), row(class) + column(class) - hit(class)))
            .collect();
        let accuracy: Vec<Option<f64>> =
            (0..n).map(|class| ratio(hit(class), row(class))).collect();
        SegmentationMetrics {
            mean_iou: mean(&iou),
            mean_accuracy: mean(&accuracy),
            pixel_accuracy: ratio((0..n).map(hit).sum(), self.counts.iter().sum()),
            iou,
            accuracy,
        }
    }
}

/// Metrics of a [`Confusion`], shares of 1; `None` where a class does not occur.
///
/// ```
/// use pad_metrics::confusion::Confusion;
/// let mut confusion = Confusion::new(3, None)?;
/// confusion.add(&[0, 1], &[0, 0])?;
/// let metrics = confusion.metrics();
/// assert_eq!(metrics.iou, [Some(0.5), Some(0.0), None]); // class 2 does not occur
/// assert_eq!((metrics.mean_iou, metrics.pixel_accuracy), (Some(0.25), Some(0.5)));
/// # Ok::<(), pad_metrics::MetricsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SegmentationMetrics {
    /// Intersection over union of each class.
    pub iou: Vec<Option<f64>>,
    /// Share of each class's labelled pixels that were found.
    pub accuracy: Vec<Option<f64>>,
    /// Mean of the defined `iou` (mIoU).
    pub mean_iou: Option<f64>,
    /// Mean of the defined `accuracy` (mAcc).
    pub mean_accuracy: Option<f64>,
    /// Share of all counted pixels that are right (aAcc).
    pub pixel_accuracy: Option<f64>,
}

/// Mean of the defined values.
fn mean(values: &[Option<f64>]) -> Option<f64> {
    let numbers = values.iter().flatten();
    let (sum, count) = numbers.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Tensor};
    use pad_testkit::golden;

    use super::*;

    #[test]
    fn a_stored_matrix_is_checked() {
        let mut confusion = Confusion::new(3, Some(255)).unwrap();
        confusion.add(&[0, 2, 1], &[0, 1, 255]).unwrap();
        let text = serde_json::to_string(&confusion).unwrap();
        assert_eq!(serde_json::from_str::<Confusion>(&text).unwrap(), confusion);
        for (text, expected) in [
            (r#"{"classes":3,"ignore":null,"counts":[]}"#, "0 counts of 3 classes, expected 9"),
            (r#"{"classes":0,"ignore":null,"counts":[]}"#, "`classes` is 0"),
        ] {
            let error = serde_json::from_str::<Confusion>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    fn doubles(tensor: &Tensor) -> Vec<f64> {
        tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Undefined numbers are NaN in the recorded files.
    fn same(found: &[Option<f64>], expected: &[f64], what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (found, expected) in found.iter().zip(expected) {
            let equal = match found {
                None => expected.is_nan(),
                Some(found) => (found - expected).abs() < 1e-14,
            };
            assert!(equal, "{what}: {found:?} {expected}");
        }
    }

    #[test]
    fn numbers_are_those_of_mmseg() {
        let golden = golden("segmentation/miou");
        let bytes = |name: &str| -> Option<Vec<u8>> {
            golden.get(name).map(|tensor| tensor.flatten_all().unwrap().to_vec1().unwrap())
        };
        let mut absent = 0;
        for case in 0..4 {
            let classes = golden[&format!("out.iou{case}")].elem_count();
            let images: Vec<(Vec<u8>, Vec<u8>)> = (0..)
                .map_while(|image| {
                    bytes(&format!("input.pred{case}.{image}"))
                        .zip(bytes(&format!("input.gt{case}.{image}")))
                })
                .collect();
            let pairs: Vec<(&[u8], &[u8])> =
                images.iter().map(|(pred, gt)| (pred.as_slice(), gt.as_slice())).collect();
            let mut confusion = Confusion::new(classes, Some(255)).unwrap();
            confusion.add_all(&pairs).unwrap();
            let counts = confusion.counts().iter().map(|&count| Some(count as f64));
            let counts: Vec<Option<f64>> = counts.collect();
            let name = |what: &str| doubles(&golden[&format!("out.{what}{case}")]);
            same(&counts, &name("confusion"), "confusion");
            let found = confusion.metrics();
            same(&found.iou, &name("iou"), "iou");
            same(&found.accuracy, &name("acc"), "acc");
            let summary = [found.mean_iou, found.mean_accuracy, found.pixel_accuracy];
            same(&summary, &name("summary"), "summary");
            absent += found.iou.iter().filter(|iou| iou.is_none()).count();
            // In parts, merged in another order.
            let mut parts = Confusion::new(classes, Some(255)).unwrap();
            for &(pred, gt) in pairs.iter().rev() {
                let mut part = Confusion::new(classes, Some(255)).unwrap();
                part.add(pred, gt).unwrap();
                parts.merge(&part).unwrap();
            }
            assert_eq!(parts, confusion);
        }
        assert!(absent > 0, "one case has a class that does not occur");
    }

    #[test]
    fn wrong_maps_are_refused_and_not_counted() {
        let mut confusion = Confusion::new(3, Some(255)).unwrap();
        let mut refused = |prediction: &[u8], labels: &[u8]| {
            confusion.add_all(&[(&[0], &[0]), (prediction, labels)]).unwrap_err().to_string()
        };
        assert_eq!(
            refused(&[0, 1], &[0]),
            "image 1: the prediction has 2 pixels, expected 1, those of the labels"
        );
        assert_eq!(
            refused(&[0, 1], &[2, 3]),
            "image 1: the label of pixel 1 is 3, expected a class below 3"
        );
        assert_eq!(
            refused(&[9, 7], &[255, 1]),
            "image 1: the prediction of pixel 1 is 7, expected a class below 3"
        );
        assert!(confusion.counts().iter().all(|&count| count == 0));
        assert_eq!(
            Confusion::new(0, None).unwrap_err().to_string(),
            "`classes` is 0, expected 1 to 255"
        );
        assert!(Confusion::new(256, None).is_err());
        let other = Confusion::new(3, None).unwrap();
        assert_eq!(
            confusion.merge(&other).unwrap_err().to_string(),
            "expected a confusion matrix of 3 classes that ignores Some(255), found 3 and None"
        );
    }

    #[test]
    fn metrics_of_no_pixel_are_undefined() {
        let mut confusion = Confusion::new(2, Some(255)).unwrap();
        confusion.add(&[0, 1], &[255, 255]).unwrap();
        let metrics = confusion.metrics();
        assert_eq!((metrics.mean_iou, metrics.pixel_accuracy), (None, None));
    }
}
