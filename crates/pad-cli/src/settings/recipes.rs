//! Settings by name.

use pad::ops::text::unknown_name;

use super::trainer::{Recipe, Trainer};
use crate::run::Result;

/// The sizes of a run that `--preset` takes.
pub const PRESETS: [&str; 2] = ["small", "paper"];

/// The recipe of a name.
pub fn named<P: Trainer>(name: &str) -> Option<&'static Recipe> {
    P::RECIPES.iter().find(|recipe| recipe.name == name)
}

/// The recipe of a name, or an error that lists the names.
pub fn expect<P: Trainer>(name: &str) -> Result<&'static Recipe> {
    let names = || P::RECIPES.iter().map(|recipe| recipe.name);
    named::<P>(name).ok_or_else(|| unknown_name("recipe", name, names()).into())
}

/// Makes the table of recipes out of the files of the folder `recipes`.
macro_rules! recipes {
    ($($name:literal: $file:literal),* $(,)?) => {
        &[ $( $crate::settings::trainer::Recipe {
            name: $name,
            text: include_str!(concat!("../../recipes/", $file, ".toml")),
        } ),* ]
    };
}
pub(crate) use recipes;
