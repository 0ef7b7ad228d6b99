//! A segmentor against the labels of a dataset.

use pad_data::{
    Dataset, LoaderConfig,
    draw::Canvas,
    image::DecodeOptions,
    sets::segmentation::{Classes, SegmentationImage},
};

use super::{SegmentationInference, SegmentationModel, SegmentationReport, metrics::Confusion};
use crate::{
    error::{Error, Result},
    evaluation::Evaluator,
    speed::Speed,
    titles::titled,
    unreadable::{Unreadable, shown},
};

/// Labelled images for segmentation.
///
/// ```
/// use pad_data::{scenes::{SceneConfig, Size}, sets::segmentation::SegmentationScenes};
/// use pad_heads::segmentation::SegmentationDataset;
/// let scenes = SegmentationScenes::render(&SceneConfig::new(Size::new(48, 64), 5), 0, 3)?;
/// let dataset: &SegmentationDataset<'_> = &scenes; // any set of images with class maps
/// assert_eq!(dataset.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type SegmentationDataset<'a> = dyn Dataset<Sample = SegmentationImage> + 'a;

/// Measures a segmentor on a whole dataset. Calls `stopped` before each image and returns `None`
/// once it is true. An image or mask that cannot be read is left out, as far as [`LoaderConfig`]
/// tolerates it by default; [`SegmentationReport::unreadable`] names it.
///
/// # Errors
/// [`Error::Classes`] if the dataset has other classes than the model; more unreadable images than
/// are tolerated; as [`SegmentationModel::predict`].
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::vit::ViTConfig;
/// use pad_data::{scenes::{SceneConfig, Size}, sets::segmentation::{Classes, SegmentationScenes}};
/// use pad_data::transform::segmentation::{Rescale, SegmentationPipeline};
/// use pad_heads::Start;
/// use pad_heads::segmentation::{SegmentationInference, SegmentationModel, SegmentorConfig};
/// use pad_heads::segmentation::measure;
/// use pad_ops::{ImageSize, rng::Key};
/// # let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
/// # let classes = Classes::scenes();
/// # let config = SegmentorConfig::probe(vit, classes.len());
/// # let start = Start::new(&Device::Cpu, Key::new(0));
/// // `config` is that of a probe on a small ViT; the model has seen nothing yet.
/// let model = SegmentationModel::new(&config, classes, None, &start)?;
/// let scenes = SegmentationScenes::render(&SceneConfig::new(Size::new(48, 64), 5), 0, 2)?;
/// let rescale = Rescale { scale: None, ..Default::default() }; // images as large as they are
/// let pipeline = SegmentationPipeline { rescale, ..Default::default() };
/// let inference = SegmentationInference { pipeline, ..Default::default() };
/// let report = measure(&model, &scenes, &inference, &|| false)?.unwrap();
/// let pixels: u64 = report.confusion.counts().iter().sum();
/// assert!(report.images == 2 && pixels <= 2 * 48 * 64); // those labelled 255 do not count
/// println!("{report}"); // IoU and accuracy of each class
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn measure(
    model: &SegmentationModel,
    dataset: &SegmentationDataset<'_>,
    inference: &SegmentationInference,
    stopped: &dyn Fn() -> bool,
) -> Result<Option<SegmentationReport>> {
    SegmentationEvaluator::new(model, dataset, inference.clone())?.evaluate(stopped)
}

fn measure_tolerating(
    model: &SegmentationModel,
    dataset: &SegmentationDataset<'_>,
    inference: &SegmentationInference,
    max_unreadable: f64,
    stopped: &dyn Fn() -> bool,
) -> Result<Option<SegmentationReport>> {
    let classes = dataset.classes();
    let labels_fault = |name: String| move |cause| Error::Labels { name, cause };
    let mut confusion = Confusion::new(classes.len(), Some(classes.ignore))
        .map_err(labels_fault("dataset".into()))?;
    let (mut seconds, mut macs) = (Vec::with_capacity(dataset.len()), 0.0);
    let mut unreadable = Unreadable::new(dataset.len(), max_unreadable);
    for index in 0..dataset.len() {
        if stopped() {
            return Ok(None);
        }
        let read = dataset.get(index, &DecodeOptions::default());
        let Some(SegmentationImage { image, labels }) = unreadable.checked(read)? else { continue };
        let found = model.predict(image, inference)?;
        confusion
            .add(found.classes.classes(), labels.classes())
            .map_err(labels_fault(dataset.name(index)))?;
        seconds.push(found.seconds);
        macs += found.macs;
    }
    let speed = Speed::new(&seconds, macs);
    let unreadable = unreadable.into_reasons();
    let images = dataset.len() - unreadable.len();
    let report = SegmentationReport::new(classes.clone(), confusion, images, speed);
    Ok(Some(SegmentationReport { unreadable, ..report }))
}

