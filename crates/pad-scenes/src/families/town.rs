//! Built places: car parks, crossings, courts, streets of houses.

use std::f32::consts::{FRAC_PI_2, PI};

use super::site::{Site, Spots};
use crate::{
    class::Class,
    dice::Dice,
    ground::{Area, Curve},
    material::{
        ASPHALT, CONCRETE, GRASS, Material, PAINT_LINE, PAVING, SHEET, SOIL, WATER, open_ground,
    },
    places::{Road, block, bush, fence, hall, hedge, house, lamp, random_tree, tower, zebra},
    shape::Shape,
    things::ghost,
    vector::{Frame, v3},
    world::World,
};

impl Site {
    pub(super) fn car_park(&self, world: &mut World, dice: &mut Dice) -> Spots {
        let asphalt = Road::surface(world, dice);
        let paint = Material { solar: 0.78 * asphalt.solar, ..PAINT_LINE };
        let pitch = dice.between(15.5, 18.0);
        let rows = (((1.2 * self.extent) / pitch) as i32).clamp(1, 4);
        let wide = dice.between(0.8, 1.6) * self.extent;
        let deep = (rows as f32 + 0.6) * pitch * 0.5;
        world.lay(
            self.rectangle(0.0, 0.0, (wide + 1.5, deep + 1.5)),
            PAVING.varied(dice),
            Class::Ground,
        );
        world.lay(self.rectangle(0.0, 0.0, (wide, deep)), asphalt, Class::Road);
        let mut slots = Vec::new();
        let width = dice.between(2.4, 2.8);
        let islands = dice.chance(0.5);
        let island = open_ground(&world.weather, dice);
        for row in 0..rows {
            let middle = (row as f32 - 0.5 * (rows - 1) as f32) * pitch;
            let count = ((2.0 * wide - 3.0) / width) as usize;
            for side in [-1.0, 1.0] {
                let centre = middle + side * 2.6;
                for slot in 0..=count {
                    let right = -wide + 1.5 + slot as f32 * width;
                    world.lay(
                        self.rectangle(right - 0.5 * width, centre, (0.06, 2.4)),
                        paint,
                        Class::Road,
                    );
                    if slot < count {
                        let frame = self.frame(right, centre);
                        let yaw = self.yaw + if dice.chance(0.6) { 0.0 } else { PI };
                        slots.push((frame.origin, yaw + 0.03 * dice.normal()));
                        if dice.chance(0.06) {
                            ghost(world, dice, &frame);
                        }
                    }
                }
            }
            if islands {
                world.lay(self.rectangle(0.0, middle, (wide - 1.5, 0.35)), CONCRETE, Class::Ground);
            }
            if islands && dice.chance(0.6) {
                for end in [-1.0, 1.0] {
                    let at = self.frame(end * (wide - 1.2), middle).origin;
                    let area = Area::Ellipse {
                        centre: (at.x, at.z),
                        radii: (1.3, 2.2),
                        yaw: self.yaw,
                        ring: None,
                    };
                    world.lay(area, island, Class::Ground);
                    if world.take(at.x, at.z, 0.8) {
                        let height = dice.between(3.0, 7.0);
                        random_tree(world, dice, at, height);
                    }
                }
            }
        }
        let road = self.road(0.0, deep + 9.0, FRAC_PI_2, dice);
        road.lay_walks(world, dice);
        road.lay(world, dice, asphalt);
        let lanes = Self::lanes(&road, self.extent, dice);
        if dice.chance(0.6) {
            let back = -deep - dice.between(8.0, 14.0);
            let half = v3(dice.between(0.4, 0.9) * wide, dice.between(2.0, 6.0), 5.5);
            let frame = self.frame(dice.between(-0.3, 0.3) * wide, back);
            if dice.chance(0.5) {
                hall(world, dice, frame, half)
            } else {
                tower(world, dice, frame, half)
            }
        }
        for _ in 0..dice.count(0, 4) {
            let at = self.frame(dice.between(-1.0, 1.0) * wide, dice.sign() * (deep + 0.8)).origin;
            let toward = (v3(self.centre.0, 0.0, self.centre.1) - at).normalized();
            lamp(world, dice, at, toward);
        }
        self.plant(world, dice, 14, 0.5);
        Spots { slots, lanes, weights: [0.5, 0.1, 0.27, 0.09, 0.04] }
    }

