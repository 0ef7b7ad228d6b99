//! Checkpoints of a folder: the latest, the best, one by its number of steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{
    format::{BEST, SavedState, folder_name, step_of},
    load::TrainingCheckpoint,
};
use crate::{Error, Result};

/// A choice among the checkpoints of a folder.
///
/// ```
/// use pad_train::checkpoint::Which;
/// assert_eq!("best".parse::<Which>().unwrap(), Which::Best);
/// assert_eq!("checkpoint-00000120".parse::<Which>().unwrap(), Which::Step(120));
/// assert_eq!("120".parse::<Which>().unwrap().to_string(), "checkpoint-00000120");
/// assert_eq!(
///     "newest".parse::<Which>().unwrap_err().to_string(),
///     "settings: checkpoint: expected latest, best, a folder such as checkpoint-00000120 or a number of steps, found `newest`"
/// );
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// The complete one with the highest number of steps.
    #[default]
    Latest,
    /// The one that was marked as the best ([`Flow::Best`](crate::Flow::Best)).
    Best,
    /// The one after this many steps.
    Step(usize),
}

/// `latest`, `best`, or the name of a checkpoint's folder.
impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Which::Latest => f.write_str("latest"),
            Which::Best => f.write_str("best"),
            Which::Step(step) => f.write_str(&folder_name(*step)),
        }
    }
}

/// Parses what [`Display`](fmt::Display) writes, or a bare number of steps.
impl FromStr for Which {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "latest" => return Ok(Which::Latest),
            "best" => return Ok(Which::Best),
            _ => {}
        }
        let step = step_of(name).or_else(|| name.parse().ok());
        step.map(Which::Step).ok_or_else(|| Error::Settings {
            faults: vec![format!(
                "checkpoint: expected latest, best, a folder such as {} or a number of steps, found `{name}`",
                folder_name(120)
            )],
        })
    }
}

/// Opens one of the checkpoints in `folder`, e.g. to evaluate it:
/// [`TrainingCheckpoint::load_evaluated`], [`TrainingCheckpoint::evaluated_tensors`]. A run may
/// still be writing others.
///
/// # Errors
/// [`Error::NoCheckpoint`] with the names of those that exist; [`Error::Io`] or [`Error::Damaged`]
/// for one that cannot be read, the best one among them.
///
/// ```
/// use pad_train::checkpoint::{Which, open};
/// let folder = tempfile::tempdir()?;
/// let error = open(folder.path(), Which::Step(120)).unwrap_err().to_string();
/// let expected = "expected the checkpoint `checkpoint-00000120`, found none";
/// assert!(error.ends_with(expected), "{error}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open(folder: &Path, which: Which) -> Result<TrainingCheckpoint> {
    let found = match which {
        Which::Latest => latest(folder)?,
        Which::Best => marked(folder, open_best)?.transpose()?,
        Which::Step(step) => match numbered(folder)?.get(&step) {
            Some(path) => Some(TrainingCheckpoint::open(path)?),
            None => None,
        },
    };
    let known =
        || -> Result<Vec<String>> { Ok(numbered(folder)?.into_keys().map(folder_name).collect()) };
    match found {
        Some(checkpoint) => Ok(checkpoint),
        None => Err(Error::NoCheckpoint {
            folder: folder.to_path_buf(),
            wanted: which.to_string(),
            known: known()?,
        }),
    }
}

/// Returns the newest complete checkpoint in `folder`; `None` if it holds none or does not exist.
/// Damaged ones are skipped with a warning.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be listed or a file cannot be read; [`Error::NewerFormat`].
///
/// ```
/// use pad_train::checkpoint::latest;
/// let folder = tempfile::tempdir()?;
/// std::fs::create_dir(folder.path().join("checkpoint-00000120"))?; // damaged: it holds no file
/// assert!(latest(folder.path())?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn latest(folder: &Path) -> Result<Option<TrainingCheckpoint>> {
    newest(folder, TrainingCheckpoint::open, |path, error| {
        tracing::warn!("checkpoint {} is skipped: {error}", path.display());
    })
}

/// Reads the newest checkpoint that is not damaged. `say` gets those that are.
pub(super) fn newest<T>(
    folder: &Path,
    mut read: impl FnMut(&Path) -> Result<T>,
    mut say: impl FnMut(&Path, &Error),
) -> Result<Option<T>> {
    let mut skipped = BTreeSet::new();
    let mut listed = numbered(folder)?;
    while let Some((step, path)) =
        listed.into_iter().rev().find(|(step, _)| !skipped.contains(step))
    {
        match read(&path) {
            Err(error) if is_damage(&error) => {
                skipped.insert(step);
                // Listed again: a run that trains writes others, and removes old ones.
                listed = numbered(folder)?;
                if listed.contains_key(&step) {
                    say(&path, &error);
                }
            }
            found => return found.map(Some),
        }
    }
    Ok(None)
}

