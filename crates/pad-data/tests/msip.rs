//! MSIP from miniatures of its sources, laid out as the downloads are.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pad_data::{
    Error, Result,
    dataset::Dataset,
    image::{DecodeOptions, Pixels, decode},
    msip::{
        BuildConfig, Built, Entry, MANIFEST, Manifest, Order, Placing, SOURCES, SourcePlan,
        SourceSpec, build, verify,
    },
    sets::{ImageFolder, Layout},
};
use tempfile::TempDir;

/// A picture unlike those of other seeds.
fn picture(path: &Path, seed: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let level = |x: u32, y: u32| {
        let cell = (x / 6 + 7 * (y / 6) + 1) * (seed + 3);
        (cell.wrapping_mul(2_654_435_761) >> 24) as u8 | 32
    };
    image::GrayImage::from_fn(48, 40, |x, y| image::Luma([level(x, y)])).save(path).unwrap();
}

/// The picture of a drone: colour channels, a white frame of 100 pixels.
fn framed(path: &Path, seed: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let inside = |x: u32, y: u32| (100..248).contains(&x) && (100..140).contains(&y);
    let level = |x: u32, y: u32| if inside(x, y) { (x * 3 + y * seed) as u8 % 100 } else { 255 };
    image::RgbImage::from_fn(348, 240, |x, y| image::Rgb([level(x, y); 3])).save(path).unwrap();
}

fn source(name: &str, expected: usize) -> SourceSpec {
    SourceSpec { expected, ..SourceSpec::named(name).unwrap().clone() }
}

/// The eight sources as they are unpacked, with what MSIP does not want between.
fn downloads() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let mut seed = 0;
    let mut add = |name: String| {
        seed += 1;
        picture(&root.path().join(name), seed);
    };
    for index in 1..=3 {
        for part in ["train/trainimg", "val/valimg", "val/valimgr", "test/testimgr"] {
            add(format!("DroneVehicle/{part}/0000{index}.jpg"));
        }
        add(format!("LLVIP/infrared/train/01000{index}.jpg"));
        add(format!("LLVIP/infrared/test/02000{index}.jpg"));
        add(format!("LLVIP/visible/train/01000{index}.jpg"));
    }
    for index in 1..=25 {
        add(format!("SCUT FIR Pedestrian Dataset/videos/set00/V000/{index}.jpg"));
        add(format!("LSOTB-TIR_TrainingData/TrainingData/TIR_1/cat_1/{index:04}.jpg"));
        add(format!("LasHeR/TrainingSet/trainingset/1boygo/infrared/i{index:04}.jpg"));
        add(format!("LasHeR/TrainingSet/trainingset/1boygo/visible/v{index:04}.jpg"));
    }
    for index in 1..=11 {
        add(format!("LSOTB-TIR_TrainingData/TrainingData/TIR_2/dog_1/{index:04}.jpg"));
        add(format!("SCUT FIR Pedestrian Dataset/videos/set01/V002/{index}.jpg"));
        add(format!("LasHeR/TrainingSet/trainingset/bus/infrared/i{index:04}.jpg"));
        add(format!("Infrared Aerial Photography/{index}.jpg"));
    }
    for index in 1..=4 {
        add(format!("Infrared Ship/images/{index}.png"));
        add(format!("Infrared Security/images/{index}.jpg"));
    }
    for index in 1..=3 {
        framed(&root.path().join(format!("DroneVehicle/train/trainimgr/0000{index}.jpg")), index);
    }
    // The recorder was asleep: frame 11 of the first video, one of every tenth.
    image::GrayImage::from_pixel(48, 40, image::Luma([20]))
        .save(root.path().join("SCUT FIR Pedestrian Dataset/videos/set00/V000/11.jpg"))
        .unwrap();
    for note in ["LasHeR/TrainingSet/trainingset/1boygo/init.txt", "Infrared Ship/images/1.xml"] {
        fs::write(root.path().join(note), "1,2,3,4").unwrap();
    }
    root
}

