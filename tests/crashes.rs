//! Errors of the system at any place of a run: nothing is lost, nothing is silent.

mod programs;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use programs::{bytes, error_line, log_lines, pretrain, program, stderr, success, write_images};
use serde_json::Value;

const FAIL: &str = "PAD_FAIL_FILE_OPERATION";

/// Continues a run, from the beginning if it has no checkpoint.
fn resume(trainer: &[&str], run: &Path) -> Output {
    let mut command = program(trainer[0]);
    command.args(&trainer[1..]).arg("--resume").arg(run).arg("--resume-anyway");
    success(command)
}

/// What a run leaves, without times and speeds: its result, the best step, the lines of its log.
#[derive(PartialEq)]
struct Left {
    result: Vec<u8>,
    best: Value,
    log: Vec<Value>,
}

impl Left {
    fn of(run: &Path, result: &str) -> Self {
        let summary: Value = serde_json::from_slice(&bytes(run.join("summary.json"))).unwrap();
        let log = String::from_utf8(bytes(run.join("log.jsonl"))).unwrap();
        let line = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let numbers = line.as_object_mut().unwrap();
            numbers.retain(|name, _| name != "train/seconds" && name != "train/images_per_s");
            line
        };
        let log = log.lines().map(line).collect();
        Self { result: bytes(run.join(result)), best: summary["best_step"].clone(), log }
    }
}

/// How the operations of runs are made to fail: with an error, or with the end of the process.
const ERROR: &str = "";
const KILL: &str = "!";

/// Lets runs fail at every `stride`th of their file operations, in turn in each of the ways `how`,
/// until all are behind the end of the run; the resumed run must leave the same `result`.
fn survives(
    start: impl Fn(&Path) -> Command,
    trainer: &[&str],
    result: &str,
    (stride, how): (usize, &[&[&str]]),
) {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    success(start(&whole));
    let want = Left::of(&whole, result);
    assert!(want.best.is_number(), "no best step");
    let mut killed = 0;
    for (turn, operation) in (1..).step_by(stride).enumerate() {
        let mut over = false;
        for way in how[turn % how.len()] {
            let run = folder.path().join(format!("{operation}{}", way.replace(KILL, "k")));
            let output = start(&run).env(FAIL, format!("{operation}{way}")).output().unwrap();
            let said = stderr(&output);
            let what = format!("operation {operation}{way}: {said}");
            if output.status.success() {
                // Past the end, or only a clean-up failed.
                over |= *way == KILL;
                assert!(Left::of(&run, result) == want, "{what}");
                continue;
            }
            killed += usize::from(*way == KILL);
            assert!(said.contains("injected: "), "{what}");
            if !run.join("config.toml").exists() {
                success(start(&run)); // the run had not begun
            } else {
                resume(trainer, &run);
            }
            assert!(Left::of(&run, result) == want, "{what}");
            std::fs::remove_dir_all(&run).unwrap();
        }
        if over {
            break;
        }
    }
    assert!(killed > 3, "{killed} runs were killed");
}

#[test]
fn pre_training_survives_failed_and_fatal_file_operations() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_images(&data, 14);
    let flags = ["--checkpoint-every=2", "--epochs=2", "--eval-every=1", "--ema=0.9"];
    let start = |run: &Path| pretrain(&data, run, &flags);
    survives(start, &["pretrain"], "model.safetensors", (11, &[&[ERROR, KILL]]));
}

/// `pad segment train`, `pad detect train`: a few steps on rendered scenes, two evaluations.
fn downstream(command: &str, run: &Path, flags: &[&str]) -> Command {
    let mut started = program(command);
    started.arg("train").arg("--out").arg(run);
    started.args(["--preset=paper", "--batch-size=2", "--workers=1", "--threads=1"]);
    started.args(["--checkpoint-every=2", "--val-scenes=2"]).args(flags);
    started
}

