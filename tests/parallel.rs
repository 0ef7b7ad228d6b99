//! `mpirun pretrain`: equals one process; a killed process and a failing one end all, and what they leave is resumed by
//! another number of processes. Feature `mpi`; skipped where there is no `mpirun`.

mod programs;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use programs::{SMALL, bytes, pretrain, program, stderr, success, write_images};

/// `mpirun` of `processes` processes, or nothing (and the reason is printed) where there is no `mpirun`.
fn launcher(processes: usize) -> Option<Command> {
    let found = Command::new("mpirun").arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        pad_testkit::skipped("mpirun", "this machine has none");
        return None;
    }
    let mut command = Command::new("mpirun");
    // Build machines are containers with few cores, whose user is root.
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]);
    command.args(["-n", &processes.to_string()]).arg(program("pretrain").get_program());
    command.arg("pretrain").env("RUST_LOG", "info");
    Some(command)
}

/// The small pre-training on several processes.
fn mpirun(processes: usize, data: &Path, out: &Path, more: &[&str]) -> Option<Command> {
    let mut command = launcher(processes)?;
    command.arg("--data").arg(data).arg("--out").arg(out);
    let name = |flag: &str| flag.split('=').next().unwrap().to_string();
    let replaced: Vec<String> = more.iter().map(|flag| name(flag)).collect();
    command.args(SMALL.iter().filter(|flag| !replaced.contains(&name(flag)))).args(more);
    Some(command)
}

#[test]
fn two_processes_equal_one() {
    let folder = tempfile::tempdir().unwrap();
    let [data, two, one] = ["data", "two", "one"].map(|n| folder.path().join(n));
    write_images(&data, 30);
    let plan =
        ["--accumulate=2", "--checkpoint-every=3", "--clip-norm=1", "--seed=4", "--threads=1"];
    let Some(command) = mpirun(2, &data, &two, &plan) else { return };
    let said = stderr(&success(command));
    assert!(said.contains("2 processes train together"), "{said}");
    success(pretrain(&data, &one, &plan));
    assert!(bytes(two.join("model.safetensors")) == bytes(one.join("model.safetensors")));
    let lines = |folder: &Path| {
        let log = String::from_utf8(bytes(folder.join("log.jsonl"))).unwrap();
        let line = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            (line["step"].clone(), line["train/loss"].clone(), line["train/grad_norm"].clone())
        };
        log.lines().map(line).collect::<Vec<_>>()
    };
    assert_eq!(lines(&two), lines(&one));
}

/// Waits for a child, 60 s at most.
fn ended(mut child: std::process::Child) -> Output {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "it hangs");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

/// Kills the last of `processes`, and lets `others` go on from what is left.
fn killed_and_resumed(processes: usize, others: usize) {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_images(&data, 20);
    let plan = ["--accumulate=4", "--epochs=100000", "--threads=1", "--checkpoint-every=2"];
    let Some(mut command) = mpirun(processes, &data, &run, &plan) else { return };
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let checkpoint = run.join("checkpoints/checkpoint-00000004");
    let start = Instant::now();
    while !checkpoint.exists() {
        assert!(child.try_wait().unwrap().is_none(), "ended by itself");
        assert!(start.elapsed() < Duration::from_secs(120), "never began");
        std::thread::sleep(Duration::from_millis(5));
    }
    let children =
        Command::new("ps").args(["-o", "pid=", "--ppid", &child.id().to_string()]).output();
    let children = String::from_utf8(children.unwrap().stdout).unwrap();
    assert_eq!(children.split_whitespace().count(), processes, "{children}");
    let last = children.split_whitespace().next_back().unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &last]).status().unwrap().success());
    let output = ended(child);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("exited on signal 9"), "{}", stderr(&output));

    // What is there is whole, and goes on.
    let checkpoints = run.join("checkpoints");
    let newest = pad::train::checkpoint::latest(&checkpoints).unwrap().expect("a checkpoint");
    let steps = newest.trainer_state().step;
    assert!(steps >= 4, "{steps}");
    let mut command = launcher(others).unwrap();
    command.arg("--resume").arg(&run).arg(format!("--max-steps={}", steps + 2));
    let said = stderr(&success(command));
    let expected = format!(
        "number of processes: {processes} in the checkpoint, {others} now: each takes {} of the 4 micro-batches of a step",
        4 / others
    );
    assert!(said.contains("resumed from") && said.contains(&expected), "{said}");
    let summary = bytes(run.join("summary.json"));
    let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
    assert_eq!(summary["steps"], steps + 2);
}

#[test]
fn a_killed_process_of_two_ends_both_and_one_goes_on() {
    killed_and_resumed(2, 1);
}

#[test]
fn a_killed_process_of_four_ends_all_and_two_go_on() {
    killed_and_resumed(4, 2);
}

/// The first process, which writes, dies between two file operations; two processes go on for four, and end where one
/// process ends that does it all, but for rounding.
#[test]
fn another_number_of_processes_ends_within_rounding() {
    let folder = tempfile::tempdir().unwrap();
    let [data, four, one] = ["data", "four", "one"].map(|n| folder.path().join(n));
    write_images(&data, 40);
    let plan =
        ["--accumulate=4", "--checkpoint-every=1", "--seed=4", "--threads=1", "--held-out=0.2"];
    let Some(mut command) = mpirun(4, &data, &four, &plan) else { return };
    let output = command.env("PAD_FAIL_FILE_OPERATION", "60!").output().unwrap();
    assert!(!output.status.success() && stderr(&output).contains("injected: "));
    let mut command = launcher(2).unwrap();
    command.arg("--resume").arg(&four);
    assert!(stderr(&success(command)).contains("number of processes: 4 in the checkpoint, 2 now"));
    success(pretrain(&data, &one, &plan));
    let device = candle_core::Device::Cpu;
    let weights = |run: &Path| {
        candle_core::safetensors::load(run.join("model.safetensors"), &device).unwrap()
    };
    let (found, want) = (weights(&four), weights(&one));
    assert_eq!(found.len(), want.len());
    for (name, want) in &want {
        // The gradient of the keys' biases is zero but for rounding, which AdamW scales up.
        if !name.contains("qkv.bias") {
            pad_testkit::close(name, &found[name], want, 1e-4);
        }
    }
}

#[test]
fn an_error_ends_all() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_images(&data, 30);
    let Some(mut command) = mpirun(2, &data, &run, &["--accumulate=3"]) else { return };
    let output = ended(command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(said.contains("`accumulate` is 3, expected a multiple of the 2 processes"), "{said}");
    // A folder that holds a run is refused by the first process; the second learns of it.
    std::fs::create_dir_all(&run).unwrap();
    std::fs::write(run.join("config.toml"), "").unwrap();
    let mut command = mpirun(2, &data, &run, &["--accumulate=2"]).unwrap();
    let output = ended(command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
    assert!(!output.status.success());
    assert!(stderr(&output).contains("holds a run"), "{}", stderr(&output));
}
