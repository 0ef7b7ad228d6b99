//! Buildings: blocks of flats, houses with roofs, halls.

use super::block::block;
use crate::{
    class::Class,
    dice::Dice,
    facade::Facade,
    material::{BRICK, CONCRETE, FLAT_ROOF, Material, SHEET, TILES, WOOD},
    pattern::Pattern,
    shape::Shape,
    vector::{Frame, V3, v3},
    weather::ZERO_CELSIUS,
    world::World,
};

/// Returns how much warmer it is inside than outside, 0 (summer) to 1 (hard frost).
fn heating(world: &World) -> f32 {
    ((ZERO_CELSIUS + 19.0 - world.weather.air) / 20.0).clamp(0.0, 1.2)
}

fn facade(world: &World, dice: &mut Dice, height: f32, floor: f32) -> Facade {
    let cold = heating(world);
    Facade {
        height,
        floor,
        bay: dice.between(1.8, 4.5),
        window: (dice.between(0.28, 0.72), dice.between(0.4, 0.68)),
        warm: (dice.between(0.1, 0.7), 0.6 + cold * dice.between(0.8, 5.0)),
        leak: 0.3 + cold * dice.between(0.4, 3.0),
        shops: dice.chance(0.3),
        roof: FLAT_ROOF.varied(dice),
    }
}

fn wall(world: &World, dice: &mut Dice) -> Material {
    let base = dice.pick([BRICK, CONCRETE, BRICK, Material { solar: 10.0, ..CONCRETE }]);
    base.varied(dice).warmer(heating(world) * dice.between(0.2, 1.8))
}

/// Adds a building with a flat roof. `half`: half width, height and depth, metres; `frame` stands
/// at the middle of its base.
pub(crate) fn tower(world: &mut World, dice: &mut Dice, frame: Frame, half: V3) {
    let floor = dice.between(2.8, 3.9);
    let look = facade(world, dice, 2.0 * half.y, floor);
    let material = wall(world, dice);
    let boxes = dice.count(0, 4);
    let balconies = dice.chance(0.35);
    let cold = heating(world);
    world.of_class(Class::Building, |world| {
        let body = world.add(block(&frame, v3(0.0, half.y, 0.0), half), material);
        body.pattern = Pattern::Facade(look);
        let rim = Material { solar: 8.0, ..CONCRETE };
        let top = 2.0 * half.y;
        for (centre, size) in [
            (v3(0.0, top + 0.2, half.z), v3(half.x + 0.15, 0.25, 0.15)),
            (v3(0.0, top + 0.2, -half.z), v3(half.x + 0.15, 0.25, 0.15)),
            (v3(half.x, top + 0.2, 0.0), v3(0.15, 0.25, half.z)),
            (v3(-half.x, top + 0.2, 0.0), v3(0.15, 0.25, half.z)),
        ] {
            world.add(block(&frame, centre, size), rim);
        }
        for _ in 0..boxes {
            let size = v3(dice.between(0.5, 1.8), dice.between(0.4, 1.3), dice.between(0.5, 1.8));
            let at = v3(
                dice.between(-0.7, 0.7) * half.x,
                top + size.y,
                dice.between(-0.7, 0.7) * half.z,
            );
            let heat = dice.between(-1.0, 3.0) + 5.0 * f32::from(dice.chance(0.4)) * (0.3 + cold);
            world.add(block(&frame, at, size), SHEET.warmer(heat));
        }
        if balconies {
            // One column of slabs and rails for every other bay, on both long sides.
            let step = 2.0 * look.bay;
            let count = ((2.0 * half.x / step) as usize).min(8);
            let floors = ((2.0 * half.y / floor) as usize).min(9);
            for column in 0..count {
                for storey in 1..floors {
                    for side in [-1.0, 1.0] {
                        let at = v3(
                            -half.x + (column as f32 + 0.75) * step,
                            storey as f32 * floor + 0.45,
                            side * (half.z + 0.55),
                        );
                        world.add(
                            block(&frame, at, v3(0.45 * look.bay, 0.5, 0.55)),
                            rim.warmer(0.3),
                        );
                    }
                }
            }
        }
    });
    world.occupy(frame.origin.x, frame.origin.z, half.x.max(half.z) + 0.5);
}

