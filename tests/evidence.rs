//! The comparison of benches/evidence: its plan, numbers, tables and plots of stored results, and one small whole run.

#[path = "evidence/cells.rs"]
mod cells;
#[path = "evidence/commands.rs"]
mod commands;
#[allow(dead_code, reason = "a test uses a part")]
#[path = "../benches/evidence/mod.rs"]
mod evidence;
#[path = "evidence/sets.rs"]
mod sets;
#[path = "evidence/tables.rs"]
mod tables;

use std::{path::Path, process::ExitCode};

use clap::Parser;
use pad::data::scenes::{SceneConfig, Size, render};
use serde_json::Value;

use evidence::{
    cell::Work,
    flags::Flags,
    judge::Judge,
    paths::folder_of_shell,
    plan::Plan,
    program::{executable, ignored},
};

fn flags(out: &Path, more: &[&str]) -> Flags {
    let out = out.to_str().unwrap();
    let line =
        ["evidence", "--out", out, "--budget", "tiny"].into_iter().chain(more.iter().copied());
    Flags::parse_from(line)
}

fn plan(out: &Path, more: &[&str]) -> Plan {
    Plan::new(&flags(out, more)).unwrap()
}

/// A folder with empty files.
fn tree(root: &Path, files: &[&str]) {
    for file in files {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
}

/// What `pad` writes, with one number in the place of all that matter.
fn stored(work: Work, value: f64) -> Value {
    let text = match work {
        Work::Pretrain => include_str!("evidence/pretrain.json"),
        Work::Judge(Judge::Detect) => include_str!("evidence/detect.json"),
        Work::Judge(Judge::Segment) => include_str!("evidence/segment.json"),
        Work::Judge(Judge::Probe) => include_str!("evidence/probe.json"),
        _ => include_str!("evidence/finetune.json"),
    };
    let mut report: Value = serde_json::from_str(text).unwrap();
    for place in [
        "/held_out_after",
        "/val/stats/AP",
        "/val/stats/AP50",
        "/val/mean_iou",
        "/val/classes/1/iou",
        "/knn/balanced_accuracy",
        "/linear/balanced_accuracy",
        "/finetune/balanced_accuracy",
    ] {
        if let Some(number) = report.pointer_mut(place) {
            *number = value.into();
        }
    }
    report
}

/// Stores a result for every cell: `value` of its row and of the noise of its seed, one of the first three.
fn store(plan: &Plan, value: impl Fn(&str, f64) -> f64) {
    for cell in &plan.cells {
        let mut parts = cell.id.split('/');
        let (row, seed) = (parts.nth(1).unwrap(), parts.next().unwrap().parse::<usize>().unwrap());
        std::fs::create_dir_all(cell.result.parent().unwrap()).unwrap();
        let report = stored(cell.work, value(row, [0.0, 0.01, -0.01][seed]));
        std::fs::write(&cell.result, report.to_string()).unwrap();
    }
}

#[test]
fn nothing_runs_without_a_budget() {
    for line in [&["evidence"][..], &["evidence", "ops"][..]] {
        let code = evidence::main(line.iter().map(ToString::to_string)).unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    }
    let error = Flags::try_parse_from(["evidence", "--seeds=1", "--plan"]).unwrap_err();
    assert!(error.to_string().contains("--budget"), "{error}");
}

#[test]
fn paths_begin_where_the_command_was_typed() {
    let folder = tempfile::tempdir().unwrap();
    let (package, shell) = (folder.path().join("crates/pad"), folder.path().join("shell"));
    for path in [&package, &shell] {
        std::fs::create_dir_all(path).unwrap();
    }
    let of = |current: &Path, pwd: &Path| folder_of_shell(current, &package, Some(pwd.into()));
    assert_eq!(of(&package.join("../pad"), &shell), Some(shell.clone()));
    // Not by cargo; a folder that is gone; a variable that is no path of a shell, or not there.
    assert_eq!(of(folder.path(), &shell), None);
    assert_eq!(of(&package, &shell.join("gone")), None);
    assert_eq!(of(&package, Path::new(".")), None);
    assert_eq!(folder_of_shell(&package, &package, None), None);
}

#[test]
fn the_command_is_where_cargo_says() {
    let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"pad"},"executable":null}
not json
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"other"},"executable":"/t/release/other"}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"pad"},"executable":"/elsewhere/release/pad"}
{"reason":"build-finished","success":true}"#;
    assert_eq!(executable(messages).unwrap(), Path::new("/elsewhere/release/pad"));
    assert_eq!(executable(""), None);
}

