//! `pad detect`, run as a user runs it: on a set of its own making, in COCO's format.

mod programs;

use std::{path::Path, process::Command};

use pad::data::{
    Dataset,
    scenes::{SceneConfig, Size},
    sets::detection::{DetectionScenes, Object},
};
use programs::{bytes, error_line, program, stderr, success};
use serde_json::{Value, json};

/// A detector of a few hundred thousand weights, trained for a few steps.
const SMALL: &[&str] = &[
    "--preset=paper",
    "--weights=none",
    "--model=pico",
    "--size=64",
    "--attention-window=2",
    "--drop-path=0",
    "--pyramid-channels=16",
    "--head-dim=32",
    "--proposals=50",
    "--batch-size-per-image=32",
    "--epochs=2",
    "--batch-size=2",
    "--warmup-steps=2",
    "--workers=1",
    "--checkpoint-every=2",
    "--seed=3",
];

/// `annotations/{train,val}.json` and `{train,val}/*.png`: six and three rendered scenes of 64 x 80.
fn write_set(root: &Path) {
    let config = SceneConfig::new(Size::new(64, 80), 9);
    for (split, first, count) in [("train", 0, 6), ("val", 100, 3)] {
        let scenes = DetectionScenes::render(&config, first, count).unwrap();
        let folder = root.join(split);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(root.join("annotations")).unwrap();
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        for index in 0..scenes.len() {
            let labelled = scenes.info(index).unwrap();
            let file = format!("{}.png", labelled.name);
            let scene = pad::data::scenes::render(&config, first + index as u64).unwrap();
            image::GrayImage::from_raw(80, 64, scene.gray)
                .unwrap()
                .save(folder.join(&file))
                .unwrap();
            images.push(json!({"id": labelled.id, "file_name": file, "width": 80, "height": 64}));
            for Object { bbox: [x1, y1, x2, y2], class, id, mask, .. } in &labelled.objects {
                let bbox = [*x1, *y1, x2 - x1, y2 - y1];
                // Numbers of categories with gaps.
                let category = 10 * (class + 1);
                annotations.push(json!({
                    "id": id, "image_id": labelled.id, "category_id": category, "bbox": bbox,
                    "segmentation": mask.as_deref(),
                }));
            }
        }
        let classes = scenes.classes().classes();
        let categories: Vec<Value> =
            classes.iter().map(|class| json!({"id": 10 * class.id, "name": class.name})).collect();
        let file = json!({"images": images, "annotations": annotations, "categories": categories});
        let path = root.join("annotations").join(format!("{split}.json"));
        std::fs::write(path, file.to_string()).unwrap();
    }
}

fn train(data: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = program("detect");
    command.arg("train").arg("--data").arg(data).arg("--out").arg(out);
    let name = |flag: &str| flag.split('=').next().unwrap().to_string();
    let replaced: Vec<String> = more.iter().map(|flag| name(flag)).collect();
    command.args(SMALL.iter().filter(|flag| !replaced.contains(&name(flag)))).args(more);
    command
}

fn parsed(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&bytes(path.as_ref().into())).unwrap()
}