/// Checks that a dataset has the classes of a model.
fn expect_same(model: &Classes, dataset: &Classes) -> Result<()> {
    if model.names == dataset.names {
        return Ok(());
    }
    Err(Error::Classes { expected: model.names.join(", "), found: dataset.names.join(", ") })
}

/// Measures a segmentor during training, for [`Evaluation`](crate::Evaluation): metrics `mIoU`,
/// `mAcc`, `aAcc` and `IoU <class>`, score mIoU.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::vit::ViTConfig;
/// use pad_data::{scenes::{SceneConfig, Size}, sets::segmentation::{Classes, SegmentationScenes}};
/// use pad_heads::{Evaluator, Start, segmentation::{SegmentationEvaluator, SegmentationModel}};
/// use pad_heads::segmentation::{SegmentationInference, SegmentorConfig};
/// use pad_ops::{ImageSize, rng::Key};
/// # let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
/// # let classes = Classes::scenes();
/// # let config = SegmentorConfig::probe(vit, classes.len());
/// # let start = Start::new(&Device::Cpu, Key::new(0));
/// let model = SegmentationModel::new(&config, classes, None, &start)?;
/// let scenes = SegmentationScenes::render(&SceneConfig::new(Size::new(48, 64), 5), 0, 1)?;
/// let evaluator = SegmentationEvaluator::new(&model, &scenes, SegmentationInference::default())?
///     .with_max_unreadable(0.01);
/// // `Evaluation::new(evaluator)` calls this between epochs.
/// assert!(evaluator.evaluate(&|| true)?.is_none()); // stopped before the first image
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SegmentationEvaluator<'a> {
    model: &'a SegmentationModel,
    dataset: &'a SegmentationDataset<'a>,
    inference: SegmentationInference,
    max_unreadable: f64,
}

impl<'a> SegmentationEvaluator<'a> {
    /// Measures `model` on `dataset`.
    ///
    /// # Errors
    /// As [`SegmentationInference::validate`]; [`Error::Classes`] if the dataset has other classes
    /// than the model.
    pub fn new(
        model: &'a SegmentationModel,
        dataset: &'a SegmentationDataset<'a>,
        inference: SegmentationInference,
    ) -> Result<Self> {
        inference.validate()?;
        expect_same(&model.classes, dataset.classes())?;
        let max_unreadable = LoaderConfig::default().max_unreadable;
        Ok(Self { model, dataset, inference, max_unreadable })
    }

    /// Sets the tolerated share of unreadable images, 0 to 1; see [`LoaderConfig::max_unreadable`].
    #[must_use]
    pub fn with_max_unreadable(self, max_unreadable: f64) -> Self {
        Self { max_unreadable, ..self }
    }
}

impl Evaluator for SegmentationEvaluator<'_> {
    type Report = SegmentationReport;

    fn evaluate(&self, stopped: &dyn Fn() -> bool) -> Result<Option<SegmentationReport>> {
        let Self { model, dataset, inference, max_unreadable } = self;
        measure_tolerating(model, *dataset, inference, *max_unreadable, stopped)
    }
}

impl SegmentationModel {
    /// Draws `count` images of a dataset: each image, beside it its labels, beside them the
    /// prediction, both with colours of the given opacity.
    ///
    /// Images that cannot be read are left out with a warning.
    ///
    /// # Errors
    /// As [`SegmentationModel::predict`].
    pub fn pictures(
        &self,
        dataset: &SegmentationDataset<'_>,
        inference: &SegmentationInference,
        count: usize,
        opacity: f32,
    ) -> Result<Canvas> {
        let count = count.min(dataset.len());
        let mut tiles = Vec::with_capacity(count);
        for place in 0..count {
            let index = place * dataset.len() / count;
            let Some(SegmentationImage { image, labels }) = shown(dataset, index) else { continue };
            let plain = Canvas::from_image(&image, Some(&inference.pipeline.window))?;
            let found = self.predict(image, inference)?.classes;
            let over = |map| plain.overlay_classes(map, &self.classes, opacity);
            let (labelled, predicted) = (over(&labels)?, over(&found)?);
            tiles.push([
                titled(&plain, "image"),
                titled(&labelled, "labels"),
                titled(&predicted, "prediction"),
            ]);
        }
        let rows: Vec<Vec<Canvas>> = tiles.chunks(2).map(<[_]>::concat).collect();
        Ok(Canvas::tiled(&rows, 6, [255; 3]))
    }
}
