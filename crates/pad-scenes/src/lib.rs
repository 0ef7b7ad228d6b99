#![doc = include_str!("../README.md")]

mod camera;
mod class;
mod config;
mod dice;
mod error;
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
mod plane;
mod raster;
mod render;
mod scene;
mod sensor;
mod shade;
mod shape;
mod size;
mod soften;
mod spot;
mod things;
mod vector;
mod weather;
mod world;

pub use class::{CLASSES, Class, IGNORE, PALETTE};
pub use config::{
    Family, FamilyWeights, GainConfig, MAX_OBJECTS, MAX_SIDE, MIN_SIDE, SceneConfig, Season,
    SensorConfig,
};
pub use error::{Error, Result, SettingFault};
pub use render::{render, render_many};
pub use scene::{Scene, SceneBox};
pub use sensor::Radiometry;
pub use size::Size;
