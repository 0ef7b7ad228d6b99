//! People: articulated bodies with warm heads and hands and cooler clothes.

use super::limbs::two_bones;
use crate::{
    class::Class,
    dice::Dice,
    face::FaceLook,
    material::{Material, RUBBER, body},
    pattern::Pattern,
    shape::Shape,
    vector::{Frame, V3, v3},
    weather::ZERO_CELSIUS,
    world::World,
};

/// The pose of a person.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pose {
    Stand,
    Walk,
    /// On a seat of this height, metres.
    Sit(f32),
    /// On a bicycle whose saddle, bars and pedals are here (in the person's frame, metres).
    Ride {
        saddle: V3,
        bars: V3,
        pedals: V3,
        turn: f32,
    },
}

/// Positions of hands, feet and head in the person's frame, in units of the height.
struct Stance {
    pelvis: V3,
    /// Forward lean of the trunk, radians.
    lean: f32,
    hands: [V3; 2],
    feet: [V3; 2],
    knees: V3,
}

/// The clothes of a person: the weight of the air's temperature for each layer, 0 to 1.
struct Clothes {
    top: Material,
    trousers: Material,
    sleeves: Material,
    shins: Material,
    shoes: Material,
    skin: Material,
    /// A coat or skirt down to this share of the legs; 0 without.
    skirt: f32,
    hat: Option<Material>,
    pack: Option<Material>,
    face: FaceLook,
}

const FULL: V3 = v3(0.05, 0.073, 0.06);

impl Clothes {
    fn draw(world: &World, height: f32, dice: &mut Dice) -> Self {
        let weather = &world.weather;
        let celsius = weather.air - ZERO_CELSIUS;
        let skin = body(weather, 0.0, 0.35);
        let cold = ((19.0 - celsius) / 20.0).clamp(0.0, 1.0);
        let layer = (0.34 + 0.5 * cold + 0.1 * dice.normal()).clamp(0.25, 0.93);
        let wrinkle = 0.5 + 0.7 * cold;
        let top = body(weather, layer, wrinkle);
        let trousers =
            body(weather, (0.42 + 0.28 * cold + 0.08 * dice.normal()).clamp(0.3, 0.85), 0.6);
        let bare = |chance: f32, dice: &mut Dice| dice.chance(chance * (1.0 - 1.6 * cold).max(0.0));
        let sleeves = if bare(0.7, dice) { skin } else { top };
        let shins = if bare(0.4, dice) { skin } else { trousers };
        let hair = skin.heat * -dice.between(0.3, 0.6) - 0.8;
        let radii = FULL * height;
        Self {
            top,
            trousers,
            sleeves,
            shins,
            shoes: Material { heat: 0.35 * trousers.heat, ..RUBBER },
            skin,
            skirt: if dice.chance(0.22) { dice.between(0.3, 0.65) } else { 0.0 },
            hat: dice.chance(0.15 + 0.3 * cold).then(|| body(weather, 0.75, 0.3)),
            pack: dice.chance(0.18).then(|| body(weather, 0.97, 0.4)),
            face: FaceLook {
                radii,
                hair,
                hairline: if dice.chance(0.12) { 0.8 } else { dice.between(0.4, 0.6) },
                beard: if dice.chance(0.2) { dice.between(0.5, 1.0) } else { 0.0 },
                glasses: if dice.chance(0.25) { 0.75 * hair - 2.0 } else { 0.0 },
            },
        }
    }
}

