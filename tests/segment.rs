//! `segment` as a user runs it: a tiny set is written, trained on, interrupted, measured and predicted.

mod programs;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use pad::{
    ImageSize,
    data::{
        image::DecodeOptions,
        scenes::{SceneConfig, render, scene_size},
        sets::segmentation::{Classes, read_mask},
    },
};
use programs::{bytes, error_line, program, success};
use serde_json::Value;

/// Size of the written images: smaller than the window in one direction.
const SIZE: ImageSize = ImageSize { height: 40, width: 56 };

/// A network of a few thousand weights, two evaluations.
const TINY: &[&str] = &[
    "--preset=paper",
    "--weights=asset",
    "--crop-size=48",
    "--base-scale=none",
    "--ratio=0.8,1.2",
    "--head-channels=8",
    "--auxiliary-channels=4",
    "--bottleneck=4",
    "--max-steps=6",
    "--eval-steps=3",
    "--checkpoint-every=2",
    "--batch-size=2",
    "--workers=1",
    "--lr=1e-3",
    "--threads=1",
];

fn write(path: &Path, values: &[u8]) {
    let image = image::GrayImage::from_raw(SIZE.width as u32, SIZE.height as u32, values.to_vec());
    image.unwrap().save(path).unwrap();
}

/// Two classes (what is sky, and the rest) in the folder format.
fn write_set(root: &Path) -> PathBuf {
    for folder in ["images", "masks"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    let mut names = Vec::new();
    for index in 0..8_u8 {
        let scene = render(&SceneConfig::new(scene_size(SIZE), 1), u64::from(index)).unwrap();
        let name = format!("scene{index}");
        write(&root.join("images").join(format!("{name}.png")), &scene.gray);
        let top = scene.classes[0];
        let masks: Vec<u8> = scene.classes.iter().map(|&class| u8::from(class == top)).collect();
        write(&root.join("masks").join(format!("{name}.png")), &masks);
        names.push(name);
    }
    std::fs::write(root.join("train.txt"), names[..5].join("\n")).unwrap();
    std::fs::write(root.join("val.txt"), names[5..].join("\n")).unwrap();
    std::fs::write(root.join("classes.toml"), "classes = [\"rest\", \"top\"]\n").unwrap();
    root.to_path_buf()
}

/// `segment train`, small, with more flags; those replace the small ones of the same name.
fn train(data: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = program("segment");
    command.arg("train").arg("--data").arg(data).arg("--out").arg(out);
    let name = |flag: &str| flag.split('=').next().unwrap().to_string();
    let replaced: Vec<String> = more.iter().map(|flag| name(flag)).collect();
    command.args(TINY.iter().filter(|flag| !replaced.contains(&name(flag)))).args(more);
    command
}

fn refused(data: &Path, more: &[&str]) -> String {
    let out = data.join("never");
    let error = error_line(&train(data, &out, more).output().unwrap());
    assert!(!out.exists(), "{error}");
    error
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&bytes(path.to_path_buf())).unwrap()
}

