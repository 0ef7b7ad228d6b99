//! The bodies that rays can hit. All are convex except rings and tubes, and seen from outside.

use crate::plane::Plane;
use crate::vector::{Frame, UP, V3, v3};

/// Maximum number of planes of a [`Shape::Hull`].
pub(crate) const MAX_PLANES: usize = 10;

/// A body.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// A box. Faces: 0 -x, 1 +x, 2 -y, 3 +y, 4 -z, 5 +z.
    Block { frame: Frame, half: V3 },
    /// The part of a box inside some planes. Face = index of the plane.
    Hull { frame: Frame, low: V3, high: V3, planes: [Plane; MAX_PLANES], count: usize },
    /// An ellipsoid.
    Ellipsoid { frame: Frame, radii: V3 },
    /// The convex hull of two balls.
    Limb { a: V3, b: V3, ra: f32, rb: f32 },
    /// A closed cylinder about the frame's up axis. Faces: 0 side, 1 bottom, 2 top.
    Cylinder { frame: Frame, radius: f32, half: f32 },
    /// The side of a cylinder only, seen from both sides.
    Tube { frame: Frame, radius: f32, half: f32 },
    /// A flat ring square to the frame's up axis; a disc if `inner` is 0.
    Ring { frame: Frame, outer: f32, inner: f32 },
}

impl Shape {
    /// Returns a hull whose cross-section (in the frame's z, y) is a convex polygon,
    /// counter-clockwise seen from -x, that leans in by `lean` radians towards the top on both
    /// sides; the sides meet `half_width` at y = `waist`.
    pub(crate) fn profile(
        frame: Frame,
        outline: &[(f32, f32)],
        half_width: f32,
        waist: f32,
        lean: f32,
    ) -> Shape {
        let empty = Plane { normal: UP, offset: f32::MAX };
        let mut planes = [empty; MAX_PLANES];
        let mut count = 0;
        let centre_y = outline.iter().map(|p| p.1).sum::<f32>() / outline.len().max(1) as f32;
        let centre_z = outline.iter().map(|p| p.0).sum::<f32>() / outline.len().max(1) as f32;
        let (sin, cos) = lean.sin_cos();
        for side in [-1.0, 1.0] {
            let normal = v3(side * cos, sin, 0.0);
            planes[count] = Plane { normal, offset: half_width * cos + waist * sin };
            count += 1;
        }
        for (index, &(z, y)) in outline.iter().enumerate().take(MAX_PLANES - 2) {
            let (next_z, next_y) = outline[(index + 1) % outline.len()];
            let mut normal = v3(0.0, next_z - z, y - next_y).normalized();
            if normal.y * (centre_y - y) + normal.z * (centre_z - z) > 0.0 {
                normal = -normal;
            }
            planes[count] = Plane { normal, offset: normal.y * y + normal.z * z };
            count += 1;
        }
        let (mut low, mut high) =
            (v3(-half_width, f32::MAX, f32::MAX), v3(half_width, f32::MIN, f32::MIN));
        for &(z, y) in outline {
            low = v3(low.x, low.y.min(y), low.z.min(z));
            high = v3(high.x, high.y.max(y), high.z.max(z));
        }
        // Leaning sides are wider than `half_width` below the waist.
        let widest = half_width + (waist - low.y).max(0.0) * lean.tan().max(0.0);
        Shape::Hull {
            frame,
            low: v3(-widest, low.y, low.z),
            high: v3(widest, high.y, high.z),
            planes,
            count,
        }
    }

    /// Returns a point of the surface in the body's own coordinates, in which patterns are defined.
    pub(crate) fn local(&self, point: V3) -> V3 {
        match self {
            Shape::Block { frame, .. }
            | Shape::Hull { frame, .. }
            | Shape::Ellipsoid { frame, .. }
            | Shape::Cylinder { frame, .. }
            | Shape::Tube { frame, .. }
            | Shape::Ring { frame, .. } => frame.local_point(point),
            Shape::Limb { a, b, .. } => {
                // y runs along the limb; x and z keep the world's axes.
                let axis = *b - *a;
                let from = point - *a;
                v3(from.x, from.dot(axis) / axis.length().max(1e-6), from.z)
            }
        }
    }