    pub(super) fn crossing(&self, world: &mut World, dice: &mut Dice) -> Spots {
        let asphalt = Road::surface(world, dice);
        let main = self.road(0.0, 0.0, 0.0, dice);
        let turn = FRAC_PI_2 + 0.2 * dice.normal();
        let side = Road {
            curve: Curve::straight(self.centre, self.yaw + turn),
            ..self.road(0.0, 0.0, turn, dice)
        };
        main.lay_walks(world, dice);
        side.lay_walks(world, dice);
        side.lay(world, dice, asphalt);
        main.lay(world, dice, asphalt);
        let near = side.half + 2.6;
        for end in [-1.0, 1.0] {
            if dice.chance(0.7) {
                zebra(world, &main, end * near, asphalt);
            }
            if dice.chance(0.5) {
                zebra(world, &side, end * (main.half + 2.6), asphalt);
            }
        }
        if dice.chance(0.3) {
            // A roundabout: its island over the lines.
            let radius = main.half.max(side.half) * dice.between(0.9, 1.6);
            let ring = Area::Ellipse {
                centre: self.centre,
                radii: (radius + 5.0, radius + 5.0),
                yaw: 0.0,
                ring: None,
            };
            world.lay(ring, asphalt, Class::Road);
            let inner = Area::Ellipse {
                centre: self.centre,
                radii: (radius, radius),
                yaw: 0.0,
                ring: None,
            };
            let green = open_ground(&world.weather, dice);
            world.lay(inner, green, Class::Ground);
            world.occupy(self.centre.0, self.centre.1, radius);
            bush(world, dice, v3(self.centre.0, 0.0, self.centre.1), 1.2);
        }
        let mut slots = Vec::new();
        for road in [&main, &side] {
            for number in 0..10 {
                let along = (number as f32 - 4.5) * 7.0 + dice.between(0.0, 1.5);
                if along.abs() > near + 5.0 {
                    let yaw = road.curve.yaw(along);
                    slots.push((road.curve.point(along, dice.sign() * (road.half - 1.0)), yaw));
                }
            }
        }
        let mut lanes = Self::lanes(&main, self.extent, dice);
        lanes.extend(Self::lanes(&side, self.extent, dice));
        // The four corners.
        let clear = main.half + main.walk + 1.0;
        for (x, z) in [(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)] {
            let half = v3(dice.between(5.0, 12.0), dice.between(2.5, 9.0), dice.between(5.0, 12.0));
            let away = dice.between(0.5, 6.0);
            let frame = self.frame(x * (clear + away + half.x), z * (near + 4.0 + away + half.z));
            // No high building between a low camera and the site.
            let eye = world.camera.frame.origin;
            let close = (frame.origin - v3(eye.x, 0.0, eye.z)).length() < half.x + half.z + 8.0;
            match dice.below(4) {
                0 if !close => tower(world, dice, frame, half),
                1 if !close => house(world, dice, frame, v3(half.x * 0.7, 2.6, half.z * 0.6)),
                2 => {
                    let at = frame.origin;
                    let (radius, seed) = (half.x, dice.seed());
                    world.lay(
                        Area::Patch { centre: (at.x, at.z), radius, roughness: 0.3, seed },
                        SOIL.varied(dice),
                        Class::Ground,
                    );
                }
                _ => {}
            }
        }
        for number in 0..6 {
            let along = (number as f32 - 2.5) * 0.5 * self.extent;
            let at = main.curve.point(along, main.half + 0.6);
            let toward = (main.curve.point(along, 0.0) - at).normalized();
            if along.abs() > near && world.take(at.x, at.z, 0.4) {
                lamp(world, dice, at, toward);
            }
        }
        for _ in 0..30 {
            let at = self
                .frame(dice.between(-2.0, 2.0) * self.extent, dice.between(-2.0, 2.0) * self.extent)
                .origin;
            let on_main = main.curve.coordinates(at.x, at.z).1.abs() < main.half + main.walk + 1.0;
            let on_side = side.curve.coordinates(at.x, at.z).1.abs() < side.half + side.walk + 1.0;
            let height = dice.between(3.5, 11.0);
            if !on_main && !on_side && world.take(at.x, at.z, 0.22 * height) {
                random_tree(world, dice, at, height);
            }
        }
        Spots { slots, lanes, weights: [0.17, 0.3, 0.35, 0.13, 0.05] }
    }

