//! The program that builds MSIP, as a user runs it.

mod programs;

use std::path::Path;

use programs::{error_line, program, success};

fn pictures(folder: &Path, count: u32) {
    std::fs::create_dir_all(folder).unwrap();
    for index in 1..=count {
        let level = |x: u32, y: u32| ((x / 6 * 71 + y / 6 * 37) * (index + 2)) as u8;
        let path = folder.join(format!("{index}.png"));
        image::GrayImage::from_fn(48, 40, |x, y| image::Luma([level(x, y)])).save(path).unwrap();
    }
}

#[test]
fn builds_reports_wrong_counts_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let (downloads, set) = (folder.path().join("downloads"), folder.path().join("MSIP"));
    pictures(&downloads.join("Infrared Ship/images"), 5);
    pictures(&downloads.join("elsewhere/infrared/train"), 3);
    let msip = |more: &[&str]| {
        let mut command = program("msip");
        command.arg(&set).arg("--downloads").arg(&downloads);
        let llvip = format!("--downloads=llvip={}", downloads.join("elsewhere").display());
        command.arg("--sources=infrared_ship,llvip").arg(llvip).args(more);
        command
    };
    let output = msip(&[]).output().unwrap();
    assert_eq!(
        error_line(&output),
        "expected the paper's number of images, found another for llvip, infrared_ship \
         (see the table; --allow-counts accepts it)"
    );
    let table = String::from_utf8(output.stdout).unwrap();
    let row = |name: &str| -> Vec<String> {
        let line = table.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().map(Into::into).collect()
    };
    assert_eq!(row("llvip")[..4], ["llvip", "3", "12025", "-12022"]);
    assert_eq!(row("infrared_ship")[..4], ["infrared_ship", "5", "8402", "-8397"]);
    assert_eq!(row("in all")[..5], ["in", "all", "8", "20427", "-20419"]);
    success(msip(&["--allow-counts", "--place=copy"]));

    let verify = || {
        let mut command = program("msip");
        command.arg(&set).arg("--verify");
        command
    };
    let said = String::from_utf8(success(verify()).stdout).unwrap();
    assert_eq!(said, format!("{}: 8 images are as their manifests say\n", set.display()));
    let victim = set.join("llvip/thermal/2.png");
    std::fs::remove_file(&victim).unwrap();
    std::fs::write(&victim, b"x").unwrap();
    let error = error_line(&verify().output().unwrap());
    assert!(error.starts_with("1 faults in 8 images; first: "), "{error}");
    assert!(error.ends_with("by the manifest, found 1"), "{error}");
}

#[test]
fn flags_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let msip = |more: &[&str]| {
        let mut command = program("msip");
        command.arg(folder.path().join("MSIP")).args(more);
        error_line(&command.output().unwrap())
    };
    let known = "dronevehicle, scut_fir_pedestrian, llvip, infrared_aerial, infrared_ship, \
                 infrared_security, lsotb_tir or lasher";
    let source = msip(&["--sources=flir"]);
    assert!(
        source.starts_with("invalid value 'flir' for '--sources <NAMES>' [possible "),
        "{source}"
    );
    assert_eq!(
        msip(&["--downloads=llvpi=x"]),
        format!(
            "invalid value 'llvpi=x' for '--downloads <DIR|NAME=DIR>': source: expected {known}, found `llvpi` \
             (did you mean `llvip`?)"
        )
    );
    assert_eq!(
        msip(&["--sources=llvip"]),
        "llvip: expected --downloads DIR or --downloads llvip=DIR"
    );
    let sources = success({
        let mut command = program("msip");
        command.arg("--list");
        command
    });
    let table = String::from_utf8(sources.stdout).unwrap();
    assert_eq!(table.lines().count(), 9);
    assert!(table.contains("in all") && table.contains(" 178756"), "{table}");
}

#[test]
fn statistics_and_shards_of_a_set() {
    let folder = tempfile::tempdir().unwrap();
    let (images, out) = (folder.path().join("set"), folder.path().join("shards"));
    programs::write_images(&images, 7);
    let text = |mut command: std::process::Command| {
        command.arg(&images);
        String::from_utf8(success(command).stdout).unwrap()
    };
    let said = text(program("stats"));
    assert!(said.starts_with("7 images, 45360 pixels\n"), "{said}");
    for part in ["8 bits", "16 bits", "72x90", "mean 0.", "min ", "percentile    50: "] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let shards = |flags: &[&str]| {
        let mut command = program("shards");
        command.arg("--data").arg(&images).arg("--out").arg(&out).args(flags);
        command
    };
    let said = String::from_utf8(success(shards(&["--shards=3"])).stdout).unwrap();
    assert!(said.contains(": 7 images in 3 files, "), "{said}");
    let error = error_line(&shards(&["--shards=3"]).output().unwrap());
    assert!(error.ends_with(".tar: the file exists (--overwrite replaces it)"), "{error}");
    success(shards(&["--shards=3", "--overwrite"]));
    let said = String::from_utf8(success(shards(&["--verify"])).stdout).unwrap();
    assert_eq!(said, "7 images are those of the folder\n");
    std::fs::remove_file(out.join("1.tar")).unwrap();
    assert_eq!(error_line(&shards(&["--verify"]).output().unwrap()), "expected 7 images, found 5");
    // Shards have the same statistics as the folder.
    success(shards(&["--shards=3", "--overwrite"]));
    let mut of_shards = program("stats");
    let of_shards = String::from_utf8(
        success({
            of_shards.arg(&out);
            of_shards
        })
        .stdout,
    )
    .unwrap();
    assert_eq!(of_shards, text(program("stats")));

    let json = folder.path().join("stats.json");
    std::fs::write(images.join("cut.png"), b"").unwrap();
    let stats = |flags: &[&str]| {
        let mut command = program("stats");
        command.arg(&images).arg("--json").arg(&json).args(flags);
        command
    };
    let error = error_line(&stats(&[]).output().unwrap());
    let wanted = "1 of 8 images could not be read, more than the allowed share 0.05; first: ";
    assert!(error.starts_with(wanted), "{error}");
    success(stats(&["--max-unreadable=0.2", "--overwrite"]));
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((&report["images"], &report["levels"]), (&7.into(), &"1%,99%".into()));
    assert_eq!(report["unreadable"].as_array().unwrap().len(), 1);
}
