//! The pinhole camera: rays through pixels, projected points, and the pixels that a box can touch.

use crate::{
    size::Size,
    vector::{Frame, V3, v3},
};

/// Depth of the near plane, metres.
const NEAR: f32 = 0.05;

/// A pinhole camera without distortion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Camera {
    pub(crate) frame: Frame,
    /// Focal length, pixels.
    pub(crate) focal: f32,
    pub(crate) size: Size,
}

/// The pixels `x0..x1`, `y0..y1`, and the smallest depth among them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reach {
    pub(crate) x0: usize,
    pub(crate) x1: usize,
    pub(crate) y0: usize,
    pub(crate) y1: usize,
    pub(crate) nearest: f32,
}

/// The angles of a view, radians.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// Heading, 0 along z.
    pub(crate) yaw: f32,
    /// Positive looks up.
    pub(crate) pitch: f32,
    pub(crate) roll: f32,
    /// Field of view across the longer side.
    pub(crate) field: f32,
}

impl Camera {
    pub(crate) fn new(position: V3, view: View, size: Size) -> Self {
        let frame = Frame::upright(position, view.yaw).pitched(view.pitch).rolled(view.roll);
        let longer = size.height.max(size.width) as f32;
        Self { frame, focal: 0.5 * longer / (0.5 * view.field).tan(), size }
    }

    /// Returns the direction through image point (`x`, `y`). Its component along the view is 1, so
    /// that ray parameters are depths.
    pub(crate) fn ray(&self, x: f32, y: f32) -> V3 {
        let (cx, cy) = (0.5 * self.size.width as f32, 0.5 * self.size.height as f32);
        let per = 1.0 / self.focal;
        self.frame.forward + self.frame.right * ((x - cx) * per) + self.frame.up * ((cy - y) * per)
    }

    /// Returns the image coordinates of a point in front of the camera, and its depth; `None` for
    /// points behind it.
    pub(crate) fn project(&self, point: V3) -> Option<(f32, f32, f32)> {
        let seen = self.frame.local_point(point);
        (seen.z > NEAR).then(|| {
            let (x, y) = self.on_image(seen);
            (x, y, seen.z)
        })
    }

    fn on_image(&self, seen: V3) -> (f32, f32) {
        let (cx, cy) = (0.5 * self.size.width as f32, 0.5 * self.size.height as f32);
        (cx + self.focal * seen.x / seen.z, cy - self.focal * seen.y / seen.z)
    }

    /// Returns the number of pixels per metre at a point (0 behind the camera).
    pub(crate) fn magnification(&self, point: V3) -> f32 {
        let depth = self.frame.local_point(point).z;
        if depth > NEAR { self.focal / depth } else { 0.0 }
    }

    /// Returns the pixels that a convex body inside the box with these corners can touch; `None` if
    /// it is out of view. Bit `k` of `i` says whether corner `i` has the low or the high coordinate
    /// of axis `k`.
    pub(crate) fn reach(&self, corners: &[V3; 8]) -> Option<Reach> {
        let seen = corners.map(|corner| self.frame.local_point(corner));
        let mut nearest = f32::INFINITY;
        let (mut left, mut right) = (f32::INFINITY, f32::NEG_INFINITY);
        let (mut top, mut bottom) = (f32::INFINITY, f32::NEG_INFINITY);
        let mut extend = |point: V3| {
            let (x, y) = self.on_image(point);
            left = left.min(x);
            right = right.max(x);
            top = top.min(y);
            bottom = bottom.max(y);
            nearest = nearest.min(point.z);
        };
        for (index, &corner) in seen.iter().enumerate() {
            if corner.z > NEAR {
                extend(corner);
            }
            for axis in [1, 2, 4] {
                // Each edge once, where it pierces the near plane.
                if index & axis == 0 {
                    let other = seen[index | axis];
                    if (corner.z > NEAR) != (other.z > NEAR) {
                        let share = (NEAR - corner.z) / (other.z - corner.z);
                        let pierced = corner.lerp(other, share);
                        extend(v3(pierced.x, pierced.y, NEAR));
                    }
                }
            }
        }
        let (width, height) = (self.size.width as f32, self.size.height as f32);
        if !(right >= 0.0 && bottom >= 0.0 && left <= width && top <= height) {
            return None;
        }
        let low = |value: f32| (value - 1.0).max(0.0) as usize;
        let reach = Reach {
            x0: low(left),
            x1: ((right + 2.0).min(width) as usize).min(self.size.width),
            y0: low(top),
            y1: ((bottom + 2.0).min(height) as usize).min(self.size.height),
            nearest,
        };
        (reach.x0 < reach.x1 && reach.y0 < reach.y1).then_some(reach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera() -> Camera {
        let view = View { yaw: 0.3, pitch: -0.2, roll: 0.1, field: 1.0 };
        Camera::new(v3(1.0, 2.0, -3.0), view, Size::new(90, 120))
    }

    #[test]
    fn rays_hit_what_they_point_at() {
        let camera = camera();
        let point = camera.frame.origin + camera.ray(31.5, 70.25) * 8.0;
        let (x, y, depth) = camera.project(point).unwrap();
        assert!((x - 31.5).abs() < 1e-3 && (y - 70.25).abs() < 1e-3 && (depth - 8.0).abs() < 1e-4);
        assert!(camera.project(camera.frame.origin - camera.frame.forward).is_none());
    }

    #[test]
    fn reach_holds_every_projected_point() {
        let camera = camera();
        let frame = Frame::upright(v3(3.0, 1.0, 6.0), 1.0);
        let corners = std::array::from_fn(|i| {
            let side = |bit: usize| if i & bit == 0 { -1.0 } else { 1.0 };
            frame.point(v3(side(1), side(2), side(4)))
        });
        let reach = camera.reach(&corners).unwrap();
        for corner in corners {
            let (x, y, depth) = camera.project(corner).unwrap();
            assert!(x >= reach.x0 as f32 && x <= reach.x1 as f32, "{x} {reach:?}");
            assert!(y >= reach.y0 as f32 && y <= reach.y1 as f32, "{y} {reach:?}");
            assert!(depth >= reach.nearest - 1e-4);
        }
        let behind = corners.map(|corner| camera.frame.origin * 2.0 - corner);
        assert_eq!(camera.reach(&behind), None);
    }
}
