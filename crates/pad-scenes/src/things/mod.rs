//! The objects that get boxes: people, cars, bicycles, animals.

mod animal;
mod bicycle;
mod car;
mod limbs;
mod person;

pub(crate) use animal::{Kind as AnimalKind, animal};
pub(crate) use bicycle::{bicycle, cyclist};
pub(crate) use car::{CarState, car, ghost};
pub(crate) use person::{Pose, person};
