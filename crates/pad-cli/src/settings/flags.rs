//! The flags of a trainer.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Error, FromArgMatches};

use super::{
    list::Part,
    recipes::PRESETS,
    run::{RunFlags, RunSettings},
    trainer::Trainer,
};
use crate::run::Result;

/// Where a run starts, beside its settings.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Run")]
pub struct Start {
    /// Run folder [default: the next free of runs/COMMAND-1, runs/COMMAND-2, …]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub out: Option<PathBuf>,
    /// Continue the run in this folder; a longer --epochs or --max-steps extends it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["recipe", "preset"])]
    pub resume: Option<PathBuf>,
    /// Start from the beginning if the resumed run has no usable checkpoint
    #[arg(long, requires = "resume")]
    pub resume_anyway: bool,
    /// Settings by name (see the end of this help) or in a TOML file; flags override them
    #[arg(long, visible_alias = "config", value_name = "NAME|FILE")]
    pub recipe: Option<String>,
    /// Size of the run: small (an hour or two on two cores) or paper [default: with --data small on
    /// a CPU and paper elsewhere; without it the recipe demo]
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