fn stance(pose: Pose, height: f32, dice: &mut Dice) -> Stance {
    let idle = |dice: &mut Dice, side: f32| match dice.weighted(&[0.6, 0.15, 0.15, 0.1]) {
        0 => v3(0.14 * side, 0.46 + 0.02 * dice.normal(), 0.02 * dice.normal()),
        // Hand at the ear, in front of the chest, on the hip.
        1 => v3(0.07 * side, 0.9, 0.07),
        2 => v3(0.05 * side, 0.66, 0.17),
        _ => v3(0.13 * side, 0.57, 0.06),
    };
    match pose {
        Pose::Stand => Stance {
            pelvis: v3(0.0, 0.53, 0.0),
            lean: 0.03 * dice.normal(),
            hands: [idle(dice, -1.0), idle(dice, 1.0)],
            feet: [-1.0, 1.0].map(|side| v3(side * 0.065, 0.035, 0.02 * dice.normal())),
            knees: v3(0.0, 0.0, 1.0),
        },
        Pose::Walk => {
            let phase = dice.angle();
            let swing = dice.between(0.11, 0.17);
            let foot = |turn: f32| {
                let lift = (turn.cos()).max(0.0) * 0.06;
                v3(0.0, 0.035 + lift, swing * turn.sin())
            };
            let other = phase + std::f32::consts::PI;
            let arm = |side: f32, turn: f32| {
                v3(0.14 * side, 0.48 + 0.03 * turn.sin(), 0.1 * turn.sin() + 0.03)
            };
            Stance {
                pelvis: v3(0.0, 0.525, 0.0),
                lean: 0.06,
                hands: [arm(-1.0, other), arm(1.0, phase)],
                feet: [foot(phase) + v3(-0.055, 0.0, 0.0), foot(other) + v3(0.055, 0.0, 0.0)],
                knees: v3(0.0, 0.0, 1.0),
            }
        }
        Pose::Sit(seat) => {
            let level = seat / height + 0.05;
            let reach = dice.between(0.2, 0.3);
            let hand = |dice: &mut Dice, side: f32| {
                v3(side * 0.09, level + 0.1 + dice.between(0.0, 0.12), dice.between(0.15, 0.28))
            };
            Stance {
                pelvis: v3(0.0, level, 0.0),
                lean: dice.between(-0.15, 0.25),
                hands: [hand(dice, -1.0), hand(dice, 1.0)],
                feet: [-1.0, 1.0].map(|side| v3(side * 0.08, 0.035, reach + 0.03 * dice.normal())),
                knees: v3(0.0, 1.0, 0.4),
            }
        }
        Pose::Ride { saddle, bars, pedals, turn } => {
            let per = 1.0 / height;
            let (sin, cos) = turn.sin_cos();
            let crank = v3(0.0, 0.16 * sin, 0.16 * cos);
            Stance {
                pelvis: saddle * per + v3(0.0, 0.05, 0.0),
                lean: dice.between(0.35, 0.75),
                hands: [-1.0, 1.0].map(|side| v3(side * 0.26 * per, bars.y * per, bars.z * per)),
                feet: [-1.0, 1.0]
                    .map(|side| (pedals + crank * side + v3(side * 0.12, 0.05, 0.0)) * per),
                knees: v3(0.0, 0.3, 1.0),
            }
        }
    }
}

