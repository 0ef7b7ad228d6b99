//! Images from other crates' and back: `image::DynamicImage`, tensors, plain vectors (which is what
//! an `ndarray` gives and takes).

use candle_core::{DType, Device, Tensor};
use image::{DynamicImage, ImageBuffer};
use pad_ops::ImageSize;

use super::{Image, Pixels, without_alpha};
use crate::{Error, Result};

impl From<Vec<u8>> for Pixels {
    fn from(samples: Vec<u8>) -> Self {
        Self::U8(samples)
    }
}

impl From<Vec<u16>> for Pixels {
    fn from(samples: Vec<u16>) -> Self {
        Self::U16(samples)
    }
}

impl From<Vec<f32>> for Pixels {
    fn from(samples: Vec<f32>) -> Self {
        Self::F32(samples)
    }
}

/// Samples as they are; a fourth channel (alpha) is left out, as when a file is read.
///
/// ```
/// use image::{DynamicImage, GrayImage};
/// use pad_data::image::{Image, Pixels};
/// let counts = GrayImage::from_raw(3, 1, vec![7, 8, 9]).unwrap(); // width, then height
/// let image = Image::try_from(DynamicImage::from(counts))?;
/// assert_eq!(image.size().to_string(), "1x3");
/// assert_eq!(image.pixels(), &Pixels::U8(vec![7, 8, 9]));
/// # Ok::<(), pad_data::Error>(())
/// ```
impl TryFrom<DynamicImage> for Image {
    type Error = Error;

    fn try_from(image: DynamicImage) -> Result<Self> {
        let size = ImageSize::new(image.height() as usize, image.width() as usize);
        let (channels, pixels) = match image {
            DynamicImage::ImageLuma8(image) => (1, image.into_raw().into()),
            DynamicImage::ImageLumaA8(image) => (1, without_alpha::<_, 2, 1>(&image).into()),
            DynamicImage::ImageRgb8(image) => (3, image.into_raw().into()),
            DynamicImage::ImageRgba8(image) => (3, without_alpha::<_, 4, 3>(&image).into()),
            DynamicImage::ImageLuma16(image) => (1, image.into_raw().into()),
            DynamicImage::ImageLumaA16(image) => (1, without_alpha::<_, 2, 1>(&image).into()),
            DynamicImage::ImageRgb16(image) => (3, image.into_raw().into()),
            DynamicImage::ImageRgba16(image) => (3, without_alpha::<_, 4, 3>(&image).into()),
            DynamicImage::ImageRgb32F(image) => (3, image.into_raw().into()),
            DynamicImage::ImageRgba32F(image) => (3, without_alpha::<_, 4, 3>(&image).into()),
            other => {
                let expected = "1 to 4 channels of 8 or 16 bits or floats".into();
                let found = format!("{:?}", other.color());
                return Err(Error::Setting { name: "image", expected, found });
            }
        };
        Self::new(size, channels, pixels)
    }
}

/// Samples as they are; grey floats become three equal channels, since `DynamicImage` has no grey
/// ones.
///
/// ```
/// use image::DynamicImage;
/// use pad_data::image::Image;
/// use pad_ops::ImageSize;
/// let image = Image::new(ImageSize::new(1, 2), 1, vec![300_u16, 65_535].into())?;
/// let other = DynamicImage::try_from(&image)?;
/// assert_eq!(other.as_luma16().unwrap().as_raw(), &[300, 65_535]);
/// assert_eq!(Image::try_from(other)?, image);
/// # Ok::<(), pad_data::Error>(())
/// ```
impl TryFrom<&Image> for DynamicImage {
    type Error = Error;