const COUNTS: [(&str, usize); 8] = [
    ("dronevehicle", 3),
    ("scut_fir_pedestrian", 4), // 1, (11), 21 of 25; 1, 11 of 11
    ("llvip", 3),
    ("infrared_aerial", 6), // 1, 3, .. 11
    ("infrared_ship", 4),
    ("infrared_security", 4),
    ("lsotb_tir", 5), // 1, 11, 21; 1, 11
    ("lasher", 5),
];

fn plans(downloads: &Path) -> Vec<SourcePlan> {
    let plan = |&(name, expected): &(&str, usize)| {
        let source = source(name, expected);
        SourcePlan::new(&source, &SourcePlan::locate(&source, downloads).unwrap()).unwrap()
    };
    COUNTS.iter().map(plan).collect()
}

fn built(plans: &[SourcePlan], set: &Path, config: &BuildConfig) -> Result<Vec<Built>> {
    build(plans, set, config, &mut |_| {})
}

fn manifest(set: &Path, name: &str) -> Vec<Entry> {
    Manifest::read(&set.join(name).join(MANIFEST)).unwrap().entries
}

fn originals(set: &Path, name: &str) -> Vec<String> {
    manifest(set, name).into_iter().map(|entry| entry.original).collect()
}

/// A download of one source with these files.
fn small(files: &[&str]) -> (TempDir, SourceSpec) {
    let root = tempfile::tempdir().unwrap();
    for (seed, file) in files.iter().enumerate() {
        picture(&root.path().join(file), seed as u32);
    }
    let source = SourceSpec { folders: &["", "**"], ..source("infrared_ship", files.len()) };
    (root, source)
}

#[test]
fn the_table_is_that_of_the_paper() {
    let counts: Vec<usize> = SOURCES.iter().map(|source| source.expected).collect();
    assert_eq!(counts, [17_990, 21_049, 12_025, 5_523, 8_402, 8_999, 52_925, 51_843]);
    let steps: Vec<usize> = SOURCES.iter().map(|source| source.step).collect();
    assert_eq!(steps, [1, 10, 1, 2, 1, 1, 10, 10]);
    for source in &SOURCES {
        assert_eq!(source.border, if source.name == "dronevehicle" { 100 } else { 0 });
        assert_eq!(source.brighter_than.is_some(), source.name == "scut_fir_pedestrian");
        assert_eq!(source.order == Order::EachFolder, source.step == 10);
        assert!(source.page.starts_with("http") && !source.terms.is_empty());
    }
}

#[test]
fn all_eight_sources_are_built_as_the_paper_builds_them() {
    let downloads = downloads();
    let out = tempfile::tempdir().unwrap();
    let set = out.path().join("MSIP");
    let reports = built(&plans(downloads.path()), &set, &BuildConfig::default()).unwrap();
    for (report, (name, expected)) in reports.iter().zip(COUNTS) {
        assert_eq!((report.source.name, report.found), (name, expected));
        assert!(report.is_as_expected(), "{name}");
    }
    assert_eq!(reports[1].dark, 1);
    // Training reads it, source by source.
    let folder = ImageFolder::open(&set).unwrap();
    assert_eq!((folder.layout(), folder.len()), (Layout::Msip, 34));
    assert_eq!(folder.sources().len(), 8);
    // Frames in numeric order, counted from the first of each video; the dark one is left out after
    // the count.
    assert_eq!(
        originals(&set, "scut_fir_pedestrian"),
        ["set00/V000/1.jpg", "set00/V000/21.jpg", "set01/V002/1.jpg", "set01/V002/11.jpg"]
            .map(|name| format!("videos/{name}"))
    );
    assert_eq!(
        originals(&set, "infrared_aerial"),
        ["1.jpg", "3.jpg", "5.jpg", "7.jpg", "9.jpg", "11.jpg"]
    );
    assert_eq!(
        manifest(&set, "lasher").iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>(),
        ["1boygo_i0001", "1boygo_i0011", "1boygo_i0021", "bus_i0001", "bus_i0011"]
            .map(|name| format!("lasher/thermal/{name}.jpg"))
    );
    // The border is gone, what it framed is not.
    let file = set.join("dronevehicle/thermal/00002.png");
    let inner = decode(&file, &DecodeOptions::default()).unwrap();
    assert_eq!((inner.size().height, inner.size().width, inner.channels()), (40, 148, 1));
    let Pixels::U8(levels) = inner.pixels() else { panic!("8 bits") };
    assert!(
        levels.iter().map(|&level| f64::from(level)).sum::<f64>() / (levels.len() as f64) < 90.0
    );
    assert_eq!(verify(&set).unwrap().0, 34);
    assert!(verify(&set).unwrap().1.is_empty());
}