/// Adds a person at `frame` (feet at its origin, looking along its forward axis).
pub(crate) fn person(world: &mut World, dice: &mut Dice, frame: Frame, height: f32, pose: Pose) {
    let clothes = Clothes::draw(world, height, dice);
    let stance = stance(pose, height, dice);
    let carries = matches!(pose, Pose::Walk | Pose::Stand) && dice.chance(0.2);
    let bag = v3(dice.between(0.03, 0.05), dice.between(0.05, 0.1), dice.between(0.07, 0.11));
    let turn = dice.between(-0.6, 0.6) * dice.unit();
    world.of_class(Class::Person, |world| {
        let at = |p: V3| frame.point(p * height);
        // Legs.
        for (side, foot) in [-1.0, 1.0].into_iter().zip(stance.feet) {
            let hip = at(stance.pelvis + v3(side * 0.052, -0.01, 0.0));
            let pole = frame.direction(stance.knees + v3(side * 0.12, 0.0, 0.0));
            let (knee, ankle) = two_bones(hip, at(foot), 0.245 * height, 0.245 * height, pole);
            limb(world, (hip, knee), (0.052, 0.038), height, clothes.trousers);
            limb(world, (knee, ankle), (0.037, 0.024), height, clothes.shins);
            let toe = ankle + frame.direction(v3(0.0, -0.012, 0.085)) * height;
            limb(
                world,
                (ankle + frame.direction(v3(0.0, -0.01, -0.01)) * height, toe),
                (0.026, 0.019),
                height,
                clothes.shoes,
            );
        }
        // Trunk, leaning about the hips.
        let trunk = Frame { origin: at(stance.pelvis), ..frame }.pitched(-stance.lean);
        let on = |p: V3| trunk.point(p * height);
        let mut ball = |centre: V3, radii: V3, material: Material| {
            let frame = trunk.at(centre * height);
            let surface = world.add(Shape::Ellipsoid { frame, radii: radii * height }, material);
            surface.pattern = weave(&material);
        };
        ball(v3(0.0, 0.0, -0.005), v3(0.094, 0.085, 0.072), clothes.trousers);
        ball(v3(0.0, 0.1, 0.0), v3(0.088, 0.13, 0.066), clothes.top);
        ball(v3(0.0, 0.2, -0.003), v3(0.105, 0.125, 0.07), clothes.top.warmer(0.4));
        let shoulders = (on(v3(-0.095, 0.272, 0.0)), on(v3(0.095, 0.272, 0.0)));
        limb(world, shoulders, (0.04, 0.04), height, clothes.top);
        if clothes.skirt > 0.0 && !matches!(pose, Pose::Ride { .. } | Pose::Sit(_)) {
            let hem = v3(0.0, stance.pelvis.y * (1.0 - clothes.skirt), 0.0);
            limb(world, (on(v3(0.0, 0.02, 0.0)), at(hem)), (0.085, 0.105), height, clothes.top);
        }
        // Arms.
        for (side, hand) in [-1.0, 1.0].into_iter().zip(stance.hands) {
            let shoulder = on(v3(side * 0.118, 0.27, 0.0));
            let pole = frame.direction(v3(side * 0.6, -0.3, -0.8));
            let (elbow, wrist) =
                two_bones(shoulder, at(hand), 0.165 * height, 0.145 * height, pole);
            limb(world, (shoulder, elbow), (0.032, 0.026), height, clothes.top);
            limb(world, (elbow, wrist), (0.026, 0.018), height, clothes.sleeves);
            let palm = wrist + (wrist - elbow).normalized() * (0.045 * height);
            limb(world, (wrist, palm), (0.02, 0.021), height, clothes.skin);
            if carries && side > 0.0 {
                let frame = Frame { origin: palm + v3(0.0, -bag.y * height, 0.0), ..frame };
                world.add(Shape::Block { frame, half: bag * height }, clothes.shoes);
            }
        }
        // Head: it stays level while the trunk leans.
        let neck = on(v3(0.0, 0.29, 0.0));
        let skull = on(v3(0.0, 0.4, 0.012));
        limb(world, (neck, skull), (0.032, 0.03), height, clothes.skin.warmer(0.3));
        let turned = Frame {
            origin: skull,
            right: frame.right * turn.cos() - frame.forward * turn.sin(),
            forward: frame.forward * turn.cos() + frame.right * turn.sin(),
            ..frame
        };
        let head =
            world.add(Shape::Ellipsoid { frame: turned, radii: clothes.face.radii }, clothes.skin);
        head.pattern = Pattern::Face(clothes.face);
        for side in [-1.0, 1.0] {
            let frame = turned.at(v3(side * 0.05, 0.0, -0.005) * height);
            world.add(
                Shape::Ellipsoid { frame, radii: v3(0.007, 0.02, 0.012) * height },
                clothes.skin.warmer(-1.5),
            );
        }
        if let Some(hat) = clothes.hat {
            let frame = turned.at(v3(0.0, 0.032, -0.006) * height);
            world.add(Shape::Ellipsoid { frame, radii: v3(0.056, 0.052, 0.066) * height }, hat);
        }
        if let Some(pack) = clothes.pack {
            let frame = trunk.at(v3(0.0, 0.17, -0.1) * height);
            world.add(Shape::Ellipsoid { frame, radii: v3(0.08, 0.12, 0.06) * height }, pack);
        }
    });
}

fn limb(world: &mut World, (a, b): (V3, V3), radii: (f32, f32), height: f32, material: Material) {
    let shape = Shape::Limb { a, b, ra: radii.0 * height, rb: radii.1 * height };
    world.add(shape, material).pattern = weave(&material);
}

/// Returns the pattern of clothes, whose folds show in proportion to the heat they hold back.
fn weave(material: &Material) -> Pattern {
    if material.solar < 3.0 {
        return Pattern::Plain;
    }
    Pattern::Cloth { fold: 0.13, kelvin: 0.35 + 0.16 * material.heat.max(0.0) }
}
