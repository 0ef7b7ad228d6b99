//! A cell of the comparison: one run of `pad`, and where its result is.

use std::{
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde_json::Value;

use super::{
    Result,
    judge::{Judge, Metric},
};

/// The flag of the settings that all cells of a kind share.
pub(crate) const RECIPE: &str = "--recipe";

/// The models that `pad detect train` and `pad segment train` leave, about 95 MB each.
const MODELS: [&str; 2] = ["detector.safetensors", "model.safetensors"];

/// What a cell does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// Searches regions of interest of the mix.
    Regions,
    /// Pre-trains.
    Pretrain,
    /// Judges.
    Judge(Judge),
}

/// A run of `pad` and its result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    /// `BACKBONE/WEIGHTS/SEED/WORK`.
    pub(crate) id: String,
    pub(crate) work: Work,
    /// The cell that must have ended before.
    pub(crate) needs: Option<String>,
    /// The arguments of `pad`, without those that only say where it runs.
    pub(crate) command: Vec<String>,
    /// The run folder, for a training run.
    pub(crate) run: Option<PathBuf>,
    /// The file that is there once the cell has ended.
    pub(crate) result: PathBuf,
    /// The kind of run, among which time is foretold from one to another.
    pub(crate) shape: String,
    /// Updates of the run.
    pub(crate) steps: usize,
}

impl Cell {
    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.result.is_file()
    }

    /// Its log.
    pub(crate) fn log(&self) -> PathBuf {
        self.beside("log")
    }

    fn beside(&self, extension: &str) -> PathBuf {
        self.run.as_deref().unwrap_or(&self.result).with_extension(extension)
    }

    /// What it is known by: its command, with the recipe by its name, and the recipe's text.
    fn identity(&self) -> Result<String> {
        let (mut words, mut recipe) = (vec!["pad".to_string()], String::new());
        let mut all = self.command.iter();
        while let Some(word) = all.next() {
            words.push(word.clone());
            if word == RECIPE
                && let Some(path) = all.next().map(Path::new)
            {
                recipe = fs::read_to_string(path).with_context(|| path.display().to_string())?;
                let name = path.file_name().unwrap_or(path.as_os_str());
                words.push(name.to_string_lossy().into_owned());
            }
        }
        Ok(format!("{}\n{recipe}", words.join(" ")))
    }

    /// Checks that what is in its place, if something is, was made by this command.
    ///
    /// # Errors
    /// Another command, or none.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.has_ended() && !self.has_begun() {
            return Ok(());
        }
        let path = self.beside("command");
        let file = path.display();
        let found = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("{file}: missing beside the run that it made: choose another --out")
            }
            found => found.with_context(|| file.to_string())?,
        };
        let expected = self.identity()?;
        if found == expected {
            return Ok(());
        }
        let first = |text: &str| text.lines().next().unwrap_or("").to_string();
        match (first(&found), first(&expected)) {
            (found, expected) if found == expected => {
                bail!("{file}: made with another text of its recipe: choose another --out")
            }
            (found, expected) => {
                bail!("{file}: made by `{found}`, expected `{expected}`: choose another --out")
            }
        }
    }

    /// Checks it, and writes down by which command it is made: called right before it runs.
    pub(crate) fn claim(&self) -> Result<()> {
        self.check()?;
        let path = self.beside("command");
        let named = || path.display().to_string();
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(named)?;
        }
        if !self.has_begun() {
            // What starts over is timed anew.
            let _ = fs::remove_file(self.beside("seconds"));
        }
        fs::write(&path, self.identity()?).with_context(named)
    }

    /// Whether its run has begun and not ended.
    pub(crate) fn has_begun(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.join("config.toml").is_file())
    }

    /// The arguments that start it, or continue it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        match (&self.run, self.has_begun()) {
            (Some(run), true) => {
                let program = self.command.iter().take_while(|word| !word.starts_with('-'));
                let mut arguments: Vec<String> = program.cloned().collect();
                arguments.extend(["--resume".into(), text(run), "--resume-anyway".into()]);
                arguments
            }
            _ => self.command.clone(),
        }
    }

    /// Takes note of a session of its run.
    pub(crate) fn add_session(&self, seconds: f64) -> Result<()> {
        let path = self.beside("seconds");
        let named = || path.display().to_string();
        let file = fs::File::options().create(true).append(true).open(&path);
        writeln!(file.with_context(named)?, "{seconds:.3}").with_context(named)
    }

    /// The times of its sessions, seconds; none before the first one has ended.
    fn sessions(&self) -> Vec<f64> {
        let text = fs::read_to_string(self.beside("seconds")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// The time of all its sessions together, from start to end, seconds.
    pub(crate) fn elapsed(&self) -> Option<f64> {
        self.sessions().into_iter().reduce(|sum, session| sum + session)
    }

    /// The time that its work took, seconds: a run that was resumed reports its last session alone.
    pub(crate) fn seconds(&self, report: &Value) -> Option<f64> {
        let mut earlier = self.sessions();
        earlier.pop();
        Some(earlier.iter().sum::<f64>() + report["seconds"].as_f64()?)
    }

    /// The highest memory of its sessions, MiB: the report's is that of the last one, others logged theirs.
    pub(crate) fn peak_mib(&self, report: &Value) -> Option<f64> {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let logged = log.lines().filter_map(|line| {
            let (_, rest) = line.split_once("peak memory so far: ")?;
            rest.split_once(" MiB")?.0.parse::<f64>().ok()
        });
        logged.chain(report["peak_mib"].as_f64()).reduce(f64::max)
    }

    /// Removes what is of no use once it has ended: checkpoints, and models of judges, of which no cell starts.
    pub(crate) fn tidy(&self) {
        let Some(run) = &self.run else { return };
        let _ = fs::remove_dir_all(run.join("checkpoints"));
        if matches!(self.work, Work::Judge(_)) {
            for model in MODELS {
                let _ = fs::remove_file(run.join(model));
            }
        }
    }

    /// Its numbers.
    pub(crate) fn numbers(&self, report: &Value) -> Vec<(Metric, f64)> {
        match self.work {
            Work::Regions => Vec::new(),
            Work::Pretrain => {
                Metric::Loss.read(report).map(|loss| (Metric::Loss, loss)).into_iter().collect()
            }
            Work::Judge(judge) => judge.numbers(report),
        }
    }

    /// Reads its result; `None` if it has not ended.
    pub(crate) fn report(&self) -> Result<Option<Value>> {
        if !self.has_ended() {
            return Ok(None);
        }
        let file = self.result.display();
        let text = fs::read_to_string(&self.result).with_context(|| file.to_string())?;
        serde_json::from_str(&text).map(Some).with_context(|| file.to_string())
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}