#[test]
fn trains_evaluates_predicts_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    write_set(&at("data"));
    let output = success(train(&at("data"), &at("run"), &[]));
    let said = stderr(&output);
    assert!(said.contains("training: 6 images"), "{said}");
    let table = String::from_utf8(output.stdout).unwrap();
    for part in ["AP50", "APs", "AR100", "person", "bicycle", "ms per image", "multiply-adds"] {
        assert!(table.contains(part), "{table}");
    }
    for file in ["config.toml", "detector.safetensors", "detections.png", "results.json"] {
        assert!(at("run").join(file).is_file(), "{file}");
    }
    let summary = parsed(at("run/summary.json"));
    assert_eq!(summary["steps"], 6);
    assert_eq!(summary["val"]["images"], 3);
    assert!(
        summary["val"]["stats"]["AP"].is_number() && summary["val"]["speed"]["gmacs"].is_number()
    );
    let (updates, others) = programs::log_lines(&at("run"));
    assert_eq!(updates.len(), 6);
    let measured = others.iter().filter(|line| line["val/AP50"].is_number());
    let measured: Vec<u64> = measured.map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(measured, [0, 3, 6]);

    // The same numbers again, from the files of the run; from a checkpoint, other ones may be.
    let mut eval = program("detect");
    eval.current_dir(folder.path());
    eval.args(["eval", "--run", "run", "--checkpoint=latest", "--json", "latest.json"]);
    success(eval);
    assert_eq!(parsed(at("latest.json"))["images"], 3);
    let mut eval = program("detect");
    let flags = ["--json", "numbers.json", "--results", "found.json"];
    eval.current_dir(folder.path()).args(["eval", "--run", "run"]).args(flags);
    // The run was given the set by its whole path.
    success(eval);
    assert_eq!(parsed(at("numbers.json"))["stats"], summary["val"]["stats"]);
    assert_eq!(bytes(at("found.json")), bytes(at("run/results.json")));
    for one in parsed(at("found.json")).as_array().unwrap() {
        let [x, y, w, h] = [0, 1, 2, 3].map(|place| one["bbox"][place].as_f64().unwrap());
        assert!(x >= 0.0 && y >= 0.0 && w > 0.0 && h > 0.0 && x + w <= 80.001 && y + h <= 64.001);
        assert!([10, 20, 30, 40].contains(&one["category_id"].as_i64().unwrap()));
    }

    // The file alone, anywhere, says how images go through it, and nothing of this machine.
    let alone = tempfile::tempdir().unwrap();
    let file = alone.path().join("mine.safetensors");
    std::fs::copy(at("run/detector.safetensors"), &file).unwrap();
    let mut eval = program("detect");
    eval.arg("eval").arg("--weights").arg(&file).arg("--data").arg(at("data"));
    eval.arg("--json").arg(at("alone.json"));
    let output = success(eval);
    assert!(!stderr(&output).contains("the paper's"), "{}", stderr(&output));
    let (found, expected) = (parsed(at("alone.json")), parsed(at("numbers.json")));
    assert_eq!(found["stats"], expected["stats"]);
    // Where the images were is said by the run's settings: in its folder it is found.
    let mut eval = program("detect");
    eval.current_dir(alone.path()).arg("eval").arg("--weights").arg(at("run/detector.safetensors"));
    eval.arg("--json").arg(at("beside.json"));
    success(eval);
    assert_eq!(parsed(at("beside.json"))["stats"], expected["stats"]);
    let mut eval = program("detect");
    eval.arg("eval").arg("--weights").arg(&file);
    assert_eq!(
        error_line(&eval.output().unwrap()),
        format!("{} does not say where its images are: expected --data", file.display())
    );
    // Nor do the settings of a run of another program that lie beside it.
    std::fs::write(alone.path().join("config.toml"), "program = \"segment\"\n").unwrap();
    assert!(error_line(&eval.output().unwrap()).ends_with("expected --data"));
    let header = pad::checkpoint::Checkpoint::open(&file).unwrap();
    let note = &header.metadata()["note.settings"];
    assert!(
        note.contains("size = 64") && !note.contains(folder.path().to_str().unwrap()),
        "{note}"
    );

    // What becomes an encoder alone says nothing of a detector.
    let mut convert = program("convert");
    success({
        convert.arg(&file).arg(at("encoder.safetensors"));
        convert
    });
    let encoder = pad::checkpoint::Checkpoint::open(at("encoder.safetensors")).unwrap();
    let left = ["note.settings", "detector", "classes"];
    assert!(left.iter().all(|name| !encoder.metadata().contains_key(*name)), "{left:?}");

    let mut show = program("detect");
    show.current_dir(folder.path());
    show.args(["show", "--data", "data", "--size=64", "--out", "labels", "--count=4"]);
    success(show);
    // Image and sample side by side, 8 pixels between them; of the sets' names, the first.
    let picture = image::open(at("labels/scene_00000.png.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (80 + 8 + 64, 64));
    assert_eq!(std::fs::read_dir(at("labels")).unwrap().count(), 4);

    // Another detector of other classes goes on from its backbone.
    let weights = format!("--weights={}", at("run").display());
    let more = [
        &weights,
        "--model=auto",
        "--classes=person",
        "--max-steps=1",
        "--spatial-prior=8",
        "--rpn-convs=1",
        "--box-convs=0",
    ];
    let output = success(train(&at("data"), &at("next"), &more));
    assert!(stderr(&output).contains("boxes of car are left out"), "{}", stderr(&output));
    let next = pad::heads::detection::DetectionModel::open(
        at("next/detector.safetensors"),
        &candle_core::Device::Cpu,
    );
    let config = next.unwrap().network.config().clone();
    assert_eq!((config.spatial_prior, config.rpn.convs, config.roi.convs), (Some(8), 1, 0));

    // A folder of images, one of them broken.
    std::fs::write(at("data/val/broken.png"), b"no image").unwrap();
    let mut predict = program("detect");
    let flags = ["--out", "found", "--score-threshold", "0.01"];
    predict.current_dir(folder.path());
    predict.args(["predict", "--run", "run", "--images", "data/val"]).args(flags);
    let output = success(predict);
    assert!(stderr(&output).contains("left out: "), "{}", stderr(&output));
    let listed = parsed(at("found/images.json"));
    assert_eq!(listed["images"].as_array().unwrap().len(), 3);
    assert_eq!(listed["categories"][1], json!({"id": 20, "name": "car"}));
    assert!(parsed(at("found/results.json")).is_array());
    for image in listed["images"].as_array().unwrap() {
        let name = format!("found/{}.png", image["file_name"].as_str().unwrap());
        let picture = image::open(at(&name)).unwrap();
        assert_eq!((picture.width(), picture.height()), (80, 64));
    }
}

#[test]
fn masks_are_trained_measured_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    write_set(&at("data"));
    let output = success(train(&at("data"), &at("run"), &["--masks", "--score-threshold=0.01"]));
    let table = String::from_utf8(output.stdout).unwrap();
    for part in ["boxes:", "masks:", "   mask  objects"] {
        assert!(table.contains(part), "{table}");
    }
    let summary = parsed(at("run/summary.json"));
    assert!(summary["val"]["masks"]["stats"]["AP"].is_number(), "{summary}");
    let log = String::from_utf8(bytes(at("run/log.jsonl"))).unwrap();
    assert!(log.contains("\"train/mask\"") && log.contains("val/mask AP50"), "{log}");
    let mut predict = program("detect");
    let flags = ["--out", "found", "--score-threshold", "0.01"];
    predict.current_dir(folder.path());
    predict.args(["predict", "--run", "run", "--images", "data/val"]).args(flags);
    success(predict);
    let results = parsed(at("found/results.json"));
    let results = results.as_array().unwrap();
    assert!(!results.is_empty());
    for one in results {
        assert_eq!(one["segmentation"]["size"], json!([64, 80]), "{one}");
    }

    // A set that does not tell the pixels of its objects.
    let path = at("data/annotations/train.json");
    let mut without = parsed(&path);
    without["annotations"][0].as_object_mut().unwrap().remove("segmentation");
    std::fs::write(&path, without.to_string()).unwrap();
    let strict = ["--masks", "--max-unreadable=0"];
    let error = error_line(&train(&at("data"), &at("without"), &strict).output().unwrap());
    assert!(
        error.contains("expected a segmentation, since masks are requested, found none"),
        "{error}"
    );
}

