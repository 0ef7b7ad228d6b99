//! Machine rooms: pipes, tanks, motors, switchgear, sometimes people.

use std::f32::consts::FRAC_PI_2;

use super::{
    cast::stature,
    room::{Walls, shell},
};
use crate::{
    camera::{Camera, View},
    dice::Dice,
    material::{BARE_METAL, Material, PLASTER, SHEET},
    pattern::Pattern,
    places::block,
    shape::Shape,
    size::Size,
    things::{Pose, person},
    vector::{Frame, UP, V3, v3},
    weather::{Weather, ZERO_CELSIUS},
    world::World,
};

pub(crate) fn build(weather: Weather, size: Size, things: usize, dice: &mut Dice) -> World {
    let weather = weather.indoors(dice.between(12.0, 32.0));
    let outside = weather.air - ZERO_CELSIUS - 6.0;
    let walls = Walls {
        half: (dice.between(2.0, 5.0), dice.between(2.5, 6.0)),
        height: dice.between(2.8, 5.0),
    };
    let near = dice.chance(0.4);
    let eye =
        v3(dice.between(-0.6, 0.6) * walls.half.0, dice.between(1.1, 2.2), -walls.half.1 + 0.3);
    let view = View {
        yaw: -0.7 * eye.x / walls.half.1 + 0.2 * dice.normal(),
        pitch: 0.08 * dice.normal(),
        roll: 0.02 * dice.normal(),
        field: if near { dice.between(0.35, 0.6) } else { dice.between(0.7, 1.1) },
    };
    let mut world = World::new(weather, Camera::new(eye, view, size), dice.seed());
    world.occupy(eye.x, eye.z, 0.8);
    shell(&mut world, dice, walls, outside);
    let load = dice.log_between(6.0, 60.0);
    for _ in 0..dice.count(5, 14) {
        pipe_run(&mut world, dice, walls, load);
    }
    let inside = (walls.half.0 - 0.6, walls.half.1 - 0.6);
    for _ in 0..dice.count(2, 6) {
        let Some(at) = world.floor_in_view(dice, (2.0, 2.0 * walls.half.1), inside) else {
            continue;
        };
        if !world.take(at.x, at.z, 0.8) {
            continue;
        }
        match dice.below(4) {
            0 => tank(&mut world, dice, at, load),
            1 => motor(&mut world, dice, at, load),
            2 => cabinet(&mut world, dice, at, load),
            _ => tank(&mut world, dice, at, -0.4 * load.min(20.0)),
        }
    }
    for _ in 0..things.min(2) {
        let Some(at) = world.floor_in_view(dice, (1.5, 2.0 * walls.half.1), inside) else {
            continue;
        };
        if world.take(at.x, at.z, 0.45) {
            let (yaw, height) = (dice.angle(), stature(dice).max(1.5));
            person(&mut world, dice, Frame::upright(at, yaw), height, Pose::Stand);
        }
    }
    world
}

/// Adds a pipe along the walls, with bends, flanges and lagging.
fn pipe_run(world: &mut World, dice: &mut Dice, walls: Walls, load: f32) {
    let (w, d) = walls.half;
    let radius = dice.log_between(0.02, 0.14);
    let heat = load * dice.between(-0.25, 1.0);
    let bare = dice.chance(0.4);
    let metal = Material {
        emissivity: if bare { dice.between(0.45, 0.8) } else { 0.94 },
        scale: 0.5,
        ..PLASTER.warmer(heat)
    };
    let inset = dice.between(0.15, 0.6);
    let high = dice.between(0.1, 0.95) * walls.height;
    // Along the far wall or a side wall, beginning where the camera looks.
    let near = (dice.between(0.4, 1.0) * w - inset, d - inset);
    let start = world.floor_in_view(dice, (2.0, 2.2 * d), near).unwrap_or(v3(0.0, 0.0, 0.5 * d));
    let mut at = if dice.chance(0.6) {
        v3(start.x, high, d - inset)
    } else {
        v3(start.x.signum() * (w - inset), high, start.z)
    };
    for _ in 0..dice.count(2, 5) {
        let reach = dice.between(0.6, 2.5);
        let step = dice.pick([
            v3(0.0, 1.0, 0.0),
            v3(0.0, -1.0, 0.0),
            v3(0.0, 0.0, 1.0),
            v3(1.0, 0.0, 0.0),
            v3(-1.0, 0.0, 0.0),
        ]);
        let to = at + step * reach;
        let to = v3(
            to.x.clamp(-w + inset, w - inset),
            to.y.clamp(0.1, walls.height - 0.1),
            to.z.clamp(-0.3 * d, d - inset),
        );
        if (to - at).length() < 0.2 {
            continue;
        }
        world.add(Shape::Limb { a: at, b: to, ra: radius, rb: radius }, metal);
        if dice.chance(0.6) {
            let flange = at.lerp(to, dice.between(0.2, 0.8));
            let line = (to - at).normalized();
            let ends = (flange + line * -0.03, flange + line * 0.03);
            let hot = metal.warmer(0.25 * heat.abs() * if bare { -0.4 } else { 1.0 });
            world
                .add(Shape::Limb { a: ends.0, b: ends.1, ra: 1.7 * radius, rb: 1.7 * radius }, hot);
        }
        at = to;
    }
    if dice.chance(0.4) {
        let frame = Frame::upright(at, dice.angle()).pitched(dice.between(0.0, FRAC_PI_2));
        world.add(
            Shape::Ring { frame, outer: 2.2 * radius + 0.05, inner: 1.5 * radius + 0.02 },
            metal.warmer(-0.5 * heat),
        );
    }
}

