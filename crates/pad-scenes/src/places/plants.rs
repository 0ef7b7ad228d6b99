//! Trees, bushes, hedges, woods.

use super::block::block;
use crate::{
    class::Class,
    config::Season,
    dice::Dice,
    material::{BARK, LEAVES, Material},
    shape::Shape,
    vector::{Frame, UP, V3, v3},
    world::{Cutout, World},
};

/// Returns how full the leaves are in this season.
fn fullness(world: &World, dice: &mut Dice) -> f32 {
    let full = match world.weather.season {
        Season::Winter => 0.15,
        Season::Spring => 0.55,
        Season::Summer => 0.68,
        Season::Autumn => 0.42,
    };
    (full + 0.12 * dice.normal()).clamp(0.05, 0.95)
}

/// Adds a random tree that suits the season.
pub(crate) fn random_tree(world: &mut World, dice: &mut Dice, at: V3, height: f32) {
    let winter = world.weather.season == Season::Winter;
    let bare = if winter { 0.65 } else { 0.08 };
    let pixels = world.camera.magnification(at) * height;
    match dice.weighted(&[1.0 - bare, bare, 0.3]) {
        0 => broadleaf(world, dice, at, height, pixels),
        1 => bare_tree(world, dice, at, height, pixels),
        _ => conifer(world, dice, at, height, pixels),
    }
    world.occupy(at.x, at.z, 0.5);
}

fn broadleaf(world: &mut World, dice: &mut Dice, at: V3, height: f32, pixels: f32) {
    let leaves = LEAVES.varied(dice);
    let density = fullness(world, dice).max(0.35);
    let clear = dice.between(0.15, 0.35) * height;
    let spread = dice.between(0.24, 0.42) * height;
    let blobs = if pixels > 150.0 {
        dice.count(18, 34)
    } else if pixels > 50.0 {
        11
    } else {
        4
    };
    world.of_class(Class::Vegetation, |world| {
        let lean = v3(0.04 * dice.normal(), 0.0, 0.04 * dice.normal()) * height;
        let fork = at + UP * (clear + 0.15 * height) + lean;
        let thick = 0.022 * height;
        branch(world, at, fork, (thick * 1.2, thick * 0.8));
        let middle = at + UP * (0.5 * (height + clear)) + lean;
        let tall = 0.5 * (height - clear);
        for index in 0..blobs {
            let turn = dice.angle();
            let high = dice.between(-0.75, 0.8);
            let out = (1.0 - high * high).sqrt() * dice.between(0.35, 0.75);
            let centre = middle
                + v3(turn.cos() * out * spread, high * tall * 0.75, turn.sin() * out * spread);
            let size = dice.between(0.34, 0.62)
                * if blobs > 15 {
                    0.62
                } else if blobs > 5 {
                    0.8
                } else {
                    1.1
                };
            let frame = Frame::upright(centre, turn).pitched(0.3 * dice.normal());
            let radii = v3(size * spread, 0.75 * size * spread, size * spread);
            let material = leaves.warmer(0.3 * dice.normal());
            let blob = world.add(Shape::Ellipsoid { frame, radii }, material);
            blob.cutout = Cutout::Leaves { scale: dice.between(0.16, 0.35), density };
            if index < 5 && pixels > 60.0 {
                branch(world, fork, centre, (thick * 0.6, thick * 0.2));
            }
        }
    });
}

fn branch(world: &mut World, a: V3, b: V3, (ra, rb): (f32, f32)) {
    world.add(Shape::Limb { a, b, ra, rb }, BARK);
}

fn bare_tree(world: &mut World, dice: &mut Dice, at: V3, height: f32, pixels: f32) {
    let levels = if pixels > 160.0 {
        4
    } else if pixels > 60.0 {
        3
    } else {
        2
    };
    let thick = dice.between(0.018, 0.028) * height;
    let bark = BARK.varied(dice);
    world.of_class(Class::Vegetation, |world| {
        let mut open = vec![(at, UP, 0.34 * height, thick, 0)];
        while let Some((from, along, length, radius, level)) = open.pop() {
            let to = from + along * length;
            // Twigs thinner than a pixel would be lost: widen them a little.
            let least = 0.12 * height / pixels.max(1.0);
            world.add(
                Shape::Limb {
                    a: from,
                    b: to,
                    ra: radius.max(least),
                    rb: (0.65 * radius).max(least),
                },
                bark,
            );
            if level < levels {
                let forks = dice.count(2, 3);
                let start = dice.angle();
                for fork in 0..forks {
                    let turn = start
                        + (fork as f32 / forks as f32) * std::f32::consts::TAU
                        + 0.4 * dice.normal();
                    let lean = dice.between(0.3, 0.75);
                    let side = v3(turn.cos(), 0.0, turn.sin());
                    let next = (along * lean.cos() + side * lean.sin() + UP * 0.12).normalized();
                    let begin = from + along * (length * dice.between(0.7, 1.0));
                    open.push((
                        begin,
                        next,
                        length * dice.between(0.6, 0.85),
                        0.6 * radius,
                        level + 1,
                    ));
                }
            }
        }
    });
}

