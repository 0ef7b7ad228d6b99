//! Bicycles, and people who ride them.

use super::person::{Pose, person};
use crate::{
    class::Class,
    dice::Dice,
    material::{POLE, RUBBER},
    shape::Shape,
    vector::{Frame, V3, v3},
    world::World,
};

const WHEEL: f32 = 0.34;
const AXLE: f32 = 0.53;

/// Adds a bicycle with its wheels on the ground at `frame`.
pub(crate) fn bicycle(world: &mut World, dice: &mut Dice, frame: Frame) {
    let tyre = RUBBER.warmer(dice.between(-1.0, 3.0)).varied(dice);
    let metal = POLE.warmer(dice.between(-2.0, 1.5)).varied(dice);
    let basket = dice.chance(0.3);
    let guards = dice.chance(0.5);
    world.of_class(Class::Bicycle, |world| {
        for z in [-AXLE, AXLE] {
            let axle = frame.at(v3(0.0, WHEEL, z)).rolled(std::f32::consts::FRAC_PI_2);
            world.add(Shape::Ring { frame: axle, outer: WHEEL, inner: WHEEL - 0.055 }, tyre);
            world.add(Shape::Tube { frame: axle, radius: WHEEL - 0.012, half: 0.022 }, tyre);
            world.add(Shape::Ring { frame: axle, outer: 0.05, inner: 0.0 }, metal);
            for spoke in 0..3 {
                let turn = spoke as f32 * 1.047 + 0.4;
                let tip = v3(0.0, turn.sin(), turn.cos()) * (WHEEL - 0.04);
                let middle = v3(0.0, WHEEL, z);
                tube(world, &frame, (middle - tip, middle + tip), 0.006, metal);
            }
        }
        if guards {
            let axle = frame.at(v3(0.0, WHEEL, -AXLE)).rolled(std::f32::consts::FRAC_PI_2);
            world.add(Shape::Tube { frame: axle, radius: WHEEL + 0.02, half: 0.03 }, metal);
        }
        let crank = v3(0.0, 0.29, -0.08);
        let seat = v3(0.0, 0.86, -0.24);
        let head = v3(0.0, 0.82, 0.36);
        let lower = v3(0.0, 0.68, 0.4);
        for (a, b) in [
            (crank, seat),
            (crank, lower),
            (seat + v3(0.0, -0.08, 0.02), head),
            (crank, v3(0.0, WHEEL, -AXLE)),
            (seat + v3(0.0, -0.1, 0.02), v3(0.0, WHEEL, -AXLE)),
            (lower, v3(0.0, WHEEL, AXLE)),
            (lower, v3(0.0, 1.0, 0.31)),
            (v3(-0.28, 1.02, 0.26), v3(0.28, 1.02, 0.26)),
        ] {
            tube(world, &frame, (a, b), 0.02, metal);
        }
        let saddle = frame.at(seat + v3(0.0, 0.06, -0.02));
        world.add(Shape::Ellipsoid { frame: saddle, radii: v3(0.08, 0.035, 0.13) }, tyre);
        if basket {
            let frame = frame.at(v3(0.0, 0.9, 0.52));
            world.add(Shape::Block { frame, half: v3(0.17, 0.12, 0.13) }, metal);
        }
    });
}

/// Adds a bicycle with its rider at `frame`.
pub(crate) fn cyclist(world: &mut World, dice: &mut Dice, frame: Frame) {
    bicycle(world, dice, frame);
    let pose = Pose::Ride {
        saddle: v3(0.0, 0.92, -0.24),
        bars: v3(0.0, 1.06, 0.24),
        pedals: v3(0.0, 0.29, -0.08),
        turn: dice.angle(),
    };
    let height = dice.between(1.55, 1.88);
    person(world, dice, frame, height, pose);
}

fn tube(
    world: &mut World,
    frame: &Frame,
    (a, b): (V3, V3),
    radius: f32,
    material: crate::material::Material,
) {
    world.add(
        Shape::Limb { a: frame.point(a), b: frame.point(b), ra: radius, rb: radius },
        material,
    );
}