#[test]
fn every_command_gets_the_threads() {
    let of = |more: &[&str], command: &str| {
        let command: Vec<String> = command.split(' ').map(String::from).collect();
        flags(Path::new("out"), more).machine(&command).join(" ")
    };
    let more = ["--threads=3", "--device=cuda:1"];
    assert_eq!(of(&more, "detect train --size 448"), "--device cuda:1 --threads 3");
    assert_eq!(of(&more, "roi data/mix"), "--threads 3");
    assert_eq!(of(&[], "probe data"), "--device cpu");
    assert_eq!(of(&[], "roi data/mix"), "");
}

#[test]
fn a_signal_that_nohup_ignores_is_left_alone() {
    // As Linux writes it: SIGHUP is 1, SIGINT 2.
    let status = "Name:\tx\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\n";
    assert_eq!([1, 2, 13].map(|signal| ignored(status, signal)), [true, false, true]);
    assert!(!ignored("", 1) && !ignored("SigIgn:\tx\n", 1));
}

/// The command and this file: `cargo test -p pad-ir-cli --test evidence -- --ignored`.
#[test]
#[ignore = "trains and evaluates for some minutes"]
fn a_small_comparison_runs_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (root, out) = (folder.path(), folder.path().join("out"));
    // A mix of a plain folder and of the training part of a set.
    for number in 0..48_u64 {
        let config = SceneConfig::new(Size::new(96, 128), 7);
        let scene = render(&config, number).unwrap();
        let picture = image::GrayImage::from_raw(128, 96, scene.gray).unwrap();
        for name in ["street", "set/train", "set/val"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
            picture.save(root.join(name).join(format!("{number}.png"))).unwrap();
        }
    }
    let place = |name: &str| root.join(name).display().to_string();
    let arguments = || {
        let words =
            ["evidence", "--budget=tiny", "--only=random,full,lora,pad,frozen", "--seeds=3"];
        let more = ["--threads=2", "--mix-scenes=24", "--pad", env!("CARGO_BIN_EXE_pad"), "--mix"];
        let words = words.into_iter().chain(more).map(String::from);
        words.chain([place("street"), place("set"), "--out".into(), out.display().to_string()])
    };
    let code = |code: ExitCode| format!("{code:?}");
    let first = evidence::main(arguments()).unwrap();
    let plan = Plan::new(&Flags::parse_from(arguments())).unwrap();
    let logs: Vec<String> = plan
        .cells
        .iter()
        .filter(|cell| !cell.has_ended())
        .map(|cell| std::fs::read_to_string(cell.log()).unwrap_or_default())
        .collect();
    assert_eq!(code(first), code(ExitCode::SUCCESS), "{logs:?}");
    let text = std::fs::read_to_string(out.join("tables/evidence.md")).unwrap();
    // A search of regions, four pre-trainings, five rows and six judges.
    assert!(text.contains("35 of 35 cells have ended"), "{text}");
    assert!(text.contains("- pre-training: street, set, and 24 rendered scenes"), "{text}");
    assert!(text.contains("- run on: pad "), "{text}");
    assert!(text.contains("| **PAD: adapters, patchwise scale** | "), "{text}");
    let detect = plan.cell("shipped/pad/3/detect").unwrap();
    let detect = detect.run.as_ref().unwrap();
    assert!(!detect.join("checkpoints").exists() && !detect.join("detector.safetensors").exists());
    let mixed = std::fs::read_dir(out.join("data/mix/set/thermal")).unwrap().count();
    assert_eq!(mixed, 48, "the images of `train` alone");
    assert!(out.join("data/mix/set/roi").is_dir());
    // Nothing was learnt from random values.
    let random = plan.cell("shipped/random/3/pretrain").unwrap().report().unwrap().unwrap();
    assert_eq!(random["held_out_before"], random["held_out_after"]);
    // Nothing is repeated.
    let changed = |path: &Path| path.metadata().unwrap().modified().unwrap();
    let before: Vec<_> = plan.cells.iter().map(|cell| changed(&cell.result)).collect();
    assert_eq!(code(evidence::main(arguments()).unwrap()), code(ExitCode::SUCCESS));
    let after: Vec<_> = plan.cells.iter().map(|cell| changed(&cell.result)).collect();
    assert_eq!(before, after);
}
