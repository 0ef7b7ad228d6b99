//! Street furniture: many thin bodies, which make perspective visible.

use super::block::block;
use crate::{
    dice::Dice,
    material::{BARE_METAL, DULL, POLE, SHEET, WOOD},
    shape::Shape,
    vector::{Frame, UP, V3, v3},
    world::{Cutout, World},
};

/// Adds a mast of this height.
pub(crate) fn pole(world: &mut World, dice: &mut Dice, at: V3, height: f32) {
    let radius = dice.between(0.05, 0.12);
    let material = POLE.varied(dice);
    world.add(Shape::Limb { a: at, b: at + UP * height, ra: radius, rb: 0.8 * radius }, material);
    world.occupy(at.x, at.z, 0.3);
}

/// Adds a street lamp whose arm points along `toward`; lit lamps are warm.
pub(crate) fn lamp(world: &mut World, dice: &mut Dice, at: V3, toward: V3) {
    let height = dice.between(4.0, 8.5);
    pole(world, dice, at, height);
    let head = at + UP * height + toward * 1.1;
    let material = POLE.varied(dice);
    world.add(Shape::Limb { a: at + UP * (height - 0.2), b: head, ra: 0.05, rb: 0.045 }, material);
    let lit = world.weather.sun_power < 0.05;
    let frame = Frame::upright(head + UP * -0.05, toward.x.atan2(toward.z));
    let heat = if lit { dice.between(4.0, 25.0) } else { 0.0 };
    world.add(Shape::Ellipsoid { frame, radii: v3(0.14, 0.08, 0.3) }, SHEET.warmer(heat));
}

/// Adds a traffic sign or light.
pub(crate) fn sign(world: &mut World, dice: &mut Dice, at: V3, yaw: f32) {
    let height = dice.between(2.2, 3.2);
    pole(world, dice, at, height);
    let frame = Frame::upright(at + UP * (height - 0.3), yaw);
    if dice.chance(0.4) {
        let heat = dice.between(0.5, 4.0);
        let shape = Shape::Block { frame, half: v3(0.15, 0.42, 0.12) };
        world.add(shape, DULL.warmer(heat));
    } else {
        let material = BARE_METAL.varied(dice);
        let shape = if dice.chance(0.5) {
            Shape::Ring {
                frame: frame.pitched(std::f32::consts::FRAC_PI_2),
                outer: 0.34,
                inner: 0.0,
            }
        } else {
            Shape::Block { frame, half: v3(0.42, 0.26, 0.02) }
        };
        world.add(shape, material);
    }
}

/// Adds a litter bin, a junction box or a bollard.
pub(crate) fn bin(world: &mut World, dice: &mut Dice, at: V3) {
    let height = dice.between(0.3, 0.65);
    let frame = Frame::upright(at + UP * height, dice.angle());
    let material = DULL.varied(dice);
    if dice.chance(0.5) {
        world
            .add(Shape::Cylinder { frame, radius: dice.between(0.1, 0.3), half: height }, material);
    } else {
        world.add(Shape::Block { frame, half: v3(dice.between(0.2, 0.6), height, 0.2) }, material);
    }
    world.occupy(at.x, at.z, 0.5);
}

/// Adds a bench.
pub(crate) fn bench(world: &mut World, dice: &mut Dice, frame: Frame) {
    let wood = WOOD.varied(dice);
    world.add(block(&frame, v3(0.0, 0.44, 0.0), v3(0.9, 0.03, 0.22)), wood);
    world.add(block(&frame, v3(0.0, 0.75, -0.22), v3(0.9, 0.13, 0.03)), wood);
    for x in [-0.75, 0.75] {
        world.add(block(&frame, v3(x, 0.21, 0.0), v3(0.04, 0.21, 0.2)), POLE);
    }
    world.occupy(frame.origin.x, frame.origin.z, 0.9);
}

/// Adds a fence from one ground point to another: bars, mesh or boards between posts.
pub(crate) fn fence(world: &mut World, dice: &mut Dice, (a, b): (V3, V3), height: f32) {
    let line = b - a;
    let length = line.length();
    // The body's x runs along the fence.
    let frame = Frame::upright(a.lerp(b, 0.5), line.x.atan2(line.z) - std::f32::consts::FRAC_PI_2);
    let (material, cutout) = match dice.weighted(&[0.4, 0.3, 0.3]) {
        0 => (POLE.varied(dice), Cutout::Bars { pitch: 0.14, share: 0.22, mesh: false }),
        1 => (POLE.varied(dice), Cutout::Bars { pitch: 0.09, share: 0.14, mesh: true }),
        _ => (WOOD.varied(dice), Cutout::Bars { pitch: 0.16, share: 0.8, mesh: false }),
    };
    let half = v3(0.5 * length, 0.5 * height, 0.012);
    world.add(block(&frame, v3(0.0, 0.5 * height, 0.0), half), material).cutout = cutout;
    for y in [0.12 * height, height] {
        world.add(block(&frame, v3(0.0, y, 0.0), v3(0.5 * length, 0.025, 0.03)), material);
    }
    let posts = ((length / 2.5) as usize).clamp(1, 40);
    for post in 0..=posts {
        let at = a.lerp(b, post as f32 / posts as f32);
        world.add(
            Shape::Limb { a: at, b: at + UP * (1.05 * height), ra: 0.045, rb: 0.045 },
            material,
        );
    }
}

/// Adds wires on masts along a row of ground points.
pub(crate) fn wires(world: &mut World, dice: &mut Dice, feet: &[V3], height: f32) {
    let material = POLE.varied(dice);
    let arm = dice.between(0.4, 1.1);
    let sag = dice.between(0.01, 0.035);
    for &foot in feet {
        world.add(Shape::Limb { a: foot, b: foot + UP * height, ra: 0.14, rb: 0.1 }, WOOD);
        world.occupy(foot.x, foot.z, 0.4);
    }
    for pair in feet.windows(2) {
        let along = pair[1] - pair[0];
        let side = along.cross(UP).normalized();
        for shift in [-arm, 0.0, arm] {
            let hang = |share: f32| {
                let dip = 4.0 * sag * along.length() * share * (1.0 - share);
                pair[0].lerp(pair[1], share) + UP * (height - 0.2 - dip) + side * shift
            };
            for piece in 0..8 {
                let (from, to) = (hang(piece as f32 / 8.0), hang((piece + 1) as f32 / 8.0));
                world.add(Shape::Limb { a: from, b: to, ra: 0.018, rb: 0.018 }, material);
            }
        }
    }
}
