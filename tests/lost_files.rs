//! Files of a run that were moved, replaced or damaged while it rested.

mod programs;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use pad::{
    checkpoint::{Checkpoint, FloatType, save},
    train::checkpoint::{best, latest},
};
use programs::{bytes, error_line, pretrain, program, stderr, success, write_images};

/// The teacher of the tests, and another one of the same form.
fn write_teachers(teacher: &Path, other: &Path) {
    for path in [teacher, other] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    fs::write(teacher, pad::assets::VIT_PICO_RGB).unwrap();
    let mut file = Checkpoint::open(teacher).unwrap();
    let name = "blocks.1.mlp.fc1.bias";
    let moved = (file.get(name).unwrap().to_dtype(candle_core::DType::F32).unwrap() + 0.1).unwrap();
    file.insert(name, moved);
    save(other, file.tensors(), file.metadata(), FloatType::AsIs).unwrap();
}

/// `pretrain` on features of a teacher, four updates with a checkpoint each.
fn learn(data: &Path, run: &Path, teacher: &Path, more: &[&str]) -> Command {
    let teacher = format!("--teacher={}", teacher.display());
    let flags = ["--objective=features", "--max-steps=4", "--checkpoint-every=1", &teacher];
    pretrain(data, run, &[&flags[..], more].concat())
}

fn resume(run: &Path) -> Command {
    let mut command = program("pretrain");
    command.arg("--resume").arg(run);
    command
}

#[test]
fn a_teacher_is_told_by_its_content_wherever_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_images(&at("data"), 12);
    let (teacher, other) = (at("teachers/pico.safetensors"), at("others/other.safetensors"));
    write_teachers(&teacher, &other);
    success(learn(&at("data"), &at("whole"), &teacher, &[]));
    let want = bytes(at("whole/model.safetensors"));

    let run = at("run");
    success(learn(&at("data"), &run, &teacher, &["--stop-after=2"]));
    let new = at("elsewhere/another_name.safetensors");
    fs::create_dir(at("elsewhere")).unwrap();
    fs::rename(&teacher, &new).unwrap();
    let error = error_line(&resume(&run).output().unwrap());
    assert!(error.starts_with(&format!("{}: No such file", teacher.display())), "{error}");

    // Another file, by a flag or in the old place, is refused with both digests.
    let digest = |path: &Path| Checkpoint::open(path).unwrap().digest().unwrap();
    let refused = format!(
        "{}: `teacher_sha256`: expected `{}`, found `{}`",
        run.join("checkpoints/checkpoint-00000002").display(),
        digest(&new),
        digest(&other)
    );
    let mut by_flag = resume(&run);
    by_flag.arg("--teacher").arg(&other);
    assert_eq!(error_line(&by_flag.output().unwrap()), refused);
    fs::copy(&other, &teacher).unwrap();
    assert_eq!(error_line(&resume(&run).output().unwrap()), refused);
    fs::remove_file(&teacher).unwrap();
    // So are the same tensors as another model.
    let mut file = Checkpoint::open(&new).unwrap();
    let config = file.metadata()["mae"].replace("\"norm_eps\":1e-6", "\"norm_eps\":1e-5");
    assert_ne!(config, file.metadata()["mae"]);
    file.set_metadata("mae", config);
    save(&other, file.tensors(), file.metadata(), FloatType::AsIs).unwrap();
    let mut by_flag = resume(&run);
    by_flag.arg("--teacher").arg(&other);
    let error = error_line(&by_flag.output().unwrap());
    assert!(error.contains(": `teacher_vit`: expected `") && error.contains("1e-5"), "{error}");

    // The same one under another name, relative to the working directory.
    let mut moved = resume(&run);
    moved.current_dir(at("elsewhere")).args(["--teacher", "another_name.safetensors"]);
    moved.arg("--stop-after=3");
    let said = stderr(&success(moved));
    assert!(said.contains("`teacher` is ") && said.contains(" at the start of the run"), "{said}");
    // It is known from then on, from any working directory.
    let said = stderr(&success(resume(&run)));
    assert!(said.contains("resumed from"), "{said}");
    assert!(bytes(run.join("model.safetensors")) == want);
}

/// Run, data and teacher in one tree, by relative paths: the tree moves as a whole.
#[test]
fn a_teacher_moves_with_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    write_images(&old.join("data"), 12);
    write_teachers(&old.join("teachers/pico.safetensors"), &old.join("other.safetensors"));
    let relative = |name: &str| PathBuf::from(name);
    let teacher = relative("teachers/pico.safetensors");
    let mut first = learn(&relative("data"), &relative("run"), &teacher, &["--stop-after=2"]);
    first.current_dir(&old);
    success(first);
    fs::rename(&old, &new).unwrap();
    let said = stderr(&success(resume(&new.join("run"))));
    let found = new.join("teachers/pico.safetensors");
    assert!(said.contains(&format!("is not there: {} is used", found.display())), "{said}");
    assert!(new.join("run/model.safetensors").exists());
}

