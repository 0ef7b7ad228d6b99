//! Cars and vans: warm bonnets, tyres and exhausts when driven, cold shells when parked.

use crate::{
    class::Class,
    dice::Dice,
    ground::{Area, Effect},
    material::{BARE_METAL, CAR_PAINT, GLASS, Material, RUBBER},
    pattern::Pattern,
    shape::Shape,
    vector::{Frame, v3},
    world::World,
};

/// The thermal state of a car.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CarState {
    /// Parked since the day before.
    Cold,
    /// Parked recently.
    Cooling,
    /// Driving, or parked with its engine on.
    Running,
}

struct Build {
    length: f32,
    width: f32,
    height: f32,
    belt: f32,
    /// Bonnet height at the nose and at the windscreen.
    bonnet: (f32, f32),
    /// z of the windscreen's foot and head, and of the rear window's head and foot.
    cabin: [f32; 4],
    wheel: f32,
}

fn build(dice: &mut Dice) -> Build {
    let (length, width, height, style) = match dice.weighted(&[0.3, 0.3, 0.25, 0.15]) {
        0 => (dice.between(3.7, 4.2), 1.72, dice.between(1.42, 1.52), 0),
        1 => (dice.between(4.4, 4.85), 1.82, dice.between(1.4, 1.48), 1),
        2 => (dice.between(4.2, 4.8), 1.86, dice.between(1.62, 1.78), 2),
        _ => (dice.between(4.5, 5.4), 1.95, dice.between(1.85, 2.25), 3),
    };
    let (nose, tail) = (0.5 * length, -0.5 * length);
    let belt = (0.63 * height).clamp(0.88, 1.25);
    let cabin = match style {
        0 => [nose - 1.05, nose - 1.75, tail + 0.45, tail + 0.12],
        1 => [nose - 1.3, nose - 2.0, tail + 1.35, tail + 0.75],
        2 => [nose - 1.2, nose - 1.8, tail + 0.5, tail + 0.15],
        _ => [nose - 0.65, nose - 1.15, tail + 0.12, tail + 0.03],
    };
    let drop = if style == 3 { 0.22 } else { 0.17 };
    Build {
        length,
        width,
        height,
        belt,
        bonnet: (belt - drop, belt - 0.03),
        cabin,
        wheel: 0.2 * height.min(1.75) + 0.02,
    }
}