#[test]
fn a_wrong_count_is_reported() {
    let downloads = downloads();
    let out = tempfile::tempdir().unwrap();
    fs::remove_file(downloads.path().join("Infrared Ship/images/2.png")).unwrap();
    let reports = built(&plans(downloads.path()), out.path(), &BuildConfig::default()).unwrap();
    let wrong: Vec<(&str, usize, usize)> = reports
        .iter()
        .filter(|report| !report.is_as_expected())
        .map(|report| (report.source.name, report.found, report.source.expected))
        .collect();
    assert_eq!(wrong, [("infrared_ship", 3, 4)]);
}

#[test]
fn a_second_run_does_what_is_missing_alone() {
    let (root, source) = small(&["1.png", "2.png", "3.png"]);
    let out = tempfile::tempdir().unwrap();
    let plan = [SourcePlan::new(&source, root.path()).unwrap()];
    let config = BuildConfig::default();
    assert_eq!(built(&plan, out.path(), &config).unwrap()[0].reused, 0);
    let text = fs::read_to_string(out.path().join("infrared_ship").join(MANIFEST)).unwrap();
    assert_eq!(built(&plan, out.path(), &config).unwrap()[0].reused, 3);
    let thermal = out.path().join("infrared_ship/thermal");
    fs::remove_file(thermal.join("2.png")).unwrap();
    assert_eq!(built(&plan, out.path(), &config).unwrap()[0].reused, 2);
    // Stopped before the manifest was written, and with a file of another size.
    fs::remove_file(out.path().join("infrared_ship").join(MANIFEST)).unwrap();
    fs::remove_file(thermal.join("3.png")).unwrap();
    fs::write(thermal.join("3.png"), b"half").unwrap();
    built(&plan, out.path(), &config).unwrap();
    assert_eq!(fs::read_to_string(out.path().join("infrared_ship").join(MANIFEST)).unwrap(), text);
    assert!(verify(out.path()).unwrap().1.is_empty());
    // The same set with one thread.
    let again = tempfile::tempdir().unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| built(&plan, again.path(), &config)).unwrap();
    assert_eq!(
        fs::read_to_string(again.path().join("infrared_ship").join(MANIFEST)).unwrap(),
        text
    );
}

#[cfg(unix)]
#[test]
fn links_share_the_file_and_copies_do_not() {
    use std::os::unix::fs::MetadataExt;
    let (root, source) = small(&["1.png", "real/2.png"]);
    fs::remove_file(root.path().join("1.png")).unwrap();
    std::os::unix::fs::symlink(root.path().join("real/2.png"), root.path().join("1.png")).unwrap();
    let plan = [SourcePlan::new(&source, root.path()).unwrap()];
    let inode = |path: PathBuf| fs::symlink_metadata(path).unwrap().ino();
    let original = inode(root.path().join("real/2.png"));
    for (placing, same) in [(Placing::Link, true), (Placing::Copy, false)] {
        let out = tempfile::tempdir_in(root.path().parent().unwrap()).unwrap();
        let config = BuildConfig { placing, ..Default::default() };
        built(&plan, out.path(), &config).unwrap();
        assert_eq!(inode(out.path().join("infrared_ship/thermal/1.png")) == original, same);
    }
}

