//! The folder of a run: what it holds, and how a run in it is resumed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use pad::train::{Trainer as TrainingLoop, checkpoint::latest};

use super::{Result, free_run_folder, read_text, write_text};
use crate::settings::{Settings, Trainer, merge::expect_program, run::WITHOUT_EFFECT};

/// The settings of the run.
pub const CONFIG: &str = "config.toml";
/// The results of a run that has ended.
pub const SUMMARY: &str = "summary.json";
/// The folder of checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";

/// Fact: the digest of the teacher's tensors.
pub const TEACHER_DIGEST: &str = "teacher_sha256";
/// Fact: the statistics of the images that the teacher was trained on.
pub const TEACHER_INPUT: &str = "teacher_input";

/// Fact: the model that the teacher's file says it is.
pub const TEACHER_VIT: &str = "teacher_vit";

/// Fact: the digest of the adapters that do not train, which are in no checkpoint of the run.
pub const FROZEN_ADAPTERS: &str = "frozen_adapters";
/// Fact: that of the decoder's tensors that do not train.
pub const FROZEN_DECODER: &str = "frozen_decoder";

/// Settings that name weights, each with the facts that tell what is in them.
const WEIGHTS: [(&str, &[&str]); 2] = [
    ("weights", &["backbone", "frozen", FROZEN_ADAPTERS, FROZEN_DECODER]),
    ("teacher", &[TEACHER_DIGEST]),
];

/// Facts that runs of earlier versions do not know.
const ADDED_FACTS: [&str; 3] = [FROZEN_ADAPTERS, FROZEN_DECODER, TEACHER_VIT];

/// Returns the folder `out`, or makes the next that is free, for a new run of `program`.
///
/// # Errors
/// A folder that holds a run.
pub fn new_folder(program: &str, out: Option<PathBuf>) -> Result<PathBuf> {
    let Some(folder) = out else { return reserve(program) };
    if folder.join(CONFIG).exists() {
        expect_run(&folder, program)?;
        expect_no_run(&folder)?;
    }
    Ok(folder)
}

/// Checks that a folder holds no run.
///
/// # Errors
/// A run.
pub fn expect_no_run(folder: &Path) -> Result<()> {
    let name = folder.display();
    match folder.join(CONFIG).exists() {
        true => Err(format!("{name} holds a run: continue it with --resume {name}").into()),
        false => Ok(()),
    }
}

/// Makes `runs/PROGRAM-1`, or the first number that is free: of two programs that start at once each
/// gets its own.
pub fn reserve(program: &str) -> Result<PathBuf> {
    loop {
        let folder = free_run_folder(program);
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        std::fs::create_dir_all(folder.parent().unwrap_or(Path::new("."))).map_err(failed)?;
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error).into()),
        }
    }
}

/// The folder of a run that may not begin: if it stays empty it goes with this value.
pub struct Reserved(pub PathBuf);

impl Drop for Reserved {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0); // fails for a run's, which is not empty
    }
}

/// Checks that a folder holds a run of a program.
///
/// # Errors
/// No run; a run of another program.
pub fn expect_run(folder: &Path, program: &str) -> Result<()> {
    let path = folder.join(CONFIG);
    let text = read_text(&path)
        .map_err(|error| format!("{}: {error} (expected the folder of a run)", path.display()))?;
    let Ok(table) = text.parse::<toml::Table>() else { return Ok(()) };
    match program_of(&table) {
        Some(found) => expect_program(&path.display().to_string(), found, program),
        None => Ok(()),
    }
}

/// Returns whether a folder holds a run of a program, as far as its settings can be read.
pub fn is_run_of(folder: &Path, program: &str) -> bool {
    let text = read_text(&folder.join(CONFIG)).unwrap_or_default();
    text.parse::<toml::Table>().is_ok_and(|table| program_of(&table) == Some(program))
}

/// The program that wrote a run's settings; the first versions did not store it.
fn program_of(table: &toml::Table) -> Option<&str> {
    let by_setting =
        [("objective", "pretrain"), ("head_channels", "segment"), ("anchors", "detect")];
    let written = table.get("program").and_then(toml::Value::as_str);
    let inferred = || by_setting.iter().find(|(name, _)| table.contains_key(*name));
    written.or_else(|| inferred().map(|(_, program)| *program))
}

/// What a resumed run must share with its checkpoints: every setting that changes its updates, and
/// `facts` about weights and data.
pub fn identity<P: Trainer>(
    settings: &Settings<P>,
    facts: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let matters =
        |name: &str| !WITHOUT_EFFECT.contains(&name) && !P::WITHOUT_EFFECT.contains(&name);
    let table = settings.to_table()?.into_iter().filter(|(name, _)| matters(name));
    let mut identity: BTreeMap<String, String> =
        table.map(|(name, value)| (name, value.to_string())).collect();
    identity.extend(facts);
    Ok(identity)
}

