//! What is written comes back; what is damaged, half-written or of something else is refused with
//! its name.

use std::{collections::BTreeMap, fs, path::PathBuf};

use candle_core::{DType, Device, Tensor, Var};
use serde_json::json;

use super::{format::*, *};
use crate::{AdamW, AdamWConfig, Gradients, Parameter, Result, TrainerConfig, TrainerState};

pub(super) struct Run {
    folder: tempfile::TempDir,
    pub(super) checkpoints: Checkpoints,
    optimizer: AdamW,
}

fn var(shape: &[usize], start: f64) -> Var {
    let n: usize = shape.iter().product();
    let values: Vec<f64> = (0..n).map(|i| (start + i as f64).sin()).collect();
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    Var::from_tensor(&tensor.to_dtype(DType::F32).unwrap()).unwrap()
}

fn parameters(shapes: &[(&str, &[usize])]) -> Vec<Parameter> {
    shapes.iter().map(|(name, shape)| Parameter::new(*name, var(shape, 0.3))).collect()
}

const USUAL: [(&str, &[usize]); 3] = [("a.weight", &[2, 3]), ("a.bias", &[2]), ("b", &[])];

fn metadata(digest: &str) -> BTreeMap<String, String> {
    [("backbone".to_string(), digest.to_string())].into()
}

