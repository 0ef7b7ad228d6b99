//! Green places: parks, panel fields, farmland, shores.

use std::f32::consts::FRAC_PI_2;

use super::site::{Site, Spots};
use crate::{
    class::Class,
    config::Season,
    dice::Dice,
    ground::{Area, Curve, Effect, Rows},
    material::{ASPHALT, CONCRETE, GRASS, Material, PAVING, SAND, SHEET, SOIL, WATER, open_ground},
    pattern::Pattern,
    places::{bench, bin, block, hall, lamp, random_tree, treeline},
    shape::Shape,
    vector::{Frame, v3},
    world::World,
};

impl Site {
    pub(super) fn park(&self, world: &mut World, dice: &mut Dice) -> Spots {
        let path = if dice.chance(0.5) { PAVING } else { SAND };
        let mut curves = Vec::new();
        for number in 0..dice.count(1, 3) {
            let turn = number as f32 * 1.1 + 0.3 * dice.normal();
            let shift = 0.3 * self.extent * dice.normal();
            let mut road = self.road(shift, 0.0, turn, dice);
            road.half = dice.between(0.9, 2.2);
            road.curve.amplitude = dice.between(0.0, 0.1) * self.extent;
            let area = Area::Band {
                curve: road.curve,
                across: 0.0,
                half: road.half,
                from: road.from,
                to: road.to,
                dashes: None,
            };
            world.lay(area, path.varied(dice), Class::Ground);
            curves.push(road);
        }
        if dice.chance(0.45) {
            let at = self
                .frame(dice.between(-0.8, 0.8) * self.extent, dice.between(-0.6, 0.9) * self.extent)
                .origin;
            let (radius, seed) = (dice.between(0.15, 0.45) * self.extent, dice.seed());
            let bank =
                Area::Patch { centre: (at.x, at.z), radius: radius + 0.8, roughness: 0.25, seed };
            world.lay(bank, SOIL.varied(dice), Class::Ground);
            let pond = Area::Patch { centre: (at.x, at.z), radius, roughness: 0.25, seed };
            world.lay(pond, WATER, Class::Ground);
            world.occupy(at.x, at.z, 0.8 * radius);
        }
        for _ in 0..dice.count(1, 5) {
            let at = self
                .frame(dice.between(-1.0, 1.0) * self.extent, dice.between(-1.0, 1.0) * self.extent)
                .origin;
            let (radius, seed) = (dice.between(0.8, 3.5), dice.seed());
            let bed = Area::Patch { centre: (at.x, at.z), radius, roughness: 0.5, seed };
            world.lay(bed, SOIL.varied(dice), Class::Ground);
        }
        for road in &curves {
            for _ in 0..dice.count(0, 4) {
                let along = dice.between(-1.2, 1.2) * self.extent;
                let side = dice.sign();
                let at = road.curve.point(along, side * (road.half + 0.7));
                if world.take(at.x, at.z, 1.0) {
                    match dice.below(3) {
                        0 => {
                            lamp(world, dice, at, (road.curve.point(along, 0.0) - at).normalized())
                        }
                        1 => bin(world, dice, at),
                        _ => bench(
                            world,
                            dice,
                            Frame::upright(at, road.curve.yaw(along) - side * FRAC_PI_2),
                        ),
                    }
                }
            }
        }
        let count = dice.count(6, 40);
        self.plant(world, dice, count, 0.4);
        Spots { slots: Vec::new(), lanes: Vec::new(), weights: [0.0, 0.0, 0.56, 0.2, 0.24] }
    }

    pub(super) fn panels(&self, world: &mut World, dice: &mut Dice) -> Spots {
        let tilt = dice.between(0.2, 0.5);
        let table = dice.between(1.6, 3.4);
        let pitch = table * dice.between(2.4, 3.4);
        let rows = ((1.4 * self.extent / pitch) as i32).clamp(2, 12);
        let long = dice.between(6.0, 14.0);
        let columns = ((1.4 * self.extent / (2.0 * long)) as i32).clamp(1, 5);
        let glass = Material {
            solar: 21.0,
            inertia: 0.05,
            night: -6.5,
            emissivity: 0.9,
            mirror: 0.6,
            grain: 0.25,
            scale: 3.0,
            heat: 0.0,
        };
        let faults = dice.between(0.0, 0.06);
        let hot = dice.between(4.0, 16.0) * (0.25 + world.weather.sun_power);
        let size = dice.pick([(1.0, 1.65), (1.65, 1.0)]);
        for row in -rows..=rows {
            for column in -columns..=columns {
                let right = column as f32 * (2.0 * long + 1.2);
                let foot = self.frame(right, row as f32 * pitch);
                let frame =
                    Frame { origin: foot.point(v3(0.0, 0.7 + table * tilt.sin(), 0.0)), ..foot }
                        .pitched(tilt);
                let panel = world.add(Shape::Block { frame, half: v3(long, 0.03, table) }, glass);
                panel.pattern = Pattern::Cells { pitch: size, hot, faults };
                for leg in [-0.7, 0.0, 0.7] {
                    let at = foot.point(v3(leg * long, 0.0, 0.0));
                    let top = at + v3(0.0, 0.7 + table * tilt.sin(), 0.0);
                    world.add(Shape::Limb { a: at, b: top, ra: 0.06, rb: 0.06 }, SHEET);
                }
            }
        }
        let mut track = self.road(dice.between(-0.5, 0.5) * self.extent, 0.0, FRAC_PI_2, dice);
        track.half = 1.6;
        let area = Area::Band {
            curve: track.curve,
            across: pitch * 0.5,
            half: 1.6,
            from: track.from,
            to: track.to,
            dashes: None,
        };
        world.lay(area, SOIL.varied(dice), Class::Ground);
        let slots = (0..8)
            .map(|n| {
                (
                    self.frame((n as f32 - 3.5) * 0.4 * self.extent, 0.5 * pitch).origin,
                    self.yaw + FRAC_PI_2,
                )
            })
            .collect();
        let frame = self.frame(0.0, (rows as f32 + 2.0) * pitch);
        hall(world, dice, frame, v3(3.0, 1.4, 1.5));
        Spots { slots, lanes: Vec::new(), weights: [0.12, 0.0, 0.48, 0.05, 0.35] }
    }

