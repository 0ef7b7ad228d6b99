//! People, vehicles and animals, each placed where the ground is free.

use std::f32::consts::{FRAC_PI_2, TAU};

use crate::{
    dice::Dice,
    things::{AnimalKind, CarState, Pose, animal, bicycle, car, cyclist, person},
    vector::{Frame, V3},
    world::World,
};

/// Somebody's height, metres: grown-ups and, now and then, children.
pub(super) fn stature(dice: &mut Dice) -> f32 {
    if dice.chance(0.15) { dice.between(0.95, 1.5) } else { dice.between(1.55, 1.92) }
}

/// Someone on foot at `at`, if there is room; often with company.
pub(super) fn walker(world: &mut World, dice: &mut Dice, at: V3, yaw: f32) -> bool {
    if !world.take(at.x, at.z, 0.35) {
        return false;
    }
    let pose = if dice.chance(0.65) { Pose::Walk } else { Pose::Stand };
    let height = stature(dice);
    person(world, dice, Frame::upright(at, yaw), height, pose);
    true
}

/// A bicycle at `at`, ridden or parked.
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

pub(super) fn beast(world: &mut World, dice: &mut Dice, at: V3, kind: AnimalKind) -> bool {
    let room = match kind {
        AnimalKind::Cow | AnimalKind::Horse => 1.1,
        AnimalKind::Dog | AnimalKind::Cat | AnimalKind::Fox => 0.4,
        AnimalKind::Sheep | AnimalKind::Deer | AnimalKind::Boar => 0.7,
    };
    if !world.take(at.x, at.z, room) {
        return false;
    }
    let yaw = dice.angle();
    animal(world, dice, Frame::upright(at, yaw), kind);
    true
}

pub(super) fn parked(dice: &mut Dice) -> CarState {
    if dice.chance(0.65) { CarState::Cold } else { CarState::Cooling }
}

/// Yaw along a line, either way.
pub(super) fn either_way(dice: &mut Dice, yaw: f32) -> f32 {
    yaw + if dice.chance(0.5) { 0.0 } else { 0.5 * TAU }
}

/// Yaw of someone who goes along a line or crosses it.
pub(super) fn along_or_across(dice: &mut Dice, yaw: f32) -> f32 {
    let turn = if dice.chance(0.7) { 0.0 } else { FRAC_PI_2 };
    either_way(dice, yaw + turn) + 0.25 * dice.normal()
}
