//! Points, directions and frames of the world: x to the right, y up, z forward, metres.

use std::ops::{Add, Mul, Neg, Sub};

/// A point or a direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct V3 {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) z: f32,
}

/// Straight up.
pub(crate) const UP: V3 = V3 { x: 0.0, y: 1.0, z: 0.0 };

/// Returns a point or direction from its coordinates.
pub(crate) const fn v3(x: f32, y: f32, z: f32) -> V3 {
    V3 { x, y, z }
}

impl V3 {
    pub(crate) fn dot(self, other: V3) -> f32 {
        self.x * other.x + self.y * other.y + self.z * other.z
    }

    pub(crate) fn cross(self, other: V3) -> V3 {
        v3(
            self.y * other.z - self.z * other.y,
            self.z * other.x - self.x * other.z,
            self.x * other.y - self.y * other.x,
        )
    }

    pub(crate) fn length(self) -> f32 {
        self.dot(self).sqrt()
    }

    /// Returns the same direction with length 1; straight up for the zero vector.
    pub(crate) fn normalized(self) -> V3 {
        let length = self.length();
        if length > 1e-12 { self * (1.0 / length) } else { UP }
    }

    pub(crate) fn lerp(self, other: V3, share: f32) -> V3 {
        self + (other - self) * share
    }

    /// Returns the element-wise product.
    pub(crate) fn times(self, other: V3) -> V3 {
        v3(self.x * other.x, self.y * other.y, self.z * other.z)
    }
}

impl Add for V3 {
    type Output = V3;
    fn add(self, other: V3) -> V3 {
        v3(self.x + other.x, self.y + other.y, self.z + other.z)
    }
}

impl Sub for V3 {
    type Output = V3;
    fn sub(self, other: V3) -> V3 {
        v3(self.x - other.x, self.y - other.y, self.z - other.z)
    }
}

impl Mul<f32> for V3 {
    type Output = V3;
    fn mul(self, by: f32) -> V3 {
        v3(self.x * by, self.y * by, self.z * by)
    }
}

impl Neg for V3 {
    type Output = V3;
    fn neg(self) -> V3 {
        self * -1.0
    }
}

/// An origin and three orthonormal axes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) origin: V3,
    pub(crate) right: V3,
    pub(crate) up: V3,
    pub(crate) forward: V3,
}

impl Frame {
    /// Returns an upright frame at `origin`, turned by `yaw` radians about the vertical (0 looks
    /// along z).
    pub(crate) fn upright(origin: V3, yaw: f32) -> Frame {
        let (sin, cos) = yaw.sin_cos();
        Frame { origin, right: v3(cos, 0.0, -sin), up: UP, forward: v3(sin, 0.0, cos) }
    }

    /// Returns the frame tilted by `pitch` radians about its right axis (positive lifts the forward
    /// axis).
    pub(crate) fn pitched(self, pitch: f32) -> Frame {
        let (sin, cos) = pitch.sin_cos();
        Frame {
            forward: self.forward * cos + self.up * sin,
            up: self.up * cos - self.forward * sin,
            ..self
        }
    }

    /// Returns the frame rolled by `roll` radians about its forward axis.
    pub(crate) fn rolled(self, roll: f32) -> Frame {
        let (sin, cos) = roll.sin_cos();
        Frame {
            right: self.right * cos + self.up * sin,
            up: self.up * cos - self.right * sin,
            ..self
        }
    }

    /// Returns the same axes at another origin, given in this frame's coordinates.
    pub(crate) fn at(self, local: V3) -> Frame {
        Frame { origin: self.point(local), ..self }
    }

    /// Returns the world direction of a local one.
    pub(crate) fn direction(&self, local: V3) -> V3 {
        self.right * local.x + self.up * local.y + self.forward * local.z
    }

    /// Returns the world point of a local one.
    pub(crate) fn point(&self, local: V3) -> V3 {
        self.origin + self.direction(local)
    }

    /// Returns the local direction of a world one.
    pub(crate) fn local_direction(&self, world: V3) -> V3 {
        v3(self.right.dot(world), self.up.dot(world), self.forward.dot(world))
    }

    /// Returns the local point of a world one.
    pub(crate) fn local_point(&self, world: V3) -> V3 {
        self.local_direction(world - self.origin)
    }
}

/// Smooth step: 0 at `zero` and beyond, 1 at `one` and beyond; `one` may be the smaller of the two.
pub(crate) fn smooth_step(zero: f32, one: f32, value: f32) -> f32 {
    let span = one - zero;
    let span = if span.abs() < 1e-9 { 1e-9 } else { span };
    let share = ((value - zero) / span).clamp(0.0, 1.0);
    share * share * (3.0 - 2.0 * share)
}

/// Linear interpolation: `from` at 0, `to` at 1.
pub(crate) fn mix(from: f32, to: f32, share: f32) -> f32 {
    from + (to - from) * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_both_ways() {
        assert_eq!(smooth_step(1.0, 3.0, 0.0), 0.0);
        assert_eq!(smooth_step(1.0, 3.0, 4.0), 1.0);
        assert_eq!(smooth_step(3.0, 1.0, 0.0), 1.0);
        assert_eq!(smooth_step(3.0, 1.0, 4.0), 0.0);
        assert_eq!(smooth_step(1.0, 3.0, 2.0), 0.5);
    }

    #[test]
    fn a_frame_and_back() {
        let frame = Frame::upright(v3(1.0, 2.0, 3.0), 0.7).pitched(-0.4).rolled(0.2);
        let point = v3(-0.3, 4.0, 2.5);
        let back = frame.local_point(frame.point(point));
        assert!((back - point).length() < 1e-5, "{back:?}");
        assert!(
            (frame.right.cross(frame.up) + frame.forward).length() < 1e-5
                || (frame.right.cross(frame.up) - frame.forward).length() < 1e-5
        );
        assert!(frame.right.dot(frame.up).abs() < 1e-6);
    }
}
