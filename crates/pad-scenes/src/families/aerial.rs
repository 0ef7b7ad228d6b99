//! Views from above: masts and drones over car parks, crossings, parks, roofs, panels, fields,
//! shores.

use super::{
    cast::{along_or_across, beast, cycle, parked, vehicle, walker},
    site::{Site, SiteKind, Spots},
};
use crate::{
    camera::{Camera, View},
    class::Class,
    dice::Dice,
    ground::{Area, Effect},
    material::open_ground,
    size::Size,
    things::{AnimalKind, CarState},
    vector::{V3, v3},
    weather::Weather,
    world::World,
};

/// Builds a scene seen from a mast or a roof, 4 to 16 m above the ground.
pub(crate) fn mast(weather: Weather, size: Size, things: usize, dice: &mut Dice) -> World {
    let height = dice.log_between(3.8, 16.0);
    let view = View {
        yaw: dice.angle(),
        pitch: -dice.between(0.24, 0.8),
        roll: 0.01 * dice.normal(),
        field: dice.log_between(0.5, 1.15),
    };
    let kind = match dice.weighted(&[0.35, 0.3, 0.2, 0.15]) {
        0 => SiteKind::CarPark,
        1 => SiteKind::Crossing,
        2 => SiteKind::Park,
        _ => SiteKind::Court,
    };
    survey(weather, Camera::new(v3(0.0, height, 0.0), view, size), kind, things, dice)
}

/// Builds a scene seen from a drone, 22 to 95 m above the ground.
pub(crate) fn drone(weather: Weather, size: Size, things: usize, dice: &mut Dice) -> World {
    let height = dice.log_between(22.0, 95.0);
    let down = -std::f32::consts::FRAC_PI_2;
    let pitch =
        if dice.chance(0.45) { down + dice.between(0.0, 0.12) } else { -dice.between(0.5, 1.3) };
    let view = View {
        yaw: dice.angle(),
        pitch,
        roll: 0.02 * dice.normal(),
        field: dice.log_between(0.5, 1.0),
    };
    let kind = match dice.weighted(&[0.2, 0.17, 0.15, 0.12, 0.16, 0.07, 0.09, 0.04]) {
        0 => SiteKind::CarPark,
        1 => SiteKind::Crossing,
        2 => SiteKind::Park,
        3 => SiteKind::Court,
        4 => SiteKind::Houses,
        5 => SiteKind::Panels,
        6 => SiteKind::Farmland,
        _ => SiteKind::Shore,
    };
    survey(weather, Camera::new(v3(0.0, height, 0.0), view, size), kind, things, dice)
}

fn survey(
    weather: Weather,
    camera: Camera,
    kind: SiteKind,
    things: usize,
    dice: &mut Dice,
) -> World {
    let eye = camera.frame.origin;
    let forward = camera.frame.forward;
    let slope = (-forward.y).max(0.15);
    let look = eye + forward * (eye.y / slope);
    // About half the extent of what is in view.
    let wide = 0.5 * camera.size.height.max(camera.size.width) as f32 / camera.focal;
    let extent = (wide * eye.y / slope / slope.sqrt()).clamp(12.0, 160.0);
    let mut world = World::new(weather, camera, dice.seed());
    let ground = open_ground(&world.weather, dice);
    world.ground = Some((ground, Class::Ground, None));
    if eye.y < 20.0 {
        world.occupy(eye.x, eye.z, 3.0);
    }
    let centre = (look.x + 0.15 * extent * dice.normal(), look.z + 0.15 * extent * dice.normal());
    let site = Site { kind, centre, yaw: dice.angle(), extent };
    let spots = build(&site, &mut world, dice);
    streaks(&mut world, dice, &site);
    populate(&mut world, dice, &site, spots, things);
    world
}

