//! A rendered scene and its labels.

use serde::{Deserialize, Serialize};

use crate::{
    config::{Family, Season},
    sensor::Radiometry,
    size::Size,
};

/// The visible extent of one person, car, bicycle or animal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SceneBox {
    /// Left edge, pixels.
    pub x1: f32,
    /// Top edge, pixels.
    pub y1: f32,
    /// Right edge, pixels; exclusive.
    pub x2: f32,
    /// Bottom edge, pixels; exclusive.
    pub y2: f32,
    /// Class, an index of [`CLASSES`](crate::CLASSES).
    pub class: u8,
    /// Share of the object's pixels inside the image that are not occluded, 0 to 1.
    pub visible_share: f32,
}

/// A rendered scene. All images are row major, `size.height` rows of `size.width` pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Size of all images.
    pub size: Size,
    /// Apparent temperature before optics and sensor, kelvin.
    pub temperature_kelvin: Vec<f32>,
    /// Raw 16-bit counts of the sensor.
    pub counts: Vec<u16>,
    /// The 8-bit image after gain control.
    pub gray: Vec<u8>,
    /// Class map: the class of every pixel, an index of [`CLASSES`](crate::CLASSES), or
    /// [`IGNORE`](crate::IGNORE).
    pub classes: Vec<u8>,
    /// Boxes of the labelled objects, in the order in which they were placed.
    pub boxes: Vec<SceneBox>,
    /// Instance map: the number of the box that every pixel belongs to, from 1; 0 for the
    /// background.
    pub instances: Vec<u16>,
    /// The relation between counts and kelvin.
    pub radiometry: Radiometry,
    /// The family of the scene.
    pub family: Family,
    /// Part of the year.
    pub season: Season,
    /// Local time, 0 to 24.
    pub hour: f32,
}
