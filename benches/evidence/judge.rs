//! What a pre-trained backbone is judged by, and the numbers that are read of it.

use clap::ValueEnum;
use serde_json::Value;

/// A task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Judge {
    /// Object detection
    Detect,
    /// Segmentation
    Segment,
    /// Nearest neighbours and a linear layer on frozen features
    Probe,
    /// Fine-tuned with 1% of the labels
    #[value(name = "finetune-1")]
    Finetune1,
    /// With 10%
    #[value(name = "finetune-10")]
    Finetune10,
    /// With all
    #[value(name = "finetune-100")]
    Finetune100,
}

impl Judge {
    pub(crate) const ALL: [Self; 6] = [
        Self::Detect,
        Self::Segment,
        Self::Probe,
        Self::Finetune1,
        Self::Finetune10,
        Self::Finetune100,
    ];

    /// Its name in folders.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Segment => "segment",
            Self::Probe => "probe",
            Self::Finetune1 => "finetune-1",
            Self::Finetune10 => "finetune-10",
            Self::Finetune100 => "finetune-100",
        }
    }

    /// The share of the labels, for fine-tuning.
    pub(crate) const fn label_share(self) -> Option<f64> {
        match self {
            Self::Finetune1 => Some(0.01),
            Self::Finetune10 => Some(0.1),
            Self::Finetune100 => Some(1.0),
            _ => None,
        }
    }

    /// Whether its result is the summary of a training run, which can be resumed.
    pub(crate) const fn is_run(self) -> bool {
        matches!(self, Self::Detect | Self::Segment)
    }

    /// Reads its numbers.
    pub(crate) fn numbers(self, report: &Value) -> Vec<(Metric, f64)> {
        Metric::ALL
            .into_iter()
            .filter(|metric| metric.judge() == Some(self))
            .filter_map(|metric| Some((metric, metric.read(report)?)))
            .collect()
    }
}

/// A number of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    Loss,
    Ap,
    Ap50,
    MeanIou,
    LastIou,
    Knn,
    Linear,
    Finetune1,
    Finetune10,
    Finetune100,
}

impl Metric {
    pub(crate) const ALL: [Self; 10] = [
        Self::Loss,
        Self::Ap,
        Self::Ap50,
        Self::MeanIou,
        Self::LastIou,
        Self::Knn,
        Self::Linear,
        Self::Finetune1,
        Self::Finetune10,
        Self::Finetune100,
    ];

    /// What it is read of; `None`: of the pre-training.
    pub(crate) const fn judge(self) -> Option<Judge> {
        match self {
            Self::Loss => None,
            Self::Ap | Self::Ap50 => Some(Judge::Detect),
            Self::MeanIou | Self::LastIou => Some(Judge::Segment),
            Self::Knn | Self::Linear => Some(Judge::Probe),
            Self::Finetune1 => Some(Judge::Finetune1),
            Self::Finetune10 => Some(Judge::Finetune10),
            Self::Finetune100 => Some(Judge::Finetune100),
        }
    }

    /// Its name in tables.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Loss => "held-out loss",
            Self::Ap => "detection AP",
            Self::Ap50 => "detection AP50",
            Self::MeanIou => "segmentation mIoU",
            Self::LastIou => "IoU of the last class",
            Self::Knn => "k-NN",
            Self::Linear => "linear",
            Self::Finetune1 => "fine-tuned, 1%",
            Self::Finetune10 => "fine-tuned, 10%",
            Self::Finetune100 => "fine-tuned, 100%",
        }
    }

    /// Its name in files.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Ap => "ap",
            Self::Ap50 => "ap50",
            Self::MeanIou => "miou",
            Self::LastIou => "last_iou",
            Self::Knn => "knn",
            Self::Linear => "linear",
            Self::Finetune1 => "finetune_1",
            Self::Finetune10 => "finetune_10",
            Self::Finetune100 => "finetune_100",
        }
    }

    /// Whether less is better.
    pub(crate) const fn is_loss(self) -> bool {
        matches!(self, Self::Loss)
    }

    /// Digits after the point.
    pub(crate) const fn digits(self) -> usize {
        if self.is_loss() { 4 } else { 1 }
    }

    /// Reads it of a report, shares in per cent. Accuracy is balanced: every class counts the same.
    pub(crate) fn read(self, report: &Value) -> Option<f64> {
        let balanced = |method: &str| report[method]["balanced_accuracy"].as_f64();
        let share = match self {
            Self::Loss => return report["held_out_after"].as_f64(),
            Self::Ap => report["val"]["stats"]["AP"].as_f64(),
            Self::Ap50 => report["val"]["stats"]["AP50"].as_f64(),
            Self::MeanIou => report["val"]["mean_iou"].as_f64(),
            Self::LastIou => report["val"]["classes"].as_array()?.last()?["iou"].as_f64(),
            Self::Knn => balanced("knn"),
            Self::Linear => balanced("linear"),
            Self::Finetune1 | Self::Finetune10 | Self::Finetune100 => balanced("finetune"),
        };
        share.map(|share| 100.0 * share)
    }
}
