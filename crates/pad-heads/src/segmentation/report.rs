//! The numbers of an evaluation, as a table and as JSON.

use std::fmt;

use pad_data::sets::segmentation::Classes;
use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::metrics::{Confusion, SegmentationMetrics};
use crate::{evaluation::EvaluationReport, speed::Speed, unreadable::line};

/// The evaluation of a segmentor on a dataset. `Display` prints a table of IoU and accuracy,
/// `Serialize` gives all numbers; an undefined one is `-` or null.
///
/// ```
/// use pad_data::sets::segmentation::Classes;
/// use pad_heads::segmentation::SegmentationReport;
/// use pad_metrics::confusion::Confusion;
/// let mut confusion = Confusion::new(2, Some(255))?;
/// confusion.add(&[0, 1, 1, 1, 0], &[0, 0, 1, 1, 255])?; // predictions, labels
/// let classes = Classes::new(["ground", "person"])?;
/// let report = SegmentationReport::new(classes, confusion, 1, None);
/// println!("{report}"); // IoU 1/2 and 2/3; the last pixel does not count
/// assert_eq!(serde_json::to_value(&report)?["images"], 1);
/// assert!(report.confusion_table().contains("50.0")); // half of the ground is taken for a person
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SegmentationReport {
    /// The classes.
    pub classes: Classes,
    /// What was predicted where.
    pub confusion: Confusion,
    /// Its metrics.
    pub metrics: SegmentationMetrics,
    /// Number of images that were measured.
    pub images: usize,
    /// Why each image that was left out could not be read.
    pub unreadable: Vec<String>,
    /// Time and work per image.
    pub speed: Option<Speed>,
}

/// A share in per cent.
fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.2}", 100.0 * share))
}

impl SegmentationReport {
    /// Makes the report of a confusion matrix over `images` images.
    pub fn new(
        classes: Classes,
        confusion: Confusion,
        images: usize,
        speed: Option<Speed>,
    ) -> Self {
        let (metrics, unreadable) = (confusion.metrics(), Vec::new());
        Self { classes, confusion, metrics, images, unreadable, speed }
    }

    /// The confusion matrix as a table: rows are labels, columns predictions, per cent of the row.
    pub fn confusion_table(&self) -> String {
        const CORNER: &str = "label \\ found";
        let count = self.classes.len();
        let longest = self.classes.names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let width = (longest + 4).max(CORNER.len());
        let head: String = (0..count).map(|class| format!("{class:>7}")).collect();
        let mut lines = vec![format!("{CORNER:<width$}{head}")];
        let rows = self.confusion.counts().chunks_exact(count.max(1)).zip(&self.classes.names);
        for (class, (row, name)) in rows.enumerate() {
            let sum: u64 = row.iter().sum();
            let share = |&n: &u64| (sum > 0).then(|| n as f64 / sum as f64);
            let cells: String = row.iter().map(|n| format!("{:>7}", percent(share(n)))).collect();
            lines.push(format!("{:<width$}{cells}", format!("{class:>2} {name}")));
        }
        lines.join("\n")
    }

    /// Name, IoU and accuracy of each class.
    fn by_class(&self) -> impl Iterator<Item = ClassNumbers<'_>> {
        let numbers = self.metrics.iou.iter().zip(&self.metrics.accuracy);
        self.classes.names.iter().zip(numbers).map(|(name, (&iou, &accuracy))| ClassNumbers {
            name,
            iou,
            accuracy,
        })
    }
}

#[derive(Serialize)]
struct ClassNumbers<'a> {
    name: &'a str,
    iou: Option<f64>,
    accuracy: Option<f64>,
}

