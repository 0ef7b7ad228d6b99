//! Boxes, of which most buildings and furniture are made.

use crate::{
    shape::Shape,
    vector::{Frame, V3},
};

/// Returns a box centred at a point of a frame.
pub(crate) fn block(frame: &Frame, centre: V3, half: V3) -> Shape {
    Shape::Block { frame: frame.at(centre), half }
}
