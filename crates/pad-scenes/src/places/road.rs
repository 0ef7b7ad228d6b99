//! Roads with pavements, kerbs, lines, tracks and drains.

use crate::{
    class::Class,
    dice::Dice,
    ground::{Area, Curve, Effect},
    material::{ASPHALT, CONCRETE, Material, PAINT_LINE, PAVING, SNOW, SOIL},
    world::World,
};

/// A road along a curve.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Road {
    pub(crate) curve: Curve,
    /// Half the width of the carriageway, metres.
    pub(crate) half: f32,
    /// Width of the pavements, metres; 0 without pavements.
    pub(crate) walk: f32,
    pub(crate) from: f32,
    pub(crate) to: f32,
}

impl Road {
    fn band(&self, across: f32, half: f32, dashes: Option<(f32, f32)>) -> Area {
        Area::Band { curve: self.curve, across, half, from: self.from, to: self.to, dashes }
    }

    /// Lays the pavements of the road; call it before any carriageway is laid.
    pub(crate) fn lay_walks(&self, world: &mut World, dice: &mut Dice) {
        if self.walk <= 0.0 {
            return;
        }
        let paving = if world.weather.snow && dice.chance(0.5) { SNOW } else { PAVING };
        let kerb = CONCRETE.varied(dice);
        world.lay(self.band(0.0, self.half + self.walk, None), paving.varied(dice), Class::Ground);
        world.lay(self.band(0.0, self.half + 0.16, None), kerb, Class::Ground);
    }

    /// Lays the carriageway with its lines.
    pub(crate) fn lay(&self, world: &mut World, dice: &mut Dice, asphalt: Material) {
        world.lay(self.band(0.0, self.half, None), asphalt, Class::Road);
        let paint = Material {
            solar: asphalt.solar * dice.between(0.7, 0.85),
            emissivity: PAINT_LINE.emissivity,
            heat: asphalt.heat - dice.between(0.0, 0.6),
            ..PAINT_LINE
        };
        if dice.chance(0.75) {
            let dashes = dice.chance(0.7).then(|| dice.pick([(6.0, 3.0), (9.0, 3.0), (12.0, 4.5)]));
            world.lay(self.band(0.0, 0.07, dashes), paint, Class::Road);
        }
        if dice.chance(0.5) {
            for side in [-1.0, 1.0] {
                world.lay(self.band(side * (self.half - 0.3), 0.07, None), paint, Class::Road);
            }
        }
        if dice.chance(0.6) {
            // Tyres warm their tracks.
            let warmth = dice.between(0.1, 0.45);
            for lane in [-0.5, 0.5] {
                for wheel in [-0.75, 0.75] {
                    let area = self.band(lane * self.half + wheel, 0.15, None);
                    world.stain(area, 0.9, Effect::Heat(warmth));
                }
            }
        }
        for _ in 0..dice.count(0, 4) {
            let p = self.curve.point(
                dice.between(self.from.max(-60.0), self.to.min(60.0)),
                dice.between(-0.8, 0.8) * self.half,
            );
            let area =
                Area::Ellipse { centre: (p.x, p.z), radii: (0.36, 0.36), yaw: 0.0, ring: None };
            world.lay(area, asphalt.warmer(dice.between(-1.0, 4.0)), Class::Road);
        }
        for _ in 0..dice.count(0, 4) {
            let p = self.curve.point(
                dice.between(self.from.max(-60.0), self.to.min(60.0)),
                dice.between(-1.0, 1.0) * self.half,
            );
            // Repairs, damp spots.
            let yaw = self.curve.yaw(0.0);
            let area = if dice.chance(0.5) {
                let half = (dice.between(0.4, 1.5), dice.between(0.6, 4.0));
                Area::Rectangle { centre: (p.x, p.z), half, yaw }
            } else {
                let (radius, seed) = (dice.between(0.4, 2.0), dice.seed());
                Area::Patch { centre: (p.x, p.z), radius, roughness: 0.4, seed }
            };
            let kelvin = dice.between(-1.6, 0.9);
            if area.distance(p.x, p.z) < 0.0 {
                world.stain(area, 0.15, Effect::Heat(kelvin));
            }
        }
    }

    /// Draws a carriageway material for this world.
    pub(crate) fn surface(world: &World, dice: &mut Dice) -> Material {
        if world.weather.snow && dice.chance(0.3) {
            Material { heat: -0.5, ..SNOW }.varied(dice)
        } else if dice.chance(0.12) {
            CONCRETE.varied(dice)
        } else if dice.chance(0.05) {
            SOIL.varied(dice)
        } else {
            ASPHALT.varied(dice)
        }
    }
}

/// Lays a zebra crossing over a road at `along`.
pub(crate) fn zebra(world: &mut World, road: &Road, along: f32, asphalt: Material) {
    let paint = Material { solar: 0.72 * asphalt.solar, emissivity: 0.91, ..PAINT_LINE };
    let stripes = (road.half * 2.0) as usize;
    for stripe in 0..stripes {
        let across = -road.half + 0.5 + stripe as f32;
        let p = road.curve.point(along, across);
        let yaw = road.curve.yaw(along);
        let area = Area::Rectangle { centre: (p.x, p.z), half: (0.25, 1.8), yaw };
        world.lay(area, paint, Class::Road);
    }
}
