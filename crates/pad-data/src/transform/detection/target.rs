//! What a detector learns to find.

use std::sync::Arc;

use candle_core::Device;
use pad_ops::ImageSize;

use super::{Geometry, ObjectMask};
use crate::{Result, ahead::ToDevice, sets::detection::Object};

/// Objects of an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// Left, top, right and bottom edge of each box, pixels, continuous (the box of one pixel has
    /// sides of 1): inside the image, of an area above 0. May be empty.
    pub boxes: Vec<[f32; 4]>,
    /// Class of each box.
    pub labels: Vec<u32>,
    /// Pixels of each box's object, where the set has them.
    pub masks: Vec<ObjectMask>,
    /// Crowds and regions whose content is not labelled: what is found inside them is not learnt as
    /// background.
    pub ignored: Vec<[f32; 4]>,
}

impl Geometry {
    /// The objects of which the kept part shows more than `min_side` pixels each way; crowds are
    /// [ignored](Target::ignored). Masks are those of the objects that have one.
    pub fn target(&self, objects: &[Object], min_side: f64) -> Target {
        let mut target = Target::default();
        for (object, bbox) in self.shown(objects, min_side) {
            if object.crowd {
                // A region of unlabelled content is a crowd of every class.
                if !target.ignored.contains(&bbox) {
                    target.ignored.push(bbox);
                }
                continue;
            }
            target.boxes.push(bbox);
            target.labels.push(object.class);
            let mask = object.mask.as_ref();
            target.masks.extend(mask.map(|mask| ObjectMask::new(Arc::clone(mask), *self)));
        }
        target
    }

    fn shown<'a>(
        &self,
        objects: &'a [Object],
        min_side: f64,
    ) -> impl Iterator<Item = (&'a Object, [f32; 4])> {
        objects
            .iter()
            .map(|object| (object, self.place(object.bbox)))
            .filter(move |(_, [x1, y1, x2, y2])| x2 - x1 > min_side && y2 - y1 > min_side)
            .map(|(object, bbox)| (object, bbox.map(|edge| edge as f32)))
            // In f32 the sides of a small box may be equal.
            .filter(|(_, [x1, y1, x2, y2])| x1 < x2 && y1 < y2)
    }
}

/// Labels of a batch of images that are at the upper left of their places, zeros beside and below.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DetectionTargets {
    /// Height and width of each image in its place.
    pub sizes: Vec<ImageSize>,
    /// Objects of each image.
    pub targets: Vec<Target>,
}

impl ToDevice for DetectionTargets {
    /// Unchanged: the host works on boxes and masks.
    fn to_device(self, _: &Device) -> Result<Self> {
        Ok(self)
    }
}