fn conifer(world: &mut World, dice: &mut Dice, at: V3, height: f32, pixels: f32) {
    let needles = Material { heat: 0.4, ..LEAVES }.varied(dice);
    let spread = dice.between(0.14, 0.24) * height;
    let layers = if pixels > 120.0 {
        15
    } else if pixels > 40.0 {
        9
    } else {
        5
    };
    world.of_class(Class::Vegetation, |world| {
        branch(world, at, at + UP * (0.9 * height), (0.02 * height, 0.006 * height));
        for layer in 0..layers {
            let share = (layer as f32 + 0.3) / layers as f32;
            let wide = spread * (1.0 - 0.9 * share) * dice.between(0.9, 1.12);
            let centre = at + UP * (height * (0.14 + 0.82 * share));
            let frame = Frame::upright(centre, dice.angle());
            let radii = v3(wide, 0.7 * height / layers as f32, wide);
            let skirt =
                world.add(Shape::Ellipsoid { frame, radii }, needles.warmer(0.2 * dice.normal()));
            skirt.cutout = Cutout::Leaves { scale: 0.15, density: 0.66 };
        }
    });
}

/// Adds a bush of about this height.
pub(crate) fn bush(world: &mut World, dice: &mut Dice, at: V3, height: f32) {
    let leaves = LEAVES.varied(dice);
    let density = fullness(world, dice).max(0.4);
    let blobs = dice.count(2, 5);
    world.of_class(Class::Vegetation, |world| {
        for _ in 0..blobs {
            let size = height * dice.between(0.35, 0.6);
            let shift = v3(dice.between(-0.6, 0.6), 0.0, dice.between(-0.6, 0.6)) * height;
            let frame = Frame::upright(at + shift + UP * (0.75 * size), dice.angle());
            let radii = v3(1.1 * size, size, 1.1 * size);
            let blob = world.add(Shape::Ellipsoid { frame, radii }, leaves);
            blob.cutout = Cutout::Leaves { scale: 0.15, density };
        }
    });
    world.occupy(at.x, at.z, 0.7 * height);
}

/// Adds a clipped hedge from one ground point to another.
pub(crate) fn hedge(world: &mut World, dice: &mut Dice, (a, b): (V3, V3), height: f32) {
    let leaves = LEAVES.varied(dice);
    let line = b - a;
    let frame = Frame::upright(a.lerp(b, 0.5), line.x.atan2(line.z));
    let half = v3(dice.between(0.3, 0.6), 0.5 * height, 0.5 * line.length());
    world.of_class(Class::Vegetation, |world| {
        let body = world.add(block(&frame, v3(0.0, half.y, 0.0), half), leaves);
        body.cutout = Cutout::Leaves { scale: 0.3, density: 0.93 };
    });
}

/// Adds the edge of a distant wood: crowns in a row between two ground points.
pub(crate) fn treeline(world: &mut World, dice: &mut Dice, (a, b): (V3, V3), height: f32) {
    let leaves = LEAVES.varied(dice);
    let line = (b - a).length();
    let count = ((line / (0.55 * height)) as usize).clamp(2, 70);
    let pointed = dice.chance(0.35);
    world.of_class(Class::Vegetation, |world| {
        for index in 0..count {
            let share = (index as f32 + dice.unit()) / count as f32;
            let tall = height * dice.between(0.5, 1.15);
            let foot = a.lerp(b, share) + v3(dice.normal(), 0.0, dice.normal()) * (0.3 * height);
            let wide =
                tall * if pointed { dice.between(0.14, 0.22) } else { dice.between(0.24, 0.42) };
            let warmth = 0.5 * dice.normal();
            // A crown, lobes at its sides, undergrowth at its foot.
            for lobe in 0..4 {
                let (up, out, size) = match lobe {
                    0 => (0.55, 0.0, 1.0),
                    1 => (0.2, dice.between(-0.9, 0.9), dice.between(0.5, 0.8)),
                    _ => {
                        (dice.between(0.35, 0.75), dice.between(-0.8, 0.8), dice.between(0.4, 0.75))
                    }
                };
                let side = v3(out * wide, up * tall, 0.3 * wide * dice.normal());
                let frame = Frame::upright(foot + side, dice.angle());
                let tallness = if pointed { 1.5 } else { 0.8 };
                let radii = v3(wide * size, (tallness * wide * size).min(0.45 * tall), wide * size);
                let crown = world.add(Shape::Ellipsoid { frame, radii }, leaves.warmer(warmth));
                crown.cutout = Cutout::Leaves { scale: 0.06 * tall, density: 0.8 };
            }
        }
    });
}

/// Adds a straight trunk that leaves the frame at the top: woods seen from inside.
pub(crate) fn trunk(world: &mut World, dice: &mut Dice, at: V3, radius: f32) {
    let bark = BARK.varied(dice);
    let top = at + v3(0.35 * dice.normal(), 14.0, 0.35 * dice.normal());
    world.of_class(Class::Vegetation, |world| {
        world.add(Shape::Limb { a: at, b: top, ra: radius, rb: 0.6 * radius }, bark);
        for _ in 0..dice.count(0, 3) {
            let from = at.lerp(top, dice.between(0.12, 0.5));
            let turn = dice.angle();
            let to =
                from + v3(turn.cos(), dice.between(-0.2, 0.6), turn.sin()) * dice.between(0.8, 2.5);
            world.add(Shape::Limb { a: from, b: to, ra: 0.22 * radius, rb: 0.06 * radius }, bark);
        }
    });
    world.occupy(at.x, at.z, radius + 0.3);
}
