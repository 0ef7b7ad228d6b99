//! The flags of a trainer, with their defaults in the help.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, Error, FromArgMatches};

use super::{
    Result, Settings, Trainer,
    list::{Key, Part},
    recipes::{self, PRESETS},
    run::{RunFlags, RunSettings},
};

/// Where a run starts, beside its settings.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Run")]
pub struct Start {
    /// Folder of the run [default: the next free of runs/pretrain-1, runs/pretrain-2, …, after the
    /// program's name]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub out: Option<PathBuf>,
    /// Continue the run in this folder; a longer --epochs or --max-steps extends it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["recipe", "preset"])]
    pub resume: Option<PathBuf>,
    /// Settings by name (see the end of this help) or in a TOML file; flags override them
    #[arg(long, visible_alias = "config", value_name = "NAME|FILE")]
    pub recipe: Option<String>,
    /// Size of the run: small (hours on two cores) or paper [default: small on a CPU, else paper]
    #[arg(long, value_name = "NAME", value_parser = PRESETS, conflicts_with = "recipe")]
    pub preset: Option<String>,
}

/// The flags of the settings of a trainer.
#[derive(Clone, Debug)]
pub struct Flags<P: Trainer> {
    /// Those of every run.
    pub run: RunFlags,
    /// Those of the trainer alone.
    pub own: P::Flags,
}

impl<P: Trainer> Default for Flags<P> {
    fn default() -> Self {
        Self { run: RunFlags::default(), own: P::Flags::default() }
    }
}

impl<P: Trainer> Flags<P> {
    /// Those that were given, as the entries of a file.
    pub fn given(&self) -> Result<toml::Table> {
        let mut table = RunSettings::given(&self.run)?;
        table.extend(P::given(&self.own)?);
        Ok(table)
    }
}

impl<P: Trainer> FromArgMatches for Flags<P> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let run = RunFlags::from_arg_matches(matches)?;
        Ok(Self { run, own: P::Flags::from_arg_matches(matches)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.run.update_from_arg_matches(matches)?;
        self.own.update_from_arg_matches(matches)
    }
}

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
                argument = argument.num_args(0..=1).default_missing_value("true");
            }
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            match default {
                Some(default) => argument.help(format!("{help} [default: {default}]")),
                None => argument,
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
        other => other.to_string(),
    }
}