/// Adds worn traces to the ground: long faint ones along and across the site, and a few short
/// strong ones.
fn streaks(world: &mut World, dice: &mut Dice, site: &Site) {
    for _ in 0..dice.count(3, 14) {
        let centre = (
            site.centre.0 + dice.between(-1.2, 1.2) * site.extent,
            site.centre.1 + dice.between(-1.2, 1.2) * site.extent,
        );
        let turn = dice.pick([0.0, std::f32::consts::FRAC_PI_2]) + 0.12 * dice.normal();
        let long = dice.log_between(0.04, 0.9) * site.extent;
        let wide = (0.25 * long).min(dice.log_between(0.15, 2.5));
        let area = Area::Ellipse { centre, radii: (wide, long), yaw: site.yaw + turn, ring: None };
        let kelvin = 0.45 * dice.normal() * world.weather.contrast;
        world.stain(area, 0.8 * wide, Effect::Heat(kelvin));
    }
}

fn populate(world: &mut World, dice: &mut Dice, site: &Site, spots: Spots, things: usize) {
    let mut slots = spots.slots;
    let mut lanes = spots.lanes;
    let nearest = 0.8 * world.camera.frame.origin.y.min(12.0);
    let farthest = 3.0 * site.extent + world.camera.frame.origin.y;
    // Only slots and lanes in view are used.
    let (width, height) = (world.camera.size.width as f32, world.camera.size.height as f32);
    let camera = world.camera;
    let seen = |p: V3| {
        camera.project(p).is_some_and(|(x, y, _)| x > 0.0 && x < width && y > 0.0 && y < height)
    };
    slots.retain(|slot| seen(slot.0));
    lanes.retain(|lane| seen(lane.0));
    let weights = spots.weights;
    for _ in 0..things {
        for _ in 0..12 {
            let done = match dice.weighted(&weights) {
                0 if !slots.is_empty() => {
                    let (at, yaw) = slots.swap_remove(dice.below(slots.len()));
                    let state = parked(dice);
                    vehicle(world, dice, at, yaw, state)
                }
                1 if !lanes.is_empty() => {
                    let (at, yaw) = lanes.swap_remove(dice.below(lanes.len()));
                    vehicle(world, dice, at, yaw, CarState::Running)
                }
                2 => match world.ground_in_view(dice, nearest, farthest, 8) {
                    Some(at) => {
                        let yaw = along_or_across(dice, site.yaw);
                        let first = walker(world, dice, at, yaw);
                        if first && dice.chance(0.3) {
                            let beside = at
                                + v3(
                                    dice.between(0.7, 1.1) * dice.sign(),
                                    0.0,
                                    dice.between(-0.8, 0.8),
                                );
                            walker(world, dice, beside, yaw);
                        }
                        first
                    }
                    None => false,
                },
                3 => match world.ground_in_view(dice, nearest, farthest, 8) {
                    Some(at) => {
                        let (yaw, ridden) = (along_or_across(dice, site.yaw), dice.chance(0.6));
                        cycle(world, dice, at, yaw, ridden)
                    }
                    None => false,
                },
                4 => match world.ground_in_view(dice, nearest, farthest, 8) {
                    Some(at) => {
                        let farm = [
                            AnimalKind::Cow,
                            AnimalKind::Sheep,
                            AnimalKind::Horse,
                            AnimalKind::Deer,
                            AnimalKind::Boar,
                        ];
                        let pet = [
                            AnimalKind::Dog,
                            AnimalKind::Dog,
                            AnimalKind::Dog,
                            AnimalKind::Cat,
                            AnimalKind::Fox,
                        ];
                        let rural = matches!(site.kind, SiteKind::Farmland | SiteKind::Panels);
                        let kind = if rural { dice.pick(farm) } else { dice.pick(pet) };
                        beast(world, dice, at, kind)
                    }
                    None => false,
                },
                _ => false,
            };
            if done {
                break;
            }
        }
    }
}

/// Builds the site and returns where objects may be placed.
fn build(site: &Site, world: &mut World, dice: &mut Dice) -> Spots {
    match site.kind {
        SiteKind::CarPark => site.car_park(world, dice),
        SiteKind::Crossing => site.crossing(world, dice),
        SiteKind::Park => site.park(world, dice),
        SiteKind::Court => site.court(world, dice),
        SiteKind::Houses => site.houses(world, dice),
        SiteKind::Panels => site.panels(world, dice),
        SiteKind::Farmland => site.farmland(world, dice),
        SiteKind::Shore => site.shore(world, dice),
    }
}
