//! Whole images, sliding windows, several scales and flips.

use candle_core::{D, DType, Device, Tensor};
use pad_ops::{ImageSize, resize_bilinear};
use serde::{Deserialize, Serialize};

use super::size_of;
use crate::error::{Error, Result};

/// Windows that cover an image of any size, mmsegmentation's `slide` mode. An image smaller than
/// the window is one window.
///
/// ```
/// use pad_heads::segmentation::SlidingWindow;
/// use pad_ops::ImageSize;
/// let windows = SlidingWindow::new(ImageSize::square(300), None);
/// assert_eq!(windows.stride, ImageSize::square(200));
/// // The last window of a row is moved back to the border.
/// assert_eq!(windows.corners(ImageSize::new(300, 640)), [(0, 0), (0, 200), (0, 340)]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlidingWindow {
    /// Size of a window. Default 512 x 512.
    pub window: ImageSize,
    /// Distance of neighbouring windows, pixels; the last one is moved back to the border. Default
    /// 341 x 341.
    pub stride: ImageSize,
    /// Number of windows per forward pass; no effect on results beyond rounding. Default 1.
    #[serde(alias = "together")]
    pub batch_size: usize,
}

impl Default for SlidingWindow {
    fn default() -> Self {
        Self { window: ImageSize::square(512), stride: ImageSize::square(341), batch_size: 1 }
    }
}

impl SlidingWindow {
    /// Windows of size `window`, `stride` apart, by default two thirds of a window.
    pub fn new(window: ImageSize, stride: Option<ImageSize>) -> Self {
        let two_thirds = |side: usize| (side.saturating_mul(2) / 3).max(1);
        let default = ImageSize::new(two_thirds(window.height), two_thirds(window.width));
        Self { window, stride: stride.unwrap_or(default), batch_size: 1 }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        let (window, stride) = (self.window, self.stride);
        if window.area() == 0 {
            faults.push(format!("`window` is {window}, expected at least 1x1"));
        }
        if stride.area() == 0 || stride.height > window.height || stride.width > window.width {
            faults.push(format!("`stride` is {stride}, expected 1x1 to the window's {window}"));
        }
        if self.batch_size == 0 {
            faults.push("`batch_size` is 0, expected at least 1".to_string());
        }
        Error::faults("sliding window", faults)
    }

    /// Returns `(top, left)` of every window in an image, row-major.
    pub fn corners(&self, image: ImageSize) -> Vec<(usize, usize)> {
        let along = |side: usize, window: usize, stride: usize| {
            let count = side.saturating_sub(window).div_ceil(stride.max(1)) + 1;
            let last = side.saturating_sub(window);
            (0..count).map(move |i| (i * stride).min(last))
        };
        let rows = along(image.height, self.window.height, self.stride.height);
        let columns = || along(image.width, self.window.width, self.stride.width);
        rows.flat_map(|top| columns().map(move |left| (top, left))).collect()
    }