impl Run {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = CheckpointConfig { keep: 2, ..Default::default() };
        let checkpoints = Checkpoints::new(folder.path().join("run"), config).unwrap();
        let checkpoints = checkpoints.with_metadata(metadata("1f"));
        drop(checkpoints.start(0).unwrap());
        fs::remove_file(checkpoints.folder().join(".lock")).unwrap();
        let optimizer = AdamW::new(parameters(&USUAL), AdamWConfig::default()).unwrap();
        Self { folder, checkpoints, optimizer }
    }

    fn train(&mut self) {
        let ones = |p: &Parameter| Some(p.var.ones_like().unwrap());
        let gradients = Gradients::new(self.optimizer.parameters().iter().map(ones).collect());
        self.optimizer.step(&gradients, 0.1, 0).unwrap();
    }

    pub(super) fn save(&self, step: usize) -> PathBuf {
        let state = TrainerState { step, batches_per_epoch: 10, ..TrainerState::new(&config()) };
        let hooks = [("counter".to_string(), json!({"sum": 0.1 + 0.2}))].into();
        self.checkpoints.save(&self.optimizer, &state, &hooks).unwrap()
    }

    pub(super) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.checkpoints.folder()).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn config() -> TrainerConfig {
    TrainerConfig { seed: u64::MAX, ..Default::default() }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

pub(super) fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn what_is_saved_comes_back() {
    let mut run = Run::new();
    run.train();
    let path = run.save(120);
    assert!(path.ends_with("run/checkpoint-00000120"));
    let checkpoint = latest(run.checkpoints.folder()).unwrap().unwrap();
    assert_eq!(checkpoint.path(), path);
    assert_eq!(checkpoint.metadata().unwrap(), metadata("1f"));
    assert_eq!(checkpoint.trainer_state().seed, u64::MAX);
    assert_eq!(checkpoint.hook_states()["counter"], json!({"sum": 0.1 + 0.2}), "to the last bit");

    let fresh = parameters(&USUAL);
    checkpoint.load_parameters(&fresh, Some(&metadata("1f"))).unwrap();
    let mut optimizer = AdamW::new(fresh, AdamWConfig::default()).unwrap();
    checkpoint.load_optimizer(&mut optimizer).unwrap();
    for (new, old) in optimizer.parameters().iter().zip(run.optimizer.parameters()) {
        assert_eq!(values(&new.var), values(&old.var), "{}", new.name);
    }
    let (new, old) = (optimizer.state().unwrap(), run.optimizer.state().unwrap());
    assert_eq!(new.len(), old.len());
    assert!(new.iter().all(|(name, tensor)| values(tensor) == values(&old[name])));

    let other = candle_core::safetensors::load(path.join(MODEL), &Device::Cpu).unwrap();
    assert_eq!(values(&other["a.weight"]), values(&run.optimizer.parameters()[0].var));
    assert_eq!(checkpoint.tensors(&Device::Cpu).unwrap().len(), 3);

    let bytes = fs::read(path.join(MODEL)).unwrap();
    let again = run.save(121);
    assert_eq!(fs::read(again.join(MODEL)).unwrap(), bytes, "equal tensors give equal files");
}

#[test]
fn every_dtype_of_a_parameter_survives() {
    let folder = tempfile::tempdir().unwrap();
    let make = |dtype: DType| {
        let tensor = var(&[3], 0.1).to_dtype(dtype).unwrap();
        Parameter::new(dtype.as_str(), Var::from_tensor(&tensor).unwrap())
    };
    let dtypes = [DType::F16, DType::F64, DType::BF16, DType::F32];
    let optimizer = AdamW::new(dtypes.map(make).into(), AdamWConfig::default()).unwrap();
    let checkpoints = Checkpoints::new(folder.path(), CheckpointConfig::default()).unwrap();
    let state = TrainerState::new(&config());
    let path = checkpoints.save(&optimizer, &state, &BTreeMap::new()).unwrap();
    let tensors = TrainingCheckpoint::open(&path).unwrap().tensors(&Device::Cpu).unwrap();
    for parameter in optimizer.parameters() {
        let tensor = &tensors[&parameter.name];
        assert_eq!(tensor.dtype(), parameter.var.dtype());
        assert_eq!(values(tensor), values(&parameter.var), "{}", parameter.name);
    }
}

#[test]
fn partial_and_foreign_folders_are_ignored_and_removed_or_left() {
    let run = Run::new();
    assert!(latest(run.checkpoints.folder()).unwrap().is_none());
    assert!(latest(&run.folder.path().join("nowhere")).unwrap().is_none());
    let path = run.save(5);
    // A crash: everything is written, the folder has not got its name.
    let partial = run.checkpoints.folder().join(".checkpoint-00000007.partial");
    fs::create_dir(&partial).unwrap();
    for file in [MODEL, OPTIMIZER, STATE] {
        fs::copy(path.join(file), partial.join(file)).unwrap();
    }
    for foreign in ["checkpoint-9", "checkpoint-000000x9", "notes"] {
        fs::create_dir(run.checkpoints.folder().join(foreign)).unwrap();
    }
    assert_eq!(latest(run.checkpoints.folder()).unwrap().unwrap().path(), path);
    run.save(8);
    let names = run.names();
    assert!(!partial.exists());
    assert_eq!(
        names,
        [
            "checkpoint-00000005",
            "checkpoint-00000008",
            "checkpoint-000000x9",
            "checkpoint-9",
            "notes"
        ]
    );
}

#[test]
fn a_damaged_checkpoint_is_named_and_passed_over() {
    let run = Run::new();
    run.save(5);
    let path = run.save(6);
    let model = path.join(MODEL);
    let bytes = fs::read(&model).unwrap();
    let at = |what: &str| format!("{}: {what}", model.display());

    fs::write(&model, &bytes[..bytes.len() - 1]).unwrap();
    let (all, less) = (bytes.len(), bytes.len() - 1);
    assert_eq!(
        message(TrainingCheckpoint::open(&path)),
        at(&format!("expected {all} bytes, found {less}"))
    );
    assert!(
        latest(run.checkpoints.folder()).unwrap().unwrap().path().ends_with("checkpoint-00000005")
    );

    let mut flipped = bytes.clone();
    flipped[all - 2] ^= 1;
    fs::write(&model, &flipped).unwrap();
    let refused = message(TrainingCheckpoint::open(&path));
    let start = at(&format!("expected checksum {:08x}, found ", crc32c::crc32c(&bytes)));
    assert!(refused.starts_with(&start), "{refused}");

    fs::remove_file(&model).unwrap();
    assert!(message(TrainingCheckpoint::open(&path)).starts_with(&at("No such file")));

    // Saving the same step again puts it right.
    assert_eq!(run.save(6), path);
    assert_eq!(fs::read(&model).unwrap(), bytes);
    assert_eq!(run.names(), ["checkpoint-00000005", "checkpoint-00000006"]);
}

#[test]
fn a_damaged_state_is_an_error_for_every_prefix() {
    let run = Run::new();
    let path = run.save(5);
    let file = path.join(STATE);
    let text = fs::read_to_string(&file).unwrap();
    for length in 0..text.len() {
        fs::write(&file, &text[..length]).unwrap();
        let refused = message(TrainingCheckpoint::open(&path));
        let refused = refused.strip_prefix(&format!("{}: ", file.display())).unwrap();
        let whole = length >= text.trim_end().len();
        let expected = if whole { "no checksum at its end" } else { "expected JSON: " };
        assert!(refused.starts_with(expected), "{refused}");
    }
    let state: SavedState = SavedState::parse(&file, text.as_bytes()).unwrap();
    let refused = |text: &str| {
        fs::write(&file, text).unwrap();
        let refused = message(TrainingCheckpoint::open(&path));
        refused.strip_prefix(&format!("{}: ", file.display())).unwrap().to_string()
    };
    // Format 1 had no checksum.
    let plain = |from: &str, to: &str| {
        let old = SavedState { format: 1, ..state.clone() };
        let text = serde_json::to_string_pretty(&old).unwrap();
        assert!(text.contains(from), "{text}");
        refused(&text.replace(from, to))
    };
    assert_eq!(plain("\"format\"", "\"formats\""), "expected format 1 or 2, found none");
    assert_eq!(plain(OPTIMIZER, "x"), "no checksum of `optimizer.safetensors`");
    assert_eq!(
        plain("\"step\"", "\"steps\""),
        "expected a trainer's state: unknown field `steps`, expected one of `seed`, `step`, `epoch`, \
         `batch_in_epoch`, `batches_per_epoch`, `accumulate`"
    );
    // An edit, and a checkpoint under the name of another step.
    let edited = refused(&text.replace("\"step\": 5", "\"step\": 6"));
    assert!(edited.starts_with("expected checksum "), "{edited}");
    let mut later = state.clone();
    later.trainer.step = 6;
    let renamed = refused(&later.to_text().unwrap());
    assert_eq!(renamed, "expected step 5 by the folder's name, found 6");
}

#[test]
fn no_flipped_bit_of_a_state_opens() {
    let run = Run::new();
    let path = run.save(5);
    let file = path.join(STATE);
    let text = fs::read(&file).unwrap();
    for bit in 0..8 * text.len() {
        let mut flipped = text.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let refused = SavedState::parse(&file, &flipped).unwrap_err();
        assert!(matches!(refused, crate::Error::Damaged { .. }), "bit {bit}: {refused}");
    }
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let run = Run::new();
    run.save(5);
    let path = run.save(6);
    let file = path.join(STATE);
    let state = SavedState { format: 3, ..SavedState::read(&path).unwrap() };
    let text = state.to_text().unwrap();
    fs::write(&file, &text).unwrap();
    let expected = format!(
        "{}: expected format 2 or older, found 3: a newer version wrote it",
        file.display()
    );
    assert_eq!(message(TrainingCheckpoint::open(&path)), expected);
    assert_eq!(message(latest(run.checkpoints.folder())), expected);
    assert_eq!(message(run.checkpoints.start(0)), expected);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn checkpoints_of_format_1_open_and_keep_their_best() {
    let run = Run::new();
    let old = |path: &std::path::Path| {
        let state = SavedState { format: 1, best: None, ..SavedState::read(path).unwrap() };
        let text = serde_json::to_string_pretty(&state).unwrap();
        fs::write(path.join(STATE), text).unwrap();
    };
    for step in [5, 6] {
        old(&run.save(step));
    }
    fs::write(run.checkpoints.folder().join(BEST), "checkpoint-00000005\n").unwrap();
    let step = |found: Option<TrainingCheckpoint>| found.unwrap().trainer_state().step;
    assert_eq!(step(best(run.checkpoints.folder()).unwrap()), 5);
    assert_eq!(step(latest(run.checkpoints.folder()).unwrap()), 6);
    run.save(7); // in the new format, which keeps what the pointer said
    fs::remove_file(run.checkpoints.folder().join(BEST)).unwrap();
    assert_eq!(step(best(run.checkpoints.folder()).unwrap()), 5);
}

#[test]
fn damaged_ones_are_set_aside_and_do_not_count() {
    let run = Run::new();
    for step in [5, 6, 7] {
        run.save(step);
    }
    let name = |step| run.checkpoints.folder().join(folder_name(step));
    for step in [6, 7] {
        let file = name(step).join(MODEL);
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[1..]).unwrap();
    }
    drop(run.checkpoints.start(5).unwrap());
    run.save(8);
    run.checkpoints.prune(); // keeps 2
    assert_eq!(
        run.names(),
        [
            ".lock",
            "checkpoint-00000005",
            "checkpoint-00000006.damaged",
            "checkpoint-00000007.damaged",
            "checkpoint-00000008"
        ]
    );
}

/// A folder, a device or a huge file in the place of one of a checkpoint's: damage, and never read.
#[test]
fn what_is_no_file_of_a_checkpoint_is_damage() {
    for name in [STATE, MODEL] {
        type Make = dyn Fn(&std::path::Path);
        let odd: Vec<(&str, &Make)> = vec![
            ("folder", &|file| fs::create_dir(file).unwrap()),
            ("huge", &|file| fs::File::create(file).unwrap().set_len(1 << 40).unwrap()),
            #[cfg(unix)]
            ("device", &|file| std::os::unix::fs::symlink("/dev/zero", file).unwrap()),
        ];
        for (what, put) in odd {
            let run = Run::new();
            for step in [5, 6] {
                run.save(step);
            }
            let file = run.checkpoints.folder().join(folder_name(6)).join(name);
            fs::remove_file(&file).unwrap();
            put(&file);
            let found = latest(run.checkpoints.folder()).unwrap().unwrap();
            assert_eq!(found.trainer_state().step, 5, "{name}: {what}");
            drop(run.checkpoints.start(5).unwrap());
            let expected = [".lock", "checkpoint-00000005", "checkpoint-00000006.damaged"];
            assert_eq!(run.names(), expected, "{name}: {what}");
        }
    }
}

#[test]
fn a_crash_between_two_renames_loses_nothing() {
    let run = Run::new();
    let path = run.save(5);
    let aside = run.checkpoints.folder().join(".checkpoint-00000005.old.partial");
    fs::rename(&path, &aside).unwrap();
    drop(run.checkpoints.start(5).unwrap());
    TrainingCheckpoint::open(&path).unwrap();
    assert_eq!(run.names(), [".lock", "checkpoint-00000005"]);
}

#[test]
fn a_file_that_is_no_safetensors_is_an_error_even_with_the_right_checksum() {
    let run = Run::new();
    let path = run.save(5);
    let good = fs::read(path.join(MODEL)).unwrap();
    let state = SavedState::read(&path).unwrap();
    let prefixes = (0..good.len()).map(|length| good[..length].to_vec());
    let mut longer = good.clone();
    longer.push(0);
    let mut header = good.clone();
    header[20] ^= 0x10;
    for bytes in prefixes.chain([longer, header]) {
        fs::write(path.join(MODEL), &bytes).unwrap();
        let mut state = state.clone();
        let facts = FileFacts { bytes: bytes.len() as u64, crc32c: crc32c::crc32c(&bytes) };
        state.files.insert(MODEL.into(), facts);
        fs::write(path.join(STATE), state.to_text().unwrap()).unwrap();
        let checkpoint = TrainingCheckpoint::open(&path).unwrap();
        let refused = message(checkpoint.load_parameters(run.optimizer.parameters(), None));
        assert!(refused.contains("checkpoint-00000005/model.safetensors: "), "{refused}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_all_named_and_nothing_is_loaded() {
    let mut run = Run::new();
    run.train();
    let path = run.save(5);
    let checkpoint = TrainingCheckpoint::open(&path).unwrap();
    let others: [(&str, &[usize]); 3] = [("a.weight", &[3, 2]), ("a.bias", &[2]), ("c", &[4])];
    let others = parameters(&others);
    let before: Vec<_> = others.iter().map(|p| values(&p.var)).collect();
    assert_eq!(
        message(checkpoint.load_parameters(&others, None)),
        format!(
            "{}: 1 tensor missing (c); 1 tensor unexpected (b); 1 tensor wrong (a.weight: expected [3, 2] f32, \
             found [2, 3] f32)",
            path.join(MODEL).display()
        )
    );
    assert_eq!(before, others.iter().map(|p| values(&p.var)).collect::<Vec<_>>());
    let mut optimizer = AdamW::new(others, AdamWConfig::default()).unwrap();
    let refused = message(checkpoint.load_optimizer(&mut optimizer));
    let start = format!("{}: 3 tensors missing (c.exp_avg, c.exp", path.join(OPTIMIZER).display());
    assert!(refused.starts_with(&start), "{refused}");

    let metadata: BTreeMap<String, String> =
        [("backbone".into(), "2e".into()), ("dataset".into(), "msip".into())].into();
    assert_eq!(
        message(checkpoint.load_parameters(run.optimizer.parameters(), Some(&metadata))),
        format!(
            "{}: metadata: `backbone`: expected `2e`, found `1f`; `dataset`: expected `msip`, found nothing",
            path.join(MODEL).display()
        )
    );
    let nothing = BTreeMap::new();
    let refused = message(checkpoint.load_parameters(run.optimizer.parameters(), Some(&nothing)));
    assert!(refused.ends_with("`backbone`: expected nothing, found `1f`"), "{refused}");
}

#[test]
fn a_full_disk_leaves_the_old_ones_and_no_rubbish() {
    let run = Run::new();
    let path = run.save(5);
    let full = || io_error(28); // ENOSPC
    for step in [5, 6] {
        let failed = run.checkpoints.write_folder(step, |folder| {
            fs::write(folder.join(MODEL), b"half of the tens").unwrap();
            Err((MODEL, full()))
        });
        let file = run.checkpoints.folder().join(folder_name(step)).join(MODEL);
        assert_eq!(message(failed), format!("{}: {}", file.display(), full()));
        assert_eq!(run.names(), ["checkpoint-00000005"]);
        TrainingCheckpoint::open(&path).unwrap();
    }
    fs::write(run.folder.path().join("file"), "").unwrap();
    let below_a_file = run.folder.path().join("file/run");
    let checkpoints = Checkpoints::new(&below_a_file, CheckpointConfig::default()).unwrap();
    let refused = message(checkpoints.start(0));
    assert!(refused.starts_with(&below_a_file.display().to_string()), "{refused}");
}

fn io_error(code: i32) -> std::io::Error {
    std::io::Error::from_raw_os_error(code)
}

#[test]
fn the_newest_and_the_best_are_kept() {
    let run = Run::new();
    assert!(best(run.checkpoints.folder()).unwrap().is_none());
    for step in 1..=5 {
        let path = run.save(step);
        if step == 2 {
            run.checkpoints.mark_best(&path).unwrap();
        }
        run.checkpoints.prune();
    }
    let kept = ["best", "checkpoint-00000002", "checkpoint-00000004", "checkpoint-00000005"];
    assert_eq!(run.names(), kept);
    let found = best(run.checkpoints.folder()).unwrap().unwrap();
    assert_eq!(found.trainer_state().step, 2);
    fs::write(run.checkpoints.folder().join("best"), "../elsewhere\n").unwrap();
    let found = best(run.checkpoints.folder()).unwrap().unwrap();
    assert_eq!(found.trainer_state().step, 2, "the states know it, the file is for people");
    drop(run.checkpoints.start(5).unwrap());
    let text = fs::read_to_string(run.checkpoints.folder().join("best")).unwrap();
    assert_eq!(text, "checkpoint-00000002\n");
}

#[test]
fn a_run_does_not_write_before_a_later_checkpoint() {
    let run = Run::new();
    let path = run.save(5);
    let folder = run.checkpoints.folder();
    assert_eq!(
        message(run.checkpoints.start(4)),
        format!(
            "{}: the run starts at step 4, but the folder holds {}: resume from it, or use another folder",
            folder.display(),
            path.display()
        )
    );
    drop(run.checkpoints.start(5).unwrap());
    fs::remove_file(path.join(STATE)).unwrap();
    drop(run.checkpoints.start(0).unwrap()); // a damaged one is set aside
}

#[test]
fn due_times_and_settings() {
    let state = |step, epoch, batch_in_epoch| TrainerState {
        step,
        epoch,
        batch_in_epoch,
        ..TrainerState::new(&config())
    };
    let every = |every| Checkpoints::new("x", CheckpointConfig { every, keep: 1 }).unwrap();
    let steps = every(Every::Steps(3));
    assert!(steps.due(&state(6, 0, 6)) && !steps.due(&state(7, 0, 7)));
    let epochs = every(Every::Epochs(2));
    assert!(epochs.due(&state(20, 2, 0)));
    assert!(!epochs.due(&state(21, 2, 1)) && !epochs.due(&state(30, 3, 0)));
    let config = CheckpointConfig { every: Every::Steps(0), keep: 0 };
    assert_eq!(
        message(Checkpoints::new("x", config)),
        "settings: `every` is 0, expected at least 1; `keep` is 0, expected at least 1"
    );
    let read: CheckpointConfig = serde_json::from_str(r#"{"every":{"steps":500}}"#).unwrap();
    assert_eq!(read, CheckpointConfig { every: Every::Steps(500), keep: 2 });
}