#[test]
fn trained_resumed_measured_and_predicted() {
    let folder = tempfile::tempdir().unwrap();
    let data = write_set(&folder.path().join("data"));
    let whole = folder.path().join("whole");
    let said = success(train(&data, &whole, &["--workers=2"]));
    let table = String::from_utf8(said.stdout).unwrap();
    assert!(table.contains("\ntop") && table.contains("\nmIoU "), "{table}");
    for file in ["config.toml", "classes.json", "log.jsonl", "model.safetensors", "overlays.png"] {
        assert!(whole.join(file).is_file(), "{file}");
    }
    let (updates, others) = programs::log_lines(&whole);
    assert_eq!(
        updates.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6]
    );
    let measured: Vec<u64> = others
        .iter()
        .filter(|line| line["val/mIoU"].is_number())
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(measured, [0, 3, 6]);

    // Interrupted after four updates and continued: the same file, bit for bit.
    let parts = folder.path().join("parts");
    success(train(&data, &parts, &["--stop-after=4"]));
    assert!(!parts.join("model.safetensors").exists());
    let mut eval = program("segment");
    eval.arg("eval").arg("--run").arg(&parts);
    let said = programs::stderr(&success(eval));
    assert!(said.contains("the run has not ended, using "), "{said}");
    let mut eval = program("segment");
    eval.arg("eval").arg("--run").arg(&parts).arg("--checkpoint=100");
    let error = error_line(&eval.output().unwrap());
    assert!(error.contains("checkpoint-00000004"), "{error}");
    let mut resume = program("segment");
    resume.args(["train", "--workers=0", "--resume"]).arg(&parts);
    let said = programs::stderr(&success(resume));
    assert!(said.contains("resumed from"), "{said}");
    assert!(bytes(parts.join("model.safetensors")) == bytes(whole.join("model.safetensors")));
    let mut other = program("segment");
    other.args(["train", "--lr=0.5", "--resume"]).arg(&parts);
    let error = error_line(&other.output().unwrap());
    assert!(error.ends_with("`lr`: expected `0.001`, found `0.5`"), "{error}");

    // What `eval` finds is what the run found; other ways of looking work too.
    let numbers = folder.path().join("numbers.json");
    let eval = |more: &[&str]| {
        let mut eval = program("segment");
        eval.arg("eval").arg("--run").arg(&whole).arg("--json").arg(&numbers);
        eval.arg("--overwrite").args(more);
        let said = String::from_utf8(success(eval).stdout).unwrap();
        assert!(said.starts_with("label \\ found"), "{said}");
        json(&numbers)
    };
    let own = eval(&[]);
    // The time of an image is another each time.
    let untimed = |mut numbers: Value| {
        numbers.as_object_mut().unwrap().remove("speed");
        numbers
    };
    let val = json(&whole.join("summary.json"))["val"].clone();
    assert_eq!(untimed(own.clone()), untimed(val));
    let pixels: u64 = own["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(pixels, 3 * SIZE.area() as u64);
    assert_eq!(own["classes"][1]["name"], "top");
    let fuller =
        eval(&["--test-scales", "1,1.5", "--test-flip", "--slide-window=32", "--stride=16"]);
    assert!(fuller["mean_iou"].is_number() && fuller != own);

    // Predictions: an overlay, a class map that reads back as labels, numbers.
    let out = folder.path().join("out");
    std::fs::write(data.join("images/broken.png"), b"no picture").unwrap();
    let mut predict = program("segment");
    predict.arg("predict").arg("--run").arg(&whole).arg("--out").arg(&out);
    predict.arg("--images").arg(data.join("images"));
    let said = success(predict);
    let line = String::from_utf8(said.stdout).unwrap();
    assert!(line.starts_with("8 images, 1 unreadable"), "{line}");
    let classes = Classes::new(["rest", "top"]).unwrap();
    let map = read_mask(&out.join("classes/scene7.png"), SIZE, &classes, &DecodeOptions::default());
    let map = map.unwrap();
    let found = json(&out.join("json/scene7.json"));
    let shares: f64 = found["classes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|class| class["share"].as_f64().unwrap())
        .sum();
    assert!((shares - 1.0).abs() < 1e-9, "{found}");
    let first = &found["classes"][0];
    let class = first["class"].as_u64().unwrap() as u8;
    let count = map.classes().iter().filter(|&&found| found == class).count();
    assert_eq!(first["share"].as_f64().unwrap(), count as f64 / SIZE.area() as f64);
    let overlay = image::open(out.join("overlays/scene7.png")).unwrap();
    assert_eq!((overlay.height(), overlay.width()), (SIZE.height as u32, SIZE.width as u32));
    assert!(out.join("legend.png").is_file());
}

#[test]
fn heads_forms_and_paradigms() {
    let folder = tempfile::tempdir().unwrap();
    let data = write_set(&folder.path().join("data"));
    let short = ["--max-steps=2"];
    let run = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        success(train(&data, &out, &[&short[..], more].concat()));
        json(&out.join("summary.json"))
    };
    let full = run("rgb", &["--paradigm=rgb-only"]);
    assert_eq!(full["frozen"], 0);
    let probe =
        run("probe", &["--paradigm=rgb-only", "--head=linear", "--trained=adapters-and-heads"]);
    // Two numbers of batch norm and two of its state a channel, and a classifier.
    assert_eq!(probe["trained"], 4 * 160 + 2 * 160 + 2);
    let frozen = run("frozen", &["--trained=adapters-and-heads"]);
    let heads = run("heads", &["--trained=heads"]);
    assert!(heads["trained"].as_u64() < frozen["trained"].as_u64());
    run("scratch", &["--paradigm=scratch", "--weights=none", "--model=tiny"]);
    // A run is a source of weights: a segmentor's backbone, for crops of another size and other heads.
    let rgb = format!("--weights={}", folder.path().join("rgb").display());
    let again = run("again", &[&rgb, "--paradigm=rgb-only", "--crop-size=64", "--head-channels=6"]);
    assert_eq!(again["frozen"], 0);
    // So is one of pretrain, here adapters on the small backbone.
    let adapters = folder.path().join("adapters");
    let images = data.join("images");
    let flags =
        ["--epochs=1", "--batch-size=4", "--accumulate=1", "--warmup-epochs=0", "--image-size=48"];
    let mut pretrain = program("pretrain");
    pretrain.arg("--data").arg(&images).arg("--out").arg(&adapters).args(flags);
    pretrain.args(["--bottleneck=4", "--held-out=0.2", "--workers=0", "--eval-every=end"]);
    success(pretrain);
    let weights = format!("--weights={}", adapters.display());
    run("continued", &[&weights]);
    let file = format!("--weights={}", adapters.join("adapter.safetensors").display());
    run("file", &[&file]);
    assert_eq!(
        refused(&data, &[&weights, "--paradigm=rgb-only"]),
        format!(
            "paradigm rgb-only has no adapters, found some in {}: use --paradigm pad, or leave them out with \
             --adapters none",
            adapters.display()
        )
    );
    let left_out = run("left-out", &[&weights, "--paradigm=rgb-only", "--adapters=none"]);
    assert_eq!(left_out["trained"], full["trained"]);
    // Adapters of another form are never dropped without a word.
    assert_eq!(
        refused(&data, &[&weights, "--bottleneck=8", "--adapter-scale=sum"]),
        format!(
            "{}: its adapters are not those of the settings: `bottleneck`: expected 8, found 4; `adapter_scale`: \
             expected sum, found concat; leave these out to use its adapters, or start new ones with --adapters new",
            adapters.display()
        )
    );
    let output = success(train(
        &data,
        &folder.path().join("new"),
        &[&short[..], &[&weights, "--bottleneck=8", "--adapters=new"]].concat(),
    ));
    let said = programs::stderr(&output);
    assert!(said.contains("tensors of adapters dropped"), "{said}");
}

