//! Settings from three places: defaults, overlaid by a recipe, overlaid by flags.

use std::{collections::BTreeSet, path::Path};

use pad::{checkpoint::Checkpoint, ops::text::near_name};

use super::{
    flags::{Flags, Start},
    list::{Fault, Part},
    paths::Paths,
    recipes,
    run::{EXCLUSIVE, RunSettings},
    trainer::{Recipe, Trainer},
};
use crate::{
    run::{Result, read_text},
    tools::device::DeviceName,
};

/// The name of the settings among the notes of a model's file.
pub const SETTINGS: &str = "settings";

/// An entry of that note alone: whether the run was on rendered scenes, and not on a folder of
/// images.
const RENDERED: &str = "rendered";

/// An entry of `config.toml` alone: the settings that were chosen when the run began.
const CHOSEN: &str = "chosen";

/// Settings that are of one machine, or of how weights were found there, beside those that name
/// files and folders.
const OF_PLACE: [&str; 9] = [
    "prefix",
    "key",
    "any_backbone",
    "workers",
    "cache_mib",
    "device",
    "threads",
    "group",
    "stop_after",
];

/// The effective settings of a run; written to its folder as `config.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings<P> {
    /// What every run has.
    pub run: RunSettings,
    /// What this program alone has.
    pub own: P,
}

/// Names of settings that the user chose.
pub type Given = BTreeSet<String>;

/// A text with settings and where it is from.
struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

impl Source<'_> {
    /// An error at a place of the text.
    fn fault(&self, line: Option<usize>, what: &str) -> String {
        let what = what.trim().replace('\n', " ");
        match line {
            Some(line) => format!("{}:{line}: {what}", self.name),
            None => format!("{}: {what}", self.name),
        }
    }

    /// The line of an entry.
    fn line_of(&self, key: &str) -> Option<usize> {
        let is_key = |line: &str| {
            let line = line.trim_start().trim_start_matches(['"', '\'']);
            line.strip_prefix(key).is_some_and(|rest| {
                rest.trim_start_matches(['"', '\'']).trim_start().starts_with(['=', '.'])
            })
        };
        self.text.lines().position(is_key).map(|line| line + 1)
    }

    fn parse(&self) -> Result<toml::Table> {
        self.text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| self.text.get(..span.start));
            let line = before.map(|before| before.matches('\n').count() + 1);
            self.fault(line, error.message()).into()
        })
    }
}

impl<P: Trainer> Settings<P> {
    /// The paper's.
    pub fn defaults() -> Self {
        Self { run: P::run_defaults(), own: P::default() }
    }

    /// A recipe alone.
    pub fn of_recipe(recipe: &Recipe) -> Result<Self> {
        let name = format!("recipe {}", recipe.name);
        Self::overlaid(&Source { name: &name, text: recipe.text }, toml::Table::new())
    }

    /// The settings of a new run, or of one that is resumed.
    pub fn of(start: &Start, flags: &Flags<P>) -> Result<Self> {
        let given = flags.given()?;
        if let Some(folder) = &start.resume {
            let mut settings = Self::of_file(&folder.join("config.toml"), given.clone())?;
            settings.paths().find_from(folder);
            // What stands in the file is what the checkpoints know.
            settings.paths().only(|name| given.contains_key(name)).make_absolute();
            return Ok(settings);
        }
        let mut settings = Self::of_new(start, flags, given)?;
        settings.paths().make_absolute();
        Ok(settings)
    }

    /// The settings of a new run that the user chose: by a flag, or by a recipe that was named. Those
    /// of a resumed run were chosen when it began.
    pub fn chosen(start: &Start, flags: &Flags<P>) -> Result<Given> {
        if start.resume.is_some() {
            return Ok(Given::new());
        }
        let mut chosen: Given = flags.given()?.into_iter().map(|(name, _)| name).collect();
        if let Some(recipe) = start.recipe.as_deref() {
            let text = match is_file(recipe) {
                true => {
                    read_text(Path::new(recipe)).map_err(|error| format!("{recipe}: {error}"))?
                }
                false => recipes::expect::<P>(recipe)?.text.to_string(),
            };
            let mut table = Source { name: recipe, text: &text }.parse()?;
            upgrade(&mut table);
            P::upgrade(&mut table);
            let listed = chosen_in(&table);
            chosen.extend(
                listed.unwrap_or_else(|| table.into_iter().map(|(name, _)| name).collect()),
            );
        }
        Ok(chosen)
    }