#[test]
fn segmentation_survives_failed_and_fatal_file_operations() {
    let flags = [
        "--weights=asset",
        "--scenes=4",
        "--scene-size=40,56",
        "--crop-size=48",
        "--base-scale=none",
        "--ratio=0.8,1.2",
        "--head-channels=8",
        "--auxiliary-channels=4",
        "--bottleneck=4",
        "--max-steps=4",
        "--eval-steps=2",
        "--lr=1e-3",
    ];
    let start = |run: &Path| downstream("segment", run, &flags);
    let trainer = ["segment", "train"];
    survives(start, &trainer, "model.safetensors", (13, &[&[KILL], &[ERROR, KILL]]));
}

#[test]
fn detection_survives_failed_and_fatal_file_operations() {
    let flags = [
        "--weights=none",
        "--model=pico",
        "--size=64",
        "--attention-window=2",
        "--drop-path=0",
        "--pyramid-channels=16",
        "--head-dim=32",
        "--proposals=50",
        "--batch-size-per-image=32",
        "--scenes=4",
        "--epochs=2",
        "--warmup-steps=2",
    ];
    let start = |run: &Path| downstream("detect", run, &flags);
    let trainer = ["detect", "train"];
    survives(start, &trainer, "detector.safetensors", (13, &[&[ERROR, KILL], &[KILL]]));
}

#[test]
fn two_processes_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_images(&data, 30);
    let mut first = pretrain(&data, &run, &["--epochs=40"]).spawn().unwrap();
    while log_lines(&run).0.is_empty() {
        assert!(first.try_wait().unwrap().is_none(), "the first run ended");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let mut second = program("pretrain");
    second.arg("--resume").arg(&run);
    let error = error_line(&second.output().unwrap());
    let expected = format!("{} is in use by process {}", run.display(), first.id());
    assert!(error.starts_with(&expected), "{error}");
    first.kill().unwrap();
    first.wait().unwrap();
    // The lock died with its process.
    let mut third = program("pretrain");
    third.arg("--resume").arg(&run).args(["--resume-anyway", "--max-steps=30"]);
    success(third);
}

#[test]
fn runs_that_start_together_get_a_folder_each() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_images(&data, 12);
    let start = || {
        let mut command = program("pretrain");
        command.current_dir(folder.path()).arg("--data").arg(&data);
        let small = programs::SMALL.iter().filter(|flag| !flag.starts_with("--epochs"));
        command.args(small).arg("--epochs=1");
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let children: Vec<_> = (0..3).map(|_| start()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    for number in 1..=3 {
        let summary = folder.path().join(format!("runs/pretrain-{number}/summary.json"));
        assert!(summary.exists(), "{}", summary.display());
    }
    // A run that cannot begin leaves no folder.
    let mut refused = program("pretrain");
    refused.current_dir(folder.path()).args(["--data", "absent", "--model=pico"]);
    error_line(&refused.output().unwrap());
    assert!(!folder.path().join("runs/pretrain-4").exists());
}

/// Logs that cannot be written end no training.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_the_log_and_a_closed_terminal_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_images(&data, 12);
    let whole = folder.path().join("whole");
    success(pretrain(&data, &whole, &[]));
    let run = folder.path().join("run");
    let full = || Stdio::from(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let status = pretrain(&data, &run, &[]).stderr(full()).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{status}");
    let model = "model.safetensors";
    assert!(bytes(run.join(model)) == bytes(whole.join(model)));

    // The reader of the log has gone.
    let run = folder.path().join("pipe");
    let mut child = pretrain(&data, &run, &[]).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert!(bytes(run.join(model)) == bytes(whole.join(model)));
}

/// `pad stats DIR | head -1`, `pad stats DIR > /dev/full`.
#[cfg(target_os = "linux")]
#[test]
fn printing_commands_end_quietly_or_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    write_images(folder.path(), 6);
    for command in ["stats", "roi", "masks"] {
        let arguments: &[&str] = if command == "roi" { &["--overwrite"] } else { &[] };
        let mut child = program(command);
        child.arg(folder.path()).args(arguments).current_dir(folder.path());
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = stderr(&output);
        assert!(!said.contains("panicked"), "{command}: {said}");
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut stats = program("stats");
    stats.arg(folder.path()).stdout(Stdio::from(full)).stderr(Stdio::piped());
    let output = stats.output().unwrap();
    assert_eq!(error_line(&output), "No space left on device (os error 28)");
}