#[test]
fn wrong_settings_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let data = write_set(&folder.path().join("data"));
    for (flag, message) in [
        ("--head=fancy", "head: expected uper or linear, found `fancy`"),
        ("--form=fancy", "expected downstream or plain, found `fancy`"),
        ("--paradigm=fancy", "expected scratch, rgb-only, full or pad, found `fancy`"),
        ("--weights=none", "paradigm pad needs weights to start from, found --weights none"),
        ("--format=fancy", "found `fancy`"),
        ("--inference=fancy", "inference: expected slide or whole, found `fancy`"),
        ("--normalize=fancy", "normalize: expected msip, "),
        ("--batch-size=6", "5 images for training, expected at least `batch_size` 6"),
        ("--batch-size=1", "`batch_size` is 1, expected at least 2 (batch norm)"),
        ("--class-weights=1,2,3", "`class_weights` has 3 numbers, expected 2, one for each class"),
        ("--crop-size=50", "`image_size` is 50x50, expected sides divisible by 16"),
        ("--test-scales=0", "augmentation: `scales` has 0, expected finite numbers above 0"),
    ] {
        let error = refused(&data, &[flag]);
        assert!(error.contains(message), "{flag}: {error}");
    }
    let recipe = folder.path().join("recipe.toml");
    std::fs::write(&recipe, "haed = \"uper\"\n").unwrap();
    let mut command = program("segment");
    command.arg("train").arg("--recipe").arg(&recipe);
    let error = error_line(&command.output().unwrap());
    assert!(
        error.contains("recipe.toml:1: unknown setting `haed` (did you mean `head`?)"),
        "{error}"
    );
}

