//! A segmentor against the labels of a dataset.

use pad_data::{
    Dataset,
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
};

/// Labelled images for segmentation.
pub type SegmentationDataset<'a> = dyn Dataset<Sample = SegmentationImage> + 'a;

/// Measures a segmentor on a whole dataset. Calls `stopped` before each image and returns `None`
/// once it is true. An image that cannot be read is an error: the numbers would be those of another
/// set.
///
/// # Errors
/// [`Error::Classes`] if the dataset has other classes than the model; as
/// [`SegmentationModel::predict`].
pub fn measure(
    model: &SegmentationModel,
    dataset: &SegmentationDataset<'_>,
    inference: &SegmentationInference,
    stopped: &dyn Fn() -> bool,
) -> Result<Option<SegmentationReport>> {
    let classes = dataset.classes();
    expect_same(&model.classes, classes)?;
    let labels_fault = |name: String| move |cause| Error::Labels { name, cause };
    let mut confusion = Confusion::new(classes.len(), Some(classes.ignore))
        .map_err(labels_fault("dataset".into()))?;
    let (mut seconds, mut macs) = (Vec::with_capacity(dataset.len()), 0.0);
    for index in 0..dataset.len() {
        if stopped() {
            return Ok(None);
        }
        let SegmentationImage { image, labels } = dataset.get(index, &DecodeOptions::default())?;
        let found = model.predict(image, inference)?;
        confusion
            .add(found.classes.classes(), labels.classes())
            .map_err(labels_fault(dataset.name(index)))?;
        seconds.push(found.seconds);
        macs += found.macs;
    }
    let speed = Speed::new(&seconds, macs);
    Ok(Some(SegmentationReport::new(classes.clone(), confusion, dataset.len(), speed)))
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
pub struct SegmentationEvaluator<'a> {
    model: &'a SegmentationModel,
    dataset: &'a SegmentationDataset<'a>,
    inference: SegmentationInference,
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
        Ok(Self { model, dataset, inference })
    }
}

impl Evaluator for SegmentationEvaluator<'_> {
    type Report = SegmentationReport;

    fn evaluate(&self, stopped: &dyn Fn() -> bool) -> Result<Option<SegmentationReport>> {
        measure(self.model, self.dataset, &self.inference, stopped)
    }
}

impl SegmentationModel {
    /// Draws `count` images of a dataset: each image, beside it its labels, beside them the
    /// prediction, both with colours of the given opacity.
    ///
    /// # Errors
    /// An image that cannot be read; as [`SegmentationModel::predict`].
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
            let SegmentationImage { image, labels } =
                dataset.get(index, &DecodeOptions::default())?;
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