fn tank(world: &mut World, dice: &mut Dice, at: V3, load: f32) {
    let (radius, half) = (dice.between(0.25, 0.75), dice.between(0.4, 1.1));
    let lying = dice.chance(0.3);
    let lift = if lying { radius + 0.2 } else { half + 0.15 };
    let frame = Frame::upright(at + UP * lift, dice.angle());
    let frame = if lying { frame.pitched(FRAC_PI_2) } else { frame };
    let steel = SHEET.varied(dice).warmer(0.3 * load);
    let steel = Material { emissivity: dice.between(0.75, 0.95), ..steel };
    let body = world.add(Shape::Cylinder { frame, radius, half }, steel);
    body.pattern = if lying {
        Pattern::Stripes { axis: 1, pitch: 0.4 * half, duty: 0.9, kelvin: 0.1 * load }
    } else {
        Pattern::Level { level: dice.between(-0.6, 0.7) * half, kelvin: 0.5 * load }
    };
    for end in [-1.0, 1.0] {
        let cap = frame.at(v3(0.0, end * half, 0.0));
        world.add(Shape::Ellipsoid { frame: cap, radii: v3(radius, 0.3 * radius, radius) }, steel);
    }
    for leg in [-0.7, 0.7] {
        let foot = at + v3(leg * radius, 0.0, 0.0);
        world.add(Shape::Limb { a: foot, b: foot + UP * lift, ra: 0.04, rb: 0.04 }, BARE_METAL);
    }
}

fn motor(world: &mut World, dice: &mut Dice, at: V3, load: f32) {
    let frame = Frame::upright(at + UP * 0.55, dice.angle());
    let axis = frame.pitched(FRAC_PI_2);
    let (radius, half) = (dice.between(0.18, 0.34), dice.between(0.28, 0.5));
    let heat = load.abs() * dice.between(0.5, 1.1);
    let iron = Material { emissivity: 0.93, scale: 0.3, ..PLASTER.warmer(0.7 * heat) };
    let body = world.add(Shape::Cylinder { frame: axis, radius, half }, iron);
    body.pattern = Pattern::Stripes { axis: 0, pitch: 0.06, duty: 0.5, kelvin: 0.18 * heat };
    let cap = axis.at(v3(0.0, half + 0.05, 0.0));
    world.add(
        Shape::Cylinder { frame: cap, radius: 0.85 * radius, half: 0.06 },
        iron.warmer(-0.4 * heat),
    );
    let shaft = axis.at(v3(0.0, -half - 0.15, 0.0));
    world.add(Shape::Cylinder { frame: shaft, radius: 0.05, half: 0.18 }, BARE_METAL.warmer(heat));
    let coupled = axis.at(v3(0.0, -half - 0.45, 0.0));
    world.add(
        Shape::Ellipsoid { frame: coupled, radii: v3(0.8 * radius, 0.22, 0.8 * radius) },
        iron.warmer(-0.5 * heat),
    );
    world.add(
        block(&frame, v3(0.0, -0.45, 0.0), v3(0.4, 0.1, half + 0.5)),
        SHEET.warmer(0.1 * heat),
    );
    world.add(block(&frame, v3(0.0, radius, 0.0), v3(0.1, 0.08, 0.12)), iron.warmer(-0.3 * heat));
}

/// Adds switchgear: rows of breakers with cables, one of them too hot.
fn cabinet(world: &mut World, dice: &mut Dice, at: V3, load: f32) {
    let eye = world.camera.frame.origin;
    let frame = Frame::upright(at, (eye.x - at.x).atan2(eye.z - at.z) + 0.2 * dice.normal());
    let steel = Material { emissivity: 0.92, ..SHEET };
    world.add(block(&frame, v3(0.0, 1.0, -0.2), v3(0.55, 1.0, 0.12)), steel.warmer(0.05 * load));
    let (rows, columns) = (dice.count(2, 4), dice.count(4, 9));
    let faulty = dice.below(rows * columns);
    for row in 0..rows {
        for column in 0..columns {
            let x = (column as f32 + 0.5) / columns as f32 * 0.9 - 0.45;
            let y = 1.75 - 0.38 * row as f32;
            let own = load.abs() * dice.between(0.05, 0.25);
            let heat = if row * columns + column == faulty { load.abs() } else { own };
            let half = v3(0.36 / columns as f32, 0.07, 0.05);
            world.add(block(&frame, v3(x, y, -0.04), half), PLASTER.warmer(heat));
            let (top, dip) = (frame.point(v3(x, y - 0.07, 0.0)), dice.between(0.1, 0.25));
            let end = frame.point(v3(x + 0.05 * dice.normal(), y - 0.07 - dip, -0.03));
            world.add(
                Shape::Limb { a: top, b: end, ra: 0.014, rb: 0.012 },
                PLASTER.warmer(0.7 * heat),
            );
        }
    }
}
