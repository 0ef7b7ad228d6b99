//! Sites seen from above.

use std::f32::consts::PI;

use crate::{
    dice::Dice,
    ground::{Area, Curve},
    places::{Road, bush, random_tree},
    vector::{Frame, V3, v3},
    world::World,
};

/// The kind of a site.
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

/// A site: its centre, main direction and half extent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub(crate) kind: SiteKind,
    pub(crate) centre: (f32, f32),
    pub(crate) yaw: f32,
    pub(crate) extent: f32,
}

/// The positions at which objects may be placed.
pub(crate) struct Spots {
    /// Parking slots, with the yaw of a parked car.
    pub(crate) slots: Vec<(V3, f32)>,
    /// Points of lanes, with the driving direction.
    pub(crate) lanes: Vec<(V3, f32)>,
    /// Weights of parked cars, moving cars, people, bicycles, animals.
    pub(crate) weights: [f32; 5],
}

impl Site {
    /// Returns the frame at (right, forward) metres from the centre.
    pub(super) fn frame(&self, right: f32, forward: f32) -> Frame {
        let frame = Frame::upright(v3(self.centre.0, 0.0, self.centre.1), self.yaw);
        frame.at(v3(right, 0.0, forward))
    }

    pub(super) fn rectangle(&self, right: f32, forward: f32, half: (f32, f32)) -> Area {
        let at = self.frame(right, forward).origin;
        Area::Rectangle { centre: (at.x, at.z), half, yaw: self.yaw }
    }

    pub(super) fn road(&self, right: f32, forward: f32, turn: f32, dice: &mut Dice) -> Road {
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

    pub(super) fn lanes(road: &Road, extent: f32, dice: &mut Dice) -> Vec<(V3, f32)> {
        (0..24)
            .map(|_| {
                let along = dice.between(-1.5, 1.5) * extent;
                let side = dice.sign();
                let yaw = road.curve.yaw(along) + if side > 0.0 { 0.0 } else { PI };
                (road.curve.point(along, side * 0.48 * road.half), yaw)
            })
            .collect()
    }

    /// Adds trees and bushes where the site is free.
    pub(super) fn plant(&self, world: &mut World, dice: &mut Dice, count: usize, clear: f32) {
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
}
