//! People, vehicles and animals, each placed where the ground is free.

use std::f32::consts::{FRAC_PI_2, TAU};

use crate::{
    dice::Dice,
    things::{AnimalKind, CarState, Pose, animal, bicycle, car, cyclist, person},
    vector::{Frame, V3},
    world::World,
};

/// Draws the height of a person, metres: an adult or, with probability 0.15, a child.
pub(super) fn stature(dice: &mut Dice) -> f32 {
    if dice.chance(0.15) { dice.between(0.95, 1.5) } else { dice.between(1.55, 1.92) }
}

/// Adds a pedestrian at `at`; `false` if the place is occupied.
pub(super) fn walker(world: &mut World, dice: &mut Dice, at: V3, yaw: f32) -> bool {
    if !world.take(at.x, at.z, 0.35) {
        return false;
    }
    let pose = if dice.chance(0.65) { Pose::Walk } else { Pose::Stand };
    let height = stature(dice);
    person(world, dice, Frame::upright(at, yaw), height, pose);
    true
}

/// Adds a bicycle at `at`, ridden or parked; `false` if the place is occupied.
pub(super) fn cycle(world: &mut World, dice: &mut Dice, at: V3, yaw: f32, ridden: bool) -> bool {
    if !world.take(at.x, at.z, 0.7) {
        return false;
    }
    let frame = Frame::upright(at, yaw);
    if ridden {
        cyclist(world, dice, frame)
    } else {
        bicycle(world, dice, frame)
    }
    true
}

/// Adds a car at `at`; `false` if the place is occupied.
pub(super) fn vehicle(
    world: &mut World,
    dice: &mut Dice,
    at: V3,
    yaw: f32,
    state: CarState,
) -> bool {
    if !world.take(at.x, at.z, 2.3) {
        return false;
    }
    car(world, dice, Frame::upright(at, yaw), state);
    true
}

/// Adds an animal at `at`; `false` if the place is occupied.
pub(super) fn beast(world: &mut World, dice: &mut Dice, at: V3, kind: AnimalKind) -> bool {
    let radius = match kind {
        AnimalKind::Cow | AnimalKind::Horse => 1.1,
        AnimalKind::Dog | AnimalKind::Cat | AnimalKind::Fox => 0.4,
        AnimalKind::Sheep | AnimalKind::Deer | AnimalKind::Boar => 0.7,
    };
    if !world.take(at.x, at.z, radius) {
        return false;
    }
    let yaw = dice.angle();
    animal(world, dice, Frame::upright(at, yaw), kind);
    true
}

/// Draws the state of a parked car.
pub(super) fn parked(dice: &mut Dice) -> CarState {
    if dice.chance(0.65) { CarState::Cold } else { CarState::Cooling }
}

/// Draws a yaw along a line, in either direction.
pub(super) fn either_way(dice: &mut Dice, yaw: f32) -> f32 {
    yaw + if dice.chance(0.5) { 0.0 } else { 0.5 * TAU }
}

/// Draws the yaw of a pedestrian who walks along a line or crosses it.
pub(super) fn along_or_across(dice: &mut Dice, yaw: f32) -> f32 {
    let turn = if dice.chance(0.7) { 0.0 } else { FRAC_PI_2 };
    either_way(dice, yaw + turn) + 0.25 * dice.normal()
}
