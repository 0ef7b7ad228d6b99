//! Materials: how surfaces warm up, cool down, reflect, and their texture.

use crate::{config::Season, dice::Dice, weather::Weather};

/// Thermal behaviour of a surface. Temperatures are relative to the air, in kelvin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Material {
    /// Own heat: bodies, engines, heated rooms.
    pub(crate) heat: f32,
    /// Temperature rise in full sun.
    pub(crate) solar: f32,
    /// Share of the solar heat of the last hours that is still stored (heavy surfaces).
    pub(crate) inertia: f32,
    /// Offset of an upward surface under a clear night sky (negative is cooler).
    pub(crate) night: f32,
    /// Emissivity at normal incidence.
    pub(crate) emissivity: f32,
    /// Reflectivity gained at grazing angles, 0 to 1.
    pub(crate) mirror: f32,
    /// Strength of its texture, kelvin.
    pub(crate) grain: f32,
    /// Wavelength of the texture's largest waves, metres.
    pub(crate) scale: f32,
}

/// Neutral: dull paint at air temperature.
pub(crate) const DULL: Material = Material {
    heat: 0.0,
    solar: 9.0,
    inertia: 0.3,
    night: -1.5,
    emissivity: 0.95,
    mirror: 0.1,
    grain: 0.4,
    scale: 1.0,
};

pub(crate) const ASPHALT: Material = Material {
    solar: 19.0,
    inertia: 0.75,
    night: 2.2,
    emissivity: 0.96,
    mirror: 0.15,
    grain: 0.28,
    scale: 3.0,
    ..DULL
};
pub(crate) const CONCRETE: Material = Material {
    solar: 14.0,
    inertia: 0.65,
    night: 1.0,
    emissivity: 0.94,
    mirror: 0.1,
    grain: 0.35,
    scale: 1.5,
    ..DULL
};
pub(crate) const PAVING: Material = Material {
    solar: 16.0,
    inertia: 0.6,
    night: 0.4,
    emissivity: 0.94,
    mirror: 0.1,
    grain: 0.4,
    scale: 1.0,
    ..DULL
};
pub(crate) const GRASS: Material = Material {
    solar: 7.0,
    inertia: 0.1,
    night: -4.2,
    emissivity: 0.98,
    mirror: 0.0,
    grain: 1.5,
    scale: 2.2,
    ..DULL
};
pub(crate) const SOIL: Material = Material {
    solar: 15.0,
    inertia: 0.35,
    night: -1.8,
    emissivity: 0.95,
    mirror: 0.0,
    grain: 1.3,
    scale: 1.8,
    ..DULL
};
pub(crate) const SAND: Material = Material {
    solar: 18.0,
    inertia: 0.25,
    night: -2.5,
    emissivity: 0.92,
    mirror: 0.0,
    grain: 0.7,
    scale: 1.4,
    ..DULL
};
pub(crate) const WATER: Material = Material {
    heat: 1.0,
    solar: 1.0,
    inertia: 0.9,
    night: 2.0,
    emissivity: 0.985,
    mirror: 0.75,
    grain: 0.25,
    scale: 4.0,
};
pub(crate) const SNOW: Material = Material {
    heat: -2.0,
    solar: 1.0,
    inertia: 0.1,
    night: -5.0,
    emissivity: 0.985,
    mirror: 0.0,
    grain: 0.8,
    scale: 2.5,
};
pub(crate) const PAINT_LINE: Material = Material {
    solar: 14.0,
    inertia: 0.7,
    night: 1.2,
    emissivity: 0.92,
    mirror: 0.15,
    grain: 0.4,
    scale: 0.7,
    ..DULL
};
pub(crate) const BRICK: Material = Material {
    heat: 1.0,
    solar: 13.0,
    inertia: 0.55,
    night: -0.3,
    emissivity: 0.94,
    mirror: 0.1,
    grain: 0.55,
    scale: 2.5,
};
pub(crate) const TILES: Material = Material {
    solar: 19.0,
    inertia: 0.2,
    night: -6.0,
    emissivity: 0.93,
    mirror: 0.15,
    grain: 0.8,
    scale: 1.5,
    ..DULL
};
pub(crate) const FLAT_ROOF: Material = Material {
    solar: 22.0,
    inertia: 0.25,
    night: -5.0,
    emissivity: 0.93,
    mirror: 0.1,
    grain: 1.2,
    scale: 4.0,
    ..DULL
};
pub(crate) const SHEET: Material = Material {
    solar: 16.0,
    inertia: 0.05,
    night: -6.0,
    emissivity: 0.75,
    mirror: 0.4,
    grain: 0.5,
    scale: 2.0,
    ..DULL
};
pub(crate) const WOOD: Material = Material {
    solar: 11.0,
    inertia: 0.2,
    night: -1.0,
    emissivity: 0.93,
    mirror: 0.05,
    grain: 0.6,
    scale: 0.4,
    ..DULL
};
pub(crate) const BARK: Material = Material {
    heat: 0.5,
    solar: 7.0,
    inertia: 0.4,
    night: 0.5,
    emissivity: 0.96,
    mirror: 0.0,
    grain: 0.8,
    scale: 0.3,
};
pub(crate) const LEAVES: Material = Material {
    heat: 0.2,
    solar: 3.5,
    inertia: 0.05,
    night: -2.0,
    emissivity: 0.98,
    mirror: 0.0,
    grain: 1.8,
    scale: 0.6,
};
pub(crate) const POLE: Material = Material {
    solar: 8.0,
    inertia: 0.1,
    night: -2.0,
    emissivity: 0.85,
    mirror: 0.2,
    grain: 0.2,
    scale: 0.5,
    ..DULL
};
pub(crate) const CAR_PAINT: Material = Material {
    solar: 17.0,
    inertia: 0.05,
    night: -5.0,
    emissivity: 0.88,
    mirror: 0.55,
    grain: 0.25,
    scale: 0.9,
    ..DULL
};
pub(crate) const GLASS: Material = Material {
    solar: 6.0,
    inertia: 0.05,
    night: -3.0,
    emissivity: 0.87,
    mirror: 0.7,
    grain: 0.15,
    scale: 1.0,
    ..DULL
};
pub(crate) const RUBBER: Material = Material {
    solar: 13.0,
    inertia: 0.1,
    night: -1.0,
    emissivity: 0.95,
    mirror: 0.0,
    grain: 0.3,
    scale: 0.2,
    ..DULL
};
pub(crate) const BARE_METAL: Material = Material {
    solar: 10.0,
    inertia: 0.05,
    night: -3.0,
    emissivity: 0.45,
    mirror: 0.4,
    grain: 0.3,
    scale: 0.3,
    ..DULL
};
/// The walls of a room.
pub(crate) const PLASTER: Material = Material {
    solar: 0.0,
    inertia: 0.0,
    night: 0.0,
    emissivity: 0.94,
    mirror: 0.1,
    grain: 0.25,
    scale: 1.6,
    ..DULL
};

