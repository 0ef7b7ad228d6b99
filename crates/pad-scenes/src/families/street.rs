//! Eye height in a street: facades, kerbs, parked and moving cars, people on the pavements.

use std::f32::consts::FRAC_PI_2;

use super::cast::{along_or_across, beast, cycle, either_way, parked, vehicle, walker};
use crate::{
    camera::{Camera, View},
    class::Class,
    dice::Dice,
    ground::Curve,
    material::{CONCRETE, PAVING, open_ground},
    places::{
        Road, bench, bin, block, bush, fence, hall, hedge, house, lamp, pole, random_tree, sign,
        tower, treeline, wires, zebra,
    },
    size::Size,
    things::{AnimalKind, CarState},
    vector::{Frame, V3, v3},
    weather::Weather,
    world::World,
};

/// The character of a street.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Town,
    Suburb,
    Avenue,
    Open,
    Yards,
}

pub(crate) fn build(weather: Weather, size: Size, things: usize, dice: &mut Dice) -> World {
    let style = match dice.weighted(&[0.38, 0.27, 0.15, 0.1, 0.1]) {
        0 => Style::Town,
        1 => Style::Suburb,
        2 => Style::Avenue,
        3 => Style::Open,
        _ => Style::Yards,
    };
    let mut curve = Curve::straight((0.0, 0.0), 0.0);
    if dice.chance(0.4) {
        curve.amplitude = dice.between(1.0, 9.0);
        curve.wavelength = dice.between(140.0, 400.0);
        curve.phase = dice.angle();
    }
    let road = Road {
        curve,
        half: dice.between(2.7, 6.5),
        walk: dice.between(1.4, 4.0),
        from: -60.0,
        to: 500.0,
    };
    let camera = stand(size, &road, dice);
    let mut world = World::new(weather, camera, dice.seed());
    let eye = world.camera.frame.origin;
    world.occupy(eye.x, eye.z, 2.2);
    let ground =
        if style == Style::Town { PAVING.varied(dice) } else { open_ground(&world.weather, dice) };
    world.ground = Some((ground, Class::Ground, None));
    let asphalt = Road::surface(&world, dice);
    let crossing = dice.chance(0.35).then(|| {
        let along = dice.between(10.0, 55.0);
        let origin = curve.point(along, 0.0);
        let side = Curve::straight((origin.x, origin.z), curve.yaw(along) + FRAC_PI_2);
        (
            along,
            Road {
                curve: side,
                half: dice.between(2.5, 5.0),
                walk: road.walk,
                from: -200.0,
                to: 199.0,
            },
        )
    });
    road.lay_walks(&mut world, dice);
    if let Some((_, side)) = &crossing {
        side.lay_walks(&mut world, dice);
        side.lay(&mut world, dice, asphalt);
    }
    road.lay(&mut world, dice, asphalt);
    if dice.chance(0.35) {
        let at = dice.between(5.0, 35.0);
        zebra(&mut world, &road, at, asphalt);
    }
    for side in [-1.0, 1.0] {
        let gap = crossing.as_ref().map(|(along, road)| (*along, road.half + 1.5 * road.walk));
        line(&mut world, dice, &road, style, side, gap);
    }
    horizon(&mut world, dice);
    furnish(&mut world, dice, &road, style);
    for _ in 0..things {
        place(&mut world, dice, &road, crossing.as_ref().map(|(_, side)| side));
    }
    world
}

fn stand(size: Size, road: &Road, dice: &mut Dice) -> Camera {
    let across = if dice.chance(0.45) {
        dice.between(-0.9, 0.9) * road.half
    } else {
        dice.sign() * (road.half + dice.between(0.2, 0.9) * road.walk)
    };
    let position = road.curve.point(0.0, across) + v3(0.0, dice.between(1.2, 2.7), 0.0);
    let facing = dice.chance(0.22);
    let (turn, pitch) = if facing {
        // Towards the facade on the other side.
        (-across.signum() * dice.between(0.7, 1.45), dice.between(-0.08, 0.22))
    } else {
        (0.2 * dice.normal() - 0.03 * across, 0.05 * dice.normal() - 0.03)
    };
    let view = View {
        yaw: road.curve.yaw(0.0) + turn,
        pitch,
        roll: 0.012 * dice.normal(),
        field: dice.log_between(0.42, 1.15),
    };
    Camera::new(position, view, size)
}

