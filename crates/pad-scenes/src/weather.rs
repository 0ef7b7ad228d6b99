//! The weather of a scene: air, sun, clouds, sky.

use crate::{
    config::{SceneConfig, Season},
    dice::Dice,
    noise::fractal2,
    vector::{V3, mix, smooth_step, v3},
};

/// 0 degrees Celsius, kelvin.
pub(crate) const ZERO_CELSIUS: f32 = 273.15;

/// The state of the air and the sky above one scene.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) season: Season,
    /// Local time, 0 to 24.
    pub(crate) hour: f32,
    /// Air temperature, kelvin.
    pub(crate) air: f32,
    /// Share of the sky under cloud.
    pub(crate) cloud: f32,
    /// Direction to the sun.
    pub(crate) sun: V3,
    /// Irradiance on a surface that faces the sun, 1 at a clear summer noon; 0 at night.
    pub(crate) sun_power: f32,
    /// Irradiance on flat ground averaged over the last five hours, which heavy surfaces store.
    pub(crate) memory: f32,
    /// Radiative cooling towards a clear sky, 0 to 1.
    pub(crate) cooling: f32,
    /// Distance over which the air removes 63% of a contrast, metres.
    pub(crate) visibility: f32,
    /// Factor on all contrasts of outdoor surfaces (rain and wind reduce them).
    pub(crate) contrast: f32,
    /// Snow on the ground.
    pub(crate) snow: bool,
    /// A closed room: no sun, no sky.
    pub(crate) indoor: bool,
    /// Seed of the clouds.
    pub(crate) seed: u32,
    zenith: f32,
    horizon: f32,
}

/// Returns half the length of the day, hours, and the highest elevation of the sun, radians.
fn daylight(season: Season) -> (f32, f32) {
    match season {
        Season::Winter => (4.2, 0.32),
        Season::Spring => (6.4, 0.8),
        Season::Summer => (7.9, 1.1),
        Season::Autumn => (5.6, 0.65),
    }
}

/// Returns the elevation of the sun, radians; negative at night.
fn elevation(season: Season, hour: f32) -> f32 {
    let (half, highest) = daylight(season);
    // Hours from solar noon, wrapped into half a day either side.
    let away = (hour - 12.5 + 36.0).rem_euclid(24.0) - 12.0;
    if away.abs() < half {
        highest * (std::f32::consts::FRAC_PI_2 * away / half).cos()
    } else {
        -0.1
    }
}

fn irradiance(elevation: f32, cloud: f32) -> f32 {
    elevation.sin().max(0.0).powf(0.35) * (1.0 - 0.85 * cloud)
}

impl Weather {
    /// Draws the weather of an outdoor scene.
    pub(crate) fn draw(config: &SceneConfig, dice: &mut Dice) -> Self {
        let season = match config.seasons.get(dice.below(config.seasons.len())) {
            Some(&season) => season,
            None => Season::Summer,
        };
        let [from, to] = config.hours;
        let span = if from <= to { to - from } else { 24.0 - from + to };
        let hour = (from + span * dice.unit()).rem_euclid(24.0);
        let cloud = match dice.weighted(&[0.5, 0.3, 0.2]) {
            0 => dice.between(0.0, 0.2),
            1 => dice.between(0.2, 0.75),
            _ => dice.between(0.85, 1.0),
        };
        let (mean, spread) = match season {
            Season::Winter => (1.0, 4.5),
            Season::Spring => (11.0, 4.5),
            Season::Summer => (23.0, 4.0),
            Season::Autumn => (12.0, 4.5),
        };
        let swing = mix(6.0, 2.0, cloud) * ((hour - 15.0) / 24.0 * std::f32::consts::TAU).cos();
        let celsius = mean + swing + spread * dice.normal().clamp(-2.2, 2.2);
        let air = celsius + ZERO_CELSIUS;
        let high = elevation(season, hour);
        let azimuth = dice.angle() + (hour - 12.5) * 0.26;
        let sun = v3(azimuth.sin() * high.cos(), high.sin(), azimuth.cos() * high.cos());
        let memory = [0.5, 1.5, 2.5, 3.5, 4.5]
            .map(|ago| {
                irradiance(elevation(season, hour - ago), cloud)
                    * elevation(season, hour - ago).max(0.0).sin()
            })
            .iter()
            .sum::<f32>()
            / 5.0;
        let sun_power = irradiance(high, cloud);
        let wet = dice.chance(0.12 + 0.3 * cloud * cloud);
        let snow = season == Season::Winter && celsius < 2.0 && dice.chance(0.45);
        Self {
            season,
            hour,
            air,
            cloud,
            sun: sun.normalized(),
            sun_power,
            memory,
            cooling: (1.0 - 0.9 * cloud) * (1.0 - 0.6 * smooth_step(0.0, 0.6, sun_power)),
            visibility: dice.log_between(250.0, 3000.0),
            contrast: if wet { dice.between(0.3, 0.6) } else { dice.between(0.7, 1.15) },
            snow,
            indoor: false,
            seed: dice.seed(),
            zenith: air - mix(58.0, 9.0, cloud) + 4.0 * dice.normal().clamp(-2.0, 2.0),
            horizon: air - mix(5.0, 2.0, cloud),
        }
    }