#[test]
fn a_changed_missing_or_foreign_file_is_found() {
    let (root, source) = small(&["1.png", "2.png", "3.png"]);
    let out = tempfile::tempdir().unwrap();
    let plan = [SourcePlan::new(&source, root.path()).unwrap()];
    let config = BuildConfig { placing: Placing::Copy, ..Default::default() };
    built(&plan, out.path(), &config).unwrap();
    let thermal = out.path().join("infrared_ship/thermal");
    let mut bytes = fs::read(thermal.join("1.png")).unwrap();
    bytes[40] ^= 1;
    fs::write(thermal.join("1.png"), &bytes).unwrap();
    fs::write(thermal.join("2.png"), b"short").unwrap();
    fs::remove_file(thermal.join("3.png")).unwrap();
    fs::write(thermal.join("4.png"), b"").unwrap();
    let (images, faults) = verify(out.path()).unwrap();
    assert_eq!(images, 3);
    let said: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let entries = manifest(out.path(), "infrared_ship");
    let place = |name: &str| thermal.join(name).display().to_string();
    assert!(said[0].starts_with(&format!(
        "{}: expected sha256 {} by the manifest, found ",
        place("1.png"),
        entries[0].sha256
    )));
    assert_eq!(
        said[1],
        format!("{}: expected bytes {} by the manifest, found 5", place("2.png"), entries[1].bytes)
    );
    assert!(said[2].starts_with(&format!("{}: No such file", place("3.png"))), "{}", said[2]);
    assert_eq!(
        said[3],
        format!(
            "{}: expected files of this set alone, found 1 others, the first is 4.png",
            thermal.display()
        )
    );
    // Nor is anything built beside foreign files.
    let error = built(&plan, out.path(), &config).unwrap_err();
    assert_eq!(error.to_string(), said[3]);
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(
        verify(empty.path()).unwrap_err().to_string(),
        format!("{}: no image found (looked for NAME/manifest.tsv)", empty.path().display())
    );
}

#[test]
fn copies_are_found_and_taken_out_on_demand() {
    let (root, source) = small(&["1.png", "2.png", "4.png"]);
    // The same picture, stored otherwise.
    let first = image::open(root.path().join("1.png")).unwrap();
    first.save(root.path().join("3.bmp")).unwrap();
    let out = tempfile::tempdir().unwrap();
    let plan = [SourcePlan::new(&source, root.path()).unwrap()];
    let found = out.path().join("infrared_ship/thermal/3.bmp");
    let report = |dedup| {
        let config = BuildConfig { dedup, ..Default::default() };
        let report = built(&plan, out.path(), &config).unwrap().remove(0);
        assert!(verify(out.path()).unwrap().1.is_empty());
        (report.found, report.near, report.removed, found.exists())
    };
    assert_eq!(report(false), (4, 1, 0, true));
    assert_eq!(report(true), (4, 1, 1, false));
    let entry = manifest(out.path(), "infrared_ship").remove(2);
    assert_eq!(entry.near.as_deref(), Some("infrared_ship/thermal/1.png"));
    assert!(entry.removed && entry.path.ends_with("3.bmp"));
    assert_eq!(report(true), (4, 1, 1, false));
    assert_eq!(report(false), (4, 1, 0, true), "it comes back");
}

#[test]
fn unusable_files_are_listed_and_left_out() {
    let (root, source) = small(&["1.png", "2.png"]);
    fs::write(root.path().join("0.png"), b"").unwrap();
    image::GrayImage::new(8, 8).save(root.path().join("3.png")).unwrap();
    let out = tempfile::tempdir().unwrap();
    let plan = [SourcePlan::new(&source, root.path()).unwrap()];
    let report = built(&plan, out.path(), &BuildConfig::default()).unwrap().remove(0);
    assert_eq!(report.found, 2);
    assert!(!report.is_as_expected(), "files that cannot be read are a fault");
    let said: Vec<String> = report.unreadable.iter().map(ToString::to_string).collect();
    let place = |name: &str| root.path().join(name).display().to_string();
    assert_eq!(
        said,
        [
            format!(
                "{}: cannot decode: Format error decoding Png: the file is empty",
                place("0.png")
            ),
            format!("{}: the image is 8x8, at least 16x16 is needed", place("3.png")),
        ]
    );
}