/// Adds the buildings, hedges and trees along one side.
fn line(
    world: &mut World,
    dice: &mut Dice,
    road: &Road,
    style: Style,
    side: f32,
    gap: Option<(f32, f32)>,
) {
    let edge = road.half + road.walk;
    let setback = match style {
        Style::Town => dice.between(0.3, 3.0),
        Style::Suburb => dice.between(3.5, 9.0),
        Style::Avenue => dice.between(6.0, 18.0),
        Style::Open | Style::Yards => dice.between(8.0, 30.0),
    };
    let empty = match style {
        Style::Town => 0.06,
        Style::Suburb => 0.2,
        Style::Avenue => 0.4,
        Style::Open => 0.85,
        Style::Yards => 0.45,
    };
    let storeys = dice.between(2.0, 6.5);
    let mut along = -14.0 + dice.between(0.0, 8.0);
    while along < 150.0 {
        let wide = match style {
            Style::Town => dice.between(8.0, 26.0),
            Style::Suburb => dice.between(8.0, 14.0),
            _ => dice.between(10.0, 30.0),
        };
        let middle = along + 0.5 * wide;
        let blocked = gap.is_some_and(|(at, clear)| (middle - at).abs() < clear + 0.5 * wide);
        if !blocked && !dice.chance(empty) {
            let deep = dice.between(7.0, 13.0);
            let place = road.curve.point(middle, side * (edge + setback + 0.5 * deep));
            let frame = Frame::upright(place, road.curve.yaw(middle) - side * FRAC_PI_2);
            if style == Style::Suburb || (style == Style::Open && dice.chance(0.6)) {
                let half = v3(0.38 * wide, dice.between(1.4, 2.9), 0.45 * deep);
                let frame = if dice.chance(0.4) {
                    Frame { right: frame.forward, forward: -frame.right, ..frame }
                } else {
                    frame
                };
                house(world, dice, frame, half);
            } else if style == Style::Yards && dice.chance(0.6) {
                let half = v3(0.48 * wide, dice.between(2.0, 5.0), deep);
                hall(world, dice, frame, half);
            } else {
                let tall = 1.6 * (storeys + dice.between(-1.0, 1.5)).max(1.0);
                tower(world, dice, frame, v3(0.49 * wide, tall, 0.5 * deep));
            }
        }
        along += wide + if style == Style::Town { 0.0 } else { dice.between(1.0, 9.0) };
    }
    if style != Style::Town && dice.chance(0.6) {
        let height = dice.between(0.7, 1.8);
        let across = side * (edge + 0.5);
        let hedged = dice.chance(0.5);
        let mut from = dice.between(-4.0, 3.0);
        while from < 60.0 {
            let to = from + dice.between(5.0, 14.0);
            let ends = (road.curve.point(from, across), road.curve.point(to, across));
            let clear = gap.is_none_or(|(at, clear)| to < at - clear || from > at + clear);
            if clear && hedged {
                hedge(world, dice, ends, height);
            } else if clear {
                fence(world, dice, ends, height);
            }
            from = to + dice.between(1.0, 5.0);
        }
    }
    let trees = match style {
        Style::Avenue => 0.95,
        Style::Suburb => 0.6,
        Style::Town => 0.3,
        Style::Open | Style::Yards => 0.5,
    };
    if dice.chance(trees) {
        let step = dice.between(6.0, 16.0);
        let across = if style == Style::Avenue || style == Style::Town {
            road.half + 0.8
        } else {
            edge + dice.between(1.5, 5.0)
        };
        let tall = dice.between(4.5, 12.0);
        for number in 0..dice.count(3, 9) {
            let at = road.curve.point(3.0 + step * (number as f32 + dice.unit()), side * across);
            if world.take(at.x, at.z, 0.8) {
                let height = tall * dice.between(0.75, 1.2);
                random_tree(world, dice, at, height);
            }
        }
    }
}

/// Adds the distant trees and buildings that close the view.
fn horizon(world: &mut World, dice: &mut Dice) {
    let (far, tall) = (dice.between(160.0, 320.0), dice.between(8.0, 16.0));
    if dice.chance(0.7) {
        treeline(world, dice, (v3(-far, 0.0, far), v3(far, 0.0, far)), tall);
    }
    for _ in 0..dice.count(0, 7) {
        let at = v3(dice.between(-0.9, 0.9) * far, 0.0, far * dice.between(0.9, 1.3));
        let half = v3(dice.between(6.0, 20.0), dice.between(5.0, 22.0), dice.between(6.0, 12.0));
        let frame = Frame::upright(at, 0.5 * dice.normal());
        tower(world, dice, frame, half);
    }
}

