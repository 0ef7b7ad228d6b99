//! Boxes, of which most buildings and furniture are made.

use crate::{
    shape::Shape,
    vector::{Frame, V3},
};

/// A box at a place of a frame.
pub(crate) fn block(frame: &Frame, centre: V3, half: V3) -> Shape {
    Shape::Block { frame: frame.at(centre), half }
}
