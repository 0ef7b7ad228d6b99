//! A rendered scene.

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
    /// Right edge, pixels, outside the last visible column.
    pub x2: f32,
    /// Bottom edge, pixels, outside the last visible row.
    pub y2: f32,
    /// Class, an index of [`CLASSES`].
    pub class: u8,
    /// Share of the object's outline inside the image that nothing hides, 0 to 1.
    pub visible_share: f32,
}

/// A rendered scene. All images are row major, `size.height` rows of `size.width` pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Size of all images.
    pub size: Size,
    /// Apparent temperature before optics and sensor, kelvin.
    pub temperature_kelvin: Vec<f32>,
    /// Raw counts of the sensor, in a narrow band of 16 bits.
    pub counts: Vec<u16>,
    /// The image after gain control.
    pub gray: Vec<u8>,
    /// Class of every pixel, an index of [`CLASSES`], or [`IGNORE`].
    pub classes: Vec<u8>,
    /// Boxes of the objects that can be told, in the order they were placed.
    pub boxes: Vec<SceneBox>,
    /// Number of the box that every pixel belongs to, from 1; 0: none.
    pub instances: Vec<u16>,
    /// How counts and kelvin go together.
    pub radiometry: Radiometry,
    /// Where the camera stood.
    pub family: Family,
    /// Part of the year.
    pub season: Season,
    /// Local time, 0 to 24.
    pub hour: f32,
}
