//! Regions of interest, from images to files to training, and what can be wrong on the way: as a user sees it.

mod programs;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use programs::{error_line, pretrain, program, stderr, success, write_images};

/// `count` rendered scenes in `FOLDER/set/a/thermal`.
fn set(folder: &Path, count: usize) -> PathBuf {
    let set = folder.join("set");
    write_images(&set.join("a/thermal"), count);
    set
}

/// Example `roi` on `set`; the scenes of these tests are small, and so must regions be.
fn roi(set: &Path, more: &[&str]) -> Output {
    let mut command = program("roi");
    command.arg(set).args(["--min-side=20", "--min-pixels=100"]).args(more);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn listing(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn files_are_made_once_in_parts_and_again_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path(), 7);
    let said = text(&roi(&set, &["--part=2/2"]));
    assert!(said.starts_with("7 images (part 2 of 2): 3 searched, 0 skipped"), "{said}");
    let said = text(&roi(&set, &[]));
    assert!(
        said.starts_with("7 images: 4 searched, 3 skipped (RoI file exists), 0 unreadable"),
        "{said}"
    );
    assert!(said.contains("\nRoIs per image: min "), "{said}");
    let files = listing(&set.join("a/roi"));
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    // No hidden file of a half-finished write among them.
    let want = ["000.txt", "001.txt", "002.txt", "003.txt", "004.txt", "005.txt", "006.txt"];
    assert_eq!(names, want);
    assert!(files.iter().any(|(_, bytes)| !bytes.is_empty()));
    // The same again with one thread, file for file.
    fs::write(set.join("a/roi/003.txt"), "nonsense").unwrap();
    let said = text(&roi(&set, &["--overwrite", "--threads=1"]));
    assert!(said.starts_with("7 images: 7 searched, 0 skipped"), "{said}");
    assert_eq!(listing(&set.join("a/roi")), files);
    // Other histograms, other regions.
    text(&roi(&set, &["--overwrite", "--histograms=corrected"]));
    assert_eq!(listing(&set.join("a/roi")).len(), 7);
    let pictures = folder.path().join("pictures");
    let said = text(&roi(&set, &["--preview=3", &format!("--preview-dir={}", pictures.display())]));
    assert!(said.contains("drew 3 images in "), "{said}");
    let names: Vec<String> = listing(&pictures).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["000000-000.png", "000002-002.png", "000004-004.png"]);
}

#[test]
fn without_a_folder_scenes_are_rendered() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut command = program("roi");
    command.args(["--scenes=2", "--preview=1", "--out"]).arg(&out);
    let said = text(&success(command));
    assert!(said.contains("2 images: 2 searched, 0 skipped"), "{said}");
    assert!(out.join("scenes/roi/0001.txt").exists());
    assert!(out.join("preview/000000-0000.png").exists());
}

#[test]
fn unreadable_images_are_reported_and_too_many_fail() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path(), 4);
    let zero = set.join("a/thermal/zero.png");
    fs::write(&zero, b"").unwrap();
    let output = roi(&set, &["--max-unreadable=0.5"]);
    let reason = format!("{}: cannot decode: ", zero.display());
    assert!(stderr(&output).contains(&format!("left out: {reason}")), "{}", stderr(&output));
    assert!(
        text(&output)
            .starts_with("5 images: 4 searched, 0 skipped (RoI file exists), 1 unreadable")
    );
    assert!(!set.join("a/roi/zero.txt").exists());
    let error = error_line(&roi(&set, &["--overwrite"]));
    let start = "1 of 5 images could not be read, more than the allowed share 0.05; first: ";
    assert!(error.starts_with(&format!("{start}{reason}")), "{error}");
}

#[test]
fn images_of_100_megapixels_are_refused_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path(), 3);
    let large = set.join("a/thermal/large.png");
    image::GrayImage::new(10_001, 10_000).save(&large).unwrap();
    let output = roi(&set, &["--max-unreadable=1"]);
    let want = format!("left out: {}: pixels is 100010000, the limit is 25000000", large.display());
    assert!(stderr(&output).contains(&want), "{}", stderr(&output));
    assert!(text(&output).contains("3 searched"));
    let out = folder.path().join("out");
    let error = error_line(&pretrain(&set, &out, &["--max-unreadable=0"]).output().unwrap());
    let want = format!("first: {}: pixels is 100010000, the limit is 100000000", large.display());
    assert!(error.ends_with(&want), "{error}");
}