#[test]
fn resumed_equals_uninterrupted() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    write_set(&at("data"));
    success(train(&at("data"), &at("whole"), &["--workers=2"]));
    // As long a plan, cut off: the newest checkpoint is that of step 4.
    success(train(&at("data"), &at("cut"), &[]));
    let newest = at("cut/checkpoints");
    let mut folders: Vec<_> = std::fs::read_dir(&newest)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    std::fs::remove_dir_all(folders.pop().unwrap()).unwrap();
    std::fs::remove_file(at("cut/detector.safetensors")).unwrap();
    let mut resume = program("detect");
    resume.arg("train").arg("--resume").arg(at("cut")).args(["--workers=0", "--threads=1"]);
    let output = success(resume);
    assert!(stderr(&output).contains("resumed from"), "{}", stderr(&output));
    let want = bytes(at("whole/detector.safetensors"));
    assert!(bytes(at("cut/detector.safetensors")) == want);
}

#[test]
fn mistakes_are_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    write_set(&at("data"));
    let error = |more: &[&str]| {
        let text = error_line(&train(&at("data"), &at("refused"), more).output().unwrap());
        assert!(!at("refused").exists(), "{text}");
        text.replace(folder.path().to_str().unwrap(), "ROOT")
    };
    assert_eq!(
        error(&["--normalize=imagnet"]),
        "invalid value 'imagnet' for '--normalize <NAME>': normalize: expected msip, downstream, imagenet, clip or \
         MEAN,STD, found `imagnet` (did you mean `imagenet`?)"
    );
    let split = error(&["--val-split=test"]);
    assert!(split.starts_with("ROOT/data: expected labelled images, found none of "), "{split}");
    let class = error(&["--classes=persn,car"]);
    assert!(class.contains("persn") && class.contains("did you mean `person`?"), "{class}");
    assert_eq!(
        error(&["--jitter=2,0.1"]),
        "`jitter` is [2.0, 0.1], expected 0.01 <= low <= high <= 100"
    );
    assert_eq!(
        error(&["--pad-to=48"]),
        "`pad_to` is 48, expected a divisor of the crop's sides, 64x64"
    );
    assert_eq!(
        error(&["--adapters=sometimes"]),
        "invalid value 'sometimes' for '--adapters <NAME>': adapters: expected auto, none or new, found `sometimes`"
    );
    assert_eq!(
        error(&["--trained=nothing"]),
        "invalid value 'nothing' for '--trained <NAME>': trained parts: expected everything, adapters-and-heads or \
         heads, found `nothing`"
    );

    // A box that reaches out of its image, and the flag that helps.
    let path = at("data/annotations/train.json");
    let mut file = parsed(&path);
    file["annotations"][0]["bbox"] = json!([70, 10, 20, 20]);
    let id = file["annotations"][0]["id"].as_i64().unwrap();
    std::fs::write(&path, file.to_string()).unwrap();
    let refused = error(&["--max-unreadable=0"]);
    assert!(
        refused.starts_with(&format!("ROOT/data/annotations/train.json: annotation {id} (image ")),
        "{refused}"
    );
    assert!(
        refused.ends_with("expected to be inside the image of 64x80, found its right edge at 90"),
        "{refused}"
    );
    let clipped = success(train(&at("data"), &at("clipped"), &["--clip-boxes", "--max-steps=1"]));
    let said = stderr(&clipped);
    assert!(
        said.contains("train: 1 boxes are cut to their images, 0 empty ones left out"),
        "{said}"
    );

    let mut eval = program("detect");
    eval.args(["eval", "--run"]).arg(at("no"));
    let text = error_line(&eval.output().unwrap());
    assert!(text.contains("no/config.toml: No such file"), "{text}");
}

