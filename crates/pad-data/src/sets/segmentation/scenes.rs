//! Rendered scenes with their class maps.

use std::sync::Arc;

use rayon::prelude::*;

use super::{ClassMap, Classes, SegmentationImage};
use crate::{
    Result,
    dataset::Dataset,
    image::{DecodeOptions, Image, Pixels},
    scenes::{SceneConfig, image_size, render},
    sets::no_image,
};

/// Rendered scenes, kept in memory as 8-bit grey images with the class of every pixel.
#[derive(Clone)]
pub struct SegmentationScenes {
    scenes: Arc<[SegmentationImage]>,
    first: u64,
    classes: Classes,
}

impl SegmentationScenes {
    /// Renders scenes `first` to `first + count - 1` of `config`, on all cores. Ranges that do not
    /// overlap make training and validation sets.
    ///
    /// # Errors
    /// As [`render`].
    pub fn render(config: &SceneConfig, first: u64, count: usize) -> Result<Self> {
        let one = |index: usize| {
            let scene = render(config, first.saturating_add(index as u64))?;
            let size = image_size(scene.size);
            let image = Image::new(size, 1, Pixels::U8(scene.gray))?;
            Ok(SegmentationImage { image, labels: ClassMap::new(size, scene.classes)? })
        };
        let scenes = (0..count).into_par_iter().map(one).collect::<Result<Vec<_>>>()?;
        Ok(Self { scenes: scenes.into(), first, classes: Classes::scenes() })
    }
}

impl Dataset for SegmentationScenes {
    type Sample = SegmentationImage;

    fn len(&self) -> usize {
        self.scenes.len()
    }

    fn name(&self, index: usize) -> String {
        format!("scene_{:05}", self.first.saturating_add(index as u64))
    }

    fn classes(&self) -> &Classes {
        &self.classes
    }

    fn info(&self, _: usize) -> Result<()> {
        Ok(())
    }

    fn get(&self, index: usize, _: &DecodeOptions) -> Result<SegmentationImage> {
        self.scenes.get(index).cloned().ok_or_else(|| no_image(index, self.scenes.len()))
    }
}
