//! Adapters of weights that a run starts from: kept, or replaced where the user says so, never
//! dropped in silence.

mod programs;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use pad::{checkpoint::Checkpoint, params::Role};
use programs::{bytes, error_line, pretrain, program, stderr, success, write_images};

/// On the small backbone, one update.
const SHORT: &[&str] = &[
    "--paradigm=pad",
    "--model=auto",
    "--weights=asset",
    "--decoder-dim=128",
    "--decoder-depth=2",
    "--decoder-heads=4",
    "--max-steps=1",
    "--warmup-epochs=0",
];

/// Runs to start from: `pad`, of bottleneck 4, and `lora`, of rank 2.
struct Runs {
    folder: tempfile::TempDir,
}

impl Runs {
    fn new() -> Self {
        let runs = Self { folder: tempfile::tempdir().unwrap() };
        write_images(&runs.at("data"), 12);
        success(runs.pretrain("pad", &["--bottleneck=4", "--blr=1"]));
        let lora = ["--adapter=lora", "--lora-rank=2", "--lora-targets=fc1,fc2", "--blr=1"];
        success(runs.pretrain("lora", &lora));
        runs
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pretrain(&self, out: &str, more: &[&str]) -> Command {
        let name = |flag: &str| flag.split('=').next().unwrap().to_string();
        let replaced: Vec<String> = more.iter().map(|flag| name(flag)).collect();
        let short = SHORT.iter().filter(|flag| !replaced.contains(&name(flag))).copied();
        let flags: Vec<&str> = short.chain(more.iter().copied()).collect();
        pretrain(&self.at("data"), &self.at(out), &flags)
    }

    /// A run that starts from another one.
    fn on(&self, run: &str, out: &str, more: &[&str]) -> Command {
        let weights = format!("--weights={}", self.at(run).display());
        self.pretrain(out, &[&[weights.as_str()], more].concat())
    }

    /// The error of such a run, from the adapters on.
    fn refused(&self, run: &str, more: &[&str]) -> String {
        let error = error_line(&self.on(run, "refused", more).output().unwrap());
        assert!(!self.at("refused").exists());
        self.differences(run, &error)
    }

    fn differences(&self, run: &str, error: &str) -> String {
        let start =
            format!("{}: its adapters are not those of the settings: ", self.at(run).display());
        let found = error.strip_prefix(&start).unwrap_or_else(|| panic!("{error}"));
        let end = "; leave these out to use its adapters, or start new ones with --adapters new";
        found.strip_suffix(end).unwrap_or_else(|| panic!("{error}")).to_string()
    }
}

/// Names and bits of the adapters of a run.
fn adapters(run: &Path) -> Vec<(String, Vec<u32>)> {
    let file = Checkpoint::open(run.join("adapter.safetensors")).unwrap();
    let tensors = file.tensors().iter();
    let tensors = tensors.filter(|(name, _)| Role::of(name).is_adapter());
    let bits = |tensor: &candle_core::Tensor| {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    tensors.map(|(name, tensor)| (name.clone(), bits(tensor))).collect()
}

#[test]
fn adapters_of_the_weights_train_further() {
    let runs = Runs::new();
    // A rate of 0: what is written is what was read. The default of `--bottleneck` says nothing.
    for (run, kind) in
        [("pad", "pad, bottleneck 4, scale concat"), ("lora", "lora, rank 2, alpha 4, on fc1,fc2")]
    {
        let out = format!("{run}-kept");
        let said = stderr(&success(runs.on(run, &out, &["--blr=0"])));
        assert!(said.contains(&format!("adapters of the weights: {kind}")), "{said}");
        assert!(!adapters(&runs.at(run)).is_empty());
        assert_eq!(adapters(&runs.at(&out)), adapters(&runs.at(run)), "{run}");
        // New ones of the same form are new.
        let new = format!("{run}-new");
        let same = ["--bottleneck=4", "--adapter=lora"];
        let mut flags = vec!["--blr=0", "--adapters=new"];
        match run {
            "pad" => flags.push(same[0]),
            _ => flags.extend([same[1], "--lora-rank=2", "--lora-targets=fc1,fc2"]),
        }
        let said = stderr(&success(runs.on(run, &new, &flags)));
        assert!(said.contains("tensors of adapters dropped"), "{said}");
        let (before, after) = (adapters(&runs.at(run)), adapters(&runs.at(&new)));
        let names = |all: &[(String, Vec<u32>)]| -> Vec<String> {
            all.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(&before), names(&after));
        assert_ne!(before, after);
    }
    // Resumed with the same adapters, whatever the settings say of new ones.
    success(runs.on("pad", "whole", &["--max-steps=2"]));
    success(runs.on("pad", "parts", &["--max-steps=2", "--stop-after=1"]));
    let mut resume = program("pretrain");
    resume.arg("--resume").arg(runs.at("parts"));
    success(resume);
    assert_eq!(adapters(&runs.at("parts")), adapters(&runs.at("whole")));
    let adapter = |run: &str| bytes(runs.at(run).join("adapter.safetensors"));
    assert_eq!(adapter("parts"), adapter("whole"));
    // Its settings are a recipe: the default of `bottleneck` among them was not chosen.
    let mut again = program("pretrain");
    again.arg("--recipe").arg(runs.at("parts/config.toml")).arg("--out").arg(runs.at("again"));
    success(again);
    assert_eq!(adapters(&runs.at("again")), adapters(&runs.at("whole")));
}

#[test]
fn adapters_of_another_form_are_named() {
    let runs = Runs::new();
    assert_eq!(runs.refused("pad", &["--bottleneck=8"]), "`bottleneck`: expected 8, found 4");
    assert_eq!(
        runs.refused("pad", &["--adapter-scale=fixed=0.5", "--adapter-norm=false"]),
        "`adapter_norm`: expected false, found true; `adapter_scale`: expected fixed=0.5, found concat"
    );
    assert_eq!(runs.refused("pad", &["--adapter=lora"]), "`adapter`: expected lora, found pad");
    assert_eq!(
        runs.refused("lora", &["--adapter=lora", "--lora-rank=4"]),
        "`lora_targets`: expected query,value, found fc1,fc2; `lora_rank`: expected 4, found 2; \
         `lora_alpha`: expected 8, found 4"
    );
    assert_eq!(
        runs.refused("lora", &["--adapter=dora", "--lora-rank=2", "--lora-targets=fc1,fc2"]),
        "`adapter`: expected dora, found lora"
    );
    // Without a kind these are of the adapters of the weights.
    success(runs.on("lora", "rank", &["--lora-rank=2", "--lora-alpha=4", "--blr=0"]));
    assert_eq!(adapters(&runs.at("rank")), adapters(&runs.at("lora")));
    assert_eq!(runs.refused("lora", &["--lora-rank=4"]), "`lora_rank`: expected 4, found 2");
    assert_eq!(
        runs.refused("pad", &["--lora-rank=4"]),
        "`lora_rank`: expected low-rank adapters, found pad adapters"
    );
    let new = runs.pretrain("refused", &["--lora-rank=4"]).output().unwrap();
    assert_eq!(error_line(&new), "`lora_rank` with `adapter` pad, expected lora, rslora or dora");
    assert_eq!(
        runs.refused("lora", &["--bottleneck=8"]),
        "`bottleneck`: expected bottlenecks, found lora adapters"
    );
    let recipe = runs.at("recipe.toml");
    let text = "bottleneck = 16\nadapter_dropout = 0.2\nbatch_size = 4\naccumulate = 1\n";
    std::fs::write(&recipe, text).unwrap();
    let mut by_recipe = program("pretrain");
    by_recipe.arg("--data").arg(runs.at("data")).arg("--out").arg(runs.at("refused"));
    by_recipe.arg("--recipe").arg(&recipe).arg("--weights").arg(runs.at("pad"));
    let error = error_line(&by_recipe.output().unwrap());
    assert_eq!(runs.differences("pad", &error), "`bottleneck`: expected 16, found 4");
    // Paradigms without adapters leave some out only if that is wanted.
    let name = runs.at("pad");
    let full = runs.on("pad", "refused", &["--paradigm=full"]).output().unwrap();
    assert_eq!(
        error_line(&full),
        format!(
            "paradigm full has no adapters, found some in {}: use --paradigm pad, or leave them out with \
             --adapters none",
            name.display()
        )
    );
    let said = stderr(&success(runs.on("pad", "full", &["--paradigm=full", "--adapters=none"])));
    assert!(said.contains("tensors of adapters dropped"), "{said}");
}

/// No checkpoint holds adapters that do not train: their content tells whether they are the same.
#[test]
fn a_run_on_frozen_adapters_knows_them() {
    let runs = Runs::new();
    let flags = [
        "train",
        "--preset=paper",
        "--trained=heads",
        "--crop-size=48",
        "--base-scale=none",
        "--head=linear",
        "--max-steps=4",
        "--checkpoint-every=1",
        "--batch-size=2",
        "--workers=1",
        "--scenes=4",
        "--val-scenes=2",
        "--scene-size=48,64",
        "--stop-after=1",
    ];
    let mut begin = program("segment");
    begin.args(flags).arg("--weights").arg(runs.at("pad")).arg("--out").arg(runs.at("probe"));
    success(begin);
    let resumed = || {
        let mut resumed = program("segment");
        resumed.args(["train", "--stop-after=2", "--resume"]).arg(runs.at("probe"));
        resumed
    };
    let said = stderr(&success(resumed()));
    assert!(said.contains("resumed from"), "{said}");

    // The run that left the adapters goes on, and leaves others.
    let before = adapters(&runs.at("pad"));
    let mut longer = program("pretrain");
    longer.arg("--resume").arg(runs.at("pad")).arg("--max-steps=2");
    success(longer);
    assert_ne!(adapters(&runs.at("pad")), before);
    let error = error_line(&resumed().output().unwrap());
    assert!(error.contains(": `frozen_adapters`: expected `"), "{error}");
    let mut eval = program("segment");
    eval.args(["eval", "--run"]).arg(runs.at("probe"));
    let error = error_line(&eval.output().unwrap());
    assert!(error.contains(": `frozen_adapters`: expected the adapters "), "{error}");
    assert!(error.ends_with(": the weights of the run are others now"), "{error}");
}

#[test]
fn detectors_say_what_becomes_of_adapters() {
    let runs = Runs::new();
    let flags = [
        "train",
        "--preset=paper",
        "--size=64",
        "--attention-window=2",
        "--pyramid-channels=16",
        "--head-dim=32",
        "--proposals=50",
        "--batch-size-per-image=32",
        "--max-steps=1",
        "--eval-every=end",
        "--workers=1",
        "--scenes=4",
        "--val-scenes=2",
    ];
    let detect = |weights: &Path, out: &str, more: &[&str]| {
        let mut command = program("detect");
        command.args(flags).arg("--weights").arg(weights).arg("--out").arg(runs.at(out)).args(more);
        command
    };
    for (run, more, differences) in [
        ("pad", vec!["--bottleneck=8"], "`bottleneck`: expected 8, found 4"),
        ("pad", vec!["--adapter=lora"], "`adapter`: expected lora, found pad"),
        (
            "lora",
            vec!["--adapter=lora", "--lora-targets=fc1,fc2"],
            "`lora_rank`: expected 8, found 2; `lora_alpha`: expected 16, found 4",
        ),
    ] {
        let output = detect(&runs.at(run), "refused", &more).output().unwrap();
        assert_eq!(runs.differences(run, &error_line(&output)), differences);
        assert!(!runs.at("refused").exists());
    }
    let said = stderr(&success(detect(&runs.at("pad"), "kept", &[])));
    assert!(said.contains("adapters of the weights: pad, bottleneck 4, scale concat"), "{said}");
    let said = stderr(&success(detect(Path::new("asset"), "plain", &["--bottleneck=8"])));
    let warning = "no effect of `bottleneck`: the model has no adapters (--adapters new puts new ones into it)";
    assert!(said.contains(warning), "{said}");
}
