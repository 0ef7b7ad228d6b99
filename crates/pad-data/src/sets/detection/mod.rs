//! Sets of images with boxes around objects.
//!
//! | set | what |
//! |---|---|
//! | [`DetectionSet::open`] | a folder of FLIR ADAS, HIT-UAV, LLVIP, or in the layout of COCO, Pascal VOC or YOLO |
//! | [`DetectionSet::coco`] | a COCO file and a folder of images, any categories |
//! | [`DetectionSet::voc`] | a Pascal VOC file (XML) for each image |
//! | [`DetectionSet::yolo`] | a text file for each image, lines of `class x y width height` |
//! | [`DetectionScenes`] | rendered scenes: person, car, bicycle, animal |
//!
//! Files are checked when a set is opened. Annotations and images that cannot be used are left out,
//! counted and named, up to a [share](DetectionOptions::max_faulty); beyond it, and where the file as
//! a whole contradicts itself, there is an error that names file and place. Images without a box
//! stay: a detector learns the background from them.
//!
//! ```no_run
//! use pad_data::{Dataset, sets::detection::{DetectionOptions, DetectionSet}};
//!
//! let options = DetectionOptions::default();
//! let set = DetectionSet::open("data/hit_uav", "train", "hit-uav".parse()?, &options)?;
//! for index in 0..set.len() {
//!     let labels = set.info(index)?;
//!     println!("{} {} {}", labels.name, labels.size, labels.objects.len());
//! }
//! # Ok::<(), pad_data::Error>(())
//! ```

mod assembly;
mod bounds;
mod classes;
mod entry;
mod files;
mod formats;
mod listed;
mod pictures;
#[cfg(feature = "scenes")]
mod scenes;
mod xml;
// Batches and boxes are tested on scenes.
#[cfg(all(test, feature = "scenes"))]
mod tests;

use std::sync::Arc;

use pad_metrics::coco::CocoId;
use pad_ops::ImageSize;

#[cfg(feature = "scenes")]
pub use self::scenes::DetectionScenes;
pub use self::{
    bounds::{BadBoxes, LeftOut},
    classes::{BoxClass, BoxClasses, Others},
    entry::DetectionOptions,
    files::DetectionSet,
    formats::DetectionFormat,
};
use crate::{Result, dataset::Sample, image::Image, rle::Rle};

/// A labelled object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Left, top, right and bottom edge, pixels, continuous: the box of one pixel has sides of 1.
    /// Always inside the image and of an area above 0.
    pub bbox: [f64; 4],
    /// Class: an index into the classes of its set.
    pub class: u32,
    /// Area, square pixels, by which COCO's metrics separate small from large: of the outline where
    /// the file gives it, else of the box.
    pub area: f64,
    /// Whether the box holds many objects, or marks a region whose content is not labelled; such
    /// boxes are not trained on, and detections inside them are neither right nor wrong.
    pub crowd: bool,
    /// Whether the object is hard to recognise (`difficult` of Pascal VOC): trained on, but whether
    /// it is found is neither right nor wrong.
    pub difficult: bool,
    /// Its number in the file, or its place.
    pub id: i64,
    /// Its pixels, of the image's size: of rendered scenes, and of COCO files opened with
    /// [`masks`](DetectionOptions::masks).
    pub mask: Option<Arc<Rle>>,
}

/// What is known of an image before it is decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledImage {
    /// Its number in the file, or its place. Unique in a set.
    pub id: i64,
    /// What its file calls it where that is a text that is not spelt as a number (`im7`, `007`).
    pub text_id: Option<String>,
    /// Name, for results and messages.
    pub name: String,
    /// Height and width, pixels.
    pub size: ImageSize,
    /// Its objects; may be empty.
    pub objects: Vec<Object>,
}

impl LabelledImage {
    /// What COCO's results call it: its text, or else its number, so that they fit the set's own
    /// file.
    pub fn coco_id(&self) -> CocoId {
        self.text_id.as_deref().map_or_else(|| self.id.into(), CocoId::from)
    }

    /// The same labels in an image of another size.
    ///
    /// # Errors
    /// As [`Rle::resized`].
    fn scaled(&self, size: ImageSize) -> Result<Self> {
        let across = size.width as f64 / self.size.width as f64;
        let down = size.height as f64 / self.size.height as f64;
        let (width, height) = (size.width as f64, size.height as f64);
        let mut objects = Vec::with_capacity(self.objects.len());
        for object in &self.objects {
            let [x1, y1, x2, y2] = object.bbox;
            let bbox = [
                (x1 * across).min(width),
                (y1 * down).min(height),
                (x2 * across).min(width),
                (y2 * down).min(height),
            ];
            let mask = object.mask.as_ref().map(|mask| mask.resized(size)).transpose()?;
            // Nothing may be left of a small object's pixels.
            if mask.as_ref().is_none_or(|mask| mask.area() > 0) {
                let area = object.area * across * down;
                objects.push(Object { bbox, area, mask: mask.map(Arc::new), ..object.clone() });
            }
        }
        Ok(Self { size, objects, ..self.clone() })
    }
}

/// An image with the boxes of its objects.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectionImage {
    /// The image.
    pub image: Image,
    /// Its labels, in pixels of this image.
    pub labels: Arc<LabelledImage>,
}

impl Sample for DetectionImage {
    type Classes = BoxClasses;
    type Info = Arc<LabelledImage>;

    /// Labels are in memory anyway.
    fn bytes(&self) -> u64 {
        self.image.bytes()
    }
}