    /// Returns the outward unit normal at a point of face `face`.
    pub(crate) fn normal(&self, point: V3, face: u8) -> V3 {
        match self {
            Shape::Block { frame, .. } => {
                let axis = match face / 2 {
                    0 => frame.right,
                    1 => frame.up,
                    _ => frame.forward,
                };
                if face.is_multiple_of(2) { -axis } else { axis }
            }
            Shape::Hull { frame, planes, .. } => {
                planes.get(usize::from(face)).map_or(UP, |plane| frame.direction(plane.normal))
            }
            Shape::Ellipsoid { frame, radii } => {
                let at = frame.local_point(point);
                let square = radii.times(*radii);
                frame.direction(v3(at.x / square.x, at.y / square.y, at.z / square.z)).normalized()
            }
            Shape::Limb { a, b, ra, rb } => {
                let axis = *b - *a;
                let length = axis.length().max(1e-6);
                let unit = axis * (1.0 / length);
                let sin = ((ra - rb) / length).clamp(-0.999, 0.999);
                let cos = (1.0 - sin * sin).sqrt();
                let from = point - *a;
                let along = from.dot(unit);
                let radial = from - unit * along;
                let slant = along * cos - radial.length() * sin;
                if slant <= 0.0 {
                    from.normalized()
                } else if slant >= length * cos {
                    (point - *b).normalized()
                } else {
                    (radial.normalized() * cos + unit * sin).normalized()
                }
            }
            Shape::Cylinder { frame, .. } => match face {
                1 => -frame.up,
                2 => frame.up,
                _ => {
                    let at = frame.local_point(point);
                    frame.direction(v3(at.x, 0.0, at.z)).normalized()
                }
            },
            Shape::Tube { frame, .. } => {
                let at = frame.local_point(point);
                frame.direction(v3(at.x, 0.0, at.z)).normalized()
            }
            Shape::Ring { frame, .. } => frame.up,
        }
    }