fn furnish(world: &mut World, dice: &mut Dice, road: &Road, style: Style) {
    let side = dice.sign();
    if dice.chance(0.7) {
        let (step, start) = (dice.between(14.0, 28.0), dice.between(2.0, 12.0));
        for number in 0..6 {
            let along = start + step * number as f32;
            let at = road.curve.point(along, side * (road.half + 0.5));
            let toward = (road.curve.point(along, 0.0) - at).normalized();
            if world.take(at.x, at.z, 0.3) {
                lamp(world, dice, at, toward);
            }
        }
    }
    if style != Style::Town && dice.chance(0.4) {
        let (step, start) = (dice.between(22.0, 34.0), dice.between(-20.0, 8.0));
        let feet: Vec<V3> = (0..6)
            .map(|n| {
                road.curve.point(start + step * n as f32, -side * (road.half + road.walk + 1.0))
            })
            .collect();
        let height = dice.between(6.5, 9.0);
        wires(world, dice, &feet, height);
    }
    for _ in 0..dice.count(1, 6) {
        let along = dice.log_between(4.0, 45.0);
        let side = dice.sign();
        let at = road.curve.point(along, side * (road.half + dice.between(0.3, 0.8)));
        if !world.take(at.x, at.z, 0.5) {
            continue;
        }
        match dice.below(5) {
            0 => sign(world, dice, at, road.curve.yaw(along)),
            1 => bin(world, dice, at),
            2 => bench(world, dice, Frame::upright(at, road.curve.yaw(along) - side * FRAC_PI_2)),
            3 => pole(world, dice, at, 0.9),
            _ => bush(world, dice, at, 0.7),
        }
    }
    if dice.chance(0.25) {
        // A low wall or planter.
        let along = dice.between(4.0, 18.0);
        let at = road.curve.point(along, side * (road.half + road.walk + 0.4));
        let frame = Frame::upright(at, road.curve.yaw(along));
        let shape = block(&frame, v3(0.0, 0.4, 0.0), v3(0.2, 0.4, dice.between(2.0, 6.0)));
        world.add(shape, CONCRETE.varied(dice));
    }
}

/// Places one object where it belongs in the street; gives up after 14 tries.
fn place(world: &mut World, dice: &mut Dice, road: &Road, crossing: Option<&Road>) {
    let kind = dice.weighted(&[0.36, 0.2, 0.16, 0.1, 0.08, 0.08]);
    for _ in 0..14 {
        let along = dice.log_between(3.5, if kind == 0 { 38.0 } else { 65.0 });
        let yaw = road.curve.yaw(along);
        let side = dice.sign();
        let (across, turn) = match kind {
            0 => {
                let crosses = dice.chance(0.25);
                let out = if crosses {
                    dice.unit() * road.half
                } else {
                    road.half + dice.between(0.1, 0.95) * road.walk
                };
                (side * out, along_or_across(dice, yaw))
            }
            1 => (side * (road.half - 1.0), either_way(dice, yaw)),
            2 => (side * 0.5 * road.half, if side > 0.0 { yaw } else { yaw + 2.0 * FRAC_PI_2 }),
            3 => (side * (road.half - 0.8), either_way(dice, yaw)),
            4 => (side * (road.half + 0.8 * road.walk), yaw + FRAC_PI_2 + 0.3 * dice.normal()),
            _ => (side * (road.half + dice.between(-0.5, 0.9) * road.walk), 0.0),
        };
        let mut at = road.curve.point(along, across);
        let mut turn = turn;
        if let (2, Some(side), true) = (kind, crossing, dice.chance(0.35)) {
            let along = dice.between(-12.0, 12.0);
            at = side.curve.point(along, 0.5 * side.half * dice.sign());
            turn = either_way(dice, side.curve.yaw(along));
        }
        let Some((x, _, depth)) = world.camera.project(at) else {
            continue;
        };
        if x < -0.02 * world.camera.size.width as f32
            || x > 1.02 * world.camera.size.width as f32
            || depth < 2.2
        {
            continue;
        }
        let state = parked(dice);
        let placed = match kind {
            0 => walker(world, dice, at, turn),
            1 => vehicle(world, dice, at, turn, state),
            2 => vehicle(world, dice, at, turn, CarState::Running),
            3 => cycle(world, dice, at, turn, true),
            4 => cycle(world, dice, at, turn, false),
            _ => {
                let kind =
                    dice.pick([AnimalKind::Dog, AnimalKind::Dog, AnimalKind::Cat, AnimalKind::Fox]);
                beast(world, dice, at, kind)
            }
        };
        if placed {
            return;
        }
    }
}