/// A case of `tests/golden/cases`, and flags for it.
fn case(name: &str, out: &Path, more: &[&str]) -> Command {
    let data = pad_testkit::golden_folder().join("cases").join(name);
    train(&data, out, more)
}

#[test]
fn one_bad_image_ends_neither_training_nor_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    write_set(&at("data"));
    for bad in ["data/val/scene_00101.png", "data/train/scene_00002.png"] {
        let whole = bytes(at(bad));
        std::fs::write(at(bad), &whole[..whole.len() / 2]).unwrap();
    }
    let output = success(train(&at("data"), &at("run"), &["--max-steps=2"]));
    let said = stderr(&output);
    assert!(
        said.contains("left out of the evaluation: ") && said.contains("scene_00101.png"),
        "{said}"
    );
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("1 of 3 images could not be read; first: "), "{table}");
    let summary = parsed(at("run/summary.json"));
    assert_eq!(summary["val"]["images"], 2);
    assert_eq!(summary["val"]["unreadable"].as_array().unwrap().len(), 1);
    let strict = ["--max-steps=2", "--max-unreadable=0"];
    let error = error_line(&train(&at("data"), &at("strict"), &strict).output().unwrap());
    assert!(error.contains("scene_00101.png"), "{error}");
}

#[test]
fn a_metric_that_is_not_defined_is_not_the_best() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let output = success(case("N21empty", &out, &[]));
    let said = stderr(&output);
    assert!(said.contains("val: no box in 3 images: metrics are undefined"), "{said}");
    assert!(said.contains("AP -, AP50 -") && !said.contains("AP -1"), "{said}");
    let summary = parsed(out.join("summary.json"));
    assert!(summary["best_step"].is_null() && summary["val"]["stats"]["AP"].is_null(), "{summary}");
    let (_, others) = programs::log_lines(&out);
    assert!(others.iter().all(|line| line.get("val/AP").is_none()));
}

#[test]
fn nothing_to_learn_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let refused = |name: &str, more: &[&str]| error_line(&case(name, &out, more).output().unwrap());
    let error = refused("N17", &["--format=yolo"]);
    assert!(
        error.contains("expected a file of labels for some of 6 images, found none"),
        "{error}"
    );
    // The part without a box, as training.
    let error = refused("N21empty", &["--train-split=val"]);
    assert!(error.ends_with("val: no box in 3 images, expected some to train on"), "{error}");
    assert!(!out.exists());
}

#[test]
fn recipes_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for (recipe, missing) in [
        ("flir", "train/thermal_annotations.json: No such file"),
        ("hit-uav", "annotations/train.json: No such file"),
        ("demo", ": expected labelled images, found none of "),
    ] {
        let mut command = program("detect");
        command.arg("train").arg("--recipe").arg(recipe);
        command.arg("--data").arg(folder.path()).arg("--out").arg(folder.path().join("out"));
        let text = error_line(&command.output().unwrap());
        assert!(text.contains(missing), "{recipe}: {text}");
    }
    let typo = folder.path().join("typo.toml");
    std::fs::write(&typo, "epoch = 3\n").unwrap();
    let mut command = program("detect");
    command.arg("train").arg("--config").arg(&typo);
    let text = error_line(&command.output().unwrap());
    assert!(
        text.contains("typo.toml:1: unknown setting `epoch` (did you mean `epochs`?)"),
        "{text}"
    );
}

/// Large enough for activations to outweigh the program itself.
#[test]
fn memory_is_foretold() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_set(&data);
    let said = success(train(&data, &run, &["--size=256", "--max-steps=3"]));
    programs::expect_memory(&stderr(&said), &run);
}
