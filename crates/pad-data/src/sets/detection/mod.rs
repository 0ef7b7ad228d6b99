//! Sets of images with boxes around objects.
//!
//! | source | what |
//! |---|---|
//! | [`DetectionSet::coco`] | a COCO file and a folder of images, any categories |
//! | [`DetectionSet::flir`] | FLIR ADAS, version 1 or 2, thermal: person, bicycle, car |
//! | [`DetectionSet::hit_uav`] | HIT-UAV: person, car, bicycle, other vehicle |
//! | [`DetectionSet::llvip`] | LLVIP, infrared: people |
//! | [`DetectionSet::voc`] | a Pascal VOC file (XML) for each image |
//! | [`DetectionSet::yolo`] | a text file for each image, lines of `class x y width height` |
//! | [`DetectionSet::open`] | any of these, by the look of its folder |
//! | [`DetectionScenes`] | rendered scenes: person, car, bicycle, animal |
//!
//! Files are checked when a set is opened: what contradicts itself is an error that names file and place. Images
//! without a box stay: a detector learns from them what is no object.
//!
//! ```no_run
//! use pad_data::sets::detection::{DetectionOptions, DetectionSet, DetectionSource};
//!
//! let set = DetectionSet::hit_uav("data/hit_uav", "train", &DetectionOptions::default())?;
//! for index in 0..set.len() {
//!     let labelled = set.labelled(index)?;
//!     println!("{} {} {}", labelled.name, labelled.size, labelled.objects.len());
//! }
//! # Ok::<(), pad_data::Error>(())
//! ```

mod bounds;
mod classes;
mod coco;
mod files;
mod layout;
mod loader;
#[cfg(feature = "scenes")]
mod scenes;
// Batches and boxes are tested on scenes.
#[cfg(all(test, feature = "scenes"))]
mod tests;
mod voc;
mod yolo;

use std::sync::Arc;

use pad_ops::ImageSize;

#[cfg(feature = "scenes")]
pub use self::scenes::DetectionScenes;
pub use self::{
    bounds::{BadBoxes, LeftOut},
    classes::{BoxClass, BoxClasses, Others},
    files::{DetectionOptions, DetectionSet},
    layout::DetectionFormat,
    loader::{BoxBatch, BoxBatches, DetectionLoader},
};
use crate::{
    Result,
    image::{DecodeOptions, Image},
    rle::Rle,
};

/// A labelled object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Left, top, right and bottom edge, pixels, continuous: the box of one pixel has sides of 1. Always inside the
    /// image and of an area above 0.
    pub bbox: [f64; 4],
    /// Class, by its number in [`DetectionSource::classes`].
    pub class: u32,
    /// Area, square pixels, by which COCO's metrics tell small from large: of the outline where the file gives it, else
    /// of the box.
    pub area: f64,
    /// Whether the box holds many objects; such boxes are not trained on, and in metrics detections on them are
    /// neither right nor wrong.
    pub crowd: bool,
    /// Its number in the file, or a count.
    pub id: i64,
    /// Its pixels, of the image's size: of rendered scenes, and of COCO files where
    /// [`masks`](DetectionOptions::masks) are asked for.
    pub mask: Option<Arc<Rle>>,
}

/// What is known of an image before it is decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledImage {
    /// Its number in the file, or a count. No two images of a set share one.
    pub id: i64,
    /// Name, for results and messages.
    pub name: String,
    /// Height and width, pixels.
    pub size: ImageSize,
    /// Its objects, maybe none.
    pub objects: Vec<Object>,
}

/// A list of images with boxes. What image `index` is never changes: loaders ask from several threads, in any order.
pub trait DetectionSource: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The classes.
    fn classes(&self) -> &BoxClasses;

    /// Name, size and boxes of image `index`.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) if there is no such image.
    fn labelled(&self, index: usize) -> Result<&LabelledImage>;

    /// Image `index` as it is stored, of the size that [`DetectionSource::labelled`] says.
    ///
    /// # Errors
    /// Whatever is wrong with it; [`Error::Entry`](crate::Error::Entry) for another size;
    /// [`Error::Setting`](crate::Error::Setting) if there is no such image.
    fn load(&self, index: usize, options: &DecodeOptions) -> Result<Image>;
}
