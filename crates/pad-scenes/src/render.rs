//! Rendering: the steps from a configuration and an index to a scene.

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    config::SceneConfig,
    dice::{Dice, Part},
    error::Result,
    families, gain, labels, raster,
    scene::Scene,
    sensor, shade, soften,
    weather::Weather,
};

/// Renders scene `index` of a configuration. Equal `(config, index)` give equal scenes, on any
/// thread and in any order.
///
/// # Errors
/// [`Error::Settings`](crate::Error::Settings) if the configuration is invalid.
pub fn render(config: &SceneConfig, index: u64) -> Result<Scene> {
    config.validate()?;
    let dice = |part: Part| Dice::new(config.seed, index, part);
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
    let (classes, boxes, instances) = labels::label(&world, &samples, config);
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
        instances,
        radiometry,
        family,
        season,
        hour,
    })
}

/// Renders a range of scenes on all threads of the current rayon pool, in order.
///
/// # Errors
/// [`Error::Settings`](crate::Error::Settings) if the configuration is invalid.
pub fn render_many(config: &SceneConfig, indices: Range<u64>) -> Result<Vec<Scene>> {
    config.validate()?;
    indices.into_par_iter().map(|index| render(config, index)).collect()
}
