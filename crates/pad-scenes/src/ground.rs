//! The ground: curves, areas, decals, stains.

use crate::{
    class::Class,
    material::Material,
    noise::{fractal2, split},
    vector::{V3, v3},
};

/// A line on the ground that may meander: `across = A sin(2 pi along / wavelength + phase)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Curve {
    pub(crate) origin: (f32, f32),
    /// Unit direction in (x, z).
    pub(crate) direction: (f32, f32),
    pub(crate) amplitude: f32,
    pub(crate) wavelength: f32,
    pub(crate) phase: f32,
}

impl Curve {
    /// Returns a straight line through `origin` at `yaw` (0 along z).
    pub(crate) fn straight(origin: (f32, f32), yaw: f32) -> Self {
        let (sin, cos) = yaw.sin_cos();
        Self { origin, direction: (sin, cos), amplitude: 0.0, wavelength: 100.0, phase: 0.0 }
    }

    /// Returns the distances along and across the curve (positive to the right of the direction).
    pub(crate) fn coordinates(&self, x: f32, z: f32) -> (f32, f32) {
        let (dx, dz) = (x - self.origin.0, z - self.origin.1);
        let along = dx * self.direction.0 + dz * self.direction.1;
        let across = dx * self.direction.1 - dz * self.direction.0;
        (along, across - self.bend(along))
    }

    /// Returns the ground point at (`along`, `across`).
    pub(crate) fn point(&self, along: f32, across: f32) -> V3 {
        let across = across + self.bend(along);
        v3(
            self.origin.0 + along * self.direction.0 + across * self.direction.1,
            0.0,
            self.origin.1 + along * self.direction.1 - across * self.direction.0,
        )
    }

    /// Returns the heading of the curve at `along`, as a yaw.
    pub(crate) fn yaw(&self, along: f32) -> f32 {
        let slope = (self.bend(along + 0.5) - self.bend(along - 0.5)).atan();
        self.direction.0.atan2(self.direction.1) + slope
    }

    fn bend(&self, along: f32) -> f32 {
        if self.amplitude == 0.0 {
            return 0.0;
        }
        self.amplitude * (std::f32::consts::TAU * along / self.wavelength + self.phase).sin()
    }
}

/// An area of the ground.
#[derive(Clone, Debug)]
pub(crate) enum Area {
    /// Within `half` metres of a curve, from `from` to `to` along it, shifted by `across`; dashed
    /// with `(period, length)` if given.
    Band { curve: Curve, across: f32, half: f32, from: f32, to: f32, dashes: Option<(f32, f32)> },
    /// A rectangle turned by `yaw`.
    Rectangle { centre: (f32, f32), half: (f32, f32), yaw: f32 },
    /// A convex polygon with its edges as lines `x nx + z nz = offset`, normals outward. See
    /// [`Area::polygon`].
    Polygon { points: Vec<(f32, f32)>, edges: Vec<(f32, f32, f32)> },
    /// An ellipse with its first axis turned by `yaw`; a ring `width` wide inside its edge if
    /// given.
    Ellipse { centre: (f32, f32), radii: (f32, f32), yaw: f32, ring: Option<f32> },
    /// An uneven patch: ponds, worn ground, flower beds.
    Patch { centre: (f32, f32), radius: f32, roughness: f32, seed: u32 },
}

impl Area {
    /// Returns a convex polygon from its corners, counter-clockwise with x to the right and z up.
    pub(crate) fn polygon(points: Vec<(f32, f32)>) -> Area {
        let edges = points
            .iter()
            .zip(points.iter().cycle().skip(1))
            .map(|(&(ax, az), &(bx, bz))| {
                let per = 1.0 / (bx - ax).hypot(bz - az).max(1e-6);
                let (nx, nz) = ((bz - az) * per, (ax - bx) * per);
                (nx, nz, nx * ax + nz * az)
            })
            .collect();
        Area::Polygon { points, edges }
    }

    /// Returns the distance to the edge, metres, negative inside. Accurate near the edge only.
    pub(crate) fn distance(&self, x: f32, z: f32) -> f32 {
        match self {
            Area::Band { curve, across, half, from, to, dashes } => {
                let (s, n) = curve.coordinates(x, z);
                let mut outside = ((n - across).abs() - half).max(from - s).max(s - to);
                if let Some((period, length)) = dashes {
                    let (_, share) = split(s / period);
                    outside = outside.max((share * period - 0.5 * length).abs() - 0.5 * length);
                }
                outside
            }
            Area::Rectangle { centre, half, yaw } => {
                let (u, v) = turned(x - centre.0, z - centre.1, *yaw);
                (u.abs() - half.0).max(v.abs() - half.1)
            }
            Area::Polygon { edges, .. } => edges
                .iter()
                .map(|&(nx, nz, offset)| x * nx + z * nz - offset)
                .fold(f32::NEG_INFINITY, f32::max),
            Area::Ellipse { centre, radii, yaw, ring } => {
                let (u, v) = turned(x - centre.0, z - centre.1, *yaw);
                let outside = (length(u / radii.0, v / radii.1) - 1.0) * radii.0.min(radii.1);
                match ring {
                    Some(width) => outside.max(-width - outside),
                    None => outside,
                }
            }
            Area::Patch { centre, radius, roughness, seed } => {
                let away = length(x - centre.0, z - centre.1);
                // The noise never exceeds 1.9, so that points far from the edge need no evaluation.
                let (least, most) =
                    (radius * (1.0 - 1.9 * roughness), radius * (1.0 + 1.9 * roughness));
                if away > most {
                    return away - most;
                }
                if away < least {
                    return away - least;
                }
                let field = fractal2((x, z), 0.9 * radius, 5, 0.6, 0.0, *seed);
                away - radius * (1.0 + roughness * field)
            }
        }
    }