#[test]
fn wrong_sets_are_refused_with_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let fresh = |name: &str| write_set(&folder.path().join(name));
    let mask = |data: &Path| data.join("masks/scene0.png");

    let data = fresh("size");
    image::GrayImage::new(16, 16).save(mask(&data)).unwrap();
    let strict = ["--max-unreadable=0"];
    let error = error_line(&train(&data, &folder.path().join("a"), &strict).output().unwrap());
    assert!(
        error.contains("scene0.png: expected a mask of 40x56, the size of its image, found 16x16"),
        "{error}"
    );

    let data = fresh("class");
    write(&mask(&data), &[2; SIZE.height * SIZE.width]);
    let error = error_line(&train(&data, &folder.path().join("b"), &strict).output().unwrap());
    assert!(
        error.contains("scene0.png: pixel (row 0, column 0) is 2, expected a class below 2 or 255"),
        "{error}"
    );

    let data = fresh("deep");
    let deep = image::ImageBuffer::from_pixel(
        SIZE.width as u32,
        SIZE.height as u32,
        image::Luma([300_u16]),
    );
    deep.save(mask(&data)).unwrap();
    let error = error_line(&train(&data, &folder.path().join("c"), &strict).output().unwrap());
    assert!(
        error.contains("scene0.png: expected a mask of 8 bits, found values above 255 in 16 bits"),
        "{error}"
    );

    let data = fresh("list");
    std::fs::write(data.join("train.txt"), "scene0\nnobody\n").unwrap();
    let error = refused(&data, &strict);
    assert!(error.contains("train.txt:2: expected an image `nobody` in "), "{error}");
}

#[test]
fn one_bad_mask_ends_neither_training_nor_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let data = write_set(&folder.path().join("data"));
    write(&data.join("masks/scene0.png"), &[2; SIZE.height * SIZE.width]);
    let held_out = data.join("images/scene6.png");
    let whole = bytes(held_out.clone());
    std::fs::write(&held_out, &whole[..whole.len() / 2]).unwrap();
    let out = folder.path().join("run");
    let output = success(train(&data, &out, &["--max-steps=2"]));
    let said = programs::stderr(&output);
    assert!(said.contains("train: 1 of 5 masks cannot be used and are left out: "), "{said}");
    assert!(said.contains("left out of the evaluation: ") && said.contains("scene6.png"), "{said}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("1 of 3 images could not be read; first: "), "{table}");
    let summary = json(&out.join("summary.json"));
    assert_eq!(summary["val"]["images"], 2);
    assert_eq!(summary["val"]["unreadable"].as_array().unwrap().len(), 1);
}

#[test]
fn nothing_to_learn_is_an_error_and_nothing_to_measure_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let ignored = |data: &Path, scenes: std::ops::Range<usize>| {
        for index in scenes {
            let mask = data.join(format!("masks/scene{index}.png"));
            write(&mask, &[255; SIZE.height * SIZE.width]);
        }
    };
    let data = write_set(&folder.path().join("data"));
    ignored(&data, 0..5);
    let error = refused(&data, &[]);
    assert!(error.contains("expected labelled pixels of at least two classes"), "{error}");
    let data = write_set(&folder.path().join("val"));
    ignored(&data, 5..8);
    let out = folder.path().join("run");
    let said = programs::stderr(&success(train(&data, &out, &["--max-steps=2"])));
    assert!(said.contains("val: `masks` is without one among"), "{said}");
    let summary = json(&out.join("summary.json"));
    assert!(summary["val"]["mean_iou"].is_null() && summary["best_step"].is_null(), "{summary}");

    // Masks of 0 and 255, and the flag that reads them.
    let case = pad_testkit::golden_folder().join("cases/S03_255");
    let out = folder.path().join("binary");
    let error = error_line(&train(&case, &out, &[]).output().unwrap());
    assert!(error.contains("without a pixel of `warm`") && error.contains("to 0,255"), "{error}");
    let output = success(train(&case, &out, &["--mask-values=0,255", "--max-steps=2"]));
    let table = String::from_utf8(output.stdout).unwrap();
    let warm = table.lines().find(|line| line.starts_with("warm")).unwrap();
    assert!(!warm.contains('-'), "{table}");
    // A list with a byte order mark.
    let case = pad_testkit::golden_folder().join("cases/S02bom");
    success(train(&case, &folder.path().join("bom"), &["--max-steps=2"]));
}

/// Large enough for activations to outweigh the program itself.
#[test]
fn memory_is_foretold() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (write_set(&folder.path().join("data")), folder.path().join("run"));
    let said = success(train(&data, &run, &["--crop-size=160", "--batch-size=4", "--max-steps=3"]));
    programs::expect_memory(&programs::stderr(&said), &run);
}