/// Makes `identity` that of the run in `folder` as it began. Weights and teacher get the names that
/// they had, if they lie elsewhere now and the run knows their digests: facts of their own, which
/// tell whether they are the same. What the version that began the run did not know is left out:
/// facts, and settings that are at their defaults, with which updates are what they were.
///
/// # Errors
/// A checkpoint that cannot be read.
pub fn as_begun<P: Trainer>(folder: &Path, identity: &mut BTreeMap<String, String>) -> Result<()> {
    let Some(checkpoint) = latest(&folder.join(CHECKPOINTS))? else { return Ok(()) };
    let stored = checkpoint.metadata()?;
    keep_names(&stored, identity);
    let defaults = self::identity(&Settings::<P>::defaults(), BTreeMap::new())?;
    let is_added = |name: &str, value: &str| {
        ADDED_FACTS.contains(&name) || defaults.get(name).is_some_and(|default| default == value)
    };
    identity.retain(|name, value| stored.contains_key(name) || !is_added(name, value));
    Ok(())
}

fn keep_names(stored: &BTreeMap<String, String>, identity: &mut BTreeMap<String, String>) {
    for (setting, digests) in WEIGHTS {
        let has_digest = digests.iter().any(|digest| stored.contains_key(*digest));
        let (Some(first), true) = (stored.get(setting), has_digest) else { continue };
        if let Some(found) = identity.get_mut(setting).filter(|found| *found != first) {
            tracing::warn!("`{setting}` is {found}, and was {first} at the start of the run");
            found.clone_from(first);
        }
    }
    // Runs of earlier versions know their teacher by its name alone.
    if stored.contains_key("teacher") && !stored.contains_key(TEACHER_DIGEST) {
        identity.retain(|name, _| ![TEACHER_DIGEST, TEACHER_INPUT].contains(&name.as_str()));
    }
}

/// Continues from the newest checkpoint of a folder; without one from the beginning, if `anyway`.
///
/// # Errors
/// No checkpoint; a setting, weights or data that differ from the checkpoint's.
pub fn resume(
    training: &mut TrainingLoop<'_>,
    folder: &Path,
    identity: &BTreeMap<String, String>,
    anyway: bool,
) -> Result<()> {
    let checkpoints = folder.join(CHECKPOINTS);
    let Some(checkpoint) = latest(&checkpoints)? else {
        let what = format!("{}: no checkpoint that can be used", checkpoints.display());
        if !anyway {
            return Err(format!("{what}; --resume-anyway starts from the beginning").into());
        }
        tracing::warn!("{what}: from the beginning");
        return Ok(());
    };
    let stored = checkpoint.metadata()?;
    let missing = || "nothing".to_string();
    for name in stored.keys().chain(identity.keys()) {
        let (expected, found) = (stored.get(name), identity.get(name));
        if expected != found {
            let expected = expected.cloned().unwrap_or_else(missing);
            let found = found.cloned().unwrap_or_else(missing);
            return Err(format!(
                "{}: `{name}`: expected `{expected}`, found `{found}`",
                checkpoint.path().display()
            )
            .into());
        }
    }
    training.resume(&checkpoint)?;
    tracing::info!("resumed from {}", checkpoint.path().display());
    Ok(())
}

/// The updates that the summary in a folder speaks of; `None` without one.
pub fn summary_steps(folder: &Path) -> Option<usize> {
    let text = pad::ops::fs::read_to_string(&folder.join(SUMMARY)).ok()?;
    let summary: serde_json::Value = serde_json::from_str(&text).ok()?;
    summary["steps"].as_u64()?.try_into().ok()
}

