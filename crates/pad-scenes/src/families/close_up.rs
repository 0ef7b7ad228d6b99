//! One subject that fills the frame: a face, a bust, an animal in its stall.

use std::f32::consts::PI;

use super::room::{Walls, shell};
use crate::{
    camera::{Camera, View},
    class::Class,
    dice::Dice,
    material::{CONCRETE, PLASTER, POLE, SHEET, WOOD, open_ground},
    pattern::Pattern,
    places::{block, bush, random_tree, treeline},
    shape::Shape,
    size::Size,
    things::{AnimalKind, Pose, animal, person},
    vector::{Frame, V3, v3},
    weather::{Weather, ZERO_CELSIUS},
    world::World,
};

pub(crate) fn build(weather: Weather, size: Size, things: usize, dice: &mut Dice) -> World {
    if dice.chance(0.6) {
        portrait(weather, size, things, dice)
    } else {
        stall(weather, size, things, dice)
    }
}

fn looking_at(eye: V3, target: V3, field: f32, size: Size, dice: &mut Dice) -> Camera {
    let line = target - eye;
    let flat = line.x.hypot(line.z);
    let view = View {
        yaw: line.x.atan2(line.z) + 0.04 * field * dice.normal(),
        pitch: line.y.atan2(flat),
        roll: 0.02 * dice.normal(),
        field,
    };
    Camera::new(eye, view, size)
}

/// Builds a portrait: people from the chest up, indoors or out.
fn portrait(weather: Weather, size: Size, things: usize, dice: &mut Dice) -> World {
    let outside = weather.air - ZERO_CELSIUS;
    let indoor = dice.chance(0.6);
    let weather = if indoor { weather.indoors(dice.between(18.0, 25.0)) } else { weather };
    let height = dice.between(1.58, 1.9);
    let distance = dice.log_between(0.75, 2.4);
    let target = v3(0.0, height * dice.between(0.84, 0.95), 0.0);
    let eye = v3(0.25 * dice.normal(), target.y + 0.12 * dice.normal(), -distance);
    let camera = looking_at(eye, target, dice.between(0.5, 0.95), size, dice);
    let mut world = World::new(weather, camera, dice.seed());
    if indoor {
        let walls = Walls { half: (dice.between(1.6, 3.5), dice.between(2.6, 5.0)), height: 2.6 };
        shell(&mut world, dice, walls, outside);
        for _ in 0..dice.count(0, 4) {
            let half = v3(dice.between(0.2, 0.6), dice.between(0.2, 0.9), 0.2);
            let at = v3(dice.between(-1.5, 1.5), half.y, walls.half.1 - 0.3);
            let frame = Frame::upright(v3(0.0, 0.0, 0.0), 0.0);
            let heat = dice.between(-2.0, 5.0);
            world.add(block(&frame, at, half), WOOD.varied(dice).warmer(heat));
        }
    } else {
        let ground = open_ground(&world.weather, dice);
        world.ground = Some((ground, Class::Ground, None));
        for _ in 0..dice.count(1, 5) {
            let at = v3(dice.between(-8.0, 8.0), 0.0, dice.between(5.0, 30.0));
            let height = dice.between(4.0, 9.0);
            if dice.chance(0.6) {
                random_tree(&mut world, dice, at, height)
            } else {
                bush(&mut world, dice, at, 1.3)
            }
        }
        let far = dice.between(40.0, 120.0);
        treeline(&mut world, dice, (v3(-far, 0.0, far), v3(far, 0.0, far)), 10.0);
    }
    // Roughly towards the camera.
    let facing = PI + 0.45 * dice.normal();
    world.occupy(0.0, 0.0, 0.3);
    person(&mut world, dice, Frame::upright(v3(0.0, 0.0, 0.0), facing), height, Pose::Stand);
    for _ in 1..things.clamp(1, 5) {
        let at = v3(dice.between(-1.4, 1.4), 0.0, dice.between(0.2, 2.2));
        if world.take(at.x, at.z, 0.3) {
            let (yaw, height) = (PI + 0.8 * dice.normal(), dice.between(1.5, 1.9));
            person(&mut world, dice, Frame::upright(at, yaw), height, Pose::Stand);
        }
    }
    world
}

