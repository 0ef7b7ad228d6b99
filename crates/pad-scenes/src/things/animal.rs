//! Four-legged animals: one body plan with the proportions of eight kinds.

use super::limbs::two_bones;
use crate::{
    class::Class,
    dice::Dice,
    material::{Material, body},
    pattern::Pattern,
    shape::Shape,
    vector::{Frame, V3, v3},
    world::World,
};

/// A kind of animal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Dog,
    Cat,
    Cow,
    Horse,
    Sheep,
    Deer,
    Boar,
    Fox,
}

/// Proportions in units of the height at the shoulder.
struct Plan {
    /// Height at the shoulder, metres.
    height: f32,
    /// Shoulder to hip.
    length: f32,
    /// Depth and half width of the trunk.
    trunk: (f32, f32),
    /// Radius of a leg above and below.
    leg: (f32, f32),
    /// Length and rise of the neck (radians), radius.
    neck: (f32, f32, f32),
    /// Length and radius of the head.
    head: (f32, f32),
    ears: f32,
    tail: (f32, f32),
    /// Fur: weight of the air's temperature against the skin's, 0 to 1.
    fur: f32,
    horns: f32,
    udder: bool,
}

fn plan(kind: Kind, dice: &mut Dice) -> Plan {
    let p = |height, length, trunk, leg, neck, head| Plan {
        height,
        length,
        trunk,
        leg,
        neck,
        head,
        ears: 0.1,
        tail: (0.4, 0.03),
        fur: 0.6,
        horns: 0.0,
        udder: false,
    };
    let mut plan = match kind {
        Kind::Dog => Plan {
            ears: 0.16,
            tail: (0.5, 0.04),
            ..p(
                dice.between(0.35, 0.68),
                1.0,
                (0.36, 0.15),
                (0.085, 0.045),
                (0.4, 0.8, 0.11),
                (0.38, 0.12),
            )
        },
        Kind::Cat => Plan {
            ears: 0.2,
            tail: (0.95, 0.05),
            ..p(
                dice.between(0.24, 0.3),
                1.15,
                (0.38, 0.18),
                (0.1, 0.06),
                (0.3, 0.6, 0.12),
                (0.28, 0.17),
            )
        },
        Kind::Cow => Plan {
            fur: 0.42,
            ears: 0.16,
            tail: (0.6, 0.02),
            horns: 0.15,
            udder: true,
            ..p(
                dice.between(1.25, 1.5),
                1.05,
                (0.52, 0.23),
                (0.1, 0.05),
                (0.42, 0.25, 0.14),
                (0.4, 0.11),
            )
        },
        Kind::Horse => Plan {
            fur: 0.45,
            ears: 0.11,
            tail: (0.5, 0.05),
            ..p(
                dice.between(1.4, 1.7),
                0.95,
                (0.42, 0.17),
                (0.085, 0.035),
                (0.52, 0.85, 0.1),
                (0.42, 0.09),
            )
        },
        Kind::Sheep => Plan {
            fur: 0.86,
            ears: 0.13,
            tail: (0.15, 0.05),
            ..p(
                dice.between(0.6, 0.75),
                1.0,
                (0.55, 0.28),
                (0.08, 0.05),
                (0.35, 0.5, 0.14),
                (0.36, 0.11),
            )
        },
        Kind::Deer => Plan {
            fur: 0.62,
            ears: 0.2,
            tail: (0.15, 0.05),
            ..p(
                dice.between(0.75, 1.2),
                0.95,
                (0.4, 0.15),
                (0.06, 0.03),
                (0.5, 0.95, 0.08),
                (0.35, 0.09),
            )
        },
        Kind::Boar => Plan {
            fur: 0.7,
            ears: 0.14,
            tail: (0.25, 0.02),
            ..p(
                dice.between(0.65, 0.95),
                1.05,
                (0.56, 0.21),
                (0.07, 0.045),
                (0.3, 0.0, 0.2),
                (0.5, 0.15),
            )
        },
        Kind::Fox => Plan {
            fur: 0.78,
            ears: 0.2,
            tail: (0.9, 0.09),
            ..p(
                dice.between(0.35, 0.42),
                1.15,
                (0.36, 0.15),
                (0.07, 0.035),
                (0.35, 0.6, 0.12),
                (0.4, 0.11),
            )
        },
    };
    plan.fur = (plan.fur + 0.08 * dice.normal()).clamp(0.25, 0.93);
    plan
}

