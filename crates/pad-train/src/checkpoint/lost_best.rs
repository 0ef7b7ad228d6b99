//! A best checkpoint that is damaged or gone: named, set aside, and not forgotten in silence.

use std::{fs, path::Path};

use super::{
    find::{marked, newest, open_best},
    format::{BEST, MODEL, OPTIMIZER, STATE, SavedState, folder_name},
    tests::{Run, message},
    *,
};
use crate::Error;

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// A name, what is done to the files of a checkpoint, and the file that is named then.
type Damage = (&'static str, fn(&Path), &'static str);

/// What may happen to a checkpoint.
const DAMAGES: [Damage; 7] = [
    ("a flipped bit of the model", |checkpoint| flip(&checkpoint.join(MODEL)), MODEL),
    ("a flipped bit of the moments", |checkpoint| flip(&checkpoint.join(OPTIMIZER)), OPTIMIZER),
    ("a flipped bit of the state", |checkpoint| flip(&checkpoint.join(STATE)), STATE),
    (
        "a shorter model",
        |checkpoint| {
            let file = checkpoint.join(MODEL);
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        },
        MODEL,
    ),
    ("no model", |checkpoint| fs::remove_file(checkpoint.join(MODEL)).unwrap(), MODEL),
    ("no state", |checkpoint| fs::remove_file(checkpoint.join(STATE)).unwrap(), STATE),
    ("no folder", |checkpoint| fs::remove_dir_all(checkpoint).unwrap(), ""),
];

#[test]
fn a_damaged_best_checkpoint_is_named_set_aside_and_replaced() {
    for (what, damage, file) in DAMAGES {
        let run = Run::new();
        let folder = run.checkpoints.folder();
        let path = |step| folder.join(folder_name(step));
        let step = |found: Option<TrainingCheckpoint>| found.map(|it| it.trainer_state().step);
        for step in 1..=3 {
            run.save(step);
        }
        run.checkpoints.mark_best(&path(2)).unwrap();
        assert_eq!(step(best(folder).unwrap()), Some(2));
        damage(&path(2));

        // Who only reads goes on with another, or learns which file it is; nothing is renamed.
        let names = run.names();
        assert_eq!(step(best(folder).unwrap()), None, "{what}");
        assert_eq!(step(latest(folder).unwrap()), Some(3), "{what}");
        let refused = message(open(folder, Which::Best));
        let named = if file.is_empty() { path(2) } else { path(2).join(file) };
        assert!(refused.starts_with(&format!("{}: ", named.display())), "{what}: {refused}");
        assert_eq!(run.names(), names, "{what}");

        // A run sets it aside and knows that it was the best, as often as it is resumed.
        for _ in 0..2 {
            let (lock, lost) = run.checkpoints.start(3).unwrap();
            drop(lock);
            assert_eq!(lost, Some(2), "{what}");
            let mut left = vec![".lock", "checkpoint-00000001", "checkpoint-00000003"];
            if path(2).with_extension("damaged").exists() {
                left.insert(2, "checkpoint-00000002.damaged");
            }
            assert_eq!(run.names(), left, "{what}");
        }
        let refused = message(open(folder, Which::Best));
        let expected = match file.is_empty() {
            true => "checkpoint-00000002: it was the best checkpoint and is missing",
            false => {
                "checkpoint-00000002.damaged: it was the best checkpoint, is damaged and was set aside"
            }
        };
        assert!(refused.ends_with(expected), "{what}: {refused}");

        // Another becomes the best.
        run.save(4);
        assert_eq!(step(best(folder).unwrap()), None, "{what}");
        run.checkpoints.mark_best(&path(4)).unwrap();
        assert_eq!(step(best(folder).unwrap()), Some(4), "{what}");
        assert_eq!(run.checkpoints.start(4).unwrap().1, None, "{what}");
        assert_eq!(fs::read_to_string(folder.join(BEST)).unwrap(), "checkpoint-00000004\n");
    }
}

/// Where no sound checkpoint is left, the file `best` alone remembers the best one: a run from the
/// start must not take its own checkpoint of the same step for it.
#[test]
fn a_name_of_a_lost_checkpoint_is_not_given_to_another() {
    let run = Run::new();
    let folder = run.checkpoints.folder();
    let path = run.save(2);
    run.checkpoints.mark_best(&path).unwrap();
    flip(&path.join(MODEL));
    flip(&path.join(STATE));
    assert_eq!(run.checkpoints.start(0).unwrap().1, Some(2));
    run.save(1);
    run.save(2);
    assert!(best(folder).unwrap().is_none());
    assert!(!folder.join(BEST).exists());
}

