//! Folders of runs, and going on with one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use pad::train::{Trainer, checkpoint::latest};
use serde::Serialize;

use super::{Result, free_run_folder};

/// Settings and folder of a run of the program `name`: those of `resume`, or a new one's. `merge` overlays a TOML file with
/// the flags.
pub fn open<S>(
    name: &str,
    config: Option<&Path>,
    out: Option<PathBuf>,
    resume: Option<&Path>,
    merge: impl FnOnce(Option<&Path>) -> Result<S>,
) -> Result<(S, PathBuf)> {
    match resume {
        Some(folder) => Ok((merge(Some(&folder.join("config.toml")))?, folder.into())),
        None => Ok((merge(config)?, new_folder(name, out)?)),
    }
}

/// The folder asked for, or the next that is free; not one that holds a run.
pub fn new_folder(name: &str, out: Option<PathBuf>) -> Result<PathBuf> {
    let folder = out.unwrap_or_else(|| free_run_folder(name));
    if folder.join("config.toml").exists() {
        let name = folder.display();
        return Err(format!("{name} holds a run: continue it with --resume {name}").into());
    }
    Ok(folder)
}

/// What a resumed run must share with its checkpoints: every setting but those `without_effect` on results.
pub fn identity(
    settings: &impl Serialize,
    without_effect: &[&str],
) -> Result<BTreeMap<String, String>> {
    let table = toml::Table::try_from(settings)?;
    let kept = table.into_iter().filter(|(name, _)| !without_effect.contains(&name.as_str()));
    Ok(kept.map(|(name, value)| (name, value.to_string())).collect())
}

/// Goes on from the newest checkpoint in `checkpoints`, or from the beginning if there is none yet.
pub fn resume(trainer: &mut Trainer<'_>, checkpoints: &Path) -> Result<()> {
    match latest(checkpoints)? {
        Some(checkpoint) => {
            trainer.resume(&checkpoint)?;
            tracing::info!("resumed from {}", checkpoint.path().display());
        }
        None => tracing::info!("no checkpoint yet: from the beginning"),
    }
    Ok(())
}