    /// Returns the logits of every pixel, averaged over the windows that contain it.
    ///
    /// # Shapes
    /// `images` (B, C, H, W) -> (B, classes, H, W), `f32` on the CPU; `model` gives logits of a
    /// window's size.
    ///
    /// # Errors
    /// [`Error::Config`]; whatever `model` returns; [`Error::Logits`] for logits of another size.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use pad_heads::segmentation::SlidingWindow;
    /// use pad_ops::ImageSize;
    /// // Windows of two pixels, one apart; the model gives the mean of its window to each pixel.
    /// let windows = SlidingWindow::new(ImageSize::new(1, 2), Some(ImageSize::new(1, 1)));
    /// windows.validate()?;
    /// let images = Tensor::new(&[[[[0_f32, 2.0, 4.0]]]], &Device::Cpu)?;
    /// let logits = windows.logits(&images, &|x| Ok(x.mean_keepdim(3)?.broadcast_as(x.shape())?))?;
    /// assert_eq!(logits.flatten_all()?.to_vec1::<f32>()?, [1.0, 2.0, 3.0]); // 1, (1 + 3) / 2, 3
    /// # Ok::<(), pad_heads::Error>(())
    /// ```
    pub fn logits(
        &self,
        images: &Tensor,
        model: &dyn Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        self.validate()?;
        let size = size_of(images)?;
        let batch = images.dim(0)?;
        let window =
            ImageSize::new(self.window.height.min(size.height), self.window.width.min(size.width));
        let mut sums: Vec<f32> = Vec::new();
        let mut classes = 0;
        let mut counts = vec![0_u32; size.area()];
        for corners in self.corners(size).chunks(self.batch_size) {
            let cut = |&(top, left): &(usize, usize)| {
                images.narrow(2, top, window.height)?.narrow(3, left, window.width)
            };
            let windows = corners.iter().map(cut).collect::<candle_core::Result<Vec<_>>>()?;
            let logits = model(&Tensor::cat(&windows, 0)?.contiguous()?)?;
            let (rows, found, height, width) = logits.dims4()?;
            if (rows, height, width) != (batch * corners.len(), window.height, window.width) {
                let expected = [batch * corners.len(), window.height, window.width];
                return Err(Error::Logits { expected, found: logits.dims().to_vec() });
            }
            classes = found;
            sums.resize(batch * classes * size.area(), 0.0);
            let logits = logits.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
            let values = logits.flatten_all()?.to_vec1::<f32>()?;
            for (values, &(top, left)) in
                values.chunks_exact(batch * classes * window.area()).zip(corners)
            {
                let rows = values.chunks_exact(window.width.max(1)).enumerate();
                for (row, values) in rows {
                    let (plane, row) = (row / window.height, row % window.height);
                    let from = (plane * size.height + top + row) * size.width + left;
                    let sums = &mut sums[from..from + window.width];
                    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                }
                for row in top..top + window.height {
                    let from = row * size.width + left;
                    counts[from..from + window.width].iter_mut().for_each(|count| *count += 1);
                }
            }
        }
        for plane in sums.chunks_exact_mut(size.area().max(1)) {
            plane.iter_mut().zip(&counts).for_each(|(sum, count)| *sum /= *count as f32);
        }
        Ok(Tensor::from_vec(sums, (batch, classes, size.height, size.width), &Device::Cpu)?)
    }
}

/// How an image goes through the network.
///
/// ```
/// use pad_heads::segmentation::{InferenceMode, SlidingWindow};
/// use pad_ops::ImageSize;
/// assert_eq!(InferenceMode::default(), InferenceMode::Whole);
/// let sliding = InferenceMode::Sliding(SlidingWindow::new(ImageSize::square(512), None));
/// let InferenceMode::Sliding(windows) = sliding else { panic!() };
/// assert_eq!(windows.stride, ImageSize::square(341));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum InferenceMode {
    /// As a whole.
    #[default]
    Whole,
    /// In sliding windows.
    Sliding(SlidingWindow),
}

/// Test-time augmentation: variants of an image whose probabilities are averaged.
///
/// ```
/// use pad_heads::segmentation::Augmentation;
/// let plain = Augmentation::default();
/// assert_eq!((plain.scales, plain.flip), (vec![1.0], false));
/// assert!(Augmentation { scales: vec![-1.0], flip: true }.validate().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Sizes over the image's own. Default 1 alone; mmsegmentation's six are 0.5 to 1.75 in steps
    /// of 0.25.
    pub scales: Vec<f64>,
    /// Whether each size is also mirrored. Default: false.
    pub flip: bool,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self { scales: vec![1.0], flip: false }
    }
}

impl Augmentation {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        if self.scales.is_empty() {
            faults.push("`scales` is empty, expected at least one".to_string());
        }
        if let Some(bad) = self.scales.iter().find(|scale| !(**scale > 0.0 && scale.is_finite())) {
            faults.push(format!("`scales` has {bad}, expected finite numbers above 0"));
        }
        Error::faults("augmentation", faults)
    }
}

