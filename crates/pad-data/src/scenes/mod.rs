//! Rendered infrared scenes: what the project runs on when no data is given.
//!
//! A scene is a small world of bodies with temperatures (sky, ground, walls, trees, people, cars with warm engines and
//! wheels, bicycles, animals), seen by a pinhole camera through hazy air, blurred by optics, spoilt by a sensor, and
//! handed over as apparent temperatures, raw 16-bit counts and an 8-bit image after gain control, with its class map
//! and boxes. Everything follows from `(seed, index)`; no file is read.
//!
//! The way of an image, one file each: `families` (what is where) with `things` and `places`, `weather` and `material`
//! (what is how warm), `raster` (what every sample sees), `shade` and `soften` (what leaves it towards the eye), `sensor` (counts),
//! `gain` (8 bits), `labels` (class map and boxes).
//!
//! ```
//! use pad_data::scenes::{SceneConfig, render};
//! use pad_ops::ImageSize;
//!
//! let config = SceneConfig::new(ImageSize::new(48, 64), 7);
//! let scene = render(&config, 3)?;
//! assert_eq!(scene.gray.len(), 48 * 64);
//! assert_eq!(scene.gray, render(&config, 3)?.gray);
//! assert_ne!(scene.gray, render(&config, 4)?.gray);
//! # Ok::<(), pad_data::Error>(())
//! ```

mod camera;
mod class;
mod config;
mod dice;
mod facade;
mod face;
mod families;
mod gain;
mod ground;
mod hit;
mod labels;
mod material;
mod noise;
mod pattern;
mod places;
mod raster;
mod sensor;
mod set;
mod shade;
mod shape;
mod soften;
mod things;
mod vector;
mod weather;
mod world;

#[cfg(test)]
mod tests;

use std::ops::Range;

use pad_ops::{
    ImageSize,
    rng::{Key, Purpose},
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use class::{CLASSES, Class, IGNORE, PALETTE};
pub use config::{
    Family, FamilyWeights, GainConfig, MAX_SIDE, MIN_SIDE, SceneConfig, Season, SensorConfig,
};
pub use sensor::Radiometry;
pub use set::SceneSet;

use crate::Result;
use dice::Dice;
use weather::Weather;

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
    pub size: ImageSize,
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
    pub objects: Vec<u16>,
    /// How counts and kelvin go together.
    pub radiometry: Radiometry,
    /// Where the camera stood.
    pub family: Family,
    /// Part of the year.
    pub season: Season,
    /// Local time, 0 to 24.
    pub hour: f32,
}

/// Independent streams of one scene, so that a change in one part leaves the others alone.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Part {
    Plan = 0,
    Weather = 1,
    World = 2,
    Sensor = 3,
    Gain = 4,
}

/// Renders scene `index` of a configuration. Equal `(config, index)` give equal scenes, whatever ran before and on
/// whichever thread.
///
/// # Errors
/// [`Error::Setting`](crate::Error::Setting) if the configuration is not valid.
pub fn render(config: &SceneConfig, index: u64) -> Result<Scene> {
    config.validate()?;
    let key = Key::new(config.seed).sample(index).purpose(Purpose::Scene);
    let dice = |part: Part| Dice::new(key.layer(part as u32));
    let mut plan = dice(Part::Plan);
    let table = config.families.table();
    let (family, _) = table[plan.weighted(&table.map(|(_, weight)| weight)).min(table.len() - 1)];
    let things = plan.count(config.min_objects, config.max_objects);
    let weather = Weather::draw(config, &mut dice(Part::Weather));
    let (season, hour) = (weather.season, weather.hour);
    let world = families::build(family, weather, config.size, things, &mut dice(Part::World));
    let samples = raster::rasterise(&world);
    let mut temperature_kelvin = shade::shade(&world, &samples);
    soften::soften(&world, &samples, &mut temperature_kelvin);
    let (classes, boxes, objects) = labels::label(&world, &samples, config);
    let (counts, radiometry) =
        sensor::expose(&temperature_kelvin, config.size, &config.sensor, &mut dice(Part::Sensor));
    let per_kelvin = (radiometry.counts(300.5) - radiometry.counts(299.5)) as f32;
    let mut dial = dice(Part::Gain);
    let gray = gain::control(&counts, config.size, per_kelvin, &config.gain, &mut dial);
    Ok(Scene {
        size: config.size,
        temperature_kelvin,
        counts,
        gray,
        classes,
        boxes,
        objects,
        radiometry,
        family,
        season,
        hour,
    })
}

/// Renders a range of scenes on all threads of the current rayon pool, in order.
///
/// # Errors
/// [`Error::Setting`](crate::Error::Setting) if the configuration is not valid.
pub fn render_many(config: &SceneConfig, indices: Range<u64>) -> Result<Vec<Scene>> {
    config.validate()?;
    indices.into_par_iter().map(|index| render(config, index)).collect()
}