    /// The settings that the user chose, as `config.toml` keeps them: those of a new run; of a
    /// resumed one those that it began with, and the flags. `None` if a resumed run does not say.
    pub fn ever_chosen(start: &Start, flags: &Flags<P>) -> Result<Option<Given>> {
        let Some(folder) = &start.resume else { return Self::chosen(start, flags).map(Some) };
        let path = folder.join("config.toml");
        let name = path.display().to_string();
        let text = read_text(&path).map_err(|error| format!("{name}: {error}"))?;
        let Some(mut chosen) = chosen_in(&Source { name: &name, text: &text }.parse()?) else {
            return Ok(None);
        };
        chosen.extend(flags.given()?.into_iter().map(|(name, _)| name));
        Ok(Some(chosen))
    }

    fn of_new(start: &Start, flags: &Flags<P>, given: toml::Table) -> Result<Self> {
        let recipe = match start.recipe.as_deref() {
            Some(file) if is_file(file) => {
                return Self::of_file(Path::new(file), given);
            }
            Some(name) => recipes::expect::<P>(name)?,
            None => {
                let on_cpu = flags.run.device.is_none_or(|device| device.0 == DeviceName::Cpu);
                let preset = match (&start.preset, &flags.run.data) {
                    (Some(preset), _) => preset.as_str(),
                    (None, None) => "demo",
                    (None, Some(_)) => {
                        if on_cpu {
                            "small"
                        } else {
                            "paper"
                        }
                    }
                };
                match preset {
                    "paper" => {
                        return Self::overlaid(&Source { name: "settings", text: "" }, given);
                    }
                    name => recipes::expect::<P>(name)?,
                }
            }
        };
        let name = format!("recipe {}", recipe.name);
        Self::overlaid(&Source { name: &name, text: recipe.text }, given)
    }

    fn paths(&mut self) -> Paths<'_> {
        self.run.paths().and(self.own.paths())
    }

    /// The settings of a run.
    pub fn of_run(folder: &Path) -> Result<Self> {
        let mut settings = Self::of_file(&folder.join("config.toml"), toml::Table::new())?;
        settings.paths().find_from(folder);
        Ok(settings)
    }

    fn of_file(path: &Path, given: toml::Table) -> Result<Self> {
        let name = path.display().to_string();
        let text = read_text(path).map_err(|error| format!("{name}: {error}"))?;
        Self::overlaid(&Source { name: &name, text: &text }, given)
    }

    /// Defaults, overlaid by `source`, overlaid by the flags `given`.
    fn overlaid(source: &Source<'_>, given: toml::Table) -> Result<Self> {
        Self::merged(source.parse()?, source, given)
    }

    /// Defaults, overlaid by the entries `table` of `source`, overlaid by the flags `given`.
    fn merged(mut table: toml::Table, source: &Source<'_>, given: toml::Table) -> Result<Self> {
        if let Some(program) = table.remove("program") {
            expect_program(source.name, program.as_str().unwrap_or_default(), P::NAME)?;
            table.remove(CHOSEN);
        }
        upgrade(&mut table);
        P::upgrade(&mut table);
        let mut settings = Self::defaults();
        let clear = |table: &toml::Table, settings: &mut Self| {
            for row in EXCLUSIVE {
                if row.iter().any(|name| table.contains_key(*name)) {
                    row.iter().for_each(|name| settings.run.clear(name));
                }
            }
        };
        clear(&table, &mut settings);
        settings.read(table, source)?;
        clear(&given, &mut settings);
        settings.read(given, &Source { name: "flags", text: "" })?;
        settings.run.validate()?;
        settings.own.validate(&settings.run)?;
        Ok(settings)
    }

    fn read(&mut self, mut table: toml::Table, source: &Source<'_>) -> Result<()> {
        let misfit = |Fault { name, what }| -> crate::run::Error {
            source.fault(source.line_of(name), &format!("`{name}`: {what}")).into()
        };
        self.run.read(&mut table).map_err(misfit)?;
        self.own.read(&mut table).map_err(misfit)?;
        let Some((key, _)) = table.iter().next() else { return Ok(()) };
        let known = RunSettings::KEYS.iter().chain(P::KEYS).map(|key| key.name);
        let near = near_name(key, known).map(|near| format!(" (did you mean `{near}`?)"));
        let what = format!("unknown setting `{key}`{}", near.unwrap_or_default());
        Err(source.fault(source.line_of(key), &what).into())
    }

    /// The settings that a model's file holds; `None` without any, and for a file of another program.
    pub fn of_model(file: &Checkpoint) -> Result<Option<Self>> {
        let Some(text) = file.metadata().get(&format!("note.{SETTINGS}")) else { return Ok(None) };
        let name = format!("{}: metadata `note.{SETTINGS}`", file.path().display());
        let source = Source { name: &name, text };
        let mut table = source.parse()?;
        if table.get("program").and_then(toml::Value::as_str) != Some(P::NAME) {
            return Ok(None);
        }
        table.remove(RENDERED);
        Self::merged(table, &source, toml::Table::new()).map(Some)
    }

    /// Takes the places of the images from the settings of the run in `folder`.
    pub fn take_images_of(&mut self, folder: &Path) -> Result<()> {
        let mut of_run = Self::of_run(folder)?;
        let names: Vec<&str> = of_run.paths().folders.iter().map(|(name, _)| *name).collect();
        let mut table = of_run.to_table()?;
        table.retain(|name, _| names.contains(&name));
        self.read(table, &Source { name: "images of the run", text: "" })
    }

    /// As the text in a model's file: how images go through it, without what is of one machine and
    /// its folders, but for whether there was a folder of images.
    pub fn to_note(&self) -> Result<String> {
        let mut table = self.to_table()?;
        let mut settings = self.clone();
        let paths = settings.paths();
        OF_PLACE.into_iter().chain(paths.names()).for_each(|name| drop(table.remove(name)));
        table.insert(RENDERED.into(), self.run.data.is_none().into());
        Ok(format!("program = \"{}\"\n{}", P::NAME, toml::to_string(&table)?))
    }

    /// As the entries of a file, without what is not set.
    pub fn to_table(&self) -> Result<toml::Table> {
        let mut table = toml::Table::try_from(&self.run)?;
        table.extend(toml::Table::try_from(&self.own)?);
        Ok(table)
    }

    /// As the text of `config.toml`, which has all of them. `chosen` are those that the user chose,
    /// if that is known.
    pub fn to_toml(&self, chosen: Option<&Given>) -> Result<String> {
        let mut table = self.to_table()?;
        table.remove("stop_after"); // of this session alone
        if let Some(chosen) = chosen {
            let names = chosen.iter().filter(|name| table.contains_key(name.as_str()));
            let names = names.map(|name| toml::Value::from(name.as_str())).collect();
            table.insert(CHOSEN.into(), toml::Value::Array(names));
        }
        Ok(format!("program = \"{}\"\n{}", P::NAME, toml::to_string(&table)?))
    }
}

