//! Open country at eye height: meadows, woods, shores, tracks; animals and hikers.

use super::cast::{beast, cycle, vehicle, walker};
use crate::{
    camera::{Camera, View},
    class::Class,
    dice::Dice,
    ground::{Area, Curve, Rows},
    material::{GRASS, Material, SOIL, WATER, open_ground},
    places::{Road, bush, fence, hall, house, random_tree, treeline, trunk, wires},
    shape::Shape,
    size::Size,
    things::{AnimalKind, CarState},
    vector::{Frame, V3, v3},
    weather::Weather,
    world::World,
};

pub(crate) fn build(weather: Weather, size: Size, things: usize, dice: &mut Dice) -> World {
    let woods = dice.chance(0.3);
    let view = View {
        yaw: 0.0,
        pitch: -dice.between(0.0, 0.16) + if woods { 0.04 } else { 0.0 },
        roll: 0.012 * dice.normal(),
        field: dice.log_between(0.25, 1.0),
    };
    let eye = v3(0.0, dice.log_between(0.8, 4.5), 0.0);
    let mut world = World::new(weather, Camera::new(eye, view, size), dice.seed());
    world.occupy(0.0, 0.0, 1.5);
    let ground = open_ground(&world.weather, dice);
    let rows = dice.chance(0.2).then(|| Rows {
        yaw: dice.between(-0.7, 0.7),
        pitch: dice.between(0.6, 2.2),
        kelvin: dice.between(0.5, 2.0),
    });
    world.ground = Some((ground, Class::Ground, rows));
    patches(&mut world, dice);
    let track = dice.chance(0.45).then(|| track(&mut world, dice));
    hills(&mut world, dice);
    if woods {
        for _ in 0..dice.count(8, 34) {
            if let Some(at) = world.ground_in_view(dice, 3.0, 45.0, 4)
                && world.take(at.x, at.z, 0.9)
            {
                let radius = dice.log_between(0.08, 0.32);
                trunk(&mut world, dice, at, radius);
            }
        }
        let far = dice.between(40.0, 70.0);
        treeline(&mut world, dice, (v3(-far, 0.0, far), v3(far, 0.0, far)), 16.0);
    } else {
        for _ in 0..dice.count(1, 3) {
            let far = dice.log_between(60.0, 300.0);
            let (left, right) = (dice.between(-1.2, -0.1) * far, dice.between(0.1, 1.2) * far);
            let height = dice.between(7.0, 16.0);
            let ends = (v3(left, 0.0, far), v3(right, 0.0, far * dice.between(0.8, 1.3)));
            treeline(&mut world, dice, ends, height);
        }
        scatter(&mut world, dice);
    }
    let herd = dice.pick([
        AnimalKind::Cow,
        AnimalKind::Cow,
        AnimalKind::Horse,
        AnimalKind::Sheep,
        AnimalKind::Deer,
        AnimalKind::Deer,
        AnimalKind::Boar,
        AnimalKind::Dog,
        AnimalKind::Fox,
    ]);
    let mut heart: Option<V3> = None;
    for _ in 0..things {
        let kind = dice.weighted(&[0.58, 0.24, 0.08, 0.06]);
        for _ in 0..10 {
            let Some(mut at) = world.ground_in_view(dice, 3.0, 60.0, 8) else {
                break;
            };
            let tracked = match (&track, kind) {
                (Some(curve), 2 | 3) => Some(curve),
                _ => None,
            };
            let mut yaw = dice.angle();
            if let Some(curve) = tracked {
                let (along, _) = curve.coordinates(at.x, at.z);
                at = curve.point(along, 0.0);
                yaw = curve.yaw(along) + if dice.chance(0.5) { 0.0 } else { std::f32::consts::PI };
            }
            if let (0, Some(middle)) = (kind, heart) {
                // Herds stay together.
                if dice.chance(0.6) {
                    at = middle + v3(4.0 * dice.normal(), 0.0, 6.0 * dice.normal());
                }
            }
            let stranger = dice.chance(0.12);
            let done = match kind {
                0 => beast(&mut world, dice, at, if stranger { AnimalKind::Dog } else { herd }),
                1 => walker(&mut world, dice, at, yaw),
                2 => cycle(&mut world, dice, at, yaw, true),
                _ => vehicle(&mut world, dice, at, yaw, CarState::Running),
            };
            if done {
                if kind == 0 {
                    heart = heart.or(Some(at));
                }
                break;
            }
        }
    }
    world
}

