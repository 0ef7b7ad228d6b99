//! A run that is killed at any step and resumed ends with the same weights, bit for bit.

mod programs;

use std::time::{Duration, Instant};

use programs::{bytes, log_lines, pretrain, program, success, write_images};

/// Waits until the log of a run has `updates` updates.
fn wait_for(run: &std::path::Path, updates: usize) {
    let start = Instant::now();
    while log_lines(run).0.len() < updates {
        assert!(start.elapsed() < Duration::from_secs(120), "{} never came", run.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn killed_and_resumed_equals_uninterrupted() {
    let folder = tempfile::tempdir().unwrap();
    let (data, whole) = (folder.path().join("data"), folder.path().join("whole"));
    write_images(&data, 30);
    let plan = ["--checkpoint-every=3", "--clip-norm=1", "--seed=4"];
    // Other numbers of readers and threads change nothing either.
    success(pretrain(&data, &whole, &[&plan[..], &["--workers=2"]].concat()));
    let want = bytes(whole.join("model.safetensors"));

    for (round, steps) in [2, 4, 9, 13].into_iter().enumerate() {
        let run = folder.path().join(format!("killed-{round}"));
        let mut child = pretrain(&data, &run, &plan).spawn().unwrap();
        wait_for(&run, steps);
        child.kill().unwrap(); // SIGKILL: nothing is flushed, nothing is said
        child.wait().unwrap();
        assert!(!run.join("model.safetensors").exists(), "killed too late to prove anything");

        let mut resume = program("pretrain");
        resume.arg("--resume").arg(&run).args(["--threads", "1", "--workers", "0"]);
        if steps <= 3 {
            // Without a checkpoint nothing is continued unless it is wanted.
            let error = programs::error_line(&resume.output().unwrap());
            let expected = format!(
                "{}: no checkpoint that can be used; --resume-anyway starts from the beginning",
                run.join("checkpoints").display()
            );
            assert_eq!(error, expected);
            resume.arg("--resume-anyway");
        }
        let output = success(resume);
        let said = programs::stderr(&output);
        let place = if steps > 3 { "resumed from" } else { "from the beginning" };
        assert!(said.contains(place), "{said}");
        assert!(bytes(run.join("model.safetensors")) == want, "killed after step {steps}");
        let (updates, _) = log_lines(&run); // the others are evaluations
        let numbers: Vec<u64> = updates.iter().map(|line| line["step"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "each step once");
    }
}

#[test]
fn a_resumed_run_must_be_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_images(&data, 12);
    success(pretrain(&data, &run, &["--checkpoint-every=2"]));
    let mut other = program("pretrain");
    other.arg("--resume").arg(&run).args(["--blr", "0.5"]);
    let error = programs::error_line(&other.output().unwrap());
    assert!(error.ends_with("`blr`: expected `0.0001`, found `0.5`"), "{error}");
    let error = programs::error_line(&pretrain(&data, &run, &[]).output().unwrap());
    let name = run.display();
    assert_eq!(error, format!("{name} holds a run: continue it with --resume {name}"));
}

/// SIGTERM as a cluster sends it, SIGINT as Ctrl-C does, SIGHUP as a terminal that is closed.
#[cfg(unix)]
#[test]
fn signals_end_a_run_with_a_checkpoint_and_the_exit_code_of_shells() {
    let folder = tempfile::tempdir().unwrap();
    let (data, whole) = (folder.path().join("data"), folder.path().join("whole"));
    write_images(&data, 30);
    // No checkpoint is due before the end: the one that is found is the signal's.
    let plan = ["--checkpoint-every=1000", "--ema=0.9"];
    success(pretrain(&data, &whole, &plan));
    let want = bytes(whole.join("model.safetensors"));
    // Under `nohup` a program outlives its terminal, and so do its children.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let hangup = (ignored & 1 == 0).then_some(("HUP", 129));
    for (signal, code) in [("TERM", 143), ("INT", 130)].into_iter().chain(hangup) {
        let run = folder.path().join(signal);
        let mut child = pretrain(&data, &run, &plan).spawn().unwrap();
        wait_for(&run, 3);
        let sent = std::process::Command::new("kill")
            .args([format!("-{signal}"), child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(!run.join("model.safetensors").exists(), "told too late to prove anything");
        let mut resume = program("pretrain");
        resume.arg("--resume").arg(&run).args(["--workers", "2"]);
        let said = programs::stderr(&success(resume));
        assert!(said.contains("resumed from"), "{said}");
        assert!(bytes(run.join("model.safetensors")) == want, "stopped by SIG{signal}");
    }
}

#[test]
fn the_best_checkpoint_is_kept_beside_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_images(&data, 30);
    // A rate that makes it worse after a while.
    let flags = [
        "--epochs=6",
        "--eval-every=1",
        "--checkpoint-every=1000",
        "--keep=1",
        "--blr=20",
        "--warmup-epochs=5",
    ];
    success(pretrain(&data, &run, &flags));
    let summary: serde_json::Value =
        serde_json::from_slice(&bytes(run.join("summary.json"))).unwrap();
    // Step 0 is before training: there is no checkpoint of it.
    let losses: Vec<(f64, u64)> = log_lines(&run)
        .1
        .iter()
        .filter_map(|line| Some((line["val/loss"].as_f64()?, line["step"].as_u64()?)))
        .filter(|(_, step)| *step > 0)
        .collect();
    assert_eq!(losses.len(), 6);
    let lowest = losses.iter().copied().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    assert_eq!(
        (summary["held_out_best"].as_f64().unwrap(), summary["best_step"].as_u64().unwrap()),
        lowest
    );
    let checkpoints = run.join("checkpoints");
    let best = String::from_utf8(bytes(checkpoints.join("best"))).unwrap();
    assert_eq!(best.trim(), format!("checkpoint-{:08}", lowest.1));
    assert!(checkpoints.join(best.trim()).join("model.safetensors").exists());
    let folders =
        std::fs::read_dir(&checkpoints).unwrap().flatten().filter(|entry| entry.path().is_dir());
    assert!(folders.count() <= 2, "the newest and the best");
}

/// A run that is extended goes on where it ended; the summary of the shorter run stays beside the
/// new one.
#[test]
fn a_finished_run_is_left_alone_or_extended() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_images(&data, 12);
    success(pretrain(&data, &run, &["--epochs=2"]));
    let first = bytes(run.join("summary.json"));
    let steps = |name: &str| -> u64 {
        let summary: serde_json::Value = serde_json::from_slice(&bytes(run.join(name))).unwrap();
        summary["steps"].as_u64().unwrap()
    };
    let (done, model) = (steps("summary.json"), bytes(run.join("model.safetensors")));

    // Nothing is left to do: nothing is written.
    let mut again = program("pretrain");
    again.arg("--resume").arg(&run);
    let said = programs::stderr(&success(again));
    assert!(said.contains("is finished after"), "{said}");
    assert!(bytes(run.join("summary.json")) == first);
    assert!(bytes(run.join("model.safetensors")) == model);

    let mut longer = program("pretrain");
    longer.arg("--resume").arg(&run).arg("--epochs=4");
    let said = programs::stderr(&success(longer));
    assert!(said.contains("resumed from"), "{said}");
    assert_eq!(steps("summary.json"), 2 * done);
    assert_eq!(steps(&format!("summary-{done}.json")), done);
    assert!(bytes(run.join("model.safetensors")) != model);

    // What is trained cannot be taken back.
    let mut shorter = program("pretrain");
    shorter.arg("--resume").arg(&run).arg("--epochs=2");
    let error = programs::error_line(&shorter.output().unwrap());
    let name = run.display();
    assert_eq!(
        error,
        format!(
            "{name} has {} updates already, expected a length of at least as many, found {done} \
             updates (--epochs, --max-steps)",
            2 * done
        )
    );
}

#[test]
fn a_run_of_another_program_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_images(&data, 12);
    success(pretrain(&data, &run, &["--max-steps=1"]));
    let name = run.display();
    for arguments in [["segment", "eval", "--run"], ["detect", "train", "--resume"]] {
        let mut command = program(arguments[0]);
        command.args(&arguments[1..]).arg(&run);
        let error = programs::error_line(&command.output().unwrap());
        let expected = arguments[0];
        assert_eq!(
            error,
            format!("{name} is a run of `pad pretrain`, expected one of `pad {expected}`")
        );
    }
}