#[test]
fn settings_and_folders_that_make_no_sense() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path(), 3);
    let table: [(&[&str], &str); 7] = [
        (&["--segment-scale=-1"], "`segment_scale` is -1, expected a finite number of at least 0"),
        (&["--max-aspect=0.5"], "`max_aspect` is 0.5, expected at least 1"),
        (
            &["--max-unreadable=2"],
            "invalid value '2' for '--max-unreadable <SHARE>': expected a number from 0 to 1",
        ),
        (&["--levels=9%,3%"], "invalid value '9%,3%' for '--levels <LOW,HIGH>': "),
        (&["--levels=9%"], "invalid value '9%' for '--levels <LOW,HIGH>': "),
        (&["--threads=0"], "expected a whole number of 1 or more"),
        (&["--out=x"], "the argument '[DIR]' cannot be used with '--out <DIR>'"),
    ];
    for (more, want) in table {
        let output = roi(&set, more);
        assert!(!output.status.success());
        assert!(stderr(&output).contains(want), "{more:?}: {}", stderr(&output));
    }
    let said = stderr(&roi(&set, &["--part=0/2"]));
    assert!(said.contains("expected I/N with I from 1 to N"), "{said}");
    assert!(!set.join("a/roi").exists(), "a run that cannot begin leaves nothing");
    // Two images with the same stem: a file each.
    fs::copy(set.join("a/thermal/001.png"), set.join("a/thermal/001.again.png")).unwrap();
    let output = roi(&set, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    for name in ["001.txt", "001.again.txt"] {
        assert!(set.join("a/roi").join(name).is_file(), "{name}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_search_ends_between_two_files() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("set");
    fs::create_dir_all(set.join("a/thermal")).unwrap();
    let pixel = |x: u32, y: u32| image::Luma([(x * y / 7 + x / 3) as u8]);
    let image = image::GrayImage::from_fn(1600, 1200, pixel);
    for index in 0..40 {
        image.save(set.join(format!("a/thermal/{index}.bmp"))).unwrap();
    }
    let mut command = program("roi");
    command.arg(&set).arg("--threads=1").stderr(Stdio::piped()).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    let begin = Instant::now();
    while !set.join("a/roi/0.txt").exists() {
        assert!(begin.elapsed() < Duration::from_secs(60), "the first file does not come");
        thread::sleep(Duration::from_millis(5));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let files = listing(&set.join("a/roi"));
    assert!((1..40).contains(&files.len()), "{} files", files.len());
    let left = 40 - files.len();
    let said = format!("stopped with {left} images left; the same command continues");
    assert!(stderr(&output).contains(&said), "{}", stderr(&output));
    assert!(files.iter().all(|(name, _)| name.ends_with(".txt") && !name.starts_with('.')));
}

#[cfg(unix)]
#[test]
fn folders_that_cannot_be_listed() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path(), 3);
    let thermal = set.join("a/thermal");
    symlink(&thermal, thermal.join("loop")).unwrap();
    let real = thermal.canonicalize().unwrap();
    let want = format!(
        "{}: leads to {}, which is listed already",
        thermal.join("loop").display(),
        real.display()
    );
    assert_eq!(error_line(&roi(&set, &[])), want);
    let out = folder.path().join("out");
    assert_eq!(error_line(&pretrain(&set, &out, &[]).output().unwrap()), want);
    fs::remove_file(thermal.join("loop")).unwrap();

    let locked = thermal.join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser reads everything.
    if fs::read_dir(&locked).is_err() {
        let want = format!("{}: Permission denied (os error 13)", locked.display());
        assert_eq!(error_line(&roi(&set, &[])), want);
        assert_eq!(error_line(&pretrain(&set, &out, &[]).output().unwrap()), want);
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn pretraining_uses_regions_unless_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path(), 14);
    text(&roi(&set, &[]));
    let run = |name: &str, more: &[&str]| -> (String, PathBuf) {
        let out = folder.path().join(name);
        let output = success(pretrain(&set, &out, &[&["--max-steps=2"], more].concat()));
        (stderr(&output), out)
    };
    let (said, out) = run("with", &["--held-out=0.1", "--levels=2%,98%"]);
    assert!(said.contains(" training images have RoIs, "), "{said}");
    assert!(out.join("crops.png").exists());
    let (plain, without) = run("without", &["--crop=random"]);
    assert!(!plain.contains("RoIs"), "{plain}");
    assert!(!without.join("crops.png").exists());
    let log = |folder: &Path| fs::read_to_string(folder.join("log.jsonl")).unwrap();
    let loss = |log: String| {
        let line: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
        line.to_string()
    };
    assert_ne!(loss(log(&out)), loss(log(&without)), "the crops are the same");
    let (said, _) = run("all-large", &["--roi-p=0", "--ratio=0.5", "--sources=a", "--held-out=0"]);
    assert!(said.contains("7 images for training"), "{said}");

    let out = folder.path().join("refused");
    let error = |more: &[&str]| error_line(&pretrain(&set, &out, more).output().unwrap());
    assert_eq!(error(&["--roi-p=1.5"]), "`roi_p` is 1.5, expected 0 to 1");
    assert_eq!(error(&["--ratio=0"]), "`ratio` is 0, expected above 0, up to 1");
    // Some files are missing: said, and the images used.
    fs::remove_file(set.join("a/roi/003.txt")).unwrap();
    let (said, _) = run("missing", &["--held-out=0"]);
    assert!(said.contains("1 images have no RoI file: plain random crops of them"), "{said}");
}

#[test]
fn faulty_roi_files_are_named_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path(), 12);
    let file = set.join("a/roi/004.txt");
    fs::create_dir(set.join("a/roi")).unwrap();
    let out = folder.path().join("out");
    let error = |lines: &str| {
        fs::write(&file, lines).unwrap();
        let more = ["--held-out=0", "--max-unreadable=0", "--batch-size=12"];
        let error = error_line(&pretrain(&set, &out, &more).output().unwrap());
        error.replace(&file.display().to_string(), "FILE")
    };
    assert_eq!(
        error("1,1,40,40\n1,2,3\n"),
        "FILE:2: expected 4 numbers `x,y,width,height`, found 3"
    );
    assert_eq!(
        error("1,-1,40,40\n"),
        "FILE:1: expected an integer of at least 0 for y, found `-1`"
    );
    assert_eq!(
        error("1,1,0,40\n"),
        "FILE:1: expected a width and a height of at least 1, found 0 and 40"
    );
    assert_eq!(
        error("\n\n\u{feff}1,1,40,40\n"),
        "FILE:3: expected an integer of at least 0 for x, found `\\u{feff}1`"
    );
    assert!(!out.exists(), "a run that cannot begin leaves no folder");
    // Outside the image, or the image is another now: seen when it is read, and counted as unreadable.
    let outside = "FILE:1: expected a rectangle inside the image of 72x90 (height x width) pixels, found 51,1,40,40";
    let start = "epoch 0, batch 0: 1 of 12 images could not be read, more than the allowed share 0; first: ";
    assert_eq!(error("51,1,40,40\n"), format!("{start}{outside}"));
    fs::remove_dir_all(&out).unwrap();
    image::GrayImage::new(64, 64).save(set.join("a/thermal/004.png")).unwrap();
    let replaced = outside.replace("72x90", "64x64").replace("51,1", "49,1");
    assert_eq!(error("49,1,40,40\n"), format!("{start}{replaced}"));
    let drawn = roi(&set, &["--preview=12", &format!("--preview-dir={}", out.display())]);
    let said = error_line(&drawn);
    assert_eq!(said.replace(&file.display().to_string(), "FILE"), replaced);
}

