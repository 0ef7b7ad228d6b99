//! Rooms: cold windows, warm radiators and screens, people who stand and sit.

use std::f32::consts::{FRAC_PI_2, PI};

use super::cast::stature;
use crate::{
    camera::{Camera, View},
    dice::Dice,
    material::{BARE_METAL, Material, PLASTER, WOOD},
    pattern::Pattern,
    places::block,
    shape::Shape,
    size::Size,
    things::{AnimalKind, Pose, animal, person},
    vector::{Frame, V3, v3},
    weather::{Weather, ZERO_CELSIUS},
    world::World,
};

/// Half extents of a room; the floor is at y = 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walls {
    pub(crate) half: (f32, f32),
    pub(crate) height: f32,
}

pub(crate) fn build(weather: Weather, size: Size, things: usize, dice: &mut Dice) -> World {
    let outside = weather.air - ZERO_CELSIUS;
    let weather = weather.indoors(dice.between(17.5, 25.0));
    let walls = Walls {
        half: (dice.between(2.2, 5.5), dice.between(2.5, 7.0)),
        height: dice.between(2.4, 3.4),
    };
    let high = dice.chance(0.35);
    let eye = if high { walls.height - 0.25 } else { dice.between(1.1, 1.75) };
    let corner = dice.between(-0.85, 0.85) * walls.half.0;
    let position = v3(corner, eye, -walls.half.1 + 0.25);
    let view = View {
        yaw: -0.8 * corner / walls.half.1 + 0.15 * dice.normal(),
        pitch: if high { -dice.between(0.3, 0.5) } else { -dice.between(0.0, 0.16) },
        roll: 0.01 * dice.normal(),
        field: dice.between(0.75, 1.25),
    };
    let mut world = World::new(weather, Camera::new(position, view, size), dice.seed());
    world.occupy(position.x, position.z, 0.7);
    shell(&mut world, dice, walls, outside);
    furnish(&mut world, dice, walls);
    let people = things.clamp(1, 9);
    for number in 0..people {
        for _ in 0..12 {
            let inside = (walls.half.0 - 0.3, walls.half.1 - 0.3);
            let Some(at) = world.floor_in_view(dice, (1.0, 2.2 * walls.half.1), inside) else {
                continue;
            };
            if !world.take(at.x, at.z, 0.4) {
                continue;
            }
            let eye = world.camera.frame.origin;
            let toward = (eye.x - at.x).atan2(eye.z - at.z);
            let yaw = if dice.chance(0.6) { toward + 0.5 * dice.normal() } else { dice.angle() };
            if number > 0 && dice.chance(0.12) {
                let kind = dice.pick([AnimalKind::Dog, AnimalKind::Cat]);
                animal(&mut world, dice, Frame::upright(at, yaw), kind);
            } else if dice.chance(0.4) {
                chair(&mut world, dice, Frame::upright(at, yaw));
                let height = dice.between(1.55, 1.88);
                person(&mut world, dice, Frame::upright(at, yaw), height, Pose::Sit(0.46));
            } else {
                let (height, pose) =
                    (stature(dice), if dice.chance(0.3) { Pose::Walk } else { Pose::Stand });
                person(&mut world, dice, Frame::upright(at, yaw), height, pose);
            }
            break;
        }
    }
    world
}

