//! The numbers of COCO, as a table and as JSON.

use std::{collections::BTreeMap, fmt};

use pad_data::sets::detection::{BoxClass, BoxClasses};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::coco::{CocoId, CocoMetrics, CocoResult};
use crate::{evaluation::EvaluationReport, speed::Speed, unreadable::line};

/// The evaluation of a detector on a dataset. `Display` prints a table, `Serialize` gives all
/// numbers; an undefined one is `-` or null.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::vit::ViTConfig;
/// use pad_data::{scenes::{SceneConfig, Size}, sets::detection::{BoxClasses, DetectionScenes}};
/// use pad_data::transform::detection::DetectionPipeline;
/// use pad_heads::{Start, detection::{DetectionModel, DetectorConfig, measure}};
/// use pad_ops::{ImageSize, rng::Key};
/// # let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
/// # let config = DetectorConfig {
/// #     channels: 8,
/// #     head_dim: 8,
/// #     relative_size: ImageSize::square(64),
/// #     ..DetectorConfig::on_backbone(vit, 4)
/// # };
/// # let start = Start::new(&Device::Cpu, Key::new(0));
/// # let model = DetectionModel::new(&config, BoxClasses::scenes(), None, &start)?;
/// let scenes = DetectionScenes::render(&SceneConfig::new(Size::new(48, 64), 5), 0, 2)?;
/// let report = measure(&model, &scenes, &DetectionPipeline::square(64), &|| false)?.unwrap();
/// assert_eq!((report.images, report.objects.len()), (2, report.classes.len()));
/// let json = serde_json::to_value(&report)?; // the same numbers, for programs
/// assert_eq!(json["images"], 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DetectionReport {
    /// The classes.
    pub classes: BoxClasses,
    /// Metrics of boxes.
    pub boxes: CocoMetrics,
    /// Metrics of masks, of a detector with a mask head.
    pub masks: Option<CocoMetrics>,
    /// Number of labelled objects of each class, without crowds and difficult ones.
    pub objects: Vec<usize>,
    /// Everything that was found.
    pub results: Vec<CocoResult>,
    /// Number of images that were measured.
    pub images: usize,
    /// Why each image that was left out could not be read.
    pub unreadable: Vec<String>,
    /// Time and work per image.
    pub speed: Option<Speed>,
}

/// A share in per cent.
fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.1}", 100.0 * share))
}

impl DetectionReport {
    /// The classes with their AP, in the order of the detector's outputs.
    fn by_class<'a>(
        &'a self,
        metrics: &'a CocoMetrics,
    ) -> impl Iterator<Item = (&'a BoxClass, Option<f64>)> {
        let by_id: BTreeMap<_, _> = metrics.by_category().collect();
        let of = move |class: &BoxClass| by_id.get(&CocoId::from(class.id)).copied().flatten();
        self.classes.classes().iter().map(move |class| (class, of(class)))
    }
}

impl fmt::Display for DetectionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [("boxes", Some(&self.boxes)), ("masks", self.masks.as_ref())];
        for (kind, metrics) in kinds {
            let Some(metrics) = metrics else { continue };
            if self.masks.is_some() {
                writeln!(f, "{kind}:")?;
            }
            for (names, stats) in CocoMetrics::NAMES.chunks(6).zip(metrics.stats.chunks(6)) {
                let pairs = names.iter().zip(stats);
                let cells: Vec<String> =
                    pairs.map(|(name, &stat)| format!("{name:>5} {:>5}", percent(stat))).collect();
                writeln!(f, "{}", cells.join("  "))?;
            }
        }
        let classes = self.classes.classes();
        let longest = classes.iter().map(|class| class.name.chars().count()).max().unwrap_or(0);
        let width = longest.max("class".len());
        let mask_title = if self.masks.is_some() { "   mask" } else { "" };
        write!(f, "{:<width$}  {:>5}{mask_title}  {:>7}", "class", "AP", "objects")?;
        let masks: Option<Vec<_>> =
            self.masks.as_ref().map(|masks| self.by_class(masks).map(|(_, ap)| ap).collect());
        for (place, (class, ap)) in self.by_class(&self.boxes).enumerate() {
            let mask = masks.as_ref().and_then(|masks| masks.get(place));
            let mask = mask.map(|&ap| format!("  {:>5}", percent(ap))).unwrap_or_default();
            let objects = self.objects.get(place).copied().unwrap_or(0);
            write!(f, "\n{:<width$}  {:>5}{mask}  {objects:>7}", class.name, percent(ap))?;
        }
        write!(f, "{}", line(&self.unreadable, self.images))?;
        match &self.speed {
            Some(speed) => write!(f, "\n{speed}"),
            None => Ok(()),
        }
    }
}

/// Numbers by name, in order.
struct ByName<'a>(Vec<(&'a str, Option<f64>)>);

impl Serialize for ByName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// The metrics of masks.
#[derive(Serialize)]
struct Masks<'a> {
    stats: ByName<'a>,
    per_class: ByName<'a>,
}

impl Serialize for DetectionReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let per_class = |metrics| {
            let classes = self.by_class(metrics);
            ByName(classes.map(|(class, ap)| (class.name.as_str(), ap)).collect())
        };
        let mut report = serializer.serialize_map(None)?;
        report.serialize_entry("images", &self.images)?;
        report.serialize_entry("unreadable", &self.unreadable)?;
        report.serialize_entry("stats", &ByName(self.boxes.named().collect()))?;
        report.serialize_entry("per_class", &per_class(&self.boxes))?;
        report.serialize_entry("speed", &self.speed)?;
        if let Some(masks) = &self.masks {
            let stats = ByName(masks.named().collect());
            report.serialize_entry("masks", &Masks { stats, per_class: per_class(masks) })?;
        }
        report.end()
    }
}

impl EvaluationReport for DetectionReport {
    fn metrics(&self) -> Vec<(String, f64)> {
        let mut all: Vec<(String, Option<f64>)> =
            self.boxes.named().map(|(name, value)| (name.to_string(), value)).collect();
        if let Some(masks) = &self.masks {
            all.extend(masks.named().map(|(name, value)| (format!("mask {name}"), value)));
        }
        if self.classes.len() > 1 {
            let classes = self.by_class(&self.boxes);
            all.extend(classes.map(|(class, ap)| (format!("AP {}", class.name), ap)));
        }
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn score(&self) -> Option<f64> {
        self.boxes.stats[0]
    }

    fn summary(&self) -> String {
        let three = |metrics: &CocoMetrics| {
            let [ap, ap50, ap75, ..] = metrics.stats.map(percent);
            format!("AP {ap}, AP50 {ap50}, AP75 {ap75}")
        };
        let masks = self.masks.as_ref().map(|masks| format!("; masks: {}", three(masks)));
        let found = self.results.len();
        format!("{}{}, {found} detections", three(&self.boxes), masks.unwrap_or_default())
    }
}
