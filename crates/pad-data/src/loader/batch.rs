//! Samples in one tensor.

use candle_core::{Device, Tensor};

use crate::{Result, ahead::ToDevice};

/// Samples in one tensor, with their labels.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_data::Batch;
/// let batch = Batch::new(Tensor::zeros((2, 3, 8, 8), DType::F32, &Device::Cpu)?, ());
/// assert_eq!((batch.len(), batch.is_empty()), (2, false));
/// assert_eq!(batch.names, ["0", "1"]);
/// # Ok::<(), pad_data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Batch<L = ()> {
    /// Epoch of the loader that it belongs to.
    pub epoch: u64,
    /// Place of the batch in its epoch, from 0: a run that is resumed after it begins at
    /// `number + 1`.
    pub number: usize,
    /// Index of each sample.
    pub indices: Vec<usize>,
    /// Name of each sample.
    pub names: Vec<String>,
    /// `(B, C, H, W)`, f32. `B` is smaller than the batch size where images were unreadable, and in
    /// an incomplete last batch; 0 if no image of the batch could be read.
    pub images: Tensor,
    /// Labels of the samples.
    pub labels: L,
}

impl<L> Batch<L> {
    /// A batch that is not from a loader: `images` of `(B, C, H, W)` with the indices and names 0
    /// to `B - 1`.
    pub fn new(images: Tensor, labels: L) -> Self {
        let count = images.dims().first().copied().unwrap_or(0);
        let names = (0..count).map(|index| index.to_string()).collect();
        Self { epoch: 0, number: 0, indices: (0..count).collect(), names, images, labels }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether no image of the batch could be read.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}

impl<L: ToDevice> ToDevice for Batch<L> {
    /// An empty batch stays where it is: devices refuse tensors without elements.
    fn to_device(self, device: &Device) -> Result<Self> {
        if self.is_empty() {
            return Ok(self);
        }
        let (images, labels) = (self.images.to_device(device)?, self.labels.to_device(device)?);
        Ok(Self { images, labels, ..self })
    }
}