/// Adds floor, ceiling and walls with windows, doors, radiators, pipes and lamps.
pub(crate) fn shell(world: &mut World, dice: &mut Dice, walls: Walls, outside: f32) {
    let (w, d) = walls.half;
    let h = walls.height;
    let middle = Frame::upright(v3(0.0, 0.0, 0.0), 0.0);
    let paint = |dice: &mut Dice| PLASTER.varied(dice).warmer(0.5 * dice.normal());
    // Outer walls are affected by the weather.
    let inside = world.weather.air - ZERO_CELSIUS;
    let draught = (outside - inside) * dice.between(0.02, 0.12);
    let mut slab = |centre: V3, half: V3, warmth: f32, dice: &mut Dice| {
        let wall = world.add(block(&middle, centre, half), paint(dice).warmer(warmth));
        let (top, stain) = (dice.between(0.2, 1.8), dice.between(0.05, 0.35));
        wall.pattern = Pattern::Wall { half: 0.5 * h, top, stain };
    };
    slab(v3(0.0, -0.1, 0.0), v3(w + 0.3, 0.1, d + 0.3), -0.6, dice);
    slab(v3(0.0, h + 0.1, 0.0), v3(w + 0.3, 0.1, d + 0.3), 0.8, dice);
    slab(v3(0.0, 0.5 * h, d + 0.1), v3(w, 0.5 * h + 0.1, 0.1), draught, dice);
    slab(v3(-w - 0.1, 0.5 * h, 0.0), v3(0.1, 0.5 * h + 0.1, d), 0.0, dice);
    slab(v3(w + 0.1, 0.5 * h, 0.0), v3(0.1, 0.5 * h + 0.1, d), 0.5 * draught, dice);
    let glass = (outside - inside) * dice.between(0.2, 0.5);
    // Pictures, boards and vents on the walls, and the traces of hands or backs.
    for _ in 0..dice.count(1, 7) {
        let half = (dice.between(0.12, 0.5), dice.between(0.1, 0.4));
        let (x, y) = (dice.between(-0.9, 0.9) * w, dice.between(0.35, 0.8) * h);
        let frame = match dice.below(3) {
            0 => middle.at(v3(x, y, d - 0.01)),
            side => {
                let side = if side == 1 { -1.0 } else { 1.0 };
                let at = v3(side * (w - 0.01), y, dice.between(-0.5, 0.9) * d);
                Frame { origin: at, right: middle.forward, forward: middle.right * -side, ..middle }
            }
        };
        let body = world.add(
            Shape::Block { frame, half: v3(half.0, half.1, 0.02) },
            paint(dice).warmer(dice.between(-0.8, 1.0)),
        );
        if dice.chance(0.5) {
            let kelvin = dice.between(-0.8, 1.2);
            body.pattern =
                Pattern::Inset { half: (half.0 - 0.04, half.1 - 0.04), kelvin, glass: 0.3 };
        }
    }
    // Windows in the far wall, with radiators below.
    let windows = dice.count(0, (w / 1.1) as usize);
    let heated = outside < 14.0 && dice.chance(0.85);
    for number in 0..windows {
        let x = (number as f32 + 0.5) / windows as f32 * 2.0 * w - w;
        let frame = middle.at(v3(x, 1.5, d - 0.005));
        let wide = (0.7 * w / windows as f32).min(0.85);
        let pane = world
            .add(Shape::Block { frame, half: v3(wide, 0.62, 0.02) }, PLASTER.warmer(0.4 * glass));
        pane.pattern =
            Pattern::Inset { half: (wide - 0.07, 0.55), kelvin: 0.6 * glass, glass: 0.5 };
        world.add(
            block(&frame, v3(0.0, 0.0, -0.03), v3(0.035, 0.62, 0.02)),
            PLASTER.warmer(0.4 * glass),
        );
        world.add(block(&frame, v3(0.0, -0.66, -0.1), v3(wide + 0.08, 0.03, 0.14)), PLASTER);
        if heated && dice.chance(0.8) {
            let heat = dice.between(8.0, 32.0);
            let radiator = world.add(
                block(&middle, v3(x, 0.48, d - 0.1), v3(wide, 0.3, 0.06)),
                PLASTER.warmer(heat),
            );
            radiator.pattern =
                Pattern::Stripes { axis: 0, pitch: 0.12, duty: 0.6, kelvin: 0.15 * heat };
            for side in [-1.0, 1.0] {
                let a = v3(x + side * wide, 0.2, d - 0.1);
                world.add(
                    Shape::Limb { a, b: v3(a.x, 0.0, a.z), ra: 0.02, rb: 0.02 },
                    PLASTER.warmer(heat),
                );
            }
        }
    }
    if dice.chance(0.6) {
        let side = dice.sign();
        let door = middle.at(v3(side * (w - 0.01), 1.02, dice.between(-0.4, 0.7) * d));
        world.add(
            Shape::Block { frame: door, half: v3(0.03, 1.02, 0.45) },
            WOOD.varied(dice).warmer(dice.between(-1.5, 0.7)),
        );
    }
    // Sockets, cables and pipes in the walls.
    for _ in 0..dice.count(0, 3) {
        let side = dice.sign();
        let at = v3(side * (w - 0.03), dice.between(0.3, 0.8 * h), dice.between(-0.5, 0.9) * d);
        let to = if dice.chance(0.5) { v3(at.x, h, at.z) } else { v3(at.x, at.y, d) };
        let heat = dice.between(-3.0, 7.0);
        world.add(Shape::Limb { a: at, b: to, ra: 0.03, rb: 0.03 }, PLASTER.warmer(heat));
    }
    for _ in 0..dice.count(0, 5) {
        let lamp =
            middle.at(v3(dice.between(-0.7, 0.7) * w, h - 0.04, dice.between(-0.5, 0.9) * d));
        let heat = dice.between(2.0, 16.0);
        let shape = if dice.chance(0.5) {
            Shape::Block { frame: lamp, half: v3(0.15, 0.04, 0.6) }
        } else {
            Shape::Ellipsoid { frame: lamp, radii: v3(0.16, 0.08, 0.16) }
        };
        world.add(shape, PLASTER.warmer(heat));
    }
}

