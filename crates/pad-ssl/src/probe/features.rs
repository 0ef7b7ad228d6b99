//! Features of labelled images, computed once.

use candle_core::{D, DType, Device, Tensor};
use pad_adapter::vit::ViT;
use pad_data::loader::Loader;
use pad_ops::Mode;
use serde::{Deserialize, Serialize};

use super::refuse;
use crate::Result;

/// Which tokens make an image's feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The mean over the patches.
    #[default]
    Mean,
    /// The class token.
    Class,
}

/// A feature and a class for each image.
#[derive(Clone, Debug)]
pub struct Features {
    values: Tensor,
    labels: Vec<usize>,
    classes: usize,
}

impl Features {
    /// Features (N, D), any float dtype, with a label below `classes` each.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) if there are none, if the counts differ, or for a label beyond the
    /// classes or a feature that is not finite.
    pub fn new(values: &Tensor, labels: Vec<usize>, classes: usize) -> Result<Self> {
        let (images, _) = values.dims2()?;
        if images == 0 || images != labels.len() {
            let found = labels.len();
            return Err(refuse(format!(
                "{images} features and {found} labels, expected as many of both, and some"
            )));
        }
        if let Some(label) = labels.iter().find(|&&label| label >= classes) {
            return Err(refuse(format!("label {label}, expected below {classes}")));
        }
        let values = values.detach().to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?;
        // The sum over a row is a number only if every value is.
        let sums: Vec<f32> = values.abs()?.sum(D::Minus1)?.to_vec1()?;
        if let Some(image) = sums.iter().position(|sum| !sum.is_finite()) {
            return Err(refuse(format!("feature of image {image} is not finite")));
        }
        Ok(Self { values, labels, classes })
    }

    /// Runs a frozen encoder over the images of `classes` classes.
    /// Unreadable images within the loader's tolerance are left out.
    ///
    /// # Errors
    /// Whatever the loader or the encoder refuses; as [`Features::new`].
    pub fn extract(
        encoder: &ViT,
        loader: &Loader<Vec<usize>>,
        classes: usize,
        pool: Pool,
        device: &Device,
    ) -> Result<Self> {
        let (mut rows, mut found) = (Vec::new(), Vec::new());
        for batch in loader.epoch(0, 0)? {
            let batch = batch?;
            if batch.is_empty() {
                continue;
            }
            let tokens = encoder.forward(&batch.images.to_device(device)?, Mode::Eval)?.detach();
            let patches = tokens.dim(1)? - 1;
            rows.push(match pool {
                Pool::Mean => tokens.narrow(1, 1, patches)?.mean(1)?,
                Pool::Class => tokens.narrow(1, 0, 1)?.squeeze(1)?,
            });
            found.extend(batch.labels);
        }
        if rows.is_empty() {
            return Err(refuse("not one readable image, expected some"));
        }
        Self::new(&Tensor::cat(&rows, 0)?, found, classes)
    }

    /// (N, D), `f32`, on the CPU.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// A label each.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Asks that `other` has features of the same kind.
    pub(super) fn expect_like(&self, other: &Features) -> Result<()> {
        let (own, found) = (self.values.dim(1)?, other.values.dim(1)?);
        if own == found && self.classes == other.classes {
            return Ok(());
        }
        Err(refuse(format!(
            "features of {found} values and {} classes, expected {own} and {}",
            other.classes, self.classes
        )))
    }
}
