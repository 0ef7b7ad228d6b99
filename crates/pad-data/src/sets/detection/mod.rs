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
//! Files are checked when a set is opened: a contradiction is an error that names file and place.
//! Images without a box stay: a detector learns the background from them.
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

mod bounds;
mod classes;
mod entry;
mod files;
mod formats;
#[cfg(feature = "scenes")]
mod scenes;
// Batches and boxes are tested on scenes.
#[cfg(all(test, feature = "scenes"))]
mod tests;

use std::sync::Arc;

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
use crate::{dataset::Sample, image::Image, rle::Rle};

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
    /// Whether the box holds many objects; such boxes are not trained on, and metrics ignore
    /// detections on them.
    pub crowd: bool,
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
    /// Name, for results and messages.
    pub name: String,
    /// Height and width, pixels.
    pub size: ImageSize,
    /// Its objects; may be empty.
    pub objects: Vec<Object>,
}

/// An image with the boxes of its objects.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectionImage {
    /// The image, of the size that its labels say.
    pub image: Image,
    /// Its labels.
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