/// The list of images is part of a run, wherever it lies.
#[test]
fn a_run_from_shards_is_the_run_from_the_folder_and_changed_regions_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path(), 24);
    text(&roi(&set, &[]));
    let shards = folder.path().join("shards");
    let mut write = program("shards");
    write.arg(&set).arg("--out").arg(&shards).args(["--shards", "3"]);
    success(write);
    let plan = ["--epochs=2", "--checkpoint-every=2"];
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    success(pretrain(&set, &one, &plan));
    let said = stderr(&success(pretrain(&shards, &two, &plan)));
    assert!(said.contains("have RoIs") && said.contains("a: 24 images"), "{said}");
    let weights = |run: &Path| programs::bytes(run.join("model.safetensors"));
    assert!(weights(&one) == weights(&two));

    // The same list from the other place goes on; a list with another region does not.
    let go_on = |data: &Path| {
        let mut resume = program("pretrain");
        resume.arg("--resume").arg(&one).arg("--data").arg(data);
        resume.output().unwrap()
    };
    assert!(go_on(&shards).status.success());
    let file = listing(&set.join("a/roi")).into_iter().find(|(_, bytes)| !bytes.is_empty());
    let path = set.join("a/roi").join(file.expect("a region").0);
    fs::write(&path, "1,1,40,40\n").unwrap();
    let error = error_line(&go_on(&set));
    assert!(error.contains(": `regions of interest`: expected `"), "{error}");
    assert!(error.contains("`, found `"), "{error}");
    fs::copy(set.join("a/thermal/001.png"), set.join("a/thermal/001b.png")).unwrap();
    let error = error_line(&go_on(&set));
    assert!(error.contains("`images`: expected `24 files, "), "{error}");
    assert!(error.contains("`, found `25 files, "), "{error}");
}
