//! How a convolution walks over its image.

use candle_core::Tensor;

use super::geometry::Geometry;
use crate::{Error, ImageSize, Result, check};

/// Padding, stride, dilation and groups of a convolution; rows and columns each have their own. The
/// default is stride 1 without padding, dilation and groups.
///
/// ```
/// use pad_ops::{Conv2dOptions, ImageSize};
/// let halving = Conv2dOptions { stride: ImageSize::square(2), ..Conv2dOptions::padded(1) };
/// assert_eq!(halving.padding, ImageSize::square(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// Rows of zeros above and below the image, columns left and right of it. Default: 0.
    pub padding: ImageSize,
    /// Rows and columns from one output to the next. Default: 1.
    pub stride: ImageSize,
    /// Rows and columns from one value of the kernel to the next. Default: 1.
    pub dilation: ImageSize,
    /// Groups of channels that see nothing of each other; as many as channels make the convolution
    /// depthwise. Default: 1.
    pub groups: usize,
}

impl Default for Conv2dOptions {
    fn default() -> Self {
        Self::padded(0)
    }
}

impl Conv2dOptions {
    /// Stride 1 with `padding` zeros on all sides.
    pub const fn padded(padding: usize) -> Self {
        let one = ImageSize::square(1);
        Self { padding: ImageSize::square(padding), stride: one, dilation: one, groups: 1 }
    }

    /// Returns the size of the result for an image and a kernel.
    ///
    /// ```
    /// use pad_ops::{Conv2dOptions, ImageSize};
    /// let patches = Conv2dOptions { stride: ImageSize::square(16), ..Default::default() };
    /// let size = patches.output_size(ImageSize::new(224, 320), ImageSize::square(16))?;
    /// assert_eq!(size, ImageSize::new(14, 20));
    /// # Ok::<(), pad_ops::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] for a stride, dilation or kernel of 0, or a kernel that is larger than the
    /// padded image.
    pub fn output_size(self, image: ImageSize, kernel: ImageSize) -> Result<ImageSize> {
        let one = |arg, size: ImageSize| match size.height.min(size.width) {
            0 => Err(value(arg, "at least 1x1".into(), size.to_string())),
            _ => Ok(()),
        };
        one("weight", kernel)?;
        one("stride", self.stride)?;
        one("dilation", self.dilation)?;
        let too_large = || {
            let found = format!("{kernel} dilated by {}", self.dilation);
            let padded = format!("{image} padded by {}", self.padding);
            value("weight", format!("a kernel of at most the image, {padded}"), found)
        };
        let axis = |image: usize, kernel: usize, padding: usize, stride, dilation: usize| {
            let padded = padding.checked_mul(2)?.checked_add(image)?;
            let reach = (kernel - 1).checked_mul(dilation)?;
            Some(padded.checked_sub(reach)?.checked_sub(1)? / stride + 1)
        };
        let (p, s, d) = (self.padding, self.stride, self.dilation);
        let height = axis(image.height, kernel.height, p.height, s.height, d.height);
        let width = axis(image.width, kernel.width, p.width, s.width, d.width);
        match (height, width) {
            (Some(height), Some(width)) => Ok(ImageSize { height, width }),
            _ => Err(too_large()),
        }
    }

    /// Checks the operands and returns the sizes.
    pub(super) fn expect(
        self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<Geometry> {
        check::expect_rank(OP, "x", x, 4, "(B, C, H, W)")?;
        check::expect_float(OP, "x", x)?;
        let (batch, channels, height, width) = x.dims4()?;
        check::expect_rank(
            OP,
            "weight",
            weight,
            4,
            "(O, C / groups, kernel rows, kernel columns)",
        )?;
        let (outputs, _, rows, columns) = weight.dims4()?;
        let divides = |count: usize| self.groups > 0 && count.is_multiple_of(self.groups);
        if !divides(channels) || !divides(outputs) {
            let expected = format!("a divisor of {channels} channels and {outputs} outputs");
            return Err(value("groups", expected, self.groups.to_string()));
        }
        let in_group = channels / self.groups;
        check::expect_shape(OP, "weight", weight, &[outputs, in_group, rows, columns])?;
        check::expect_mixable(OP, "weight", weight, x)?;
        if let Some(bias) = bias {
            check::expect_shape(OP, "bias", bias, &[outputs])?;
            check::expect_mixable(OP, "bias", bias, x)?;
        }
        let (image, kernel) = (ImageSize { height, width }, ImageSize::new(rows, columns));
        let out = self.output_size(image, kernel)?;
        Ok(Geometry {
            batch,
            channels: in_group,
            outputs: outputs / self.groups,
            groups: self.groups,
            height,
            width,
            kernel,
            padding: self.padding,
            stride: self.stride,
            dilation: self.dilation,
            out,
        })
    }
}

/// The operator in errors.
pub(super) const OP: &str = "conv2d";

fn value(arg: &'static str, expected: String, found: String) -> Error {
    Error::Value { op: OP, arg, expected, found }
}
