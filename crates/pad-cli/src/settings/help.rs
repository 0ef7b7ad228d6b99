//! The help of a trainer's flags, with the defaults and the recipes.

use clap::{Args, Command};

use super::{
    flags::Flags,
    list::{Key, Part},
    merge::Settings,
    recipes,
    run::{RunFlags, RunSettings},
    trainer::Trainer,
};

impl<P: Trainer> Args for Flags<P> {
    fn augment_args(command: Command) -> Command {
        let command = P::Flags::augment_args(RunFlags::augment_args(command));
        let names: Vec<&str> = P::RECIPES.iter().map(|recipe| recipe.name).collect();
        described::<P>(command).after_help(format!("Recipes: {}", names.join(", ")))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Adds the defaults to the help, and makes switches of booleans.
fn described<P: Trainer>(mut command: Command) -> Command {
    // Recipes are part of the program; a test opens them all.
    let paper = Settings::<P>::defaults().to_table().unwrap_or_default();
    let small = recipes::named::<P>("small")
        .and_then(|recipe| Settings::<P>::of_recipe(recipe).ok()?.to_table().ok())
        .unwrap_or_default();
    for &Key { name, switch } in RunSettings::KEYS.iter().chain(P::KEYS) {
        let default = match (paper.get(name), small.get(name)) {
            (Some(paper), Some(small)) if paper != small => {
                Some(format!("{}; small: {}", plain(paper), plain(small)))
            }
            (Some(paper), _) => Some(plain(paper)),
            (None, Some(small)) => Some(format!("none; small: {}", plain(small))),
            (None, None) => None,
        };
        command = command.mut_arg(name, |mut argument| {
            if switch {
                argument =
                    argument.value_name("BOOL").num_args(0..=1).default_missing_value("true");
            }
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            // A help text may describe what happens without a value.
            let described = help.strip_suffix(']').filter(|help| help.contains("[default: "));
            match (default, described) {
                (Some(default), Some(described)) => {
                    let default = default.trim_start_matches("none; ");
                    argument.help(format!("{described}; {default}]"))
                }
                (Some(default), None) => argument.help(format!("{help} [default: {default}]")),
                (None, _) => argument,
            }
        });
    }
    command
}

/// A value as the command line takes it.
fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(","),
        toml::Value::Float(number) => {
            let exact = number.to_string();
            if exact.len() > 8 { format!("{number:.3}") } else { exact }
        }
        other => other.to_string(),
    }
}
