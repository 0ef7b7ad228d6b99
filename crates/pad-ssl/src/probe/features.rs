//! Features of labelled images, computed once.

use candle_core::{D, DType, Device, Tensor};
use pad_adapter::vit::ViT;
use pad_data::loader::Loader;
use pad_ops::Mode;

use super::fault;
use crate::{Pool, Result};

/// Features of images with their classes.
#[derive(Clone, Debug)]
pub struct FeatureSet {
    values: Tensor,
    labels: Vec<usize>,
    classes: usize,
}

impl FeatureSet {
    /// FeatureSet (N, D), any float dtype, with a label below `classes` each.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) without any, if the counts differ, or for a
    /// label beyond the classes or a feature that is not finite.
    pub fn new(values: &Tensor, labels: Vec<usize>, classes: usize) -> Result<Self> {
        let &[images, _] = values.dims() else {
            let found = values.dims();
            return Err(fault(format!("features of shape {found:?}, expected one row per image")));
        };
        if images == 0 || images != labels.len() {
            let found = labels.len();
            return Err(fault(format!(
                "{images} features and {found} labels, expected at least 1, and as many of both"
            )));
        }
        if let Some(label) = labels.iter().find(|&&label| label >= classes) {
            return Err(fault(format!("label {label}, expected below {classes}")));
        }
        let values = values.detach().to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?;
        // The sum over a row is finite only if every value is (or overflows, which no feature
        // does).
        let sums: Vec<f32> = values.abs()?.sum(D::Minus1)?.to_vec1()?;
        if let Some(image) = sums.iter().position(|sum| !sum.is_finite()) {
            return Err(fault(format!("feature of image {image} is not finite")));
        }
        Ok(Self { values, labels, classes })
    }

    /// Computes the features of labelled images. The loader neither shuffles nor drops; `classes`
    /// is the number of classes of its set. Unreadable images within the loader's tolerance are
    /// left out.
    ///
    /// # Errors
    /// More unreadable images than the loader tolerates; images that do not fit the encoder; as
    /// [`FeatureSet::new`].
    pub fn extract(
        encoder: &ViT,
        loader: &Loader<Vec<usize>>,
        classes: usize,
        pool: Pool,
        device: &Device,
    ) -> Result<Self> {
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        for batch in loader.epoch(0, 0)? {
            let batch = batch?;
            if batch.is_empty() {
                continue;
            }
            let tokens = encoder.forward(&batch.images.to_device(device)?, Mode::Eval)?.detach();
            rows.push(pool.apply(&tokens, encoder.config().prefix())?.to_device(&Device::Cpu)?);
            labels.extend(batch.labels);
        }
        if rows.is_empty() {
            return Err(fault("no readable image, expected at least 1"));
        }
        Self::new(&Tensor::cat(&rows, 0)?, labels, classes)
    }

    /// Returns the features, (N, D), `f32`, on the CPU.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// Returns the class of each image.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Checks that `other` has features of the same width and classes.
    pub(super) fn check_like(&self, other: &FeatureSet) -> Result<()> {
        let (own, found) = (self.values.dim(1)?, other.values.dim(1)?);
        if own == found && self.classes == other.classes {
            return Ok(());
        }
        Err(fault(format!(
            "features of {found} values and {} classes, expected {own} and {}",
            other.classes, self.classes
        )))
    }
}