    /// Returns the conditions of a closed room; the season is kept for what is behind the windows.
    pub(crate) fn indoors(mut self, celsius: f32) -> Self {
        self.zenith = self.air - 10.0;
        self.air = celsius + ZERO_CELSIUS;
        self.horizon = self.air;
        self.zenith = self.air + 1.0;
        self.sun_power = 0.0;
        self.memory = 0.0;
        self.cooling = 0.0;
        self.visibility = 1e6;
        self.contrast = 1.0;
        self.snow = false;
        self.indoor = true;
        self
    }

    /// Returns the apparent temperature of the environment in a direction, without clouds, as
    /// reflections show it.
    pub(crate) fn surroundings(&self, direction: V3) -> f32 {
        let ground = self.air + 8.0 * self.memory;
        let sky = mix(self.horizon, self.zenith, direction.y.clamp(0.0, 1.0).powf(0.6));
        // Surfaces are rough: a reflected horizon is never sharp.
        mix(ground, sky, smooth_step(-0.25, 0.25, direction.y))
    }

    /// Returns the apparent temperature of the sky in a direction of length 1.
    pub(crate) fn sky(&self, direction: V3, footprint: f32) -> f32 {
        let up = direction.y.max(0.0);
        let clear = mix(self.horizon, self.zenith, up.min(1.0).powf(0.6));
        if self.indoor {
            return clear;
        }
        // Clouds lie on a plane overhead; towards the horizon they become dense and fade into haze.
        let flat = 1.0 / (up + 0.12);
        let at = (direction.x * flat, direction.z * flat);
        let field = fractal2(at, 0.9, 5, 0.55, footprint * flat * flat, self.seed);
        let cover = smooth_step(-0.35, 0.45, field + 2.4 * (self.cloud - 0.5));
        let body = self.air - 7.0 - 9.0 * up - 3.0 * field;
        let base = mix(clear, body.max(clear), cover * (1.0 - (-14.0 * up).exp()));
        // The sun's disc is far outside the range of the sensor; its aureole is not.
        let toward = direction.dot(self.sun).max(0.0);
        base + self.sun_power * (4.0 * toward.powi(24) + 25.0 * toward.powi(2500))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Part;

    #[test]
    fn nights_are_dark_noons_are_not_and_skies_are_cold() {
        let mut config = SceneConfig { seasons: vec![Season::Summer], ..SceneConfig::default() };
        for index in 0..40 {
            let mut dice = Dice::new(index, 0, Part::Plan);
            config.hours = [0.5, 2.0];
            let night = Weather::draw(&config, &mut dice);
            assert_eq!(night.sun_power, 0.0);
            config.hours = [12.0, 13.0];
            let noon = Weather::draw(&config, &mut dice);
            assert!(noon.sun_power > 0.1 && noon.sun.y > 0.5, "{noon:?}");
            for weather in [night, noon] {
                assert!((268.0..318.0).contains(&weather.air), "{}", weather.air);
                let top = weather.surroundings(v3(0.0, 1.0, 0.0));
                assert!(top < weather.air && top > 190.0, "{top}");
            }
        }
    }

    #[test]
    fn hours_may_span_midnight() {
        let config = SceneConfig { hours: [22.0, 3.0], ..SceneConfig::default() };
        for index in 0..60 {
            let hour = Weather::draw(&config, &mut Dice::new(index, 0, Part::Plan)).hour;
            assert!(!(3.0..22.0).contains(&hour), "{hour}");
        }
    }
}
