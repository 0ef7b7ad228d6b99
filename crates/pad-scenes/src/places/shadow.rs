//! Shadows on the ground: the outline of every body, projected along the sun's rays.

use crate::{
    ground::{Area, Effect},
    shape::Shape,
    vector::{V3, v3},
    world::{Cutout, World},
};

/// Adds the shadows of all bodies, if the sun shines.
pub(crate) fn cast_shadows(world: &mut World) {
    let sun = world.weather.sun;
    if world.weather.sun_power < 0.06 || sun.y < 0.1 || world.ground.is_none() {
        return;
    }
    let mut shadows = Vec::new();
    for surface in &world.surfaces {
        let strength = match surface.cutout {
            Cutout::Solid => 0.92,
            Cutout::Leaves { density, .. } => 0.35 + 0.5 * density,
            Cutout::Bars { share, .. } => share,
        };
        let points = outline(&surface.shape);
        let top = points.iter().map(|p| p.y).fold(0.0, f32::max);
        let thrown: Vec<(f32, f32)> = points
            .into_iter()
            .map(|p| {
                let length = p.y.max(0.0) / sun.y;
                (p.x - sun.x * length, p.z - sun.z * length)
            })
            .collect();
        let Some(points) = hull(thrown) else {
            continue;
        };
        // The sun is half a degree wide, and warm air mixes: edges soften with height.
        shadows.push((Area::polygon(points), 0.1 + 0.035 * top / sun.y, Effect::Shadow(strength)));
    }
    for (area, softness, effect) in shadows {
        world.stain(area, softness, effect);
    }
}

/// Returns points whose convex hull is the body or close to it.
fn outline(shape: &Shape) -> Vec<V3> {
    match shape {
        Shape::Ellipsoid { frame, radii } => {
            let mut points = Vec::with_capacity(14);
            for axis in [v3(1.0, 0.0, 0.0), v3(0.0, 1.0, 0.0), v3(0.0, 0.0, 1.0)] {
                points.push(frame.point(axis.times(*radii)));
                points.push(frame.point(-axis.times(*radii)));
            }
            let diagonal = 0.577;
            for corner in 0..8 {
                let side = |bit: usize| if corner & bit == 0 { -diagonal } else { diagonal };
                points.push(frame.point(v3(side(1), side(2), side(4)).times(*radii)));
            }
            points
        }
        Shape::Limb { a, b, ra, rb } => {
            let mut points = Vec::with_capacity(12);
            for (centre, radius) in [(a, ra), (b, rb)] {
                for step in 0..6 {
                    let turn = step as f32 * std::f32::consts::FRAC_PI_3;
                    points.push(*centre + v3(turn.cos(), 0.0, turn.sin()) * *radius);
                }
            }
            points
        }
        other => other.corners().to_vec(),
    }
}

/// Returns the convex hull, counter-clockwise with x to the right and z up (monotone chain); `None`
/// if it has no area.
fn hull(mut points: Vec<(f32, f32)>) -> Option<Vec<(f32, f32)>> {
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let turn = |a: (f32, f32), b: (f32, f32), c: (f32, f32)| {
        (b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0)
    };
    let chain = |points: &mut dyn Iterator<Item = (f32, f32)>| {
        let mut chain: Vec<(f32, f32)> = Vec::new();
        for point in points {
            while let [.., before, last] = chain[..] {
                if turn(before, last, point) > 1e-9 {
                    break;
                }
                chain.pop();
            }
            chain.push(point);
        }
        chain.pop();
        chain
    };
    let mut lower = chain(&mut points.iter().copied());
    let upper = chain(&mut points.iter().rev().copied());
    lower.extend(upper);
    (lower.len() >= 3).then_some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hull_holds_its_points_and_no_corner_inside() {
        let points = vec![(0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0), (1.0, 1.0), (1.0, 0.0)];
        let corners = hull(points.clone()).unwrap();
        assert_eq!(corners.len(), 4, "{corners:?}");
        let area = Area::polygon(corners);
        for (x, z) in points {
            assert!(area.distance(x, z) < 1e-6);
        }
        assert!(area.distance(1.0, 1.0) < -0.9 && area.distance(2.5, 1.0) > 0.4);
        assert!(hull(vec![(0.0, 0.0), (1.0, 1.0), (2.0, 2.0)]).is_none());
    }
}