impl fmt::Display for SegmentationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metrics = &self.metrics;
        let longest = self.classes.names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let width = longest.max("class".len());
        writeln!(f, "{:<width$}  {:>6}  {:>8}", "class", "IoU", "accuracy")?;
        let mean =
            ClassNumbers { name: "mean", iou: metrics.mean_iou, accuracy: metrics.mean_accuracy };
        for ClassNumbers { name, iou, accuracy } in self.by_class().chain([mean]) {
            writeln!(f, "{name:<width$}  {:>6}  {:>8}", percent(iou), percent(accuracy))?;
        }
        write!(
            f,
            "mIoU {}  mAcc {}  aAcc {}",
            percent(metrics.mean_iou),
            percent(metrics.mean_accuracy),
            percent(metrics.pixel_accuracy)
        )?;
        write!(f, "{}", line(&self.unreadable, self.images))?;
        match &self.speed {
            Some(speed) => write!(f, "\n{speed}"),
            None => Ok(()),
        }
    }
}

impl Serialize for SegmentationReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rows: Vec<&[u64]> = self.confusion.counts().chunks(self.classes.len().max(1)).collect();
        let mut report = serializer.serialize_struct("SegmentationReport", 8)?;
        report.serialize_field("images", &self.images)?;
        report.serialize_field("unreadable", &self.unreadable)?;
        report.serialize_field("mean_iou", &self.metrics.mean_iou)?;
        report.serialize_field("mean_accuracy", &self.metrics.mean_accuracy)?;
        report.serialize_field("pixel_accuracy", &self.metrics.pixel_accuracy)?;
        report.serialize_field("classes", &self.by_class().collect::<Vec<_>>())?;
        report.serialize_field("confusion", &rows)?;
        report.serialize_field("speed", &self.speed)?;
        report.end()
    }
}

impl EvaluationReport for SegmentationReport {
    fn metrics(&self) -> Vec<(String, f64)> {
        let means = [
            ("mIoU", self.metrics.mean_iou),
            ("mAcc", self.metrics.mean_accuracy),
            ("aAcc", self.metrics.pixel_accuracy),
        ];
        let means = means.into_iter().map(|(name, value)| (name.to_string(), value));
        let classes = self.by_class().map(|class| (format!("IoU {}", class.name), class.iou));
        means.chain(classes).filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn score(&self) -> Option<f64> {
        self.metrics.mean_iou
    }

    fn summary(&self) -> String {
        let metrics = &self.metrics;
        format!("mIoU {}, aAcc {}", percent(metrics.mean_iou), percent(metrics.pixel_accuracy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_does_not_occur_has_no_number() {
        let classes = Classes::new(["road", "person", "dog"]).unwrap();
        let mut confusion = Confusion::new(3, Some(255)).unwrap();
        confusion.add(&[0, 0, 1, 1], &[0, 0, 0, 1]).unwrap();
        let report = SegmentationReport::new(classes, confusion, 1, None);
        assert_eq!(
            report.to_string(),
            "class      IoU  accuracy\n\
             road     66.67     66.67\n\
             person   50.00    100.00\n\
             dog          -         -\n\
             mean     58.33     83.33\n\
             mIoU 58.33  mAcc 83.33  aAcc 75.00"
        );
        assert_eq!(
            report.confusion_table(),
            "label \\ found      0      1      2\n \
             0 road        66.67  33.33   0.00\n \
             1 person       0.00 100.00   0.00\n \
             2 dog             -      -      -"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["classes"][2]["iou"], serde_json::Value::Null);
        assert_eq!(json["confusion"][0], serde_json::json!([2, 1, 0]));
        let names: Vec<String> = report.metrics().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["mIoU", "mAcc", "aAcc", "IoU road", "IoU person"]);
    }

    #[test]
    fn nothing_labelled_is_no_score() {
        let classes = Classes::new(["road"]).unwrap();
        let report =
            SegmentationReport::new(classes, Confusion::new(1, Some(255)).unwrap(), 0, None);
        assert_eq!(report.score(), None);
        assert!(report.metrics().is_empty());
        assert_eq!(report.summary(), "mIoU -, aAcc -");
    }
}
