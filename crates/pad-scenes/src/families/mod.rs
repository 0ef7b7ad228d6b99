//! The families of scenes: the viewpoint and what is placed in view.

mod aerial;
mod cast;
mod close_up;
mod field;
mod land;
mod plant;
mod room;
mod site;
mod street;
mod town;

use crate::{
    config::Family, dice::Dice, places::cast_shadows, size::Size, weather::Weather, world::World,
};

/// Builds a world of the family with up to `things` people, cars, bicycles and animals, as far as
/// there is space.
pub(crate) fn build(
    family: Family,
    weather: Weather,
    size: Size,
    things: usize,
    dice: &mut Dice,
) -> World {
    let mut world = match family {
        Family::Street => street::build(weather, size, things, dice),
        Family::Mast => aerial::mast(weather, size, things, dice),
        Family::Aerial => aerial::drone(weather, size, things, dice),
        Family::Field => field::build(weather, size, things, dice),
        Family::Room => room::build(weather, size, things, dice),
        Family::CloseUp => close_up::build(weather, size, things, dice),
        Family::Plant => plant::build(weather, size, things, dice),
    };
    cast_shadows(&mut world);
    world
}