#[test]
fn a_border_that_is_not_white_is_no_border() {
    let root = tempfile::tempdir().unwrap();
    framed(&root.path().join("trainimgr/1.jpg"), 1);
    image::GrayImage::new(640, 512).save(root.path().join("trainimgr/2.jpg")).unwrap();
    picture(&root.path().join("trainimgr/3.jpg"), 3);
    let out = tempfile::tempdir().unwrap();
    let plan = [SourcePlan::new(&source("dronevehicle", 3), root.path()).unwrap()];
    let report = built(&plan, out.path(), &BuildConfig::default()).unwrap().remove(0);
    let said: Vec<String> = report.unreadable.iter().map(ToString::to_string).collect();
    let place = |name: &str| root.path().join("trainimgr").join(name).display().to_string();
    assert_eq!(
        said,
        [
            format!(
                "{}: an image whose 100-pixel border is not white (expected 90%, found 0%) is not supported",
                place("2.jpg")
            ),
            format!("{}: the image is 40x48, at least 216x216 is needed", place("3.jpg")),
        ]
    );
}

#[test]
fn folders_within_videos_do_not_disturb_their_frames() {
    let names: Vec<String> = (1..=12).map(|index| format!("v/{index}.png")).collect();
    let mut files: Vec<&str> = names.iter().map(String::as_str).collect();
    files.extend(["v/5x/1.png", "v/5x/2.png"]);
    let (root, source) = small(&files);
    let order = Order::EachFolder;
    let source = SourceSpec { folders: &["**"], step: 10, order, ..source };
    let plan = SourcePlan::new(&source, root.path()).unwrap();
    let taken: Vec<&str> = plan.images.iter().map(|image| image.original.as_str()).collect();
    assert_eq!(taken, ["v/1.png", "v/11.png", "v/5x/1.png"]);
}

#[test]
fn what_cannot_be_planned() {
    let (root, source) = small(&["a/1.png"]);
    picture(&root.path().join("a/1.jpg"), 9);
    let error = SourcePlan::new(&source, root.path()).unwrap_err();
    let file = |name: &str| root.path().join(name).display().to_string();
    assert_eq!(
        error.to_string(),
        format!(
            "{}: expected one file of the stem `a_1`, found also {}",
            file("a/1.jpg"),
            file("a/1.png")
        )
    );
    let (root, source) = small(&["notes/deep/1.png"]);
    let source = SourceSpec { folders: &["images", "*"], ..source };
    assert_eq!(
        SourcePlan::new(&source, root.path()).unwrap_err().to_string(),
        format!(
            "{}: infrared_ship is not found (looked for images in `images`, images in `*`)",
            root.path().display()
        )
    );
    assert_eq!(
        SourcePlan::locate(&source, root.path()).unwrap_err().to_string(),
        format!(
            "{}: infrared_ship is not found (looked for infrared_ship, Infrared Ship, Sea_shipping)",
            root.path().display()
        )
    );
    let absent = root.path().join("absent");
    assert!(
        matches!(SourcePlan::new(&source, &absent).unwrap_err(), Error::Io { path, .. } if path == absent)
    );
    let source = SourceSpec { step: 0, ..source };
    assert_eq!(
        SourcePlan::new(&source, root.path()).unwrap_err().to_string(),
        "`step` is 0, expected at least 1"
    );
}

#[cfg(unix)]
#[test]
fn loops_and_folders_that_cannot_be_listed() {
    use std::os::unix::fs::symlink;
    let (root, source) = small(&["a/1.png"]);
    let source = SourceSpec { folders: &["**"], ..source };
    symlink(root.path(), root.path().join("a/up")).unwrap();
    let error = SourcePlan::new(&source, root.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}: leads to {}, which is listed already",
            root.path().join("a/up").display(),
            root.path().canonicalize().unwrap().display()
        )
    );
    fs::remove_file(root.path().join("a/up")).unwrap();
    picture(&root.path().join("a/b\\c.png"), 1);
    assert_eq!(
        SourcePlan::new(&source, root.path()).unwrap_err().to_string(),
        format!(
            "{}: a name with a control character or backslash is not supported",
            root.path().join("a/b\\c.png").display()
        )
    );
    // A link to itself cannot be listed by anybody, whatever their rights.
    symlink(root.path().join("b"), root.path().join("b")).unwrap();
    let error = SourcePlan::new(&source, root.path()).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("{}: Too many levels", root.path().join("b").display())),
        "{error}"
    );
}
