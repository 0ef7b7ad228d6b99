//! The static parts of scenes: buildings, plants, roads, street furniture, shadows.

mod block;
mod building;
mod furniture;
mod plants;
mod road;
mod shadow;

pub(crate) use block::block;
pub(crate) use building::{hall, house, tower};
pub(crate) use furniture::{bench, bin, fence, lamp, pole, sign, wires};
pub(crate) use plants::{bush, hedge, random_tree, treeline, trunk};
pub(crate) use road::{Road, zebra};
pub(crate) use shadow::cast_shadows;