/// Adds a house with a pitched roof whose ridge runs along the frame's right axis.
pub(crate) fn house(world: &mut World, dice: &mut Dice, frame: Frame, half: V3) {
    let floor = dice.between(2.5, 2.9);
    let look = Facade { shops: false, ..facade(world, dice, 2.0 * half.y, floor) };
    let material = wall(world, dice);
    let timber = dice.chance(0.25);
    let material = if timber { WOOD.varied(dice).warmer(0.8 * heating(world)) } else { material };
    let pitch = dice.between(0.4, 1.0);
    let tiles = TILES.varied(dice).warmer(0.4 * heating(world));
    let chimney = dice.chance(0.7);
    let heat = heating(world) * dice.between(0.0, 18.0);
    let annex = dice.chance(0.4);
    let warm_patch = dice.between(0.2, 1.5) * heating(world);
    let dormers = dice.count(0, 2);
    world.of_class(Class::Building, |world| {
        world.add(block(&frame, v3(0.0, half.y, 0.0), half), material).pattern =
            Pattern::Facade(look);
        let (eave, deep) = (2.0 * half.y, half.z + 0.45);
        let ridge = eave + pitch * deep;
        let gable = [(-half.z, eave - 0.05), (0.0, eave + pitch * half.z), (half.z, eave - 0.05)];
        world.add(Shape::profile(frame, &gable, half.x - 0.01, eave, 0.0), material.warmer(-0.3));
        for side in [-1.0, 1.0] {
            let outline = [
                (0.0, ridge - 0.14),
                (0.0, ridge + 0.06),
                (side * deep, eave - 0.02),
                (side * deep, eave - 0.2),
            ];
            let slope = Shape::profile(frame, &outline, half.x + 0.35, eave, 0.0);
            let slope = world.add(slope, tiles);
            slope.pattern = if dice.chance(0.5) {
                Pattern::Courses { pitch: (0.9, 0.33), joint: -0.5, spread: 0.9 }
            } else {
                Pattern::Wall { half: 0.5 * ridge, top: 0.5, stain: 0.4 + warm_patch }
            };
        }
        if chimney {
            let at = v3(dice.between(-0.6, 0.6) * half.x, ridge + 0.1, dice.between(-0.4, 0.4));
            world.add(block(&frame, at, v3(0.3, 0.9, 0.35)), BRICK.warmer(0.3 * heat));
            world.add(
                block(&frame, at + v3(0.0, 0.95, 0.0), v3(0.2, 0.08, 0.22)),
                BRICK.warmer(heat),
            );
        }
        for _ in 0..dormers {
            let at =
                v3(dice.between(-0.7, 0.7) * half.x, eave + 0.55 * pitch * half.z, -0.55 * half.z);
            let glass = world.add(block(&frame, at, v3(0.6, 0.6, 0.8)), material);
            glass.pattern = Pattern::Inset { half: (0.42, 0.4), kelvin: look.warm.1, glass: 0.8 };
        }
        if annex {
            let size = v3(1.6, 1.25, half.z * 0.8);
            let side = dice.sign();
            let at = v3(side * (half.x + size.x), size.y, 0.0);
            let garage = world.add(block(&frame, at, size), material.warmer(-0.6));
            garage.pattern = Pattern::Stripes { axis: 1, pitch: 0.5, duty: 0.5, kelvin: 0.5 };
        }
    });
    world.occupy(frame.origin.x, frame.origin.z, half.x.max(half.z) + 0.5);
}

/// Adds a hall or shed of sheet metal.
pub(crate) fn hall(world: &mut World, dice: &mut Dice, frame: Frame, half: V3) {
    let sheet = SHEET.varied(dice).warmer(0.4 * heating(world));
    let sheet = Material { emissivity: dice.between(0.75, 0.93), ..sheet };
    let rise = dice.between(0.1, 0.35);
    let gates = dice.count(0, 3);
    world.of_class(Class::Building, |world| {
        let body = world.add(block(&frame, v3(0.0, half.y, 0.0), half), sheet);
        body.pattern = Pattern::Stripes { axis: 0, pitch: 1.1, duty: 0.5, kelvin: 0.7 };
        let eave = 2.0 * half.y;
        let outline = [
            (-half.z - 0.3, eave - 0.05),
            (0.0, eave + rise * half.z),
            (half.z + 0.3, eave - 0.05),
        ];
        let roof =
            world.add(Shape::profile(frame, &outline, half.x + 0.2, eave, 0.0), sheet.warmer(0.3));
        roof.pattern = Pattern::Stripes { axis: 0, pitch: 2.2, duty: 0.3, kelvin: 1.0 };
        for gate in 0..gates {
            let wide = 0.25 * half.x;
            let at = v3(-half.x * 0.6 + gate as f32 * 0.6 * half.x, 0.6 * half.y, 0.0);
            let heat = dice.between(-2.0, 4.0);
            world.add(block(&frame, at, v3(wide, 0.6 * half.y, half.z + 0.06)), SHEET.warmer(heat));
        }
    });
    world.occupy(frame.origin.x, frame.origin.z, half.x.max(half.z) + 0.5);
}