/// Returns whether an error says that a checkpoint is incomplete or altered, and not that it could
/// not be read now.
pub(super) fn is_damage(error: &Error) -> bool {
    match error {
        Error::Damaged { .. } => true,
        // Missing; not a regular file; larger than anything that was written.
        Error::Io { cause, .. } => matches!(
            cause.kind(),
            ErrorKind::NotFound | ErrorKind::InvalidInput | ErrorKind::InvalidData
        ),
        _ => false,
    }
}

/// Returns the checkpoint that was marked as best in `folder`; `None` if none was. A best one that
/// is damaged or missing is `None` too, with a warning that names the file: no other is the best.
///
/// # Errors
/// [`Error::Io`] or [`Error::NewerFormat`] if one was marked but cannot be read now.
///
/// ```
/// use pad_train::checkpoint::best;
/// assert!(best(tempfile::tempdir()?.path())?.is_none()); // no run has marked one
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn best(folder: &Path) -> Result<Option<TrainingCheckpoint>> {
    match marked(folder, open_best)? {
        Some(Err(error)) if is_damage(&error) => {
            tracing::warn!("the best checkpoint is skipped: {error}");
            Ok(None)
        }
        found => found.transpose(),
    }
}

/// Opens the checkpoint that is marked as best; `None` if none is. Where a run that trains marks
/// another one meanwhile, and removes the first, it is the other.
pub(super) fn marked<T>(
    folder: &Path,
    mut open: impl FnMut(&Path, usize) -> Result<T>,
) -> Result<Option<Result<T>>> {
    let Some(mut step) = best_step(folder)? else { return Ok(None) };
    loop {
        let opened = open(folder, step);
        if !matches!(&opened, Err(error) if is_damage(error)) {
            return Ok(Some(opened));
        }
        match best_step(folder)? {
            Some(now) if now != step => step = now,
            _ => return Ok(Some(opened)),
        }
    }
}

/// Opens the checkpoint of `step`, which was marked as best.
pub(super) fn open_best(folder: &Path, step: usize) -> Result<TrainingCheckpoint> {
    let path = folder.join(folder_name(step));
    let is_there = |path: &Path| path.try_exists().map_err(Error::io(path));
    let gone = |path: PathBuf, what: &str| Err(Error::Damaged { path, what: what.into() });
    if is_there(&path)? {
        return TrainingCheckpoint::open(&path);
    }
    let aside = aside(&path);
    match is_there(&aside)? {
        true => gone(aside, "it was the best checkpoint, is damaged and was set aside"),
        false => gone(path, "it was the best checkpoint and is missing"),
    }
}

/// The name of a checkpoint that was found damaged.
pub(super) fn aside(checkpoint: &Path) -> PathBuf {
    let mut aside = checkpoint.as_os_str().to_os_string();
    aside.push(".damaged");
    aside.into()
}

/// Returns the step of the best checkpoint: the newest state knows it. The file [`BEST`] is for
/// people, and for folders of format 1.
pub(super) fn best_step(folder: &Path) -> Result<Option<usize>> {
    match newest(folder, SavedState::read, |_, _| {})? {
        Some(state) if state.format > 1 => Ok(state.best),
        _ => pointed(folder),
    }
}

/// Returns whether the newest state is of format 1: the file [`BEST`] alone knows the best one.
pub(super) fn is_of_format_1(folder: &Path) -> Result<bool> {
    let state = newest(folder, SavedState::read, |_, _| {})?;
    Ok(state.is_some_and(|state| state.format == 1))
}

fn pointed(folder: &Path) -> Result<Option<usize>> {
    let pointer = folder.join(BEST);
    let name = match pad_ops::fs::read_small(&pointer, 4096) {
        Ok(text) => String::from_utf8_lossy(&text).trim().to_string(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(&pointer)(error)),
    };
    match step_of(&name) {
        Some(step) => Ok(Some(step)),
        None => {
            let what = format!("expected the name of a checkpoint, found `{name}`");
            Err(Error::Damaged { path: pointer, what })
        }
    }
}

/// Lists checkpoint folders by step, complete or not; empty if `folder` does not exist.
pub(super) fn numbered(folder: &Path) -> Result<BTreeMap<usize, PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Error::io(folder)(error)),
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(Error::io(folder))?.path();
        let step = path.file_name().and_then(|name| step_of(name.to_str()?));
        if let Some(step) = step
            && is_folder(&path)?
        {
            found.insert(step, path);
        }
    }
    Ok(found)
}

/// Returns whether there is a folder. One that cannot be looked at now is an error, and not gone.
pub(super) fn is_folder(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.is_dir()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(path)(error)),
    }
}
