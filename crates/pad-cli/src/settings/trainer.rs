//! What the settings of a program that trains have in common.

use super::{list::Part, paths::Paths, run::RunSettings};
use crate::run::Result;

/// Settings with a name, as the text of a TOML file.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// The name that `--recipe` takes.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

/// A program that trains: the settings that it alone has.
pub trait Trainer: Part {
    /// Its name: of the subcommand, of its run folders.
    const NAME: &'static str;

    /// Its recipes. `demo` is what it does without data, `small` what it does on a CPU.
    const RECIPES: &'static [Recipe];

    /// Its own settings that do not change what the updates of a run do.
    const WITHOUT_EFFECT: &'static [&'static str];

    /// What every run has, with the defaults of this program: the paper's.
    fn run_defaults() -> RunSettings;

    /// Renames entries of files that an earlier version wrote.
    fn upgrade(table: &mut toml::Table) {
        let _ = table;
    }

    /// What its own settings name that must be found from any working directory.
    fn paths(&mut self) -> Paths<'_> {
        Paths::default()
    }

    /// Checks what neither flags nor the libraries check.
    ///
    /// # Errors
    /// The faults.
    fn validate(&self, run: &RunSettings) -> Result<()>;
}