/// Writes the summary of a run. That of a shorter run in the same folder is kept beside it.
pub fn write_summary(folder: &Path, summary: &serde_json::Value) -> Result<PathBuf> {
    let path = folder.join(SUMMARY);
    if let Ok(text) = read_text(&path) {
        let earlier: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let steps = earlier["steps"].as_u64().unwrap_or_default();
        let kept = (0..)
            .map(|number| match number {
                0 => folder.join(format!("summary-{steps}.json")),
                _ => folder.join(format!("summary-{steps}-{number}.json")),
            })
            .find(|path| !path.exists())
            .unwrap_or_else(|| path.with_extension("json.earlier"));
        std::fs::rename(&path, &kept).map_err(|error| format!("{}: {error}", kept.display()))?;
    }
    write_text(&path, &format!("{summary:#}\n"))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use pad::train::{
        AdamW, AdamWConfig, CheckpointConfig, Checkpoints, Parameter, Schedule, TrainerConfig,
    };

    use super::*;
    use crate::{detect::Detect, pretrain::Pretrain};

    fn checkpoints(run: &Path, metadata: &BTreeMap<String, String>) -> Checkpoints {
        let checkpoints = Checkpoints::new(run.join(CHECKPOINTS), CheckpointConfig::default());
        checkpoints.unwrap().with_metadata(metadata.clone())
    }

    /// A training of one number in the folder `run`.
    fn training(run: &Path, metadata: &BTreeMap<String, String>) -> TrainingLoop<'static> {
        let x = Var::new(&[1_f32], &Device::Cpu).unwrap();
        let adamw = AdamW::new(vec![Parameter::new("x", x)], AdamWConfig::default()).unwrap();
        let training =
            TrainingLoop::new(TrainerConfig::default(), Schedule::constant(0.1), adamw).unwrap();
        training.with_checkpoints(checkpoints(run, metadata))
    }

    /// Begins a run at the defaults by a version that did not know the settings `added`.
    fn begin_without<P: Trainer>(run: &Path, added: &[&str]) {
        let known = identity(&Settings::<P>::defaults(), facts(&[("frozen", "2e")])).unwrap();
        let mut stored = known.clone();
        stored.retain(|name, _| !added.contains(&name.as_str()));
        assert_eq!(stored.len() + added.len(), known.len(), "{added:?}");
        let begun = training(run, &stored);
        let saved = checkpoints(run, &stored);
        saved.save(begun.optimizer(), begun.state(), &BTreeMap::new()).unwrap();
    }

    /// Resumes it by this version.
    fn go_on<P: Trainer>(run: &Path, settings: &Settings<P>, frozen: &str) -> Result<()> {
        let found = facts(&[("frozen", frozen), (FROZEN_ADAPTERS, "1f")]);
        let mut identity = identity(settings, found)?;
        as_begun::<P>(run, &mut identity)?;
        resume(&mut training(run, &identity), run, &identity, false)
    }

    #[test]
    fn settings_and_facts_that_were_added_do_not_end_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let (detect, pretrain) = (folder.path().join("detect"), folder.path().join("pretrain"));
        begin_without::<Detect>(&detect, &["spatial_prior", "rpn_convs", "box_convs"]);
        begin_without::<Pretrain>(&pretrain, &["feature_loss", "all_patches"]);
        let mut settings = Settings::<Detect>::defaults();
        go_on(&detect, &settings, "2e").unwrap();
        go_on(&pretrain, &Settings::<Pretrain>::defaults(), "2e").unwrap();
        // Other values are other updates, of settings that it did not know and of those it knew.
        let refused = |settings: &Settings<Detect>, frozen: &str| {
            let error = go_on(&detect, settings, frozen).unwrap_err().to_string();
            error.split_once(": ").unwrap().1.to_string()
        };
        assert_eq!(refused(&settings, "3d"), "`frozen`: expected `2e`, found `3d`");
        settings.own.rpn_convs = 3;
        assert_eq!(refused(&settings, "2e"), "`rpn_convs`: expected `nothing`, found `3`");
        settings.own.rpn_convs = 2;
        settings.own.pyramid_channels = 8;
        assert_eq!(refused(&settings, "2e"), "`pyramid_channels`: expected `256`, found `8`");
    }

    fn facts(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn weights_and_teachers_are_told_by_their_digests() {
        let stored = facts(&[
            ("weights", "\"/a/vit\""),
            ("backbone", "1f"),
            ("teacher", "\"/a/clip\""),
            (TEACHER_DIGEST, "2e"),
        ]);
        let moved = |weights: &str, teacher: &str| {
            let mut identity = stored.clone();
            identity.insert("weights".into(), weights.into());
            identity.insert("teacher".into(), teacher.into());
            identity
        };
        let mut identity = moved("\"/b/vit\"", "\"/b/clip\"");
        keep_names(&stored, &mut identity);
        assert_eq!(identity, stored);
        // Another content stays another one.
        identity.insert(TEACHER_DIGEST.into(), "3d".into());
        keep_names(&stored, &mut identity);
        assert_ne!(identity, stored);

        // An earlier version stored names alone.
        let old = facts(&[("weights", "\"/a/vit\""), ("teacher", "\"/a/clip\"")]);
        let mut identity = stored.clone();
        identity.remove("backbone");
        identity.insert(TEACHER_INPUT.into(), "clip".into());
        keep_names(&old, &mut identity);
        assert_eq!(identity, old);
        let mut identity = moved("\"/a/vit\"", "\"/b/clip\"");
        keep_names(&old, &mut identity);
        assert_eq!(identity["teacher"], "\"/b/clip\"");
    }
}