    fn try_from(image: &Image) -> Result<Self> {
        let size = image.size();
        let too_large = || Error::Setting {
            name: "image",
            expected: "sides below 2^32".into(),
            found: size.to_string(),
        };
        let side = |side: usize| u32::try_from(side).map_err(|_| too_large());
        let (width, height) = (side(size.width)?, side(size.height)?);
        let made = match (image.pixels().clone(), image.channels()) {
            (Pixels::U8(values), 1) => {
                ImageBuffer::from_raw(width, height, values).map(Self::ImageLuma8)
            }
            (Pixels::U8(values), 3) => {
                ImageBuffer::from_raw(width, height, values).map(Self::ImageRgb8)
            }
            (Pixels::U16(values), 1) => {
                ImageBuffer::from_raw(width, height, values).map(Self::ImageLuma16)
            }
            (Pixels::U16(values), 3) => {
                ImageBuffer::from_raw(width, height, values).map(Self::ImageRgb16)
            }
            (Pixels::F32(values), 1) => {
                let values = super::tripled(&values, 1);
                ImageBuffer::from_raw(width, height, values).map(Self::ImageRgb32F)
            }
            (Pixels::F32(values), 3) => {
                ImageBuffer::from_raw(width, height, values).map(Self::ImageRgb32F)
            }
            (_, channels) => {
                return Err(Error::Setting {
                    name: "image",
                    expected: "1 or 3 channels".into(),
                    found: format!("{channels} channels"),
                });
            }
        };
        made.ok_or_else(too_large)
    }
}