/// The file `best` goes with the checkpoint that it names.
#[test]
fn the_name_of_the_best_goes_with_it() {
    let run = Run::new();
    let folder = run.checkpoints.folder();
    run.save(1);
    run.checkpoints.mark_best(&run.save(2)).unwrap();
    flip(&folder.join(folder_name(2)).join(MODEL));
    // The state before it knows of no best one.
    assert_eq!(run.checkpoints.start(1).unwrap().1, None);
    assert!(!folder.join(BEST).exists());

    // In a folder of format 1 it alone tells of the loss, until the next checkpoint is there.
    for (next, lost) in [(2, None), (3, Some(2))] {
        let run = Run::new();
        let folder = run.checkpoints.folder();
        for step in [1, 2] {
            let path = run.save(step);
            let state = SavedState { format: 1, best: None, ..SavedState::read(&path).unwrap() };
            fs::write(path.join(STATE), serde_json::to_string_pretty(&state).unwrap()).unwrap();
        }
        fs::write(folder.join(BEST), "checkpoint-00000002\n").unwrap();
        flip(&folder.join(folder_name(2)).join(MODEL));
        for _ in 0..2 {
            assert_eq!(run.checkpoints.start(1).unwrap().1, Some(2));
            assert!(folder.join(BEST).exists());
        }
        run.save(next);
        assert!(!folder.join(BEST).exists());
        assert!(best(folder).unwrap().is_none());
        assert_eq!(run.checkpoints.start(next).unwrap().1, lost);
    }
}

/// A run that trains writes another checkpoint and removes the one that is being read.
#[test]
fn what_a_run_removes_meanwhile_is_not_damaged() {
    let run = Run::new();
    let folder = run.checkpoints.folder();
    let path = |step| folder.join(folder_name(step));
    run.checkpoints.mark_best(&run.save(1)).unwrap();
    let mut tried = Vec::new();
    let found = marked(folder, |folder, step| {
        if tried.is_empty() {
            run.checkpoints.mark_best(&run.save(2)).unwrap();
            fs::remove_dir_all(path(1)).unwrap();
        }
        tried.push(step);
        open_best(folder, step)
    });
    assert_eq!(found.unwrap().unwrap().unwrap().trainer_state().step, 2);
    assert_eq!(tried, [1, 2]);

    let (mut tried, mut said) = (Vec::new(), 0);
    let read = |at: &Path| {
        if tried.is_empty() {
            run.save(3);
            fs::remove_dir_all(path(2)).unwrap();
        }
        tried.push(at.to_path_buf());
        TrainingCheckpoint::open(at)
    };
    let found = newest(folder, read, |_, _| said += 1).unwrap().unwrap();
    assert_eq!((found.trainer_state().step, said), (3, 0));
    assert_eq!(tried, [path(2), path(3)]);
    // One that stays is named.
    flip(&path(3).join(MODEL));
    assert!(newest(folder, TrainingCheckpoint::open, |_, _| said += 1).unwrap().is_none());
    assert_eq!(said, 1);
}

/// What cannot be looked at, here for a link to itself, is an error, and not gone.
#[cfg(unix)]
#[test]
fn a_best_that_cannot_be_looked_at_is_not_lost() {
    let run = Run::new();
    let folder = run.checkpoints.folder();
    let (path, away) = (folder.join(folder_name(1)), folder.join("away"));
    run.checkpoints.mark_best(&run.save(1)).unwrap();
    run.save(2);
    fs::rename(&path, &away).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    for found in [best(folder).map(drop), run.checkpoints.start(2).map(drop)] {
        assert!(matches!(found, Err(Error::Io { .. })), "{found:?}");
    }
    assert!(open(folder, Which::Best).is_err());
    assert_eq!(fs::read_to_string(folder.join(BEST)).unwrap(), "checkpoint-00000001\n");
    fs::remove_file(&path).unwrap();
    fs::rename(&away, &path).unwrap();
    assert_eq!(run.checkpoints.start(2).unwrap().1, None);
    assert_eq!(best(folder).unwrap().unwrap().trainer_state().step, 1);
}