    pub(super) fn court(&self, world: &mut World, dice: &mut Dice) -> Spots {
        let (wide, long) = dice.pick([(7.5, 14.0), (5.5, 12.0), (20.0, 32.0)]);
        // A pitch wider than the view would leave the image empty.
        let (wide, long) = if long > 0.8 * self.extent {
            (0.45 * self.extent, 0.8 * self.extent)
        } else {
            (wide, long)
        };
        let floor = dice
            .pick([ASPHALT, CONCRETE, GRASS, Material { solar: 20.0, grain: 0.4, ..ASPHALT }])
            .varied(dice);
        let paint = Material { solar: 0.75 * floor.solar, ..PAINT_LINE };
        let surround = dice.pick([PAVING, GRASS, ASPHALT]).varied(dice);
        let step = 2.0 * wide + dice.between(4.0, 9.0);
        let courts = ((2.2 * self.extent / step) as i32).clamp(1, 4);
        let half = 0.5 * courts as f32 * step + 2.0;
        world.lay(self.rectangle(0.0, 0.0, (half, long + 3.5)), surround, Class::Ground);
        for court in 0..courts {
            let x = (court as f32 - 0.5 * (courts - 1) as f32) * step;
            world.lay(self.rectangle(x, 0.0, (wide, long)), floor, Class::Ground);
            let mut line = |cx: f32, cz: f32, hx: f32, hz: f32| {
                world.lay(self.rectangle(x + cx, cz, (hx, hz)), paint, Class::Ground);
            };
            for side in [-1.0, 1.0] {
                line(side * (wide - 0.6), 0.0, 0.06, long - 0.6);
                line(0.0, side * (long - 0.6), wide - 0.6, 0.06);
                line(side * 2.4, side * (long - 3.5), 0.06, 2.9);
                line(-side * 2.4, side * (long - 3.5), 0.06, 2.9);
                line(0.0, side * (long - 6.4), 2.4, 0.06);
            }
            line(0.0, 0.0, wide - 0.6, 0.06);
            let at = self.frame(x, 0.0).origin;
            let circle = Area::Ellipse {
                centre: (at.x, at.z),
                radii: (1.8, 1.8),
                yaw: 0.0,
                ring: Some(0.12),
            };
            world.lay(circle, paint, Class::Ground);
            for side in [-1.0, 1.0] {
                // Goals or hoops.
                let foot = self.frame(x, side * (long - 0.2));
                world.add(
                    Shape::Limb {
                        a: foot.origin,
                        b: foot.point(v3(0.0, 3.0, 0.0)),
                        ra: 0.07,
                        rb: 0.06,
                    },
                    SHEET,
                );
                world.add(
                    block(&foot, v3(0.0, 3.1, -side * 0.6), v3(0.9, 0.55, 0.04)),
                    SHEET.varied(dice),
                );
            }
        }
        if dice.chance(0.6) {
            let high = dice.between(1.5, 4.0);
            let corner = |x: f32, z: f32| self.frame(x * (half + 0.2), z * (long + 3.6)).origin;
            for (a, b) in [
                ((-1.0, -1.0), (1.0, -1.0)),
                ((1.0, -1.0), (1.0, 1.0)),
                ((1.0, 1.0), (-1.0, 1.0)),
                ((-1.0, 1.0), (-1.0, -1.0)),
            ] {
                fence(world, dice, (corner(a.0, a.1), corner(b.0, b.1)), high);
            }
        }
        for _ in 0..dice.count(0, 5) {
            let at = self.frame(dice.sign() * (half + 1.5), dice.between(-1.0, 1.0) * long).origin;
            let toward = (v3(self.centre.0, 0.0, self.centre.1) - at).normalized();
            if world.take(at.x, at.z, 0.5) {
                lamp(world, dice, at, toward);
            }
        }
        let road = self.road(half + 14.0, 0.0, 0.0, dice);
        let asphalt = Road::surface(world, dice);
        road.lay_walks(world, dice);
        road.lay(world, dice, asphalt);
        let lanes = Self::lanes(&road, self.extent, dice);
        for _ in 0..26 {
            let (x, z) =
                (dice.between(-2.2, 2.2) * self.extent, dice.between(-2.2, 2.2) * self.extent);
            let at = self.frame(x, z).origin;
            let height = dice.between(3.0, 11.0);
            let outside = x.abs() > half + 2.0 || z.abs() > long + 5.0;
            let on_road = road.curve.coordinates(at.x, at.z).1.abs() < road.half + road.walk;
            if outside && !on_road && world.take(at.x, at.z, 0.22 * height) {
                random_tree(world, dice, at, height);
            }
        }
        Spots { slots: Vec::new(), lanes, weights: [0.0, 0.12, 0.62, 0.18, 0.08] }
    }