/// A name and what is done to a file.
type Damage = (&'static str, fn(&Path));

/// What may happen to the best checkpoint.
const DAMAGES: [Damage; 3] = [
    ("flipped", |model| {
        let mut bytes = fs::read(model).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(model, bytes).unwrap();
    }),
    ("shortened", |model| {
        let bytes = fs::read(model).unwrap();
        fs::write(model, &bytes[..bytes.len() - 9]).unwrap();
    }),
    ("gone", |model| fs::remove_file(model).unwrap()),
];

#[test]
fn a_damaged_best_checkpoint_is_named_and_never_used() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    write_images(&images, 2);
    let flags = [
        "train",
        "--preset=paper",
        "--weights=asset",
        "--crop-size=48",
        "--base-scale=none",
        "--head=linear",
        "--bottleneck=4",
        "--max-steps=8",
        "--eval-steps=2",
        "--checkpoint-every=1",
        "--batch-size=2",
        "--workers=1",
        "--lr=1e-3",
        "--scenes=6",
        "--val-scenes=3",
        "--scene-size=48,64",
        "--stop-after=6",
    ];
    let first = folder.path().join("first");
    let mut begin = program("segment");
    begin.args(flags).arg("--out").arg(&first);
    success(begin);
    let checkpoints = |run: &Path| run.join("checkpoints");
    let step = best(&checkpoints(&first)).unwrap().unwrap().trainer_state().step;
    let name = format!("checkpoint-{step:08}");

    for (what, damage) in DAMAGES {
        let run = folder.path().join(what);
        let copied = Command::new("cp").arg("-r").arg(&first).arg(&run).status();
        assert!(copied.unwrap().success());
        let model = checkpoints(&run).join(&name).join("model.safetensors");
        damage(&model);
        let named = format!("{}: ", model.display());

        // Measured and used is the newest sound one, in the folder as it is.
        let newest = latest(&checkpoints(&run)).unwrap().unwrap().path().to_path_buf();
        assert!(!newest.ends_with(&name));
        let measure = |more: &[&str]| {
            let mut eval = program("segment");
            eval.arg("eval").arg("--run").arg(&run).args(more);
            eval
        };
        let mut predict = program("segment");
        predict.arg("predict").arg("--run").arg(&run).arg("--images").arg(&images);
        predict.arg("--out").arg(folder.path().join(format!("{what}-out")));
        for command in [measure(&[]), predict] {
            let said = stderr(&success(command));
            assert!(said.contains(&named), "{what}: {said}");
            assert!(said.contains(&format!("using {}", newest.display())), "{what}: {said}");
        }
        let refused = error_line(&measure(&["--checkpoint=best"]).output().unwrap());
        assert!(refused.starts_with(&named), "{what}: {refused}");
        assert!(checkpoints(&run).join(&name).is_dir());

        // The run goes on without it; the best is one that follows.
        let mut resumed = program("segment");
        resumed.arg("train").arg("--resume").arg(&run);
        let said = stderr(&success(resumed));
        let aside = checkpoints(&run).join(format!("{name}.damaged"));
        let line =
            said.lines().find(|line| line.contains(&format!("set aside as {}", aside.display())));
        assert!(line.is_some_and(|line| line.contains(&named)), "{what}: {said}");
        assert!(aside.is_dir());
        let found = best(&checkpoints(&run)).unwrap().unwrap().trainer_state().step;
        let summary: serde_json::Value =
            serde_json::from_slice(&bytes(run.join("summary.json"))).unwrap();
        assert_eq!(summary["best_step"].as_u64(), Some(found as u64), "{what}");
        assert!(found == 8 || found == step, "{what}: trained again, or after it: {found}");
        assert!(run.join("model.safetensors").is_file());
    }
}

/// A best checkpoint that goes while the run trains is not what the summary names.
#[test]
fn a_best_checkpoint_that_is_lost_meanwhile_is_not_the_result() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // Without a learning rate every evaluation is as good as the first: none takes its place.
    let flags = [
        "train",
        "--preset=paper",
        "--weights=asset",
        "--size=64",
        "--attention-window=2",
        "--pyramid-channels=16",
        "--head-dim=32",
        "--proposals=50",
        "--batch-size-per-image=32",
        "--lr=0",
        "--max-steps=24",
        "--eval-steps=4",
        "--checkpoint-every=1000",
        "--workers=1",
        "--scenes=4",
        "--val-scenes=6",
    ];
    let mut train = program("detect");
    train.args(flags).arg("--out").arg(&run).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = train.spawn().unwrap();
    let start = Instant::now();
    while !run.join("checkpoints/best").exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "no checkpoint was the best");
        thread::sleep(Duration::from_millis(5));
    }
    fs::remove_dir_all(run.join("checkpoints/checkpoint-00000004")).unwrap();
    assert!(child.try_wait().unwrap().is_none(), "lost too late to prove anything");
    assert!(child.wait().unwrap().success());
    assert!(best(&run.join("checkpoints")).unwrap().is_none());
    let summary: serde_json::Value =
        serde_json::from_slice(&bytes(run.join("summary.json"))).unwrap();
    assert_eq!(summary["steps"], 24);
    assert!(summary["best_step"].is_null(), "{summary}");
    assert!(run.join("detector.safetensors").is_file());
}
