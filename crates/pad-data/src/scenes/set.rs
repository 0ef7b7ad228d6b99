//! Many rendered scenes as a source of images.

use std::sync::Arc;

use rayon::prelude::*;

use super::{SceneConfig, render};
use crate::{
    Result,
    dataset::Dataset,
    image::{DecodeOptions, Image, Pixels},
    sets::{ImageInfo, no_image},
};

/// Rendered scenes, kept in memory as 8-bit grey images.
#[derive(Clone)]
pub struct SceneSet {
    images: Arc<[Image]>,
    /// The part of `images` that this set shows.
    first: usize,
    count: usize,
}

impl SceneSet {
    /// Renders scenes 0 to `count - 1` of `config`, on all cores.
    ///
    /// # Errors
    /// As [`render`].
    pub fn render(config: &SceneConfig, count: usize) -> Result<Self> {
        let image = |index: usize| {
            let scene = render(config, index as u64)?;
            Image::new(scene.size, 1, Pixels::U8(scene.gray))
        };
        let images = (0..count).into_par_iter().map(image).collect::<Result<Vec<_>>>()?;
        Ok(Self { images: images.into(), first: 0, count })
    }

    /// The first `count` scenes (all, if there are fewer), and the others.
    #[must_use]
    pub fn split_at(&self, count: usize) -> (Self, Self) {
        let count = count.min(self.count);
        let part = |first, count| Self { images: Arc::clone(&self.images), first, count };
        (part(self.first, count), part(self.first + count, self.count - count))
    }
}

impl Dataset for SceneSet {
    type Sample = Image;

    fn len(&self) -> usize {
        self.count
    }

    fn name(&self, index: usize) -> String {
        format!("scene {}", self.first + index)
    }

    fn classes(&self) -> &() {
        &()
    }

    fn info(&self, _: usize) -> Result<ImageInfo> {
        Ok(ImageInfo::default())
    }

    fn get(&self, index: usize, _: &DecodeOptions) -> Result<Image> {
        let image = (index < self.count).then(|| self.images.get(self.first + index)).flatten();
        image.cloned().ok_or_else(|| no_image(index, self.count))
    }
}