fn patches(world: &mut World, dice: &mut Dice) {
    for _ in 0..dice.count(1, 6) {
        let Some(at) = world.ground_in_view(dice, 4.0, 60.0, 4) else {
            continue;
        };
        let (radius, seed) = (dice.between(0.8, 9.0), dice.seed());
        let material = dice.pick([SOIL, GRASS, Material { solar: 11.0, ..GRASS }]).varied(dice);
        let area = Area::Patch { centre: (at.x, at.z), radius, roughness: 0.5, seed };
        world.lay(area, material, Class::Ground);
    }
    if dice.chance(0.25) {
        let far = dice.between(12.0, 60.0);
        let mut curve =
            Curve::straight((0.0, far), std::f32::consts::FRAC_PI_2 + 0.15 * dice.normal());
        curve.amplitude = dice.between(0.5, 4.0);
        curve.wavelength = dice.between(20.0, 90.0);
        let half = dice.log_between(2.0, 60.0);
        let band = |half: f32| Area::Band {
            curve,
            across: -half,
            half,
            from: -1e3,
            to: 1e3,
            dashes: None,
        };
        world.lay(band(half + 0.8), SOIL.varied(dice), Class::Ground);
        world.lay(band(half), WATER.varied(dice), Class::Ground);
    }
}

fn track(world: &mut World, dice: &mut Dice) -> Curve {
    let mut curve = Curve::straight((dice.between(-5.0, 5.0), 0.0), dice.between(-0.5, 0.5));
    curve.amplitude = dice.between(0.0, 5.0);
    curve.wavelength = dice.between(40.0, 160.0);
    let half = dice.between(0.7, 3.0);
    let material = if half > 2.0 { Road::surface(world, dice) } else { SOIL.varied(dice) };
    let class = if half > 1.4 { Class::Road } else { Class::Ground };
    let area = Area::Band { curve, across: 0.0, half, from: -50.0, to: 600.0, dashes: None };
    world.lay(area, material, class);
    if half < 2.0 {
        let middle = Area::Band {
            curve,
            across: 0.0,
            half: 0.3 * half,
            from: -50.0,
            to: 600.0,
            dashes: None,
        };
        world.lay(middle, GRASS.varied(dice), Class::Ground);
    }
    curve
}

fn hills(world: &mut World, dice: &mut Dice) {
    for _ in 0..dice.count(0, 4) {
        let far = dice.between(350.0, 900.0);
        let frame = Frame::upright(
            v3(dice.between(-0.8, 0.8) * far, -0.03 * far, far),
            0.3 * dice.normal(),
        );
        let radii = v3(dice.between(0.3, 0.8) * far, dice.between(0.08, 0.2) * far, 0.25 * far);
        let material =
            Material { scale: 0.1 * far, grain: 2.0, ..open_ground(&world.weather, dice) };
        world.of_class(Class::Ground, |world| {
            world.add(Shape::Ellipsoid { frame, radii }, material);
        });
    }
}

fn scatter(world: &mut World, dice: &mut Dice) {
    for _ in 0..dice.count(0, 7) {
        if let Some(at) = world.ground_in_view(dice, 8.0, 110.0, 4) {
            let height = dice.between(4.0, 13.0);
            if world.take(at.x, at.z, 1.2) {
                random_tree(world, dice, at, height);
            }
        }
    }
    for _ in 0..dice.count(0, 6) {
        if let Some(at) = world.ground_in_view(dice, 5.0, 60.0, 4) {
            let height = dice.between(0.4, 1.8);
            if world.take(at.x, at.z, height) {
                bush(world, dice, at, height);
            }
        }
    }
    if dice.chance(0.35) {
        let near = dice.between(4.0, 28.0);
        let slope = 0.35 * dice.normal();
        let height = dice.between(0.9, 1.6);
        fence(
            world,
            dice,
            (
                v3(-1.3 * near - 8.0, 0.0, near * (1.0 - slope)),
                v3(1.3 * near + 8.0, 0.0, near * (1.0 + slope)),
            ),
            height,
        );
    }
    if dice.chance(0.25) {
        let (far, step) = (dice.between(15.0, 80.0), dice.between(20.0, 40.0));
        let feet: Vec<V3> =
            (0..6).map(|n| v3((n as f32 - 2.5) * step, 0.0, far + 6.0 * n as f32)).collect();
        let height = dice.between(7.0, 10.0);
        wires(world, dice, &feet, height);
    }
    if dice.chance(0.35)
        && let Some(at) = world.ground_in_view(dice, 25.0, 90.0, 6)
    {
        let frame = Frame::upright(at, dice.angle());
        if dice.chance(0.5) {
            let half = v3(dice.between(4.0, 12.0), dice.between(1.4, 3.0), dice.between(3.0, 6.0));
            hall(world, dice, frame, half);
        } else {
            let half = v3(dice.between(4.0, 7.0), dice.between(1.4, 2.8), 4.5);
            house(world, dice, frame, half);
        }
    }
}