/// Returns the logits of images at their own size.
///
/// # Shapes
/// `images` (B, C, H, W) -> (B, classes, H, W).
///
/// # Errors
/// Whatever `model` returns; an invalid window.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use pad_heads::segmentation::{InferenceMode, predict_logits};
/// let images = Tensor::new(&[[[[1_f32, 2.0]]]], &Device::Cpu)?;
/// let logits = predict_logits(&images, InferenceMode::Whole, &|x| Ok((x * 2.0)?))?;
/// assert_eq!(logits.flatten_all()?.to_vec1::<f32>()?, [2.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn predict_logits(
    images: &Tensor,
    mode: InferenceMode,
    model: &dyn Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    match mode {
        InferenceMode::Whole => model(images),
        InferenceMode::Sliding(window) => window.logits(images, model),
    }
}

/// Returns logits resized to the original image's size.
///
/// # Shapes
/// `logits` (B, classes, H, W) -> (B, classes, `size`).
///
/// # Errors
/// An empty size.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use pad_ops::ImageSize;
/// let logits = Tensor::new(&[[[[0_f32, 4.0]]]], &Device::Cpu)?;
/// let y = pad_heads::segmentation::resized_logits(&logits, ImageSize::new(1, 4))?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [0.0, 1.0, 3.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn resized_logits(logits: &Tensor, size: ImageSize) -> Result<Tensor> {
    Ok(resize_bilinear(logits, size, false)?)
}

/// Returns the probabilities of all classes at size `size`, averaged over scales and flips.
///
/// # Shapes
/// `images` (B, C, H, W), normalised -> (B, classes, `size`), `f32`.
///
/// # Errors
/// [`Error::Config`]; whatever `model` returns.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use pad_heads::segmentation::{Augmentation, InferenceMode, predict};
/// use pad_ops::ImageSize;
/// let images = Tensor::zeros((1, 2, 4, 4), candle_core::DType::F32, &Device::Cpu)?;
/// let augmentation = Augmentation { flip: true, ..Default::default() };
/// let y = predict(&images, ImageSize::square(4), InferenceMode::Whole, &augmentation, &|x| Ok(x.clone()))?;
/// assert_eq!(y.get(0)?.get(0)?.get(0)?.to_vec1::<f32>()?, [0.5; 4]); // two classes, equal logits
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn predict(
    images: &Tensor,
    size: ImageSize,
    mode: InferenceMode,
    augmentation: &Augmentation,
    model: &dyn Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    augmentation.validate()?;
    let own = size_of(images)?;
    let mut sum: Option<Tensor> = None;
    let mut variants = 0;
    for &scale in &augmentation.scales {
        let side = |side: usize| ((side as f64 * scale).round() as usize).max(1);
        let scaled = ImageSize::new(side(own.height), side(own.width));
        let images = resize_bilinear(images, scaled, false)?;
        for flipped in [false, true] {
            if flipped && !augmentation.flip {
                continue;
            }
            let seen = if flipped { mirrored(&images)? } else { images.clone() };
            let logits = resized_logits(&predict_logits(&seen, mode, model)?, size)?;
            let probabilities = softmax(&logits.to_dtype(DType::F32)?)?;
            let probabilities = if flipped { mirrored(&probabilities)? } else { probabilities };
            sum = Some(match sum {
                Some(sum) => (sum + probabilities)?,
                None => probabilities,
            });
            variants += 1;
        }
    }
    match sum {
        Some(sum) => Ok((sum / f64::from(variants))?),
        None => Err(Error::Config { what: "augmentation", faults: vec!["no variant".into()] }),
    }
}

/// Columns in reverse order.
fn mirrored(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)? as u32;
    let columns =
        Tensor::from_vec((0..width).rev().collect::<Vec<u32>>(), width as usize, x.device())?;
    Ok(x.contiguous()?.index_select(&columns, 3)?)
}

/// Softmax over classes, without a gradient.
fn softmax(logits: &Tensor) -> Result<Tensor> {
    let logits = logits.detach();
    let exponentials = logits.broadcast_sub(&logits.max_keepdim(1)?)?.exp()?;
    Ok(exponentials.broadcast_div(&exponentials.sum_keepdim(1)?)?)
}