    /// Returns the corners of a box around the body, in the order of `Camera::reach`.
    pub(crate) fn corners(&self) -> [V3; 8] {
        let of = |frame: &Frame, low: V3, high: V3| {
            std::array::from_fn(|i| {
                let pick = |bit: usize, low: f32, high: f32| if i & bit == 0 { low } else { high };
                frame.point(v3(
                    pick(1, low.x, high.x),
                    pick(2, low.y, high.y),
                    pick(4, low.z, high.z),
                ))
            })
        };
        match self {
            Shape::Block { frame, half } => of(frame, -*half, *half),
            Shape::Hull { frame, low, high, .. } => of(frame, *low, *high),
            Shape::Ellipsoid { frame, radii } => of(frame, -*radii, *radii),
            Shape::Cylinder { frame, radius, half } | Shape::Tube { frame, radius, half } => {
                let high = v3(*radius, *half, *radius);
                of(frame, -high, high)
            }
            Shape::Ring { frame, outer, .. } => {
                let high = v3(*outer, 0.0, *outer);
                of(frame, -high, high)
            }
            Shape::Limb { a, b, ra, rb } => {
                let low = |p: f32, q: f32| (p - ra).min(q - rb);
                let high = |p: f32, q: f32| (p + ra).max(q + rb);
                let world = Frame::upright(v3(0.0, 0.0, 0.0), 0.0);
                of(
                    &world,
                    v3(low(a.x, b.x), low(a.y, b.y), low(a.z, b.z)),
                    v3(high(a.x, b.x), high(a.y, b.y), high(a.z, b.z)),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hit::{Hit, Limb, hit_ball, hit_block, hit_cylinder, hit_hull, hit_ring, hit_tube};

    fn samples() -> Vec<Shape> {
        let frame = Frame::upright(v3(0.3, 0.2, 5.0), 0.6).pitched(0.3).rolled(-0.2);
        vec![
            Shape::Block { frame, half: v3(1.0, 0.5, 0.7) },
            Shape::profile(
                frame,
                &[(-1.0, 0.0), (-0.6, 0.9), (0.5, 0.9), (1.0, 0.0)],
                0.8,
                0.0,
                0.2,
            ),
            Shape::Ellipsoid { frame, radii: v3(1.0, 0.6, 0.8) },
            Shape::Limb { a: v3(-0.5, 0.0, 5.0), b: v3(0.6, 0.7, 5.5), ra: 0.5, rb: 0.2 },
            Shape::Cylinder { frame, radius: 0.7, half: 0.5 },
            Shape::Tube { frame, radius: 0.7, half: 0.5 },
            Shape::Ring { frame, outer: 1.0, inner: 0.4 },
        ]
    }

    /// Returns where a ray (`from`, unnormalised `along`) enters the body in front of `from`.
    fn first_hit(shape: &Shape, from: V3, along: V3) -> Hit {
        match shape {
            Shape::Block { frame, half } => {
                hit_block(frame.local_point(from), frame.local_direction(along), *half)
            }
            Shape::Hull { frame, planes, count, .. } => hit_hull(
                frame.local_point(from),
                frame.local_direction(along),
                &planes[..(*count).min(MAX_PLANES)],
            ),
            Shape::Ellipsoid { frame, radii } => {
                let inverse = v3(1.0 / radii.x, 1.0 / radii.y, 1.0 / radii.z);
                hit_ball(
                    frame.local_point(from).times(inverse),
                    frame.local_direction(along).times(inverse),
                    1.0,
                )
            }
            Shape::Limb { a, b, ra, rb } => Limb::new(*a, *b, *ra, *rb, from).hit(along),
            Shape::Cylinder { frame, radius, half } => {
                hit_cylinder(frame.local_point(from), frame.local_direction(along), *radius, *half)
            }
            Shape::Tube { frame, radius, half } => {
                hit_tube(frame.local_point(from), frame.local_direction(along), *radius, *half)
            }
            Shape::Ring { frame, outer, inner } => {
                hit_ring(frame.local_point(from), frame.local_direction(along), *outer, *inner)
            }
        }
    }

    /// Returns whether the point is inside (closed bodies only), by the definition and not by the
    /// ray formulas.
    fn inside(shape: &Shape, p: V3) -> Option<bool> {
        let local = shape.local(p);
        match shape {
            Shape::Block { half, .. } => {
                Some(local.x.abs() < half.x && local.y.abs() < half.y && local.z.abs() < half.z)
            }
            Shape::Hull { planes, count, .. } => {
                Some(planes[..*count].iter().all(|plane| plane.normal.dot(local) < plane.offset))
            }
            Shape::Ellipsoid { radii, .. } => {
                let scaled = v3(local.x / radii.x, local.y / radii.y, local.z / radii.z);
                Some(scaled.length() < 1.0)
            }
            Shape::Limb { a, b, ra, rb } => {
                // Swept ball: some share along the axis has p within the interpolated radius.
                Some((0..=2000).any(|i| {
                    let share = i as f32 / 2000.0;
                    (p - a.lerp(*b, share)).length() < ra + (rb - ra) * share
                }))
            }
            Shape::Cylinder { radius, half, .. } => {
                Some(local.y.abs() < *half && local.x.hypot(local.z) < *radius)
            }
            Shape::Tube { .. } | Shape::Ring { .. } => None,
        }
    }

    #[test]
    fn first_hits_agree_with_marching() {
        for shape in samples() {
            let mut hits = 0;
            for i in 0..400 {
                let along = v3((i % 20) as f32 * 0.03 - 0.27, (i / 20) as f32 * 0.03 - 0.26, 1.0);
                let from = v3(0.0, 0.0, 0.0);
                let hit = first_hit(&shape, from, along);
                if inside(&shape, from).is_some() {
                    let marched = (0..2000)
                        .map(|step| 3.0 + step as f32 * 0.002)
                        .find(|&t| inside(&shape, along * t) == Some(true));
                    match (hit, marched) {
                        (Some((t, _)), Some(m)) => {
                            assert!((t - m).abs() < 0.02, "{shape:?} {t} {m}");
                        }
                        (None, None) => {}
                        // A grazing ray may fall between two steps.
                        (Some((t, face)), None) => {
                            let normal = shape.normal(along * t, face);
                            assert!(normal.dot(along.normalized()).abs() < 0.2, "{shape:?}");
                        }
                        (None, Some(m)) => panic!("{shape:?}: no hit, marching enters at {m}"),
                    }
                }
                if let Some((t, face)) = hit {
                    hits += 1;
                    let point = along * t;
                    let normal = shape.normal(point, face);
                    assert!((normal.length() - 1.0).abs() < 1e-4);
                    if inside(&shape, point).is_some() {
                        assert!(normal.dot(along) < 1e-3, "{shape:?} faces away");
                        assert_eq!(inside(&shape, point + normal * 0.01), Some(false), "{shape:?}");
                        if normal.dot(along.normalized()).abs() > 0.3 {
                            assert_eq!(
                                inside(&shape, point - normal * 0.01),
                                Some(true),
                                "{shape:?}"
                            );
                        }
                    }
                }
            }
            assert!(hits > 10, "{shape:?} was hit {hits} times");
        }
    }

    #[test]
    fn bodies_stay_inside_their_corners() {
        for shape in samples() {
            let corners = shape.corners();
            for i in 0..400 {
                let along = v3((i % 20) as f32 * 0.03 - 0.27, (i / 20) as f32 * 0.03 - 0.26, 1.0);
                if let Some((t, _)) = first_hit(&shape, v3(0.0, 0.0, 0.0), along) {
                    let p = along * t;
                    // Inside the box: the projections on its three edges from corner 0 lie in [0,
                    // 1].
                    for bit in [1, 2, 4] {
                        let edge = corners[bit] - corners[0];
                        let square = edge.dot(edge);
                        if square > 1e-9 {
                            let share = (p - corners[0]).dot(edge) / square;
                            assert!((-1e-3..=1.001).contains(&share), "{shape:?} {share}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_camera_inside_a_body_sees_through_it() {
        let frame = Frame::upright(v3(0.0, 0.0, 0.0), 0.0);
        let along = v3(0.1, 0.2, 1.0);
        for shape in [
            Shape::Block { frame, half: v3(1.0, 1.0, 1.0) },
            Shape::Ellipsoid { frame, radii: v3(1.0, 1.0, 1.0) },
            Shape::Cylinder { frame, radius: 1.0, half: 1.0 },
        ] {
            assert_eq!(first_hit(&shape, v3(0.0, 0.0, 0.0), along), None, "{shape:?}");
        }
    }
}
