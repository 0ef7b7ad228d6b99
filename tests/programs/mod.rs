//! The `pad` command, run as a user runs it.
#![allow(dead_code)] // every test uses a part

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use pad::data::scenes::{SceneConfig, Size};

/// A subcommand of `pad`.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pad"));
    command.arg(name).env("RUST_LOG", "info").env_remove("RUST_BACKTRACE");
    command
}

/// A model of a few thousand weights.
pub(crate) const SMALL: &[&str] = &[
    "--preset=paper",
    "--model=pico",
    "--paradigm=scratch",
    "--image-size=64",
    "--decoder-dim=32",
    "--decoder-depth=1",
    "--epochs=3",
    "--batch-size=4",
    "--accumulate=1",
    "--warmup-epochs=1",
    "--workers=1",
    "--eval-every=end",
];

/// Writes `count` rendered scenes as PNG files, 8-bit and, every third, 16-bit.
pub(crate) fn write_images(folder: &Path, count: usize) {
    std::fs::create_dir_all(folder).unwrap();
    let config = SceneConfig { size: Size::new(72, 90), ..Default::default() };
    for index in 0..count {
        let scene = pad::data::scenes::render(&config, index as u64).unwrap();
        let path = folder.join(format!("{index:03}.png"));
        let (width, height) = (scene.size.width as u32, scene.size.height as u32);
        if index % 3 == 0 {
            let image: image::ImageBuffer<image::Luma<u16>, _> =
                image::ImageBuffer::from_raw(width, height, scene.counts).unwrap();
            image.save(path).unwrap();
        } else {
            image::GrayImage::from_raw(width, height, scene.gray).unwrap().save(path).unwrap();
        }
    }
}

/// `pretrain` on `data`, small, with more flags; those replace the small ones of the same name.
pub(crate) fn pretrain(data: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = program("pretrain");
    command.arg("--data").arg(data).arg("--out").arg(out);
    let name = |flag: &str| flag.split('=').next().unwrap().to_string();
    let replaced: Vec<String> = more.iter().map(|flag| name(flag)).collect();
    command.args(SMALL.iter().filter(|flag| !replaced.contains(&name(flag)))).args(more);
    command
}

/// Standard error, which holds the log and the error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The updates that a log tells of, and its other lines.
pub(crate) fn log_lines(folder: &Path) -> (Vec<serde_json::Value>, Vec<serde_json::Value>) {
    let log = std::fs::read_to_string(folder.join("log.jsonl")).unwrap_or_default();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.partition(|line| line["train/loss"].is_number())
}

/// The one line that begins with `error:`.
pub(crate) fn error_line(output: &Output) -> String {
    assert!(!output.status.success(), "the program should have failed: {}", stderr(output));
    let text = stderr(output);
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    errors[0].trim_start_matches("error: ").to_string()
}

/// Runs a program that must succeed.
pub(crate) fn success(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

/// The file's bytes.
pub(crate) fn bytes(path: PathBuf) -> Vec<u8> {
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Checks the peak memory that a run foretold against the one that the system counted.
pub(crate) fn expect_memory(stderr: &str, run: &Path) {
    let foretold = stderr.lines().find_map(|line| {
        let before = line.strip_suffix(" MiB of memory")?;
        before.rsplit_once("about ")?.1.parse::<f64>().ok()
    });
    let foretold = foretold.unwrap_or_else(|| panic!("no memory is foretold: {stderr}"));
    let summary: serde_json::Value =
        serde_json::from_slice(&bytes(run.join("summary.json"))).unwrap();
    let counted = summary["peak_mib"].as_f64().unwrap();
    assert!(counted > 0.0);
    let ratio = foretold / counted;
    assert!((0.75..1.25).contains(&ratio), "{foretold} MiB foretold, {counted} counted");
}