fn furnish(world: &mut World, dice: &mut Dice, walls: Walls) {
    let (w, d) = walls.half;
    for _ in 0..dice.count(1, 4) {
        let Some(at) = world.floor_in_view(dice, (1.5, 2.2 * d), (w - 0.7, d - 0.7)) else {
            continue;
        };
        if !world.take(at.x, at.z, 0.8) {
            continue;
        }
        let frame = Frame::upright(at, dice.pick([0.0, FRAC_PI_2]) + 0.1 * dice.normal());
        desk(world, dice, &frame);
    }
    for _ in 0..dice.count(0, 4) {
        // Cupboards, shelves and fridges along the walls.
        let side = dice.sign();
        let half = v3(dice.between(0.18, 0.3), dice.between(0.45, 1.05), dice.between(0.3, 1.0));
        let at = v3(side * (w - half.x), 0.0, dice.between(-0.4, 0.9) * d);
        if !world.take(at.x, at.z, half.z) {
            continue;
        }
        let frame = Frame::upright(at, 0.0);
        let warmth = dice.between(-1.0, 1.0);
        let body =
            world.add(block(&frame, v3(0.0, half.y, 0.0), half), WOOD.varied(dice).warmer(warmth));
        body.pattern =
            Pattern::Stripes { axis: 1, pitch: dice.between(0.3, 0.6), duty: 0.92, kelvin: 0.6 };
        if dice.chance(0.35) {
            let heat = dice.between(2.0, 9.0);
            world.add(
                block(&frame, v3(-side * half.x, 0.3, 0.0), v3(0.05, 0.2, 0.7 * half.z)),
                PLASTER.warmer(heat),
            );
        }
    }
}

fn desk(world: &mut World, dice: &mut Dice, frame: &Frame) {
    let wood = WOOD.varied(dice);
    let (wide, deep) = (dice.between(0.5, 0.9), dice.between(0.3, 0.42));
    world.add(block(frame, v3(0.0, 0.73, 0.0), v3(wide, 0.02, deep)), wood);
    for (x, z) in [(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)] {
        let at = v3(x * (wide - 0.05), 0.36, z * (deep - 0.05));
        world.add(block(frame, at, v3(0.025, 0.36, 0.025)), BARE_METAL);
    }
    for _ in 0..dice.count(0, 2) {
        let x = dice.between(-0.6, 0.6) * wide;
        let screen = frame.at(v3(x, 1.0, 0.1)).pitched(0.05);
        let heat = dice.between(3.0, 11.0);
        let panel = world.add(
            Shape::Block { frame: screen, half: v3(0.28, 0.17, 0.02) },
            PLASTER.warmer(0.6 * heat),
        );
        panel.pattern = Pattern::Inset { half: (0.26, 0.15), kelvin: 0.4 * heat, glass: 0.0 };
        world.add(block(frame, v3(x, 0.8, 0.12), v3(0.03, 0.07, 0.03)), PLASTER);
    }
    for _ in 0..dice.count(0, 3) {
        let at = frame.at(v3(dice.between(-0.8, 0.8) * wide, 0.8, dice.between(-0.8, 0.3) * deep));
        let heat = match dice.below(3) {
            0 => dice.between(10.0, 40.0),
            1 => dice.between(-14.0, -5.0),
            _ => dice.between(-1.0, 8.0),
        };
        if dice.chance(0.6) {
            let cup = world.add(
                Shape::Cylinder { frame: at, radius: 0.045, half: 0.055 },
                PLASTER.warmer(heat),
            );
            cup.pattern = Pattern::Level { level: 0.02, kelvin: 0.12 * heat };
        } else {
            let book =
                v3(dice.between(0.05, 0.16), dice.between(0.01, 0.08), dice.between(0.05, 0.14));
            world.add(block(&at, v3(0.0, -0.05, 0.0), book), PLASTER.warmer(0.3 * heat));
        }
    }
}

/// Adds a chair that faces along its frame.
pub(crate) fn chair(world: &mut World, dice: &mut Dice, frame: Frame) {
    let cloth = Material { heat: dice.between(-0.5, 2.0), ..PLASTER };
    world.add(block(&frame, v3(0.0, 0.43, 0.02), v3(0.22, 0.03, 0.22)), cloth);
    world.add(block(&frame, v3(0.0, 0.75, -0.22), v3(0.2, 0.24, 0.025)), cloth);
    for turn in 0..4 {
        let angle = turn as f32 * FRAC_PI_2 + PI / 4.0;
        let foot = frame.point(v3(0.28 * angle.cos(), 0.0, 0.28 * angle.sin()));
        world.add(
            Shape::Limb { a: frame.point(v3(0.0, 0.42, 0.0)), b: foot, ra: 0.02, rb: 0.02 },
            BARE_METAL,
        );
    }
}
