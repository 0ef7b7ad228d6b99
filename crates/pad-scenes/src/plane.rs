//! A plane that bounds a half-space.

use crate::vector::V3;

/// The inside is `normal . p <= offset`, in the frame of the hull.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plane {
    pub(crate) normal: V3,
    pub(crate) offset: f32,
}