impl Material {
    /// Returns the material with random variation: no two walls of a town are alike.
    pub(crate) fn varied(mut self, dice: &mut Dice) -> Self {
        self.solar *= dice.between(0.7, 1.3);
        self.night += 0.8 * dice.normal();
        self.grain *= dice.between(0.6, 1.5);
        self.scale *= dice.log_between(0.6, 1.7);
        self.heat += 0.25 * dice.normal();
        self
    }

    /// Returns the material, `kelvin` warmer.
    pub(crate) fn warmer(self, kelvin: f32) -> Self {
        Self { heat: self.heat + kelvin, ..self }
    }
}

/// Returns the surface of a person or an animal: skin at `cover` 0, thick winter clothes or fur, at
/// the temperature of the air, at 1.
pub(crate) fn body(weather: &Weather, cover: f32, wrinkle: f32) -> Material {
    let celsius = weather.air - crate::weather::ZERO_CELSIUS;
    // Skin follows the air slightly: hands and faces are cold in winter.
    let skin = 33.0 - 0.17 * (26.0 - celsius).clamp(-10.0, 45.0);
    Material {
        heat: (skin - celsius) * (1.0 - cover),
        solar: 7.0 * cover + 2.0,
        inertia: 0.05,
        night: -1.2 * cover,
        emissivity: 0.975,
        mirror: 0.0,
        grain: wrinkle,
        scale: 0.16,
    }
}

/// Draws a material of natural open ground in this season.
pub(crate) fn open_ground(weather: &Weather, dice: &mut Dice) -> Material {
    if weather.snow && dice.chance(0.85) {
        return SNOW.varied(dice);
    }
    let dry = if weather.season == Season::Summer { 1.0 } else { 0.3 };
    match dice.weighted(&[1.0, 0.45, 0.15 * dry, 0.2]) {
        0 => GRASS.varied(dice),
        1 => SOIL.varied(dice),
        2 => SAND.varied(dice),
        _ => Material { solar: 10.0, grain: 2.0, ..GRASS.varied(dice) },
    }
}
