//! The examples that write files run, into a folder that does not exist yet, as after a fresh clone.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use pad::data::scenes::{SceneConfig, Size, render};

/// The program of an example. `cargo test` builds them unless it is told to build one test alone.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap().join("examples");
    let program = folder.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "{}: build it with `cargo build --examples`", program.display());
    let mut command = Command::new(program);
    command.env_remove("RUST_BACKTRACE");
    command
}

/// Runs an example; its standard output.
fn run(name: &str, flags: &[&str], folder: &Path) -> String {
    let output = example(name).args(flags).current_dir(folder).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {flags:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// `count` rendered scenes as PNG files.
fn images(folder: &Path, count: u64) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let config = SceneConfig { size: Size::new(72, 90), ..Default::default() };
    for index in 0..count {
        let scene = render(&config, index).unwrap();
        let (width, height) = (scene.size.width as u32, scene.size.height as u32);
        let picture = image::GrayImage::from_raw(width, height, scene.gray).unwrap();
        picture.save(folder.join(format!("{index}.png"))).unwrap();
    }
    folder.to_path_buf()
}

#[test]
fn pretrain_writes_what_embed_reads() {
    let folder = tempfile::tempdir().unwrap();
    let data = images(&folder.path().join("data"), 38);
    let data = data.to_str().unwrap();
    let said = run("pretrain", &["--data", data, "--epochs", "1"], folder.path());
    for file in ["adapter.safetensors", "decoder.safetensors", "reconstruction.png", "scales.png"] {
        let path = folder.path().join("runs/example-pretrain").join(file);
        assert!(path.metadata().unwrap().len() > 1000, "{file}");
        assert!(said.contains(&format!("wrote runs/example-pretrain/{file}")), "{said}");
    }
    let weights = ["--data", data, "--weights", "runs/example-pretrain"];
    let said = run("embed", &weights, folder.path());
    let features = "runs/example-embed/features.safetensors";
    assert!(said.contains(&format!("wrote {features}")), "{said}");
    assert!(folder.path().join(features).exists());
}

#[test]
fn errors_are_said_in_words() {
    let output = example("embed").args(["--data", "absent"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(error.starts_with("Error: absent: ") && error.lines().count() == 1, "{error}");
}

#[test]
fn segment_and_detect_write_models_and_pictures() {
    let folder = tempfile::tempdir().unwrap();
    run("segment", &["--steps", "4"], folder.path());
    // Boxes as YOLO programs write them.
    let data = folder.path().join("data");
    for (split, count) in [("train", 4), ("val", 2)] {
        images(&data.join("images").join(split), count);
        let labels = data.join("labels").join(split);
        std::fs::create_dir_all(&labels).unwrap();
        for index in 0..count {
            std::fs::write(labels.join(format!("{index}.txt")), "0 0.5 0.5 0.3 0.4\n").unwrap();
        }
    }
    std::fs::write(data.join("classes.txt"), "thing\n").unwrap();
    run("detect", &["--data", data.to_str().unwrap(), "--epochs", "2"], folder.path());
    for file in [
        "runs/example-segment/model.safetensors",
        "runs/example-segment/overlays.png",
        "runs/example-detect/detector.safetensors",
        "runs/example-detect/detections.png",
    ] {
        assert!(folder.path().join(file).metadata().unwrap().len() > 1000, "{file}");
    }
}
