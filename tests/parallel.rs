//! `mpirun -n 2 pretrain`: equals one process; a killed process and a failing one end all. Feature `mpi`; skipped where
//! there is no `mpirun`.

mod programs;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use programs::{SMALL, bytes, pretrain, program, stderr, success, write_images};

/// `mpirun -n 2` of the small pre-training, or nothing (and the reason is printed) where there is no `mpirun`.
fn mpirun(data: &Path, out: &Path, more: &[&str]) -> Option<Command> {
    let found = Command::new("mpirun").arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no mpirun on this machine");
        return None;
    }
    let program = program("pretrain");
    let mut command = Command::new("mpirun");
    // Build machines are containers with few cores, whose user is root.
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", "2"]);
    command.arg(program.get_program()).arg("--data").arg(data).arg("--out").arg(out);
    let name = |flag: &str| flag.split('=').next().unwrap().to_string();
    let replaced: Vec<String> = more.iter().map(|flag| name(flag)).collect();
    command.args(SMALL.iter().filter(|flag| !replaced.contains(&name(flag)))).args(more);
    command.env("RUST_LOG", "info");
    Some(command)
}

#[test]
fn two_processes_equal_one() {
    let folder = tempfile::tempdir().unwrap();
    let [data, two, one] = ["data", "two", "one"].map(|n| folder.path().join(n));
    write_images(&data, 30);
    let plan =
        ["--accumulate=2", "--checkpoint-every=3", "--clip-norm=1", "--seed=4", "--threads=1"];
    let Some(command) = mpirun(&data, &two, &plan) else { return };
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

#[test]
fn a_killed_process_ends_all() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_images(&data, 12);
    let plan = ["--accumulate=2", "--epochs=100000", "--threads=1"];
    let Some(mut command) = mpirun(&data, &run, &plan) else { return };
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let log = run.join("log.jsonl");
    let start = Instant::now();
    while std::fs::read_to_string(&log).unwrap_or_default().lines().count() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "ended by itself");
        assert!(start.elapsed() < Duration::from_secs(60), "never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The second process of this mpirun.
    let children =
        Command::new("ps").args(["-o", "pid=", "--ppid", &child.id().to_string()]).output();
    let children = String::from_utf8(children.unwrap().stdout).unwrap();
    let second = children.split_whitespace().next_back().unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &second]).status().unwrap().success());
    let output = ended(child);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("exited on signal 9"), "{}", stderr(&output));
}

#[test]
fn an_error_ends_all() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_images(&data, 30);
    let Some(mut command) = mpirun(&data, &run, &["--accumulate=3"]) else { return };
    let output = ended(command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(said.contains("`accumulate` is 3, expected a multiple of the 2 processes"), "{said}");
    // A folder that holds a run is refused by the first process; the second learns of it.
    std::fs::create_dir_all(&run).unwrap();
    std::fs::write(run.join("config.toml"), "").unwrap();
    let mut command = mpirun(&data, &run, &["--accumulate=2"]).unwrap();
    let output = ended(command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
    assert!(!output.status.success());
    assert!(stderr(&output).contains("holds a run"), "{}", stderr(&output));
}
