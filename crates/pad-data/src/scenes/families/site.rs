//! Places seen from above.

use std::f32::consts::{FRAC_PI_2, PI};

use crate::scenes::{
    class::Class,
    config::Season,
    dice::Dice,
    material::{
        ASPHALT, CONCRETE, GRASS, Material, PAINT_LINE, PAVING, SAND, SHEET, SOIL, WATER,
        open_ground,
    },
    pattern::Pattern,
    places::{
        Road, bench, bin, block, bush, fence, hall, hedge, house, lamp, random_tree, tower,
        treeline, zebra,
    },
    shape::Shape,
    things::ghost,
    vector::{Frame, V3, v3},
    world::{Area, Curve, Effect, Rows, World},
};

/// What kind of place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum SiteKind {
    CarPark,
    Crossing,
    Park,
    Court,
    Houses,
    Panels,
    Farmland,
    Shore,
}

/// A place: its middle, main direction and half extent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub(crate) kind: SiteKind,
    pub(crate) centre: (f32, f32),
    pub(crate) yaw: f32,
    pub(crate) extent: f32,
}

/// Where things may go.
pub(crate) struct Spots {
    /// Parking places, with the yaw of a parked car.
    pub(crate) slots: Vec<(V3, f32)>,
    /// Places in lanes, with the driving direction.
    pub(crate) lanes: Vec<(V3, f32)>,
    /// Weights of parked cars, moving cars, people, bicycles, animals.
    pub(crate) weights: [f32; 5],
}

impl Site {
    /// Builds the place and says where things belong.
    pub(crate) fn build(&self, world: &mut World, dice: &mut Dice) -> Spots {
        match self.kind {
            SiteKind::CarPark => self.car_park(world, dice),
            SiteKind::Crossing => self.crossing(world, dice),
            SiteKind::Park => self.park(world, dice),
            SiteKind::Court => self.court(world, dice),
            SiteKind::Houses => self.houses(world, dice),
            SiteKind::Panels => self.panels(world, dice),
            SiteKind::Farmland => self.farmland(world, dice),
            SiteKind::Shore => self.shore(world, dice),
        }
    }

    /// Frame at (right, forward) metres from the middle.
    fn frame(&self, right: f32, forward: f32) -> Frame {
        let frame = Frame::upright(v3(self.centre.0, 0.0, self.centre.1), self.yaw);
        frame.at(v3(right, 0.0, forward))
    }

    fn rectangle(&self, right: f32, forward: f32, half: (f32, f32)) -> Area {
        let at = self.frame(right, forward).origin;
        Area::Rectangle { centre: (at.x, at.z), half, yaw: self.yaw }
    }

    fn road(&self, right: f32, forward: f32, turn: f32, dice: &mut Dice) -> Road {
        let at = self.frame(right, forward).origin;
        let mut curve = Curve::straight((at.x, at.z), self.yaw + turn);
        if dice.chance(0.35) {
            curve.amplitude = dice.between(0.02, 0.09) * self.extent;
            curve.wavelength = dice.between(1.5, 4.0) * self.extent;
        }
        let reach = 4.0 * self.extent + 40.0;
        Road {
            curve,
            half: dice.between(2.8, 6.0),
            walk: dice.between(1.5, 4.0),
            from: -reach,
            to: reach,
        }
    }

    fn lanes(road: &Road, extent: f32, dice: &mut Dice) -> Vec<(V3, f32)> {
        (0..24)
            .map(|_| {
                let along = dice.between(-1.5, 1.5) * extent;
                let side = dice.sign();
                let yaw = road.curve.yaw(along) + if side > 0.0 { 0.0 } else { PI };
                (road.curve.point(along, side * 0.48 * road.half), yaw)
            })
            .collect()
    }

    /// Trees and bushes over the place, where there is room.
    fn plant(&self, world: &mut World, dice: &mut Dice, count: usize, clear: f32) {
        for _ in 0..count {
            let frame = self.frame(
                dice.between(-2.0, 2.0) * self.extent,
                dice.between(-2.0, 2.0) * self.extent,
            );
            let at = frame.origin;
            let height = dice.between(3.5, 12.0);
            if dice.chance(0.3) {
                if world.take(at.x, at.z, 1.0 + clear) {
                    let height = dice.between(0.7, 1.6);
                    bush(world, dice, at, height);
                }
            } else if world.take(at.x, at.z, 0.2 * height + clear) {
                random_tree(world, dice, at, height);
            }
        }
    }

    fn car_park(&self, world: &mut World, dice: &mut Dice) -> Spots {
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

    fn crossing(&self, world: &mut World, dice: &mut Dice) -> Spots {
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
            world.block(self.centre.0, self.centre.1, radius);
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
            // Nothing high between a low camera and the place.
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

    fn park(&self, world: &mut World, dice: &mut Dice) -> Spots {
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
            world.block(at.x, at.z, 0.8 * radius);
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

    fn court(&self, world: &mut World, dice: &mut Dice) -> Spots {
        let (wide, long) = dice.pick([(7.5, 14.0), (5.5, 12.0), (20.0, 32.0)]);
        // A pitch that is wider than the view would be an empty picture.
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

    fn houses(&self, world: &mut World, dice: &mut Dice) -> Spots {
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
                // A drive with room for a car.
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
                    world.block(at.x, at.z, 3.0);
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

    fn panels(&self, world: &mut World, dice: &mut Dice) -> Spots {
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

    fn farmland(&self, world: &mut World, dice: &mut Dice) -> Spots {
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

    fn shore(&self, world: &mut World, dice: &mut Dice) -> Spots {
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
        // The water is no place to walk: the nearest part of it is taken.
        for step in -3..=3 {
            let at = self.frame(0.55 * self.extent, step as f32 * 0.5 * self.extent).origin;
            world.block(at.x, at.z, 0.5 * self.extent);
        }
        Spots { slots: Vec::new(), lanes: Vec::new(), weights: [0.0, 0.0, 0.66, 0.1, 0.24] }
    }
}
