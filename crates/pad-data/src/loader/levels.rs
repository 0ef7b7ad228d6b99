//! Batches that travel as bytes.

use candle_core::{DType, Device, Tensor};

use super::batch::Batch;
use crate::{Result, ahead::ToDevice};

/// What levels become, and that on the device that was asked for last.
pub(super) struct LevelValues {
    tables: Vec<f32>,
    there: Option<Tensor>,
}

impl LevelValues {
    /// `tables`: 256 values for each channel.
    pub(super) fn new(tables: Vec<f32>) -> Self {
        Self { tables, there: None }
    }

    /// A batch on `device`, its levels looked up there. An empty one stays where it is.
    pub(super) fn of<L: ToDevice>(&mut self, batch: Batch<L>, device: &Device) -> Result<Batch<L>> {
        if batch.images.dtype() != DType::U8 {
            return batch.to_device(device);
        }
        if batch.is_empty() {
            let images = batch.images.to_dtype(DType::F32)?;
            return Ok(Batch { images, ..batch });
        }
        let tables = match self.there.take().filter(|tables| tables.device().same_device(device)) {
            Some(tables) => tables,
            None => Tensor::from_slice(&self.tables, (self.tables.len() / 256, 256), device)?,
        };
        let there = pad_ops::device::upload_bytes(&batch.images, device);
        let images = there.and_then(|levels| pad_ops::look_up_levels(&levels, &tables));
        let images = images.map_err(candle_core::Error::from)?;
        self.there = Some(tables);
        Ok(Batch { images, labels: batch.labels.to_device(device)?, ..batch })
    }
}

#[cfg(test)]
mod tests {
    use pad_ops::ImageSize;

    use super::*;
    use crate::{
        Error,
        dataset::Dataset,
        image::{DecodeOptions, Image, Pixels},
        loader::{Loader, LoaderConfig},
        sets::ImageInfo,
        transform::{HorizontalFlip, ImagePipeline, Normalize},
    };

    /// Images of 8 bits in one or three channels, and one in floats where `with_floats`.
    struct Images {
        with_floats: bool,
    }

    impl Dataset for Images {
        type Sample = Image;

        fn len(&self) -> usize {
            12
        }

        fn name(&self, index: usize) -> String {
            format!("{index}.png")
        }

        fn classes(&self) -> &() {
            &()
        }

        fn info(&self, _: usize) -> Result<ImageInfo> {
            Err(Error::Worker { what: "nothing is known of it".into() })
        }

        fn get(&self, index: usize, _: &DecodeOptions) -> Result<Image> {
            let (size, channels) = (ImageSize::new(9 + index, 14), [1, 3][index % 2]);
            let count = size.area() * channels;
            let level = |at: usize| (at * 31 + index * 7) % 256;
            let pixels = match self.with_floats && index == 5 {
                true => Pixels::F32((0..count).map(|at| level(at) as f32 + 0.25).collect()),
                false => Pixels::U8((0..count).map(|at| level(at) as u8).collect()),
            };
            Image::new(size, channels, pixels)
        }
    }

    fn bits(images: &Tensor) -> Vec<u32> {
        let values = images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn bytes_become_the_same_values() {
        for with_floats in [false, true] {
            for workers in [0, 2] {
                let pipeline = ImagePipeline {
                    size: ImageSize::new(8, 11),
                    flip: HorizontalFlip::default(),
                    normalize: Normalize::imagenet(),
                    ..ImagePipeline::default()
                };
                let config = LoaderConfig { batch_size: 4, workers, ..Default::default() };
                let loader = Loader::new(Images { with_floats }, pipeline, config).unwrap();
                let mut values = LevelValues::new(loader.reader.level_tables().unwrap());
                let (mut bytes, mut floats) = (0, 0);
                let plain = loader.epoch(1, 0).unwrap();
                let levels = loader.epoch_as(1, 0, 1, true).unwrap();
                for (plain, levels) in plain.zip(levels) {
                    let (plain, levels) = (plain.unwrap(), levels.unwrap());
                    match levels.images.dtype() {
                        DType::U8 => bytes += 1,
                        _ => floats += 1,
                    }
                    let there = values.of(levels, &Device::Cpu).unwrap();
                    assert_eq!(there.indices, plain.indices);
                    assert_eq!(there.images.dims(), plain.images.dims());
                    assert_eq!(bits(&there.images), bits(&plain.images));
                }
                match with_floats {
                    true => assert!(floats >= 1, "{bytes} of bytes, {floats} of floats"),
                    false => assert_eq!((bytes, floats), (3, 0)),
                }
            }
        }
    }
}