/// Adds an animal on the ground at `frame`, looking along its forward axis.
pub(crate) fn animal(world: &mut World, dice: &mut Dice, frame: Frame, kind: Kind) {
    let plan = plan(kind, dice);
    let size = plan.height;
    let weather = &world.weather;
    let coat = body(weather, plan.fur, 0.8);
    let coat = Material { scale: 0.25 * size, ..coat };
    let thin = body(weather, (plan.fur - 0.18).max(0.1), 0.5);
    let legs = body(weather, (plan.fur + 0.08).min(0.92), 0.5);
    let bare = body(weather, 0.12, 0.2);
    let eyes = body(weather, 0.0, 0.0);
    let (patch, spots) = (dice.between(0.25, 0.5) * size, dice.chance(0.35));
    let contrast = 0.12 * coat.heat.abs() + 0.5;
    // Grazing, looking ahead or up.
    let mut rise = plan.neck.1 + 0.15 * dice.normal();
    if matches!(kind, Kind::Cow | Kind::Horse | Kind::Sheep | Kind::Deer) && dice.chance(0.4) {
        rise = -0.75;
    }
    let phase = dice.angle();
    let stride = if dice.chance(0.5) { 0.0 } else { dice.between(0.1, 0.22) };
    let sway = 0.25 * dice.normal();
    world.of_class(Class::Animal, |world| {
        let at = |p: V3| frame.point(p * size);
        let skin = world.seed.wrapping_add(world.surfaces.len() as u32);
        let (deep, wide) = plan.trunk;
        let middle = 1.0 - 0.5 * deep;
        let (front, back) = (0.5 * plan.length, -0.5 * plan.length);
        let mut lump = |centre: V3, radii: V3, material: Material| {
            let frame = frame.at(centre * size);
            let surface = world.add(Shape::Ellipsoid { frame, radii: radii * size }, material);
            surface.seed = skin;
            surface.anchor = centre * size;
            if spots {
                surface.pattern = Pattern::Coat { patch, kelvin: contrast };
            }
        };
        lump(v3(0.0, middle + 0.02, 0.72 * front), v3(0.9 * wide, 0.55 * deep, 0.32), coat);
        lump(v3(0.0, middle - 0.02, 0.0), v3(wide, 0.52 * deep, 0.62 * plan.length), coat);
        lump(
            v3(0.0, middle + 0.03, 0.75 * back),
            v3(0.92 * wide, 0.52 * deep, 0.3),
            coat.warmer(0.5),
        );
        // Belly and, under the hips, bare skin.
        lump(v3(0.0, middle - 0.36 * deep, 0.35 * back), v3(0.7 * wide, 0.22 * deep, 0.3), thin);
        if plan.udder {
            lump(
                v3(0.0, middle - 0.6 * deep, 0.72 * back),
                v3(0.55 * wide, 0.2 * deep, 0.13),
                bare,
            );
        }
        let mut turn = phase;
        for (x, z, hind) in
            [(-1.0, front, false), (1.0, front, false), (-1.0, back, true), (1.0, back, true)]
        {
            turn += if hind { 1.3 } else { std::f32::consts::PI };
            let hip = at(v3(x * 0.55 * wide, middle - 0.1 * deep, z * 0.86));
            let lift = if stride > 0.0 { 0.1 * turn.cos().max(0.0) } else { 0.0 };
            let foot = at(v3(x * 0.5 * wide, 0.03 + lift, z * 0.9 + stride * turn.sin()));
            let half = 0.518 * (middle - 0.1 * deep - 0.03) * size;
            let pole = frame.direction(v3(0.0, 0.0, if hind { -1.0 } else { 0.5 }));
            let (knee, end) = two_bones(hip, foot, half, half, pole);
            let (upper, lower) = plan.leg;
            let thick = if hind { 1.35 } else { 1.1 };
            limb(world, (hip, knee), (upper * thick * size, lower * 1.25 * size), coat);
            limb(world, (knee, end), (lower * 1.2 * size, lower * 0.85 * size), legs);
            limb(
                world,
                (end, end + frame.direction(v3(0.0, -0.02, 0.05)) * size),
                (lower * size, lower * 0.9 * size),
                legs.warmer(-0.3 * legs.heat),
            );
        }
        // Neck and head.
        let (long, _, thick) = plan.neck;
        let root = v3(0.0, middle + 0.3 * deep, 0.95 * front);
        let up = v3(0.0, rise.sin(), rise.cos()) * long;
        let poll = root + up + v3(sway * 0.4 * long, 0.0, 0.0);
        limb(world, (at(root), at(poll)), (1.25 * thick * size, 0.8 * thick * size), coat);
        let nod = (rise - 1.1).clamp(-1.2, -0.1);
        let (reach, round) = plan.head;
        let ahead = v3(sway * 0.6, nod.sin(), nod.cos()).normalized();
        let muzzle = poll + ahead * (reach - 0.4 * round);
        limb(world, (at(poll), at(muzzle)), (round * size, 0.55 * round * size), thin);
        limb(
            world,
            (at(muzzle), at(muzzle + ahead * (0.2 * round))),
            (0.5 * round * size, 0.38 * round * size),
            bare.warmer(-2.0),
        );
        for x in [-1.0, 1.0] {
            let eye = poll + ahead * (0.45 * reach) + v3(x * 0.75 * round, 0.35 * round, 0.0);
            limb(world, (at(eye), at(eye)), (0.2 * round * size, 0.2 * round * size), eyes);
            let ear = poll + v3(x * 0.75 * round, 0.7 * round, 0.0);
            let tip = ear + v3(x * 0.7, 0.75, -0.1).normalized() * plan.ears;
            limb(
                world,
                (at(ear), at(tip)),
                (0.3 * plan.ears * size, 0.12 * plan.ears * size),
                bare.warmer(-1.0),
            );
            if plan.horns > 0.0 {
                let tip = ear + v3(x * 0.9, 0.8, 0.3).normalized() * plan.horns;
                limb(
                    world,
                    (at(ear), at(tip)),
                    (0.03 * size, 0.012 * size),
                    body(&world.weather.clone(), 0.8, 0.1),
                );
            }
        }
        let (length, thick) = plan.tail;
        let root = v3(0.0, middle + 0.3 * deep, 1.15 * back);
        let tip = root + v3(0.3 * sway, -0.75, -0.45).normalized() * length;
        limb(
            world,
            (at(root), at(tip)),
            (thick * size, 0.7 * thick * size),
            coat.warmer(-0.4 * coat.heat),
        );
    });
}

fn limb(world: &mut World, (a, b): (V3, V3), (ra, rb): (f32, f32), material: Material) {
    world.add(Shape::Limb { a, b, ra, rb }, material);
}