    pub(super) fn farmland(&self, world: &mut World, dice: &mut Dice) -> Spots {
        let cell = dice.between(0.7, 1.6) * self.extent;
        for i in -2..=2 {
            for j in -2..=2 {
                let soil = match dice.weighted(&[0.4, 0.35, 0.25]) {
                    0 => GRASS.varied(dice),
                    1 => SOIL.varied(dice),
                    _ => open_ground(&world.weather, dice),
                };
                let area =
                    self.rectangle(i as f32 * cell, j as f32 * cell, (0.49 * cell, 0.49 * cell));
                let yaw = self.yaw + dice.pick([0.0, FRAC_PI_2]);
                let rows = dice.chance(0.65).then(|| Rows {
                    yaw,
                    pitch: dice.log_between(0.5, 3.0),
                    kelvin: dice.between(0.6, 2.6),
                });
                world.lay(area, soil, Class::Ground).rows = rows;
            }
        }
        if dice.chance(0.6) {
            let from = self.frame(-2.0 * self.extent, 0.5 * cell).origin;
            let to = self.frame(2.0 * self.extent, 0.5 * cell).origin;
            let height = dice.between(4.0, 10.0);
            treeline(world, dice, (from, to), height);
        }
        let mut track = self.road(0.5 * cell, 0.0, 0.0, dice);
        track.half = 1.7;
        let asphalt = dice.pick([SOIL, ASPHALT, SAND]).varied(dice);
        let class = Class::Road;
        let area = Area::Band {
            curve: track.curve,
            across: 0.0,
            half: 1.7,
            from: track.from,
            to: track.to,
            dashes: None,
        };
        world.lay(area, asphalt, class);
        for across in [-0.7, 0.7] {
            let area = Area::Band {
                curve: track.curve,
                across,
                half: 0.2,
                from: track.from,
                to: track.to,
                dashes: None,
            };
            world.stain(area, 0.3, Effect::Heat(0.8));
        }
        let lanes = Self::lanes(&track, self.extent, dice);
        if dice.chance(0.4) {
            let frame = self.frame(0.5 * cell + 12.0, dice.between(-0.5, 0.5) * self.extent);
            hall(world, dice, frame, v3(8.0, 2.5, 5.0));
        }
        let count = dice.count(2, 12);
        self.plant(world, dice, count, 0.5);
        Spots { slots: Vec::new(), lanes, weights: [0.0, 0.08, 0.17, 0.05, 0.7] }
    }

    pub(super) fn shore(&self, world: &mut World, dice: &mut Dice) -> Spots {
        let beach = if dice.chance(0.6) { SAND } else { SOIL };
        let far = 6.0 * self.extent;
        let mut curve = Curve::straight(self.centre, self.yaw);
        curve.amplitude = dice.between(0.02, 0.12) * self.extent;
        curve.wavelength = dice.between(0.6, 2.5) * self.extent;
        let band = |across: f32, half: f32| Area::Band {
            curve,
            across,
            half,
            from: -far,
            to: far,
            dashes: None,
        };
        let strip = dice.between(0.1, 0.4) * self.extent;
        world.lay(band(0.5 * far - strip, 0.5 * far), beach.varied(dice), Class::Ground);
        let wet = Material { night: 0.5, solar: 9.0, ..beach };
        world.lay(band(0.5 * far - 0.12 * strip, 0.5 * far), wet, Class::Ground);
        let sea = Material {
            heat: if world.weather.season == Season::Winter { 3.0 } else { -1.5 },
            ..WATER
        }
        .varied(dice);
        world.lay(band(0.5 * far, 0.5 * far), sea, Class::Ground);
        if dice.chance(0.5) {
            let jetty = self.frame(0.25 * self.extent, 0.0);
            let long = 0.35 * self.extent;
            world.add(block(&jetty, v3(0.0, 0.5, 0.0), v3(long, 0.12, 1.2)), CONCRETE.varied(dice));
        }
        for _ in 0..dice.count(2, 14) {
            let at = self
                .frame(
                    -strip - dice.between(2.0, 1.5 * self.extent),
                    dice.between(-1.5, 1.5) * self.extent,
                )
                .origin;
            let height = dice.between(3.0, 9.0);
            if world.take(at.x, at.z, 0.25 * height) {
                random_tree(world, dice, at, height);
            }
        }
        // Nothing may be placed in the water: occupy its nearest part.
        for step in -3..=3 {
            let at = self.frame(0.55 * self.extent, step as f32 * 0.5 * self.extent).origin;
            world.occupy(at.x, at.z, 0.5 * self.extent);
        }
        Spots { slots: Vec::new(), lanes: Vec::new(), weights: [0.0, 0.0, 0.66, 0.1, 0.24] }
    }
}
