//! A cell: who made it, how it goes on, what is left of it.

use clap::Parser;
use serde_json::json;

use super::{
    evidence::{flags::Flags, plan::Plan, results::Results},
    plan, stored, tree,
};

#[test]
fn another_command_in_the_same_place_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let first = |more: &[&str]| plan(out, more).cells[0].clone();
    let other = |more: &[&str]| {
        let name = out.to_str().unwrap();
        let line = ["evidence", "--out", name, "--budget", "full"];
        let flags = Flags::parse_from(line.into_iter().chain(more.iter().copied()));
        Plan::new(&flags).unwrap().cells[0].clone()
    };
    // A command that never ran leaves the place to another one.
    other(&[]).claim().unwrap();
    first(&[]).check().unwrap();
    first(&[]).claim().unwrap();
    first(&["--threads=1"]).claim().unwrap();
    // Begun, then ended.
    let cell = first(&[]);
    let run = cell.run.clone().unwrap();
    for name in ["config.toml", "summary.json"] {
        tree(&run, &[name]);
        first(&["--threads=1"]).check().unwrap();
        let error = other(&[]).check().unwrap_err().to_string();
        assert_eq!(other(&[]).claim().unwrap_err().to_string(), error);
        assert!(error.contains("random/0/pretrain.command: made by `pad pretrain"), "{error}");
        assert!(error.ends_with("choose another --out") && !error.contains('\n'), "{error}");
    }
    // The recipe by its name and text, wherever the repository lies.
    let at = cell.command.iter().position(|word| word == "--recipe").unwrap() + 1;
    let moved = out.join("pretrain.toml");
    let with = |text: &str| {
        std::fs::write(&moved, text).unwrap();
        let mut moved_cell = cell.clone();
        moved_cell.command[at] = moved.display().to_string();
        moved_cell.check()
    };
    let text = std::fs::read_to_string(&cell.command[at]).unwrap();
    with(&text).unwrap();
    let error = with(&text.replace("decoder_dim = 128", "decoder_dim = 64")).unwrap_err();
    assert!(error.to_string().contains("made with another text of its recipe"), "{error}");
    // A run without its command.
    std::fs::remove_file(run.with_extension("command")).unwrap();
    let error = cell.check().unwrap_err().to_string();
    assert!(error.contains("pretrain.command: missing beside the run"), "{error}");
}

#[test]
fn a_run_that_was_stopped_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), &[]);
    let of = |id: &str| plan.cell(id).unwrap();
    let (run, probe) = (of("shipped/rgb/0/detect"), of("shipped/rgb/0/probe"));
    assert_eq!(run.arguments(), run.command);
    let begun = run.run.as_ref().unwrap();
    std::fs::create_dir_all(begun).unwrap();
    std::fs::write(begun.join("config.toml"), "").unwrap();
    let place = begun.display().to_string();
    assert_eq!(run.arguments(), ["detect", "train", "--resume", &place, "--resume-anyway"]);
    assert_eq!(probe.arguments(), probe.command);
    assert!(!run.has_ended());
    std::fs::write(begun.join("summary.json"), "{}").unwrap();
    assert!(run.has_ended());
}

#[test]
fn a_run_takes_the_time_of_all_its_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), &["--only=full", "--seeds=0"]);
    let of = |id: &str| plan.cell(&format!("shipped/full/0/{id}")).unwrap();
    let run = of("detect");
    run.claim().unwrap();
    assert_eq!(run.elapsed(), None);
    let report = json!({ "seconds": 4.0, "peak_mib": 200 });
    assert_eq!((run.seconds(&report), run.peak_mib(&report)), (Some(4.0), Some(200.0)));
    run.add_session(60.0).unwrap();
    tree(run.run.as_ref().unwrap(), &["config.toml"]);
    // It goes on, twice; the last session takes a while to start, and does little.
    for session in [30.5, 5.0] {
        run.claim().unwrap();
        run.add_session(session).unwrap();
    }
    let log = " INFO peak memory so far: 150 MiB\nstep 9\n INFO peak memory so far: 334 MiB\n";
    std::fs::write(run.log(), log).unwrap();
    assert_eq!((run.seconds(&report), run.elapsed()), (Some(94.5), Some(95.5)));
    assert_eq!(run.peak_mib(&report), Some(334.0));
    std::fs::write(&run.result, stored(run.work, 0.4).to_string()).unwrap();
    let cost = Results::read(&plan).unwrap().cost(("shipped", "full"), "detect").unwrap();
    assert_eq!(cost.peak_mib, Some(334.0));
    assert!((cost.seconds.unwrap() - 90.5 - 11.108_156).abs() < 1e-3, "{cost:?}");
    // A probe starts over.
    let probe = of("probe");
    for _ in 0..2 {
        probe.claim().unwrap();
        probe.add_session(7.0).unwrap();
    }
    assert_eq!((probe.elapsed(), probe.seconds(&report)), (Some(7.0), Some(4.0)));
}

#[test]
fn models_of_judges_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), &["--only=full", "--seeds=0"]);
    let left = |id: &str| -> Vec<String> {
        let cell = plan.cell(&format!("shipped/full/0/{id}")).unwrap();
        let run = cell.run.as_ref().unwrap();
        let files =
            ["checkpoints/checkpoint-1/state.json", "detector.safetensors", "model.safetensors"];
        tree(run, &files);
        tree(run, &["summary.json"]);
        cell.tidy();
        let names = std::fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(left("detect"), ["summary.json"]);
    assert_eq!(left("segment"), ["summary.json"]);
    // Judges start from it.
    assert_eq!(left("pretrain"), ["detector.safetensors", "model.safetensors", "summary.json"]);
}