    pub(super) fn houses(&self, world: &mut World, dice: &mut Dice) -> Spots {
        let road = self.road(0.0, 0.0, 0.0, dice);
        let asphalt = Road::surface(world, dice);
        road.lay_walks(world, dice);
        road.lay(world, dice, asphalt);
        let mut slots = Vec::new();
        let plot = dice.between(15.0, 22.0);
        let count = ((1.8 * self.extent / plot) as i32).clamp(1, 5);
        for number in -count..=count {
            for side in [-1.0, 1.0] {
                let along = number as f32 * plot + dice.between(-1.5, 1.5);
                let edge = road.half + road.walk;
                let deep = dice.between(7.0, 12.0);
                let at = road.curve.point(along, side * (edge + deep));
                let yaw = road.curve.yaw(along) - side * FRAC_PI_2;
                let garden = open_ground(&world.weather, dice);
                let back = road.curve.point(along, side * (edge + 15.0));
                let area = Area::Rectangle {
                    centre: (back.x, back.z),
                    half: (0.5 * plot - 0.3, 14.5),
                    yaw,
                };
                world.lay(area, garden, Class::Ground);
                let half =
                    v3(dice.between(4.0, 6.5), dice.between(1.4, 2.8), dice.between(3.5, 5.0));
                let frame =
                    Frame::upright(at, yaw + if dice.chance(0.3) { FRAC_PI_2 } else { 0.0 });
                house(world, dice, frame, half);
                // A drive with space for a car.
                let drive = road.curve.point(along + 0.5 * plot - 2.4, side * (edge + 4.0));
                let area = Area::Rectangle { centre: (drive.x, drive.z), half: (1.6, 4.5), yaw };
                world.lay(area, PAVING.varied(dice), Class::Ground);
                slots.push((drive, yaw));
                slots.push((
                    road.curve.point(along, side * (road.half - 1.0)),
                    road.curve.yaw(along),
                ));
                let line = side * (edge + 0.4);
                let ends = (
                    road.curve.point(along - 0.5 * plot, line),
                    road.curve.point(along + 0.5 * plot - 5.0, line),
                );
                if dice.chance(0.5) {
                    hedge(world, dice, ends, 1.1);
                }
                if dice.chance(0.15) {
                    let at = road.curve.point(along - 3.0, side * (edge + 22.0));
                    let pool =
                        Area::Ellipse { centre: (at.x, at.z), radii: (2.2, 4.0), yaw, ring: None };
                    let rim =
                        Area::Ellipse { centre: (at.x, at.z), radii: (3.2, 5.0), yaw, ring: None };
                    world.lay(rim, PAVING.varied(dice), Class::Ground);
                    world.lay(pool, WATER, Class::Ground);
                    world.occupy(at.x, at.z, 3.0);
                }
                for _ in 0..dice.count(0, 4) {
                    let at = road.curve.point(
                        along + dice.between(-0.5, 0.5) * plot,
                        side * (edge + dice.between(14.0, 28.0)),
                    );
                    let height = dice.between(2.0, 8.0);
                    if world.take(at.x, at.z, 0.2 * height) {
                        random_tree(world, dice, at, height);
                    }
                }
            }
        }
        let lanes = Self::lanes(&road, self.extent, dice);
        Spots { slots, lanes, weights: [0.38, 0.12, 0.28, 0.1, 0.12] }
    }
}
