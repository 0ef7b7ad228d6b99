//! Intersections of rays with bodies, each in the body's own coordinates: exact and without
//! allocation.

use crate::{plane::Plane, vector::V3};

/// Depth along the ray and the face that is hit; `None` for a miss.
pub(crate) type Hit = Option<(f32, u8)>;

/// Intersects a ray with a box, in the box's frame.
pub(crate) fn hit_block(from: V3, along: V3, half: V3) -> Hit {
    let (mut enter, mut leave, mut face) = (0.0_f32, f32::INFINITY, u8::MAX);
    for (axis, (o, d, h)) in
        [(from.x, along.x, half.x), (from.y, along.y, half.y), (from.z, along.z, half.z)]
            .into_iter()
            .enumerate()
    {
        let inverse = 1.0 / d;
        let (low, high) = ((-h - o) * inverse, (h - o) * inverse);
        let (near, far, positive) = if d > 0.0 { (low, high, 0) } else { (high, low, 1) };
        if near > enter {
            enter = near;
            face = 2 * axis as u8 + positive;
        }
        if far < leave {
            leave = far;
        }
    }
    (enter < leave && face != u8::MAX).then_some((enter, face))
}

/// Intersects a ray with an intersection of half-spaces.
pub(crate) fn hit_hull(from: V3, along: V3, planes: &[Plane]) -> Hit {
    let (mut enter, mut leave, mut face) = (0.0_f32, f32::INFINITY, u8::MAX);
    for (index, plane) in planes.iter().enumerate() {
        let speed = plane.normal.dot(along);
        let distance = plane.offset - plane.normal.dot(from);
        if speed.abs() < 1e-9 {
            if distance < 0.0 {
                return None;
            }
        } else {
            let t = distance / speed;
            if speed > 0.0 {
                leave = leave.min(t);
            } else if t > enter {
                enter = t;
                face = index as u8;
            }
        }
        if enter >= leave {
            return None;
        }
    }
    (face != u8::MAX).then_some((enter, face))
}

/// Intersects a ray with a ball about the origin.
pub(crate) fn hit_ball(from: V3, along: V3, radius: f32) -> Hit {
    let (a, b) = (along.dot(along), from.dot(along));
    let c = from.dot(from) - radius * radius;
    let root = b * b - a * c;
    if root < 0.0 || b > 0.0 || c < 0.0 {
        return None;
    }
    Some(((-b - root.sqrt()) / a, 0))
}

/// Intersects a ray with a closed cylinder about the y axis.
pub(crate) fn hit_cylinder(from: V3, along: V3, radius: f32, half: f32) -> Hit {
    // The caps' slab.
    let inverse = 1.0 / along.y;
    let (low, high) = ((-half - from.y) * inverse, (half - from.y) * inverse);
    let (slab_in, slab_out, cap) = if along.y > 0.0 { (low, high, 1) } else { (high, low, 2) };
    // The round wall.
    let a = along.x * along.x + along.z * along.z;
    let b = from.x * along.x + from.z * along.z;
    let c = from.x * from.x + from.z * from.z - radius * radius;
    let root = b * b - a * c;
    if root < 0.0 {
        return None;
    }
    let (wall_in, wall_out) = if a > 1e-12 {
        let root = root.sqrt();
        ((-b - root) / a, (-b + root) / a)
    } else {
        (f32::NEG_INFINITY, f32::INFINITY)
    };
    let (enter, face) = if wall_in > slab_in { (wall_in, 0) } else { (slab_in, cap) };
    (enter > 0.0 && enter < slab_out.min(wall_out)).then_some((enter, face))
}

/// Intersects a ray with the side of a cylinder, from inside or outside.
pub(crate) fn hit_tube(from: V3, along: V3, radius: f32, half: f32) -> Hit {
    let a = along.x * along.x + along.z * along.z;
    let b = from.x * along.x + from.z * along.z;
    let c = from.x * from.x + from.z * from.z - radius * radius;
    let root = b * b - a * c;
    if root < 0.0 || a < 1e-12 {
        return None;
    }
    let root = root.sqrt();
    [(-b - root) / a, (-b + root) / a]
        .into_iter()
        .find(|&t| t > 0.0 && (from.y + t * along.y).abs() <= half)
        .map(|t| (t, 0))
}

/// Intersects a ray with a flat ring in the plane y = 0.
pub(crate) fn hit_ring(from: V3, along: V3, outer: f32, inner: f32) -> Hit {
    let t = -from.y / along.y;
    let (x, z) = (from.x + t * along.x, from.z + t * along.z);
    let square = x * x + z * z;
    (t > 0.0 && square <= outer * outer && square >= inner * inner).then_some((t, 0))
}

/// A limb, prepared for rays from one point.
///
/// With axis `u` of length `L`, `s = (ra - rb) / L` and `c = sqrt(1 - s^2)`, a point at height `y`
/// along the axis and distance `rho` from it lies on the slanted side where `c rho = ra - s y`,
/// between the circles where side and balls touch: `0 <= c y - s rho <= c L`. Squared, with
/// `rho^2 = |p|^2 - y^2`: `c^2 |p|^2 - y^2 + 2 ra s y - ra^2 = 0`, a quadratic in the ray's
/// parameter.
pub(crate) struct Limb {
    from_a: V3,
    from_b: V3,
    unit: V3,
    length: f32,
    sin: f32,
    cos: f32,
    ra: f32,
    rb: f32,
}

impl Limb {
    pub(crate) fn new(a: V3, b: V3, ra: f32, rb: f32, from: V3) -> Self {
        let axis = b - a;
        let length = axis.length().max(1e-6);
        let sin = ((ra - rb) / length).clamp(-0.999, 0.999);
        Self {
            from_a: from - a,
            from_b: from - b,
            unit: axis * (1.0 / length),
            length,
            sin,
            cos: (1.0 - sin * sin).sqrt(),
            ra,
            rb,
        }
    }

    pub(crate) fn hit(&self, along: V3) -> Hit {
        let (dd, od, oo) = (along.dot(along), self.from_a.dot(along), self.from_a.dot(self.from_a));
        let (y0, yd) = (self.from_a.dot(self.unit), along.dot(self.unit));
        let square = self.cos * self.cos;
        let a = square * dd - yd * yd;
        let b = square * od - y0 * yd + self.ra * self.sin * yd;
        let c = square * oo - y0 * y0 + 2.0 * self.ra * self.sin * y0 - self.ra * self.ra;
        let root = b * b - a * c;
        // The whole cone contains both balls: a ray that misses it misses the limb.
        if root < 0.0 && a > 0.0 {
            return None;
        }
        let mut best = f32::INFINITY;
        if root >= 0.0 && a.abs() > 1e-12 {
            let root = root.sqrt();
            let on_side = |t: f32| {
                let y = y0 + t * yd;
                let rho = (self.ra - self.sin * y) / self.cos;
                let slant = self.cos * y - self.sin * rho;
                t > 0.0 && rho >= 0.0 && slant >= 0.0 && slant <= self.cos * self.length
            };
            let first = (-b - root) / a;
            if on_side(first) {
                if a > 0.0 {
                    // The ray enters a convex body through its side: no other part is nearer.
                    return Some((first, 0));
                }
                best = first;
            }
            let second = (-b + root) / a;
            if on_side(second) {
                best = best.min(second);
            }
        }
        for (from, radius) in [(self.from_a, self.ra), (self.from_b, self.rb)] {
            if let Some((t, _)) = hit_ball(from, along, radius) {
                best = best.min(t);
            }
        }
        (best < f32::INFINITY).then_some((best, 0))
    }
}