impl Image {
    /// Returns the samples as a tensor of `f32`: the numbers that are stored (levels of 0 to 255,
    /// counts, kelvin), neither scaled nor normalised.
    ///
    /// # Shapes
    /// (`channels`, height, width).
    ///
    /// # Errors
    /// Any error of candle.
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_data::image::Image;
    /// use pad_ops::ImageSize;
    /// let image = Image::new(ImageSize::new(1, 2), 3, vec![1_u8, 2, 3, 4, 5, 6].into())?;
    /// let tensor = image.to_tensor(&Device::Cpu)?;
    /// assert_eq!(tensor.to_vec3::<f32>()?, [[[1.0, 4.0]], [[2.0, 5.0]], [[3.0, 6.0]]]);
    /// # Ok::<(), pad_data::Error>(())
    /// ```
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        let values: Vec<f32> = match self.pixels() {
            Pixels::U8(values) => values.iter().map(|&value| f32::from(value)).collect(),
            Pixels::U16(values) => values.iter().map(|&value| f32::from(value)).collect(),
            Pixels::F32(values) => values.clone(),
        };
        let ImageSize { height, width } = self.size();
        let tensor = Tensor::from_vec(values, (height, width, self.channels()), &Device::Cpu)?;
        Ok(tensor.permute((2, 0, 1))?.contiguous()?.to_device(device)?)
    }

    /// Returns the image that a tensor holds: `u8` as 8 bits, `u32` up to 65,535 as 16 bits, any
    /// floating dtype as floats; no number is changed.
    ///
    /// # Shapes
    /// (H, W), (1, H, W) or (3, H, W).
    ///
    /// # Errors
    /// [`Error::Setting`] for other shapes and dtypes, or counts above 65,535.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use pad_data::image::{Image, Pixels};
    /// let tensor = Tensor::new(&[[300.5_f32, 301.0]], &Device::Cpu)?;
    /// let image = Image::from_tensor(&tensor)?;
    /// assert_eq!(image.pixels(), &Pixels::F32(vec![300.5, 301.0]));
    /// # Ok::<(), pad_data::Error>(())
    /// ```
    pub fn from_tensor(tensor: &Tensor) -> Result<Self> {
        let refuse = |expected: &str, found: String| {
            Err(Error::Setting { name: "tensor", expected: expected.into(), found })
        };
        let (channels, height, width) = match *tensor.dims() {
            [height, width] => (1, height, width),
            [channels @ (1 | 3), height, width] => (channels, height, width),
            _ => {
                let found = format!("shape {:?}", tensor.dims());
                return refuse("(H, W), (1, H, W) or (3, H, W)", found);
            }
        };
        let pixels = tensor.detach().reshape((channels, height, width))?;
        let pixels = pixels.permute((1, 2, 0))?.contiguous()?.flatten_all()?;
        let pixels = match tensor.dtype() {
            DType::U8 => pixels.to_vec1::<u8>()?.into(),
            DType::U32 => {
                let values = pixels.to_vec1::<u32>()?;
                match values.iter().find(|value| **value > u32::from(u16::MAX)) {
                    Some(value) => return refuse("counts of at most 65535", value.to_string()),
                    None => values.iter().map(|&value| value as u16).collect::<Vec<_>>().into(),
                }
            }
            dtype if dtype.is_float() => pixels.to_dtype(DType::F32)?.to_vec1::<f32>()?.into(),
            dtype => return refuse("U8, U32 or a floating dtype", format!("{dtype:?}")),
        };
        Self::new(ImageSize { height, width }, channels, pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_goes_both_ways() {
        let size = ImageSize::new(2, 3);
        for (channels, pixels) in [
            (1, Pixels::from((0..6).collect::<Vec<u8>>())),
            (3, Pixels::from((0..18).collect::<Vec<u8>>())),
            (1, Pixels::from((0..6).map(|i| i * 9000).collect::<Vec<u16>>())),
            (3, Pixels::from((0..18).map(|i| i * 3000).collect::<Vec<u16>>())),
            (1, Pixels::from((0..6).map(|i| 290.25 + i as f32).collect::<Vec<f32>>())),
            (3, Pixels::from((0..18).map(|i| -0.5 * i as f32).collect::<Vec<f32>>())),
        ] {
            let image = Image::new(size, channels, pixels.clone()).unwrap();
            let dynamic = DynamicImage::try_from(&image).unwrap();
            assert_eq!((dynamic.height(), dynamic.width()), (2, 3));
            let back = Image::try_from(dynamic).unwrap();
            match (&pixels, channels) {
                (Pixels::F32(_), 1) => assert_eq!(back.collapse_gray(), image),
                _ => assert_eq!(back, image),
            }
            let tensor = image.to_tensor(&Device::Cpu).unwrap();
            assert_eq!(tensor.dims(), [channels, 2, 3]);
            let dtype = match pixels {
                Pixels::U8(_) => DType::U8,
                Pixels::U16(_) => DType::U32,
                Pixels::F32(_) => DType::F64,
            };
            assert_eq!(Image::from_tensor(&tensor.to_dtype(dtype).unwrap()).unwrap(), image);
        }
    }

    #[test]
    fn alpha_is_left_out() {
        let rgba = image::RgbaImage::from_raw(1, 1, vec![1, 2, 3, 200]).unwrap();
        let image = Image::try_from(DynamicImage::from(rgba)).unwrap();
        assert_eq!(image.pixels(), &Pixels::U8(vec![1, 2, 3]));
    }

    #[test]
    fn tensors_that_are_no_image_are_refused() {
        let text = |shape: &[usize], dtype| {
            let tensor = Tensor::ones(shape, dtype, &Device::Cpu).unwrap();
            Image::from_tensor(&tensor).unwrap_err().to_string()
        };
        assert_eq!(
            text(&[1, 3, 4, 4], DType::F32),
            "`tensor` is shape [1, 3, 4, 4], expected (H, W), (1, H, W) or (3, H, W)"
        );
        assert!(text(&[2, 4, 4], DType::U8).contains("[2, 4, 4]"));
        assert_eq!(
            text(&[4, 4], DType::I64),
            "`tensor` is I64, expected U8, U32 or a floating dtype"
        );
        assert!(text(&[0, 4], DType::U8).contains("at least one"));
        let counts = Tensor::new(&[[1_u32, 70_000]], &Device::Cpu).unwrap();
        assert_eq!(
            Image::from_tensor(&counts).unwrap_err().to_string(),
            "`tensor` is 70000, expected counts of at most 65535"
        );
        let empty = DynamicImage::new_luma8(0, 4);
        assert!(Image::try_from(empty).is_err());
    }
}
