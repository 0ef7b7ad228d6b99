//! Recipes as `pad pretrain --recipe` runs them.

mod programs;

#[test]
fn recipes_run_by_name_and_flags_override_them() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    programs::write_images(&data, 24);
    for name in ["rgb-only", "per-layer-scale"] {
        let out = folder.path().join(name);
        let recipe = format!("--recipe={name}");
        let flags = ["--weights=asset", "--model=auto", "--epochs=1", "--max-steps=2", &recipe];
        let mut command = programs::program("pretrain");
        command.arg("--data").arg(&data).arg("--out").arg(&out).args(flags);
        command.args([
            "--image-size=64",
            "--batch-size=4",
            "--accumulate=1",
            "--workers=1",
            "--eval-every=end",
        ]);
        programs::success(command);
        let summary = programs::bytes(out.join("summary.json"));
        let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
        assert_eq!(summary["steps"], 2);
        assert!(summary["held_out_after"].as_f64().unwrap().is_finite());
        assert_eq!(out.join("adapter.safetensors").exists(), name != "rgb-only");
    }
    let mut command = programs::program("pretrain");
    command.arg("--data").arg(&data).arg("--out").arg(folder.path().join("x")).arg("--recipe=paid");
    let error = programs::error_line(&command.output().unwrap());
    assert!(error.starts_with("recipe: expected demo, small, scratch, "), "{error}");
    assert!(error.ends_with("found `paid` (did you mean `pad`?)"), "{error}");
}

/// The same settings have the same names in all trainers.
#[test]
fn flags_of_every_run_are_in_all_trainers() {
    let help = |arguments: &[&str]| {
        let mut command = programs::program(arguments[0]);
        command.args(&arguments[1..]).arg("--help");
        let text = String::from_utf8(programs::success(command).stdout).unwrap();
        let flag = |line: &str| {
            let flag = line.trim_start().split_once("--")?.1;
            let end = flag.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
            line.trim_start()
                .starts_with('-')
                .then(|| flag[..end.unwrap_or(flag.len())].to_string())
        };
        text.lines().filter_map(flag).collect::<std::collections::BTreeSet<String>>()
    };
    let (pretrain, segment, detect) =
        (help(&["pretrain"]), help(&["segment", "train"]), help(&["detect", "train"]));
    for flag in [
        "data",
        "workers",
        "cache-mib",
        "max-unreadable",
        "levels",
        "normalize",
        "weights",
        "model",
        "adapter-scale",
        "epochs",
        "max-steps",
        "stop-after",
        "batch-size",
        "accumulate",
        "lr",
        "blr",
        "schedule",
        "warmup-steps",
        "layer-decay",
        "weight-decay",
        "clip-norm",
        "ema",
        "seed",
        "eval-every",
        "eval-steps",
        "checkpoint-every",
        "keep",
        "log-every",
        "device",
        "threads",
        "dtype",
        "checkpoint-blocks",
        "group",
        "out",
        "resume",
        "recipe",
        "preset",
    ] {
        for flags in [&pretrain, &segment, &detect] {
            assert!(flags.contains(flag), "--{flag}");
        }
    }
    let no: Vec<_> = pretrain.iter().chain(&segment).chain(&detect).collect();
    assert!(!no.iter().any(|flag| flag.starts_with("no-")), "{no:?}");
}
