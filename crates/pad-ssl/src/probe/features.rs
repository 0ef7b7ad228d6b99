//! Features of labelled images, computed once.

use candle_core::{D, DType, Device, Tensor};
use pad_adapter::vit::ViT;
use pad_data::loader::{Batch, Loader};
use pad_ops::Mode;

use super::fault;
use crate::{
    Pool, Result,
    in_order::{finite_values, for_each_batch},
};

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
    /// A loader that drops its last images, or more unreadable ones than it tolerates; images that
    /// do not fit the encoder; as [`FeatureSet::new`].
    pub fn extract(
        encoder: &ViT,
        loader: &Loader<Vec<usize>>,
        classes: usize,
        pool: Pool,
        device: &Device,
    ) -> Result<Self> {
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        for_each_batch(loader, device, |images, batch| {
            let tokens = encoder.forward(images, Mode::Eval)?.detach();
            let features = pool.apply(&tokens, encoder.config().prefix())?;
            let values = finite_values(&features, &batch.names, "feature")?;
            rows.push(Tensor::from_vec(values, features.shape(), &Device::Cpu)?);
            check_labels(&batch, classes)?;
            labels.extend(batch.labels);
            Ok(true)
        })?;
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

/// Checks the labels of a batch; the error names the image.
pub(super) fn check_labels(batch: &Batch<Vec<usize>>, classes: usize) -> Result<()> {
    let Some(at) = batch.labels.iter().position(|&label| label >= classes) else {
        return Ok(());
    };
    let label = batch.labels[at];
    let image = batch.names.get(at).map(|name| format!("{name}: ")).unwrap_or_default();
    Err(fault(format!("{image}label {label}, expected below {classes}")))
}
