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
        command.arg(&set).arg("--from").arg(&downloads);
        let llvip = format!("--download=llvip={}", downloads.join("elsewhere").display());
        command.arg("--only=infrared_ship,llvip").arg(llvip).args(more);
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
    assert_eq!(row("together")[..4], ["together", "8", "20427", "-20419"]);
    success(msip(&["--allow-counts", "--copy"]));

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
                 infrared_security, lsotb_tir, lasher";
    assert_eq!(msip(&["--only=flir"]), format!("source `flir`, expected one of {known}"));
    assert_eq!(msip(&["--download=llvip"]), "--download `llvip`, expected NAME=DIR");
    assert_eq!(msip(&["--only=llvip"]), "llvip: expected --from DIR or --download llvip=DIR");
    let sources = success({
        let mut command = program("msip");
        command.arg("--sources");
        command
    });
    let table = String::from_utf8(sources.stdout).unwrap();
    assert_eq!(table.lines().count(), 9);
    assert!(table.contains("together") && table.contains(" 178756"), "{table}");
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
    let shards = |flag: &str| {
        let mut command = program("shards");
        command.arg(&images).arg(&out).arg(flag);
        command
    };
    let said = String::from_utf8(success(shards("--shards=3")).stdout).unwrap();
    assert!(said.contains(": 7 images in 3 files, "), "{said}");
    let said = String::from_utf8(success(shards("--verify")).stdout).unwrap();
    assert_eq!(said, "7 images are those of the folder\n");
    std::fs::remove_file(out.join("1.tar")).unwrap();
    assert_eq!(error_line(&shards("--verify").output().unwrap()), "expected 7 images, found 5");
    std::fs::write(images.join("cut.png"), b"").unwrap();
    let mut command = program("stats");
    let error = error_line(&command.arg(&images).output().unwrap());
    assert!(error.starts_with("1 files could not be read; first: "), "{error}");
}