/// Builds a stall: a large animal close by, between bars and walls.
fn stall(weather: Weather, size: Size, things: usize, dice: &mut Dice) -> World {
    let celsius = (0.6 * (weather.air - ZERO_CELSIUS) + 6.0).clamp(4.0, 28.0);
    let weather = weather.indoors(celsius);
    let kind = dice.pick([
        AnimalKind::Cow,
        AnimalKind::Cow,
        AnimalKind::Cow,
        AnimalKind::Horse,
        AnimalKind::Sheep,
        AnimalKind::Dog,
        AnimalKind::Boar,
    ]);
    let small = matches!(kind, AnimalKind::Sheep | AnimalKind::Dog | AnimalKind::Boar);
    let scale = if small { 0.5 } else { 1.0 };
    let target = v3(dice.between(-0.5, 0.5), dice.between(0.45, 1.0), 0.0) * scale;
    let distance = dice.log_between(1.7, 4.0) * scale;
    let eye = v3(0.5 * dice.normal(), dice.between(0.5, 1.5), -distance);
    let camera = looking_at(eye, target, dice.between(0.6, 1.0), size, dice);
    let mut world = World::new(weather, camera, dice.seed());
    let outside = celsius - 8.0;
    let walls = Walls { half: (4.0, dice.between(1.8, 4.0)), height: 3.0 };
    shell(&mut world, dice, walls, outside);
    world.occupy(0.0, 0.0, 0.9);
    let yaw = PI * 0.5 * dice.sign() + 0.45 * dice.normal();
    animal(&mut world, dice, Frame::upright(v3(0.0, 0.0, 0.0), yaw), kind);
    for _ in 1..things.clamp(1, 3) {
        let at = v3(dice.between(-2.5, 2.5), 0.0, dice.between(0.4, 1.7));
        if world.take(at.x, at.z, 0.7) {
            if dice.chance(0.25) {
                let yaw = dice.angle();
                person(&mut world, dice, Frame::upright(at, yaw), 1.75, Pose::Stand);
            } else {
                let yaw = dice.angle();
                animal(&mut world, dice, Frame::upright(at, yaw), kind);
            }
        }
    }
    // Bars, posts and boards, in front and behind.
    let metal = POLE.varied(dice).warmer(dice.between(-1.0, 1.0));
    for number in 0..dice.count(1, 5) {
        let before = number == 0 && dice.chance(0.6);
        let z = if before { -0.5 * distance } else { dice.between(0.7, 1.6) };
        let y = dice.between(0.3, 1.5);
        if dice.chance(0.55) {
            world.add(
                Shape::Limb { a: v3(-4.0, y, z), b: v3(4.0, y + 0.1, z), ra: 0.03, rb: 0.03 },
                metal,
            );
        } else {
            let x = dice.between(-1.6, 1.6);
            world.add(
                Shape::Limb { a: v3(x, 0.0, z), b: v3(x, 3.0, z), ra: 0.045, rb: 0.045 },
                metal,
            );
        }
    }
    for _ in 0..dice.count(0, 3) {
        let at = v3(dice.between(-2.0, 2.0), 0.0, dice.between(0.9, 1.7));
        let frame = Frame::upright(at, 0.2 * dice.normal());
        let half = v3(dice.between(0.3, 1.0), dice.between(0.3, 1.0), 0.04);
        let board = dice
            .pick([WOOD, SHEET, CONCRETE, PLASTER])
            .varied(dice)
            .warmer(dice.between(-1.5, 1.5));
        let body = world.add(block(&frame, v3(0.0, half.y, 0.0), half), board);
        body.pattern = Pattern::Wall { half: half.y, top: 0.6, stain: 0.7 };
    }
    if dice.chance(0.4) {
        let frame = Frame::upright(v3(dice.between(-0.8, 0.8), 0.25, -0.45 * distance), 0.0);
        let (radius, heat) = (dice.between(0.12, 0.22), dice.between(-4.0, 6.0));
        world.add(Shape::Cylinder { frame, radius, half: 0.25 }, PLASTER.warmer(heat));
    }
    world
}
