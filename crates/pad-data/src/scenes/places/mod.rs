//! What scenes are furnished with: buildings, plants, roads, street furniture, shadows.

mod building;
mod furniture;
mod plants;
mod road;
mod shadow;

pub(crate) use building::{hall, house, tower};
pub(crate) use furniture::{bench, bin, fence, lamp, pole, sign, wires};
pub(crate) use plants::{bush, hedge, random_tree, treeline, trunk};
pub(crate) use road::{Road, zebra};
pub(crate) use shadow::cast_shadows;

use super::{
    shape::Shape,
    vector::{Frame, V3},
};

/// A box at a place of a frame.
pub(crate) fn block(frame: &Frame, centre: V3, half: V3) -> Shape {
    Shape::Block { frame: frame.at(centre), half }
}