/// Adds a car on the ground at `frame`, its nose along the forward axis.
pub(crate) fn car(world: &mut World, dice: &mut Dice, frame: Frame, state: CarState) {
    let b = build(dice);
    let (engine, tyres) = match state {
        CarState::Cold => (0.0, dice.between(-0.5, 1.0)),
        CarState::Cooling => (dice.between(3.0, 10.0), dice.between(0.5, 3.0)),
        CarState::Running => (dice.between(9.0, 24.0), dice.between(4.0, 13.0)),
    };
    let shell = CAR_PAINT.varied(dice).warmer(0.03 * engine);
    let rubber = RUBBER.varied(dice);
    let rim = if dice.chance(0.5) { BARE_METAL } else { rubber };
    let (nose, tail, half) = (0.5 * b.length, -0.5 * b.length, 0.5 * b.width);
    let rack = dice.chance(0.12);
    world.of_class(Class::Car, |world| {
        let low = 0.24;
        let outline = [
            (tail + 0.06, low),
            (tail, 0.5),
            (tail + 0.06, b.belt - 0.02),
            (b.cabin[0], b.bonnet.1),
            (nose - 0.14, b.bonnet.0),
            (nose, 0.55),
            (nose - 0.05, low),
        ];
        let shape = Shape::profile(frame, &outline, half, 0.6, 0.05);
        world.add(shape, shell).pattern = Pattern::CarBody { engine, nose, half_width: half };
        let [foot, head, back_head, back_foot] = b.cabin;
        let roof = [
            (back_foot, b.belt - 0.08),
            (back_head, b.height),
            (head, b.height),
            (foot, b.belt - 0.08),
        ];
        let shape = Shape::profile(frame, &roof, half - 0.06, b.belt, 0.2);
        let cabin = world.add(shape, shell.warmer(0.6));
        let pillar = 0.5 * (head + back_head) - 0.15;
        cabin.pattern = Pattern::Cabin { belt: b.belt, top: b.height, pillar };
        // Underbody: dark and, with the engine on, hot.
        let floor = Shape::Block {
            frame: frame.at(v3(0.0, 0.27, 0.0)),
            half: v3(half - 0.18, 0.1, 0.5 * b.length - 0.3),
        };
        world.add(floor, Material { heat: 0.25 * engine, solar: 0.0, ..rubber });
        let base = 0.5 * b.length - b.wheel - 0.48;
        for (x, z) in [(-1.0, base), (1.0, base), (-1.0, -base), (1.0, -base)] {
            let hub =
                frame.at(v3(x * (half - 0.07), b.wheel, z)).rolled(std::f32::consts::FRAC_PI_2);
            let warmth = tyres * if z > 0.0 { 1.15 } else { 1.0 };
            let arch = Shape::Cylinder { frame: hub, radius: b.wheel + 0.07, half: 0.09 };
            world.add(arch, Material { solar: 2.0, heat: 0.2 * tyres, ..rubber });
            let wheel = world.add(
                Shape::Cylinder { frame: hub, radius: b.wheel, half: 0.115 },
                Material { emissivity: rim.emissivity.max(0.8), ..rubber },
            );
            wheel.pattern = Pattern::Wheel { radius: b.wheel, warmth };
        }
        for x in [-1.0, 1.0] {
            let mirror = frame.at(v3(x * (half + 0.08), b.belt + 0.06, foot - 0.25));
            world.add(Shape::Ellipsoid { frame: mirror, radii: v3(0.11, 0.07, 0.06) }, shell);
            let lamp = frame.at(v3(x * (half - 0.2), 0.72, nose - 0.1));
            world.add(
                Shape::Ellipsoid { frame: lamp, radii: v3(0.16, 0.07, 0.1) },
                GLASS.warmer(0.3 * engine),
            );
            let tail_lamp = frame.at(v3(x * (half - 0.15), b.belt - 0.17, tail + 0.06));
            world.add(
                Shape::Ellipsoid { frame: tail_lamp, radii: v3(0.11, 0.09, 0.06) },
                GLASS.warmer(0.15 * engine),
            );
        }
        let plate = frame.at(v3(0.0, 0.6, tail + 0.01));
        world.add(Shape::Block { frame: plate, half: v3(0.26, 0.06, 0.03) }, BARE_METAL);
        if rack {
            for z in [head - 0.1, back_head + 0.2] {
                let bar = Shape::Block {
                    frame: frame.at(v3(0.0, b.height + 0.05, z)),
                    half: v3(half - 0.25, 0.03, 0.05),
                };
                world.add(bar, rubber);
            }
        }
        if state == CarState::Running {
            let pipe =
                frame.at(v3(-0.5 * half, 0.3, tail + 0.02)).pitched(std::f32::consts::FRAC_PI_2);
            world.add(
                Shape::Cylinder { frame: pipe, radius: 0.045, half: 0.12 },
                BARE_METAL.warmer(45.0),
            );
        }
    });
    ground_traces(world, dice, &frame, &b, (state, engine));
}

/// Adds the effect of a car on the ground: warm under the engine, sheltered from the night sky,
/// shaded by day.
fn ground_traces(
    world: &mut World,
    dice: &mut Dice,
    frame: &Frame,
    b: &Build,
    (state, engine): (CarState, f32),
) {
    let yaw = frame.forward.x.atan2(frame.forward.z);
    let place = |z: f32| {
        let p = frame.point(v3(0.0, 0.0, z));
        (p.x, p.z)
    };
    let (half, long) = (0.5 * b.width, 0.5 * b.length);
    if state != CarState::Cold {
        let area = Area::Ellipse {
            centre: place(0.5 * long),
            radii: (0.8 * half, 0.5 * long),
            yaw,
            ring: None,
        };
        world.stain(area, 1.2, Effect::Heat(0.25 * engine));
    }
    let shelter = Area::Rectangle { centre: place(0.0), half: (half - 0.1, long - 0.2), yaw };
    if state != CarState::Running {
        let kelvin = 2.5 * world.weather.cooling * dice.between(0.3, 1.0);
        world.stain(shelter.clone(), 0.6, Effect::Heat(kelvin));
        world.stain(shelter, 0.5, Effect::Shadow(0.9));
    }
}

/// Adds the trace of a car that left recently: a colder (by day) or warmer (by night) rectangle.
pub(crate) fn ghost(world: &mut World, dice: &mut Dice, frame: &Frame) {
    let yaw = frame.forward.x.atan2(frame.forward.z);
    let area = Area::Rectangle { centre: (frame.origin.x, frame.origin.z), half: (0.75, 1.9), yaw };
    let day = world.weather.memory + world.weather.sun_power;
    if day > 0.15 {
        world.stain(area, 1.0, Effect::Shadow(dice.between(0.3, 0.7)));
    } else {
        world.stain(area, 1.0, Effect::Heat(dice.between(0.5, 1.8)));
    }
}
