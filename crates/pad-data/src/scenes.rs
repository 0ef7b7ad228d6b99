//! Rendered infrared scenes (the crate `pad-scenes`), and sets of them.
//!
//! ```
//! use pad_data::{
//!     Dataset,
//!     scenes::{SceneConfig, SceneSet, Size, image_size, render},
//! };
//!
//! let config = SceneConfig::new(Size::new(48, 64), 7);
//! let set = SceneSet::render(&config, 3)?;
//! assert_eq!(set.len(), 3);
//! assert_eq!(set.get(0, &Default::default())?.size(), image_size(render(&config, 0)?.size));
//! # Ok::<(), pad_data::Error>(())
//! ```

use std::sync::Arc;

use pad_ops::ImageSize;
pub use pad_scenes::{
    CLASSES, Class, Error as SceneError, Family, FamilyWeights, GainConfig, IGNORE, MAX_OBJECTS,
    MAX_SIDE, MIN_SIDE, PALETTE, Radiometry, Scene, SceneBox, SceneConfig, Season, SensorConfig,
    SettingFault, Size, render, render_many,
};
use rayon::prelude::*;

use crate::{
    Result,
    dataset::Dataset,
    image::{DecodeOptions, Image, Pixels},
    sets::{ImageInfo, no_image},
};

/// Returns the size of a scene as the size of an image.
pub const fn image_size(size: Size) -> ImageSize {
    ImageSize::new(size.height, size.width)
}

/// Returns the size of an image as the size of a scene.
pub const fn scene_size(size: ImageSize) -> Size {
    Size::new(size.height, size.width)
}

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
            Image::new(image_size(scene.size), 1, Pixels::U8(scene.gray))
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