/// The settings that the file of a run names as chosen; `None` if it does not, and for other files.
fn chosen_in(table: &toml::Table) -> Option<Given> {
    table.get("program")?;
    let names = table.get(CHOSEN)?.as_array()?.iter();
    Some(names.filter_map(toml::Value::as_str).map(String::from).collect())
}

/// Whether the run that left a model's file was on rendered scenes; `None` if it does not say.
pub fn was_rendered(file: &Checkpoint) -> Option<bool> {
    let note = file.metadata().get(&format!("note.{SETTINGS}"))?;
    let table = note.parse::<toml::Table>().ok()?;
    table.get(RENDERED)?.as_bool()
}

/// Whether a recipe is a file, and not a name.
fn is_file(recipe: &str) -> bool {
    recipe.ends_with(".toml") || Path::new(recipe).is_file()
}

/// Checks which program a file of settings belongs to.
pub fn expect_program(file: &str, found: &str, expected: &str) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let folder = Path::new(file);
    let what = match folder.file_name().is_some_and(|name| name == "config.toml") {
        true => folder.parent().unwrap_or(folder).display().to_string(),
        false => file.to_string(),
    };
    Err(format!("{what} is a run of `pad {found}`, expected one of `pad {expected}`").into())
}

/// Renames entries that the first versions wrote for every program.
fn upgrade(table: &mut toml::Table) {
    let renamed =
        [("scale", "adapter_scale"), ("dropout", "adapter_dropout"), ("dataset", "format")];
    for (old, new) in renamed {
        rename(table, old, new);
    }
    let percentiles = table.remove("percentiles").and_then(|value| pair(&value));
    let fixed = table.remove("fixed_window").and_then(|value| pair(&value));
    let levels = match (fixed, percentiles) {
        (Some([low, high]), _) => Some(format!("{low},{high}")),
        (None, Some([low, high])) => Some(format!("{low}%,{high}%")),
        (None, None) => None,
    };
    if let Some(levels) = levels {
        table.entry("levels").or_insert_with(|| levels.into());
    }
    // All cores.
    if table.get("threads").is_some_and(|threads| threads.as_integer() == Some(0)) {
        table.remove("threads");
    }
}

/// Gives an entry its new name.
pub fn rename(table: &mut toml::Table, old: &str, new: &str) {
    if let Some(value) = table.remove(old) {
        table.entry(new).or_insert(value);
    }
}

/// Two numbers.
fn pair(value: &toml::Value) -> Option<[f64; 2]> {
    let number = |value: &toml::Value| value.as_float().or(value.as_integer().map(|n| n as f64));
    let numbers: Option<Vec<f64>> = value.as_array()?.iter().map(number).collect();
    numbers?.try_into().ok()
}