    /// Returns the corners of a flat box around the area, in the order of `Camera::reach`; `None`
    /// for long or curved bands, which can touch any pixel.
    pub(crate) fn corners(&self) -> Option<[V3; 8]> {
        let of = |points: [(f32, f32); 4]| {
            let [a, b, c, d] = points.map(|(x, z)| v3(x, 0.0, z));
            Some([a, b, a, b, c, d, c, d])
        };
        let around = |centre: (f32, f32), half: (f32, f32), yaw: f32| {
            let (sin, cos) = yaw.sin_cos();
            of([(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)].map(|(u, v)| {
                let (u, v) = (u * half.0, v * half.1);
                (centre.0 + u * cos + v * sin, centre.1 - u * sin + v * cos)
            }))
        };
        match self {
            Area::Band { curve, across, half, from, to, .. } => {
                if to - from > 400.0 || curve.amplitude != 0.0 {
                    return None;
                }
                let at = |s: f32, n: f32| {
                    let p = curve.point(s, n);
                    (p.x, p.z)
                };
                of([
                    at(*from, across - half),
                    at(*from, across + half),
                    at(*to, across - half),
                    at(*to, across + half),
                ])
            }
            Area::Rectangle { centre, half, yaw } => around(*centre, *half, *yaw),
            Area::Ellipse { centre, radii, yaw, .. } => around(*centre, *radii, *yaw),
            Area::Patch { centre, radius, roughness, .. } => {
                let reach = radius * (1.0 + 1.9 * roughness);
                around(*centre, (reach, reach), 0.0)
            }
            Area::Polygon { points, .. } => {
                let mut low = (f32::INFINITY, f32::INFINITY);
                let mut high = (f32::NEG_INFINITY, f32::NEG_INFINITY);
                for &(x, z) in points {
                    low = (low.0.min(x), low.1.min(z));
                    high = (high.0.max(x), high.1.max(z));
                }
                of([low, (high.0, low.1), (low.0, high.1), high])
            }
        }
    }
}

fn length(x: f32, z: f32) -> f32 {
    (x * x + z * z).sqrt()
}

fn turned(dx: f32, dz: f32, yaw: f32) -> (f32, f32) {
    let (sin, cos) = yaw.sin_cos();
    (dx * cos - dz * sin, dx * sin + dz * cos)
}

/// Parallel stripes of the ground: furrows, mown lawns, joints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub(crate) yaw: f32,
    pub(crate) pitch: f32,
    pub(crate) kelvin: f32,
}

/// A flat area of another material, above all earlier ones.
#[derive(Clone, Debug)]
pub(crate) struct Decal {
    pub(crate) area: Area,
    pub(crate) material: Material,
    pub(crate) class: Class,
    pub(crate) rows: Option<Rows>,
    pub(crate) seed: u32,
}

/// The effect of a stain on the ground.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effect {
    /// Removes this share of the sun.
    Shadow(f32),
    /// Changes the temperature by this many kelvin.
    Heat(f32),
}

/// A stain with a soft edge: shadows, warm parking places, tyre tracks.
#[derive(Clone, Debug)]
pub(crate) struct Stain {
    pub(crate) area: Area,
    pub(crate) softness: f32,
    pub(crate) effect: Effect,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_go_there_and_back() {
        let mut curve = Curve::straight((3.0, -2.0), 0.8);
        curve.amplitude = 4.0;
        curve.wavelength = 60.0;
        let p = curve.point(17.0, -2.5);
        let (along, across) = curve.coordinates(p.x, p.z);
        assert!((along - 17.0).abs() < 1e-4 && (across + 2.5).abs() < 1e-4);
        // The heading is the direction of travel.
        let ahead = curve.point(17.5, 0.0) - curve.point(16.5, 0.0);
        let yaw = curve.yaw(17.0);
        assert!((ahead.x.atan2(ahead.z) - yaw).abs() < 1e-2, "{} {yaw}", ahead.x.atan2(ahead.z));
    }

    #[test]
    fn areas_know_inside_from_outside() {
        let square = Area::polygon(vec![(0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)]);
        let rectangle = Area::Rectangle { centre: (1.0, 1.0), half: (1.0, 1.0), yaw: 0.0 };
        for area in [square, rectangle] {
            assert!((area.distance(1.0, 1.0) + 1.0).abs() < 1e-5, "{area:?}");
            assert!((area.distance(3.0, 1.0) - 1.0).abs() < 1e-5, "{area:?}");
        }
        let ring =
            Area::Ellipse { centre: (0.0, 0.0), radii: (5.0, 5.0), yaw: 0.0, ring: Some(1.0) };
        assert!(ring.distance(4.5, 0.0) < 0.0 && ring.distance(3.0, 0.0) > 0.0);
        let dashed = Area::Band {
            curve: Curve::straight((0.0, 0.0), 0.0),
            across: 0.0,
            half: 0.1,
            from: -100.0,
            to: 100.0,
            dashes: Some((4.0, 2.0)),
        };
        assert!(dashed.distance(0.0, 1.0) < 0.0 && dashed.distance(0.0, 3.0) > 0.0);
    }
}
