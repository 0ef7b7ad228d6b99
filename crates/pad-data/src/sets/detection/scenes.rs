//! Rendered scenes with their boxes.

use std::sync::Arc;

use rayon::prelude::*;

use super::{BoxClasses, DetectionImage, LabelledImage, Object};
use crate::{
    Result,
    dataset::Dataset,
    image::{DecodeOptions, Image, Pixels},
    rect::Rect,
    rle::Rle,
    scenes::{CLASSES, Scene, SceneBox, SceneConfig, image_size, render},
    sets::no_image,
};

/// Rendered scenes, kept in memory as 8-bit grey images with their boxes.
#[derive(Clone)]
pub struct DetectionScenes {
    scenes: Arc<[DetectionImage]>,
    classes: BoxClasses,
}

impl DetectionScenes {
    /// Renders scenes `first` to `first + count - 1` of `config`, on all cores. Ranges that do not
    /// overlap make training and validation sets.
    ///
    /// # Errors
    /// As [`render`].
    pub fn render(config: &SceneConfig, first: u64, count: usize) -> Result<Self> {
        let classes = BoxClasses::scenes();
        let one = |index: usize| {
            let number = first.saturating_add(index as u64);
            let scene = render(config, number)?;
            let size = image_size(scene.size);
            let objects = scene.boxes.iter().zip(0_i64..).filter_map(|(bbox, place)| {
                let name = CLASSES.get(usize::from(bbox.class))?;
                let bounds = [bbox.x1, bbox.y1, bbox.x2, bbox.y2].map(f64::from);
                let mask = mask(&scene, bbox, place as u16 + 1).ok()?;
                Some(Object {
                    bbox: bounds,
                    class: classes.by_name(name)?,
                    area: mask.area() as f64,
                    crowd: false,
                    difficult: false,
                    // A scene has far fewer boxes than this.
                    id: (number as i64).saturating_mul(100_000).saturating_add(place + 1),
                    mask: Some(Arc::new(mask)),
                })
            });
            let labelled = LabelledImage {
                id: (number as i64).saturating_add(1),
                text_id: None,
                name: format!("scene_{number:05}"),
                size,
                objects: objects.collect(),
            };
            let image = Image::new(size, 1, Pixels::U8(scene.gray))?;
            Ok(DetectionImage { image, labels: Arc::new(labelled) })
        };
        let scenes = (0..count).into_par_iter().map(one).collect::<Result<Vec<_>>>()?;
        Ok(Self { scenes: scenes.into(), classes })
    }
}

/// The pixels of the object with the box `bbox`, whose number is `number`.
fn mask(scene: &Scene, bbox: &SceneBox, number: u16) -> Result<Rle> {
    let (left, top) = (bbox.x1 as usize, bbox.y1 as usize);
    let window = Rect { top, left, height: bbox.y2 as usize - top, width: bbox.x2 as usize - left };
    let own = |row, column| scene.instances[row * scene.size.width + column] == number;
    Ok(Rle::within(image_size(scene.size), window, own)?)
}

impl DetectionScenes {
    fn scene(&self, index: usize) -> Result<&DetectionImage> {
        self.scenes.get(index).ok_or_else(|| no_image(index, self.scenes.len()))
    }
}

impl Dataset for DetectionScenes {
    type Sample = DetectionImage;

    fn len(&self) -> usize {
        self.scenes.len()
    }

    fn name(&self, index: usize) -> String {
        self.scenes.get(index).map_or("(no such image)", |scene| &scene.labels.name).to_string()
    }

    fn classes(&self) -> &BoxClasses {
        &self.classes
    }

    fn info(&self, index: usize) -> Result<Arc<LabelledImage>> {
        Ok(Arc::clone(&self.scene(index)?.labels))
    }

    fn get(&self, index: usize, _: &DecodeOptions) -> Result<DetectionImage> {
        self.scene(index).cloned()
    }
}
