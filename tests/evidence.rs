//! The comparison of benches/evidence: its plan, numbers, tables and plots of stored results, and one small whole run.

// A test uses a part.
#[allow(dead_code)]
#[path = "../benches/evidence/mod.rs"]
mod evidence;

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use clap::Parser;
use pad::{
    checkpoint::{self, BackboneOptions},
    data::scenes::{SceneConfig, Size, render},
    params::Role,
    ssl::Paradigm,
    vit::ViTConfig,
};
use serde_json::{Value, json};

use evidence::{
    cell::{Cell, Work},
    data::{self, Sets},
    flags::Flags,
    images::{evaluated_images, expect_different, training_images},
    judge::{Judge, Metric},
    machine,
    measure::{foretold, short},
    paths::folder_of_shell,
    plan::Plan,
    program::{executable, ignored},
    report,
    results::Results,
    solar::split_classes,
    stats::{Spread, t95},
    svg::{Entry, forest, ticks},
};

fn flags(out: &Path, more: &[&str]) -> Flags {
    let out = out.to_str().unwrap();
    let line =
        ["evidence", "--out", out, "--budget", "tiny"].into_iter().chain(more.iter().copied());
    Flags::parse_from(line)
}

fn plan(out: &Path, more: &[&str]) -> Plan {
    Plan::new(&flags(out, more)).unwrap()
}

/// Checks that a command names the test part of no set.
fn expect_no_test(cell: &Cell) {
    let names_test = |words: &[String]| {
        let last = |word: &String| word.rsplit(['/', '=']).next() == Some("test");
        words.iter().any(last) || words.iter().any(|word| word.starts_with("--val-split"))
    };
    assert!(!names_test(&cell.command), "{:?}", cell.command);
    for more in ["test", "hit_uav/test", "--val-split=val", "--data=set/test"] {
        let words = [&cell.command[..], &[more.to_string()][..]].concat();
        assert!(names_test(&words), "{more}");
    }
}

#[test]
fn every_row_is_pre_trained_and_judged_with_every_seed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let whole = plan(out, &[]);
    let of = |plan: &Plan, work: Work| plan.cells.iter().filter(|cell| cell.work == work).count();
    // 14 rows of 3 seeds, of which two have no pre-training and share their frozen features.
    assert_eq!(of(&whole, Work::Pretrain), 12 * 3);
    assert_eq!(of(&whole, Work::Judge(Judge::Detect)), 14 * 3);
    assert_eq!(of(&whole, Work::Judge(Judge::Probe)), 13 * 3);
    assert_eq!(whole.cells.len(), (12 + 5 * 14 + 13) * 3);
    assert_eq!(whole.cells[0].id, "shipped/random/0/pretrain");
    // With the first seed everything, then with the next one; what a cell needs comes before it.
    let seed = |id: &str| id.split('/').nth(2).unwrap().parse::<u64>().unwrap();
    assert!(whole.cells.is_sorted_by_key(|cell| seed(&cell.id)));
    for (place, cell) in whole.cells.iter().enumerate() {
        let needed = cell.needs.as_ref();
        let before = |id: &String| whole.cells[..place].iter().any(|cell| cell.id == *id);
        assert!(needed.is_none_or(before), "{}", cell.id);
        expect_no_test(cell);
    }
    let line = |plan: &Plan, id: &str| plan.cell(id).unwrap().command.join(" ");
    let lora = line(&whole, "shipped/lora/1/pretrain");
    for part in [
        "data/shipped.safetensors --paradigm pad --blr 3e-2",
        "--adapter=lora --lora-rank=15",
        "--seed 1",
        "--scenes 40",
    ] {
        assert!(lora.contains(part), "{part}: {lora}");
    }
    let scratch = line(&whole, "shipped/scratch/0/pretrain");
    assert!(scratch.contains("--weights none --model pico --paradigm scratch"), "{scratch}");
    let frozen = line(&whole, "shipped/frozen/2/finetune-10");
    for part in [
        "--label-share 0.1 --trained heads --max-steps 2",
        "shipped.safetensors --seed 2",
        "--image-size 64,64",
    ] {
        assert!(frozen.contains(part), "{part}: {frozen}");
    }
    let judged = line(&whole, "shipped/full/0/segment");
    assert!(judged.contains("--paradigm full --trained everything --weights"), "{judged}");
    assert!(judged.contains("runs/shipped/full/0/pretrain --seed 0"), "{judged}");

    // Parts of it; DINOv2 with its own patches.
    let dino = folder.path().join("dino.safetensors");
    std::fs::write(&dino, "").unwrap();
    let more = [
        "--dino",
        dino.to_str().unwrap(),
        "--shipped=none",
        "--only=pad,rgb,scratch",
        "--seeds=7",
        "--judges=segment",
    ];
    let part = plan(out, &more);
    let ids: Vec<&str> = part.cells.iter().map(|cell| cell.id.as_str()).collect();
    let expected = ["scratch/7/pretrain", "scratch/7/segment", "rgb/7/segment"]
        .into_iter()
        .chain(["pad/7/pretrain", "pad/7/segment"])
        .map(|id| format!("dinov2-s/{id}"));
    assert_eq!(ids, expected.collect::<Vec<String>>());
    assert!(line(&part, ids[3]).contains("--model dinov2-small --paradigm pad --blr 3e-2"));
    assert!(line(&part, ids[3]).contains("--image-size 56"));
    assert!(line(&part, ids[2]).contains("--crop-size 56"));
    // Random blocks without layer scales that begin at 1e-5; what is judged is in the run.
    let scratch = line(&part, ids[0]);
    assert!(scratch.contains("--model small --patch-size 14 --paradigm scratch"), "{scratch}");
    assert!(!line(&part, ids[1]).contains("--model"), "{}", line(&part, ids[1]));
    let config = |name| ViTConfig::preset(name, 14).unwrap();
    let (small, dinov2) = (config("small"), config("dinov2-small"));
    assert_eq!((small.layer_scale, small.patch_size), (None, 14));
    assert!(dinov2.layer_scale.is_some());
    let widths = |c: ViTConfig| (c.embed_dim, c.depth, c.num_heads, c.patch_size);
    assert_eq!(widths(small), widths(dinov2));
    let refused = |more: &[&str]| Plan::new(&flags(out, more)).unwrap_err().to_string();
    assert!(refused(&["--only=padd"]).starts_with("row: expected random, scratch, rgb"));
    assert_eq!(refused(&["--seeds=1,1"]), "a seed is given twice");
    assert_eq!(refused(&["--mix", "/absent"]), "/absent: no such folder (--mix)");
    assert_eq!(refused(&["--shipped=none"]), "no backbone: expected --dino FILE or --shipped NAME");
}

#[test]
fn labelled_sets_are_evaluated_on_their_val_parts() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    tree(
        root,
        &["HIT_UAV/normal_json/test/1.jpg", "udder/images/1.png", "solar/module_metadata.json"],
    );
    let place = |name: &str| root.join(name).display().to_string();
    let (hit, udder, solar) = (place("HIT_UAV"), place("udder"), place("solar"));
    let more = ["--hit-uav", &hit, "--udder", &udder, "--solar", &solar, "--only=pad", "--seeds=0"];
    let plan = plan(&root.join("out"), &more);
    assert_eq!(plan.cells.len(), 7);
    plan.cells.iter().for_each(expect_no_test);
    let has = |id: &str, part: &str| {
        let command = plan.cell(&format!("shipped/pad/0/{id}")).unwrap().command.join(" ");
        assert!(command.contains(part), "{part}: {command}");
    };
    has("detect", "HIT_UAV --format hit-uav --classes person,car,bicycle --val-images 4");
    has("segment", "udder --class-weights 1,4");
    has("probe", "out/data/classes-8-4 --method both");
}

#[test]
fn the_shipped_backbone_has_no_decoder() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), &[]);
    let backbone = &plan.backbones[0];
    backbone.prepare().unwrap();
    let options = BackboneOptions::default().with_reader(pad::ssl::read_backbone);
    let whole = options.clone().with_named("asset", pad::assets::VIT_PICO_RGB);
    let opened = checkpoint::Backbone::open(&backbone.weights, &options).unwrap();
    let whole = checkpoint::Backbone::open("asset", &whole).unwrap();
    assert_eq!(opened.config().unwrap(), whole.config().unwrap());
    assert_eq!(opened.digest().unwrap(), whole.digest().unwrap());
    let decoders = |backbone: &checkpoint::Backbone| {
        backbone.checkpoint().names().filter(|name| Role::of(name).is_decoder()).count()
    };
    assert!(decoders(&whole) > 20);
    assert_eq!(decoders(&opened), 0);
    // Written once.
    let changed = || std::fs::metadata(&backbone.weights).unwrap().modified().unwrap();
    let before = changed();
    backbone.prepare().unwrap();
    assert_eq!(changed(), before);
    let unknown = Plan::new(&flags(folder.path(), &["--shipped=pico"])).unwrap_err().to_string();
    assert_eq!(unknown, "--shipped: expected asset or none, found `pico`");
}

/// The number behind a flag, in one word or two.
fn number(cell: &Cell, flag: &str) -> Option<f64> {
    let words = cell.command.join("=");
    let (_, behind) = words.split_once(&format!("{flag}="))?;
    behind.split('=').next()?.parse().ok()
}

#[test]
fn gates_are_frozen_for_the_shares_that_the_tables_say() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    for budget in ["tiny", "short", "full"] {
        let plan =
            Plan::new(&Flags::parse_from(["evidence", "--out", out, "--budget", budget])).unwrap();
        let expected = [
            ("pad", 0.6),
            ("pad-random-crop", 0.6),
            ("pad-b16", 0.6),
            ("pad-gate-early", 0.0),
            ("pad-gate-late", 0.9),
        ];
        for (row, share) in expected {
            let cell = plan.cell(&format!("shipped/{row}/0/pretrain")).unwrap();
            let (steps, every) = (number(cell, "--max-steps"), number(cell, "--eval-steps"));
            let epochs = (steps.unwrap() / every.unwrap()).ceil() as usize;
            let gate_frozen = number(cell, "--gate-frozen").unwrap();
            let rate = Paradigm::Pad { gate_frozen, decoder_embed: true }
                .plan(6, epochs)
                .rate(Role::Gate(0))
                .unwrap();
            let frozen = rate.frozen_through.map_or(0, |last| last + 1);
            assert_eq!(frozen as f64 / epochs as f64, share, "{budget} {row}");
        }
    }
}

#[test]
fn another_command_in_the_same_place_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let first = |more: &[&str]| plan(out, more).cells[0].clone();
    let other = |more: &[&str]| {
        let name = out.to_str().unwrap();
        let line = ["evidence", "--out", name, "--budget", "full"];
        let flags = Flags::parse_from(line.into_iter().chain(more.iter().copied()));
        Plan::new(&flags).unwrap().cells[0].clone()
    };
    // A command that never ran leaves the place to another one.
    other(&[]).claim().unwrap();
    first(&[]).check().unwrap();
    first(&[]).claim().unwrap();
    first(&["--threads=1"]).claim().unwrap();
    // Begun, then ended.
    let cell = first(&[]);
    let run = cell.run.clone().unwrap();
    for name in ["config.toml", "summary.json"] {
        tree(&run, &[name]);
        first(&["--threads=1"]).check().unwrap();
        let error = other(&[]).check().unwrap_err().to_string();
        assert_eq!(other(&[]).claim().unwrap_err().to_string(), error);
        assert!(error.contains("random/0/pretrain.command: made by `pad pretrain"), "{error}");
        assert!(error.ends_with("choose another --out") && !error.contains('\n'), "{error}");
    }
    // The recipe by its name and text, wherever the repository lies.
    let at = cell.command.iter().position(|word| word == "--recipe").unwrap() + 1;
    let moved = out.join("pretrain.toml");
    let with = |text: &str| {
        std::fs::write(&moved, text).unwrap();
        let mut moved_cell = cell.clone();
        moved_cell.command[at] = moved.display().to_string();
        moved_cell.check()
    };
    let text = std::fs::read_to_string(&cell.command[at]).unwrap();
    with(&text).unwrap();
    let error = with(&text.replace("decoder_dim = 128", "decoder_dim = 64")).unwrap_err();
    assert!(error.to_string().contains("made with another text of its recipe"), "{error}");
    // A run without its command.
    std::fs::remove_file(run.with_extension("command")).unwrap();
    let error = cell.check().unwrap_err().to_string();
    assert!(error.contains("pretrain.command: missing beside the run"), "{error}");
}

#[test]
fn a_run_that_was_stopped_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), &[]);
    let of = |id: &str| plan.cell(id).unwrap();
    let (run, probe) = (of("shipped/rgb/0/detect"), of("shipped/rgb/0/probe"));
    assert_eq!(run.arguments(), run.command);
    let begun = run.run.as_ref().unwrap();
    std::fs::create_dir_all(begun).unwrap();
    std::fs::write(begun.join("config.toml"), "").unwrap();
    let place = begun.display().to_string();
    assert_eq!(run.arguments(), ["detect", "train", "--resume", &place, "--resume-anyway"]);
    assert_eq!(probe.arguments(), probe.command);
    assert!(!run.has_ended());
    std::fs::write(begun.join("summary.json"), "{}").unwrap();
    assert!(run.has_ended());
}

#[test]
fn a_run_takes_the_time_of_all_its_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), &["--only=full", "--seeds=0"]);
    let of = |id: &str| plan.cell(&format!("shipped/full/0/{id}")).unwrap();
    let run = of("detect");
    run.claim().unwrap();
    assert_eq!(run.elapsed(), None);
    let report = json!({ "seconds": 4.0, "peak_mib": 200 });
    assert_eq!((run.seconds(&report), run.peak_mib(&report)), (Some(4.0), Some(200.0)));
    run.add_session(60.0).unwrap();
    tree(run.run.as_ref().unwrap(), &["config.toml"]);
    // It goes on, twice; the last session takes a while to start, and does little.
    for session in [30.5, 5.0] {
        run.claim().unwrap();
        run.add_session(session).unwrap();
    }
    let log = " INFO peak memory so far: 150 MiB\nstep 9\n INFO peak memory so far: 334 MiB\n";
    std::fs::write(run.log(), log).unwrap();
    assert_eq!((run.seconds(&report), run.elapsed()), (Some(94.5), Some(95.5)));
    assert_eq!(run.peak_mib(&report), Some(334.0));
    std::fs::write(&run.result, stored(run.work, 0.4).to_string()).unwrap();
    let cost = Results::read(&plan).unwrap().cost(("shipped", "full"), "detect").unwrap();
    assert_eq!(cost.peak_mib, Some(334.0));
    assert!((cost.seconds.unwrap() - 90.5 - 11.108_156).abs() < 1e-3, "{cost:?}");
    // A probe starts over.
    let probe = of("probe");
    for _ in 0..2 {
        probe.claim().unwrap();
        probe.add_session(7.0).unwrap();
    }
    assert_eq!((probe.elapsed(), probe.seconds(&report)), (Some(7.0), Some(4.0)));
}

#[test]
fn models_of_judges_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), &["--only=full", "--seeds=0"]);
    let left = |id: &str| -> Vec<String> {
        let cell = plan.cell(&format!("shipped/full/0/{id}")).unwrap();
        let run = cell.run.as_ref().unwrap();
        let files =
            ["checkpoints/checkpoint-1/state.json", "detector.safetensors", "model.safetensors"];
        tree(run, &files);
        tree(run, &["summary.json"]);
        cell.tidy();
        let names = std::fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(left("detect"), ["summary.json"]);
    assert_eq!(left("segment"), ["summary.json"]);
    // Judges start from it.
    assert_eq!(left("pretrain"), ["detector.safetensors", "model.safetensors", "summary.json"]);
}

#[test]
fn nothing_runs_without_a_budget() {
    for line in [&["evidence"][..], &["evidence", "ops"][..]] {
        let code = evidence::main(line.iter().map(ToString::to_string)).unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    }
    let error = Flags::try_parse_from(["evidence", "--seeds=1", "--plan"]).unwrap_err();
    assert!(error.to_string().contains("--budget"), "{error}");
}

#[test]
fn paths_begin_where_the_command_was_typed() {
    let folder = tempfile::tempdir().unwrap();
    let (package, shell) = (folder.path().join("crates/pad"), folder.path().join("shell"));
    for path in [&package, &shell] {
        std::fs::create_dir_all(path).unwrap();
    }
    let of = |current: &Path, pwd: &Path| folder_of_shell(current, &package, Some(pwd.into()));
    assert_eq!(of(&package.join("../pad"), &shell), Some(shell.clone()));
    // Not by cargo; a folder that is gone; a variable that is no path of a shell, or not there.
    assert_eq!(of(folder.path(), &shell), None);
    assert_eq!(of(&package, &shell.join("gone")), None);
    assert_eq!(of(&package, Path::new(".")), None);
    assert_eq!(folder_of_shell(&package, &package, None), None);
}

#[test]
fn the_command_is_where_cargo_says() {
    let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"pad"},"executable":null}
not json
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"other"},"executable":"/t/release/other"}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"pad"},"executable":"/elsewhere/release/pad"}
{"reason":"build-finished","success":true}"#;
    assert_eq!(executable(messages).unwrap(), Path::new("/elsewhere/release/pad"));
    assert_eq!(executable(""), None);
}

#[test]
fn every_command_gets_the_threads() {
    let of = |more: &[&str], command: &str| {
        let command: Vec<String> = command.split(' ').map(String::from).collect();
        flags(Path::new("out"), more).machine(&command).join(" ")
    };
    let more = ["--threads=3", "--device=cuda:1"];
    assert_eq!(of(&more, "detect train --size 448"), "--device cuda:1 --threads 3");
    assert_eq!(of(&more, "roi data/mix"), "--threads 3");
    assert_eq!(of(&[], "probe data"), "--device cpu");
    assert_eq!(of(&[], "roi data/mix"), "");
}

#[test]
fn a_signal_that_nohup_ignores_is_left_alone() {
    // As Linux writes it: SIGHUP is 1, SIGINT 2.
    let status = "Name:\tx\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\n";
    assert_eq!([1, 2, 13].map(|signal| ignored(status, signal)), [true, false, true]);
    assert!(!ignored("", 1) && !ignored("SigIgn:\tx\n", 1));
}

/// A folder with empty files.
fn tree(root: &Path, files: &[&str]) {
    for file in files {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
}

#[test]
fn training_images_are_those_of_the_training_part() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let names = |folder: &str| -> Vec<String> {
        let paths = training_images(&root.join(folder)).unwrap();
        paths.iter().map(|path| path.file_name().unwrap().to_string_lossy().into()).collect()
    };
    tree(root, &["udder/images/a.png", "udder/images/b.png", "udder/images/c.png"]);
    tree(root, &["udder/masks/a.png", "udder/masks/b.png", "udder/masks/c.png"]);
    std::fs::write(root.join("udder/train.txt"), "a\nc.png\n\n").unwrap();
    std::fs::write(root.join("udder/val.txt"), "b\n").unwrap();
    assert_eq!(names("udder"), ["a.png", "c.png"]);
    assert_eq!(evaluated_images(&root.join("udder")), Some(1));
    // HIT-UAV, copied and as its authors publish it.
    for place in ["hit", "published/normal_json"] {
        tree(&root.join(place), &["train/d.jpg", "val/e.jpg", "val/f.jpg", "test/g.jpg"]);
        tree(&root.join(place), &["annotations/train.json"]);
        let set = r#"{"images": [{"id": 1}, {"id": 2}, {"id": 3}]}"#;
        std::fs::write(root.join(place).join("annotations/val.json"), set).unwrap();
    }
    tree(root, &["published/rotate_json/train/d.jpg", "published/README.md"]);
    for place in ["hit", "published"] {
        assert_eq!(names(place), ["d.jpg"]);
        assert_eq!(evaluated_images(&root.join(place)), Some(3));
    }
    // YOLO, with labels inside and outside; a set with masks and no list.
    tree(root, &["yolo/images/train/h.png", "yolo/images/val/i.png", "yolo/labels/train/h.txt"]);
    tree(root, &["robo/train/images/j.png", "robo/train/labels/j.txt", "robo/valid/images/k.png"]);
    tree(root, &["maps/Training/images/l.png", "maps/Training/masks/l.png", "maps/val/m.png"]);
    assert_eq!([names("yolo"), names("robo"), names("maps")].concat(), ["h.png", "j.png", "l.png"]);
    let evaluated = ["yolo", "robo", "maps"].map(|name| evaluated_images(&root.join(name)));
    assert_eq!(evaluated, [Some(1); 3]);
    // Without labels: all of them, in natural order, below hidden folders none.
    tree(root, &["plain/x/n.TIF", "plain/o10.jpeg", "plain/o9.jpeg", "plain/notes.txt"]);
    tree(root, &["plain/.val/p.png", "plain/test_flight/q.png"]);
    assert_eq!(evaluated_images(&root.join("plain")), None);
    assert_eq!(names("plain"), ["o9.jpeg", "o10.jpeg", "q.png", "n.TIF"]);
}

#[test]
fn images_of_other_parts_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, files: &[&str], at: &str| {
        let root = folder.path().join(name);
        tree(&root, files);
        let error = format!("{:#}", training_images(&root).unwrap_err());
        let place = format!("{}: part of a labelled set", root.join(at).display());
        assert!(error.starts_with(&place), "{error}");
        assert!(error.contains("expected training images alone: train.txt"), "{error}");
    };
    refused("val", &["a.png", "val/b.png"], "val");
    refused("test", &["day/a.png", "Testing/b.png"], "Testing");
    refused("masks", &["images/a.png", "masks/a.png"], "masks");
    refused("labels", &["images/a.png", "labels/a.txt"], "labels");
    refused("coco", &["images/a.png", "annotations/val.json"], "annotations");
    refused(
        "flir",
        &["images_thermal_train/a.jpg", "images_thermal_val/b.jpg"],
        "images_thermal_train",
    );
    refused("years", &["x/a.jpg", "val2017/b.jpg"], "val2017");
    refused("list", &["a.jpg", "train.txt"], "train.txt");
    refused("deep", &["site/a.jpg", "site/val/b.jpg"], "site/val/b.jpg");
    refused("beside", &["train/images.jpg", "train/masks/b.png"], "train/masks/b.png");
    let two = folder.path().join("two");
    tree(&two, &["train2014/a.jpg", "train2017/b.jpg"]);
    let error = training_images(&two).unwrap_err().to_string();
    assert!(error.contains("train2014: expected one folder of training images"), "{error}");
    let empty = folder.path().join("empty");
    tree(&empty, &["notes.md"]);
    assert!(training_images(&empty).unwrap_err().to_string().contains("empty"));
}

#[test]
fn lists_name_an_image_each() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    tree(root, &["images/day/1.png", "images/night/1.png", "images/2.v2.png", "images/3.png"]);
    let listed = |lines: &str| {
        std::fs::write(root.join("train.txt"), lines).unwrap();
        training_images(root)
    };
    let names = |lines: &str| -> Vec<String> {
        let images = root.join("images");
        let paths = listed(lines).unwrap();
        let name =
            |path: &std::path::PathBuf| path.strip_prefix(&images).unwrap().display().to_string();
        paths.iter().map(name).collect()
    };
    // Not both of one name; dots in names; with the folder before and the mask behind.
    assert_eq!(names("night/1\n2.v2\n"), ["2.v2.png", "night/1.png"]);
    assert_eq!(
        names("images/day/1.png masks/day/1.png\r\nimages\\3.png\n"),
        ["3.png", "day/1.png"]
    );
    for (lines, names, found) in [("3\n4\n5\n", 3, 1), ("3\n3.png\n", 2, 1), ("3\n1\n", 2, 1)] {
        let error = listed(lines).unwrap_err().to_string();
        assert!(error.contains(&format!("train.txt: {names} names, expected")), "{error}");
        assert!(error.ends_with(&format!("images, found {found}")), "{error}");
    }
    assert!(listed("\n").unwrap_err().to_string().ends_with("names of images, found none"));
}

#[cfg(unix)]
#[test]
fn an_image_is_in_the_mix_once() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    tree(root, &["a/1.png", "a/2.png", "b/3.png"]);
    let all = |folders: &[&str]| -> Vec<std::path::PathBuf> {
        folders.iter().flat_map(|name| training_images(&root.join(name)).unwrap()).collect()
    };
    expect_different(all(&["a", "b"]).iter()).unwrap();
    symlink(root.join("a/2.png"), root.join("b/4.png")).unwrap();
    let error = expect_different(all(&["a", "b"]).iter()).unwrap_err().to_string();
    assert!(error.contains("b/4.png: the same image as ") && error.contains("a/2.png"), "{error}");
    // A folder that is inside itself.
    symlink(root.join("a"), root.join("a/again")).unwrap();
    assert!(training_images(&root.join("a")).is_err());
}

#[test]
fn classes_are_split_alike_at_every_call() {
    let module = |number: usize| {
        let class = if number < 40 { "No-Anomaly" } else { "Cell" };
        (
            number.to_string(),
            json!({ "anomaly_class": class, "image_filepath": format!("images/{number}.jpg") }),
        )
    };
    let modules: BTreeMap<String, Value> = (0..60).map(module).collect();
    let all = split_classes(&modules, None).unwrap();
    let count = |parts: &[(String, String)], place: &str| {
        parts.iter().filter(|(name, _)| name.starts_with(place)).count()
    };
    let places = ["train/No-Anomaly/", "val/No-Anomaly/", "train/Cell/", "val/Cell/"];
    assert_eq!(places.map(|place| count(&all, place)), [30, 10, 15, 5]);
    let some = split_classes(&modules, Some([20, 6])).unwrap();
    assert_eq!(places.map(|place| count(&some, place)), [20, 6, 15, 5]);
    assert!(some.iter().all(|part| all.contains(part)));
    let broken = BTreeMap::from([("7".to_string(), json!({ "anomaly_class": "Cell" }))]);
    let error = split_classes(&broken, None).unwrap_err().to_string();
    assert_eq!(error, "module 7: expected `anomaly_class` and `image_filepath`");
    let one: BTreeMap<String, Value> = (39..60).map(module).collect();
    let error = split_classes(&one, None).unwrap_err().to_string();
    assert_eq!(error, "class `No-Anomaly`: expected at least 2 images, found 1");
    // Of two, one each.
    let two: BTreeMap<String, Value> = (38..60).map(module).collect();
    let parts = split_classes(&two, None).unwrap();
    assert_eq!(places.map(|place| count(&parts, place)), [1, 1, 15, 5]);
}

fn sets(out: &Path, more: &[&str]) -> anyhow::Result<Sets> {
    Ok(Plan::new(&flags(out, more))?.sets)
}

#[test]
fn the_sets_of_a_folder_stay_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (root, out) = (folder.path(), folder.path().join("out"));
    // Listed by name and size, and not read.
    let write = |name: &str, bytes: usize| {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x".repeat(bytes)).unwrap();
    };
    for number in 0..3 {
        write(&format!("street/{number}.png"), 16 + number);
        write(&format!("hit/normal_json/train/{number}.png"), 16);
        write(&format!("hit/normal_json/val/{number}.png"), 16);
    }
    let place = |name: &str| root.join(name).display().to_string();
    let (street, hit) = (place("street"), place("hit"));
    let mix = ["--mix", &street, &hit, "--mix-scenes=1"];
    for _ in 0..2 {
        data::prepare(&sets(&out, &mix).unwrap()).unwrap();
        data::check(&sets(&out, &mix).unwrap()).unwrap();
    }
    let names = |name: &str| -> Vec<String> {
        let entries = std::fs::read_dir(out.join("data/mix").join(name).join("thermal")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    // Three links, the training part alone, and a scene.
    assert_eq!(names("street"), ["000000_0.png", "000001_1.png", "000002_2.png"]);
    assert_eq!(names("hit").len(), 3);
    assert_eq!(names("scenes"), ["00000.png"]);
    let linked = out.join("data/mix/hit/thermal/000000_0.png").canonicalize().unwrap();
    assert!(linked.ends_with("normal_json/train/0.png"), "{}", linked.display());
    // `pad` sees them all, each source under its name.
    let opened = pad::data::sets::ImageFolder::open(out.join("data/mix")).unwrap();
    assert_eq!(pad::data::Dataset::len(&opened), 7);

    let refused = |more: &[&str]| {
        let sets = sets(&out, more).unwrap();
        let error = data::check(&sets).unwrap_err().to_string();
        assert_eq!(data::prepare(&sets).unwrap_err().to_string(), error);
        assert!(error.contains("data/mix.txt: expected `"), "{error}");
        assert!(error.ends_with("choose another --out"), "{error}");
        error
    };
    refused(&["--mix", &street, "--mix-scenes=1"]);
    refused(&["--mix", &street, &hit, "--mix-scenes=2"]);
    refused(&["--mix", &street, &hit, "--mix-scenes=0"]);
    std::fs::rename(root.join("hit"), root.join("moved")).unwrap();
    std::fs::create_dir_all(root.join("again")).unwrap();
    std::fs::rename(root.join("moved"), root.join("again/hit")).unwrap();
    assert!(refused(&["--mix", &street, &place("again/hit"), "--mix-scenes=1"]).contains("again"));
    std::fs::rename(root.join("again/hit"), root.join("hit")).unwrap();
    data::prepare(&sets(&out, &mix).unwrap()).unwrap();
    // Another image under the same name, one more, one less.
    write("street/0.png", 40);
    assert!(refused(&mix).contains("street: "));
    write("street/0.png", 16);
    write("street/3.png", 16);
    assert!(refused(&mix).contains("4 files"));
    std::fs::remove_file(root.join("street/3.png")).unwrap();
    data::prepare(&sets(&out, &mix).unwrap()).unwrap();
    // More scenes than there should be; a folder without its record.
    std::fs::write(out.join("data/mix/scenes/thermal/00001.png"), "").unwrap();
    let error = data::prepare(&sets(&out, &mix).unwrap()).unwrap_err().to_string();
    assert!(error.ends_with("thermal: 2 files, expected 1: choose another --out"), "{error}");
    std::fs::remove_file(out.join("data/mix.txt")).unwrap();
    let error = data::prepare(&sets(&out, &mix).unwrap()).unwrap_err().to_string();
    assert!(error.contains("mix.txt: missing beside its folder"), "{error}");
}

#[test]
fn names_that_the_mix_has_itself_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["scenes", "thermal", ".hidden", "a/scenes", "b/same", "c/same"] {
        std::fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    let place = |name: &str| folder.path().join(name).display().to_string();
    for name in ["scenes", "thermal", ".hidden", "a/scenes"] {
        let error = sets(folder.path(), &["--mix", &place(name)]).unwrap_err().to_string();
        let last = name.rsplit('/').next().unwrap();
        let expected = format!("{name}: a folder of the mix cannot be called `{last}`, expected");
        assert!(error.contains(&expected), "{error}");
    }
    let error = sets(folder.path(), &["--mix", &place("b/same"), &place("c/same")]).unwrap_err();
    assert_eq!(error.to_string(), "same: two folders of the mix have this name");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(place("thermal"), place("night")).unwrap();
        sets(folder.path(), &["--mix", &place("night")]).unwrap();
    }
}

#[test]
fn solar_modules_that_are_there_are_linked() {
    let folder = tempfile::tempdir().unwrap();
    let (from, out) = (folder.path().join("solar"), folder.path().join("out"));
    let module = |number: usize| {
        let class = if number % 2 == 0 { "Cell" } else { "No-Anomaly" };
        let file = format!("images/{number}.jpg");
        (number.to_string(), json!({ "anomaly_class": class, "image_filepath": file }))
    };
    let modules: serde_json::Map<String, Value> = (0..80).map(module).collect();
    tree(&from, &["notes.txt"]);
    std::fs::write(from.join("module_metadata.json"), Value::from(modules).to_string()).unwrap();
    let flag = from.display().to_string();
    let prepare = || data::prepare(&sets(&out, &["--solar", &flag]).unwrap());
    let error = prepare().unwrap_err().to_string();
    assert!(error.contains("module_metadata.json: expected 80 images below"), "{error}");
    assert!(error.ends_with("found 0"), "{error}");
    // A quarter is missing; `tiny` takes 8 and 4 of each class all the same.
    for number in 0..60 {
        tree(&from, &[&format!("images/{number}.jpg")]);
    }
    prepare().unwrap();
    prepare().unwrap();
    let count =
        |place: &str| std::fs::read_dir(out.join("data/classes-8-4").join(place)).unwrap().count();
    let places = ["train/Cell", "val/Cell", "train/No-Anomaly", "val/No-Anomaly"];
    assert_eq!(places.map(count), [8, 4, 8, 4]);
    // Another list in its place.
    std::fs::write(from.join("module_metadata.json"), "{}").unwrap();
    let error = prepare().unwrap_err().to_string();
    assert!(error.contains("data/classes-8-4.txt: expected `classes: "), "{error}");
    // A folder per class is taken as it is.
    let other = folder.path().join("faults");
    tree(&other, &["Cell/1.jpg", "Crack/1.jpg"]);
    let other = other.display().to_string();
    data::prepare(&sets(&folder.path().join("out2"), &["--solar", &other]).unwrap()).unwrap();
    assert!(!folder.path().join("out2").exists());
}

#[test]
fn intervals_are_those_of_students_t() {
    // R: t.test(c(1, 2, 4, 5)): 3, 0.09493 to 5.90507.
    let spread = Spread::of(&[1.0, 2.0, 4.0, 5.0]).unwrap();
    let (low, high) = spread.interval().unwrap();
    assert_eq!((spread.mean, spread.count, spread.side()), (3.0, 4, 1));
    assert!((low - 0.094_930).abs() < 1e-3 && (high - 5.905_070).abs() < 1e-3, "{low} {high}");
    assert!((spread.deviation.unwrap() - 1.825_742).abs() < 1e-6);
    assert_eq!((t95(0), t95(2)), (None, Some(4.303)));
    for (freedom, point) in [(40, 2.021), (60, 2.000), (120, 1.980)] {
        assert!((t95(freedom).unwrap() - point).abs() < 1e-3, "{freedom}");
    }
    let one = Spread::of(&[7.0]).unwrap();
    assert_eq!((one.mean, one.interval(), one.side()), (7.0, None, 0));
    // What does not depend on the seed, whatever rounding makes of its mean.
    let equal = Spread::of(&[0.1; 3]).unwrap();
    assert_eq!((equal.interval(), equal.side(), equal.count), (None, 0, 3));
    assert_eq!(Spread::of(&[]), None);
    // Pairs of the seeds that both have.
    let a = BTreeMap::from([(0, 5.0), (1, 7.0), (2, 9.0)]);
    let b = BTreeMap::from([(1, 6.0), (2, 7.0), (3, 100.0)]);
    let gain = Spread::of_differences(&a, &b).unwrap();
    assert_eq!((gain.mean, gain.count), (1.5, 2));
}

/// What `pad` writes, with one number in the place of all that matter.
fn stored(work: Work, value: f64) -> Value {
    let text = match work {
        Work::Pretrain => include_str!("evidence/pretrain.json"),
        Work::Judge(Judge::Detect) => include_str!("evidence/detect.json"),
        Work::Judge(Judge::Segment) => include_str!("evidence/segment.json"),
        Work::Judge(Judge::Probe) => include_str!("evidence/probe.json"),
        _ => include_str!("evidence/finetune.json"),
    };
    let mut report: Value = serde_json::from_str(text).unwrap();
    for place in [
        "/held_out_after",
        "/val/stats/AP",
        "/val/stats/AP50",
        "/val/mean_iou",
        "/val/classes/1/iou",
        "/knn/balanced_accuracy",
        "/linear/balanced_accuracy",
        "/finetune/balanced_accuracy",
    ] {
        if let Some(number) = report.pointer_mut(place) {
            *number = value.into();
        }
    }
    report
}

/// Stores a result for every cell: `value` of its row and of the noise of its seed, one of the first three.
fn store(plan: &Plan, value: impl Fn(&str, f64) -> f64) {
    for cell in &plan.cells {
        let mut parts = cell.id.split('/');
        let (row, seed) = (parts.nth(1).unwrap(), parts.next().unwrap().parse::<usize>().unwrap());
        std::fs::create_dir_all(cell.result.parent().unwrap()).unwrap();
        let report = stored(cell.work, value(row, [0.0, 0.01, -0.01][seed]));
        std::fs::write(&cell.result, report.to_string()).unwrap();
    }
}

#[test]
fn tables_and_plots_of_stored_results() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--only=rgb,full,pad,pad-b16", "--seeds=0,1,2"];
    let (flags, plan) = (flags(folder.path(), &more), plan(folder.path(), &more));
    // PAD is 0.10 above `rgb`, with little noise, level with `full`, below its variant.
    store(&plan, |row, noise| match row {
        "rgb" => 0.30 + 0.5 * noise,
        "full" => 0.40 - 2.0 * noise,
        "pad" => 0.40 + noise,
        _ => 0.45 + 0.5 * noise,
    });
    let results = Results::read(&plan).unwrap();
    assert_eq!(results.ended, plan.cells.len());
    let spread = results.spread(("shipped", "pad"), Metric::Knn).unwrap();
    assert!((spread.mean - 40.0).abs() < 1e-9 && (spread.deviation.unwrap() - 1.0).abs() < 1e-9);
    let gain = |row, metric| results.gain("shipped", ["pad", row], metric).unwrap();
    assert_eq!(gain("rgb", Metric::Ap50).side(), 1);
    assert_eq!(gain("full", Metric::MeanIou).side(), 0);
    assert_eq!(gain("pad-b16", Metric::LastIou).side(), -1);
    // The loss is that of decoders too.
    assert!(results.spread(("shipped", "pad-b16"), Metric::Loss).is_some());
    assert!(results.gain("shipped", ["pad", "pad-b16"], Metric::Loss).is_none());

    // Two sessions of one version, and one of another.
    for version in ["pad 0.1.0", "pad 0.1.0", "pad 0.2.0"] {
        machine::note(folder.path(), &machine::line(&flags, version)).unwrap();
    }
    let text = report::markdown(&flags, &plan, &results);
    assert_eq!(text.matches("- run on: pad 0.").count(), 2, "{text}");
    let machine = format!("{}, level {}", pad_testkit::processor(), pad::ops::cpu_level());
    assert!(
        text.contains(&format!("- run on: pad 0.2.0, {machine}, device cpu, a thread per core\n"))
    );
    for part in [
        "81 of 81 cells have ended",
        "**Tiny runs: they show that everything runs, and nothing about any row.**",
        "| row | held-out loss | detection AP |",
        "| RGB only, as is | - | 30.0 ± 0.5<br>[28.8, 31.2] |",
        "| **PAD: adapters, patchwise scale** | 0.4000 ± 0.0100<br>[0.3752, 0.4248] | 40.0 ± 1.0<br>[37.5, 42.5] |",
        "| PAD minus | detection AP |",
        "| RGB only, as is | **+10.0**<br>[+8.8, +11.2] |",
        "| minus PAD | detection AP |",
        "| PAD, bottleneck 16 | **+5.0**<br>[+3.8, +6.2] |",
        "27 comparisons (18 with other rows, 9 with variants), of which about 1.",
        "- k-NN: PAD ahead of RGB only, as is; behind no row; undecided: full continual.",
        "- pre-training: rendered scenes",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("NaN") && !text.contains("- held-out loss: "), "{text}");
    let pictures = report::pictures(&plan, &results);
    for name in ["shipped_knn.svg", "shipped_ap50_gain.svg", "shipped_labels.svg"] {
        let svg = &pictures[name];
        assert!(svg.contains("prefers-color-scheme: dark"), "{name}");
        let tree = Elements::of(svg);
        assert!(tree.count("circle") >= 3 && tree.count("text") > 8, "{name}: {svg}");
    }
    assert!(pictures.contains_key("shipped_loss.svg"));
    assert!(!pictures.contains_key("shipped_loss_gain.svg"));
    let paths = report::write(&flags, &plan, &results).unwrap();
    assert_eq!(paths.len(), pictures.len() + 1);
    // Half of it: what is missing is a dash, and nothing is said of one seed.
    for cell in plan.cells.iter().filter(|cell| !cell.id.contains("/0/")) {
        std::fs::remove_file(&cell.result).unwrap();
    }
    let text = report::markdown(&flags, &plan, &Results::read(&plan).unwrap());
    assert!(text.contains("Nothing: an interval needs two seeds that have ended"), "{text}");
    assert!(text.contains("| RGB only, as is | - | 30.0 |"), "{text}");
}

#[test]
fn what_rows_share_is_compared_once() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--only=rgb,frozen,pad", "--seeds=0,1,2"];
    let (flags, whole) = (flags(folder.path(), &more), plan(folder.path(), &more));
    // Features of the weights as they are do not depend on the seed.
    store(&whole, |row, noise| if row == "pad" { 0.40 + noise } else { 0.30 });
    let text = report::markdown(&flags, &whole, &Results::read(&whole).unwrap());
    for part in [
        "| RGB only, as is | - | 30.0 ± 0.0 | 30.0 ± 0.0 |",
        "| RGB only, frozen: heads alone | - | 30.0 ± 0.0 | 30.0 ± 0.0 |",
        "| as above | as above | **+10.0**",
        "- k-NN: PAD ahead of RGB only, as is; behind no row; undecided: no row.",
        "- detection AP: PAD ahead of RGB only, as is; RGB only, frozen: heads alone; behind no row;",
        "16 comparisons (16 with other rows, 0 with variants), of which about 0.8 would",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let pictures = report::pictures(&whole, &Results::read(&whole).unwrap());
    let names_it = |name: &str| pictures[name].contains("frozen");
    assert!(!names_it("shipped_knn_gain.svg") && names_it("shipped_ap_gain.svg"));
    // Alone it has a comparison of its own; without PAD there is nothing to compare.
    let of = |only: &str| {
        let part = plan(folder.path(), &[only, "--seeds=0,1,2"]);
        report::markdown(&flags, &part, &Results::read(&part).unwrap())
    };
    let text = of("--only=frozen,pad");
    assert!(text.contains("- k-NN: PAD ahead of RGB only, frozen: heads alone; behind"), "{text}");
    assert!(text.contains("9 comparisons (9 with other rows"), "{text}");
    let text = of("--only=rgb,frozen");
    assert!(text.contains("Nothing: the row `pad`, with which the others are compared"), "{text}");
    assert!(!text.contains("PAD minus"), "{text}");
}

#[test]
fn short_runs_are_cells_with_fewer_updates() {
    let folder = tempfile::tempdir().unwrap();
    tree(folder.path(), &["hit/train/1.jpg"]);
    let hit = folder.path().join("hit").display().to_string();
    let plan = plan(&folder.path().join("out"), &["--hit-uav", &hit, "--only=pad", "--seeds=0"]);
    let place = Path::new("/measured/place");
    let of = |id: &str| {
        let cell = plan.cell(&format!("shipped/pad/0/{id}")).unwrap();
        let words = short(cell, place);
        // What says how long, how large and where is there once, and all else as it was.
        let others = |words: &[String]| -> Vec<String> {
            let mut left = Vec::new();
            let mut words = words.iter();
            while let Some(word) = words.next() {
                match word.as_str() {
                    "--max-steps" | "--out" | "--json" | "--val-images" => {
                        words.next();
                    }
                    _ => left.push(word.clone()),
                }
            }
            left
        };
        assert_eq!(others(&words), others(&cell.command));
        for flag in ["--max-steps", "--out", "--json", "--val-images"] {
            assert!(words.iter().filter(|word| *word == flag).count() <= 1, "{words:?}");
        }
        words[others(&words).len()..].join(" ")
    };
    assert_eq!(of("pretrain"), "--max-steps 3 --out /measured/place");
    assert_eq!(of("detect"), "--max-steps 3 --val-images 4 --out /measured/place");
    assert_eq!(of("segment"), "--max-steps 3 --val-images 4 --out /measured/place");
    assert_eq!(of("finetune-10"), "--max-steps 3 --json /measured/place/report.json");
}

#[test]
fn time_is_foretold_of_what_short_runs_leave() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    tree(root, &["udder/images/1.png", "hit/train/1.jpg"]);
    std::fs::write(root.join("udder/val.txt"), "2\n3\n4\n5\n6\n7\n8\n").unwrap();
    let place = |name: &str| root.join(name).display().to_string();
    let (hit, udder) = (place("hit"), place("udder"));
    let plan_of = |sets: &[&str]| {
        let more = [&["--only=pad", "--seeds=0"][..], sets].concat();
        plan(&root.join("out"), &more)
    };
    let labelled = plan_of(&["--hit-uav", &hit, "--udder", &udder]);
    let run = root.join("measured");
    let of = |plan: &Plan, id: &str| {
        let cell = plan.cell(&format!("shipped/pad/0/{id}")).unwrap();
        for name in ["summary.json", "report.json"] {
            std::fs::create_dir_all(&run).unwrap();
            std::fs::write(run.join(name), stored(cell.work, 0.4).to_string()).unwrap();
        }
        foretold(cell, &run, &plan.sets).unwrap()
    };
    let close = |found: Option<f64>, expected: f64| {
        assert!((found.unwrap() - expected).abs() < 1e-6, "{found:?}, expected {expected}");
    };
    // Without updates in the log nothing can be told; fine-tuning has none.
    assert_eq!(of(&labelled, "detect"), None);
    close(of(&labelled, "finetune-1"), 1.2 / 3.0 * 2.0 + (3.1 - 1.2));
    let log = [5.0, 0.05, 0.06].map(|seconds| json!({ "train/seconds": seconds }).to_string());
    std::fs::write(run.join("log.jsonl"), log.join("\n") + "\n{\"step\":3,\"val/AP\":0.0}\n")
        .unwrap();
    // Eleven evaluations in place of two.
    close(of(&labelled, "pretrain"), 10.0 * 0.05 + (0.695_587_528 - 3.0 * 0.05) / 2.0 * 11.0);
    // Seven images of the list, three times.
    close(of(&labelled, "segment"), 2.0 * 0.05 + 3.0 * 7.0 * 11.263_904_25);
    // Rendered scenes, by their flag.
    close(of(&plan_of(&[]), "segment"), 2.0 * 0.05 + 3.0 * 4.0 * 11.263_904_25);
    // Four images at most, and no more than there are.
    close(of(&labelled, "detect"), 2.0 * 0.05 + 3.0 * 4.0 * 0.806_817_92);
    tree(root, &["hit/val/1.jpg", "hit/val/2.jpg"]);
    close(of(&labelled, "detect"), 2.0 * 0.05 + 3.0 * 2.0 * 0.806_817_92);
    std::fs::remove_file(root.join("udder/val.txt")).unwrap();
    assert_eq!(of(&labelled, "segment"), None);
}

/// The names of the elements of a document whose tags are balanced.
struct Elements(Vec<String>);

impl Elements {
    fn of(xml: &str) -> Self {
        let (mut open, mut all): (Vec<&str>, Vec<String>) = (Vec::new(), Vec::new());
        let mut rest = xml;
        while let Some((_, behind)) = rest.split_once('<') {
            let (tag, after) = behind.split_once('>').expect("a tag that ends");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name));
            } else {
                all.push(name.to_string());
                if !tag.ends_with('/') {
                    open.push(name);
                }
            }
            rest = after;
        }
        assert!(open.is_empty(), "{open:?}");
        Self(all)
    }

    fn count(&self, name: &str) -> usize {
        self.0.iter().filter(|found| *found == name).count()
    }
}

#[test]
fn plots_of_odd_numbers() {
    assert_eq!(ticks(0.0, 10.0, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
    for (low, high) in [(3.0, 3.0), (0.0, 0.0), (-1e-3, 2e-3), (1e6, 1e6 + 1.0)] {
        let found = ticks(low, high, 6);
        assert!(found.len() >= 2 && found.len() < 20, "{low} {high}: {found:?}");
        assert!(found[0] <= low && found[found.len() - 1] >= high, "{low} {high}: {found:?}");
    }
    let entry = |label: &str, mean| Entry {
        label: label.into(),
        mean,
        interval: None,
        points: Vec::new(),
        class: "mark",
    };
    Elements::of(&forest("empty", "", &[], true));
    let svg = forest("a < b & \"c\"", "%", &[entry("x > y", 0.0)], false);
    assert!(svg.contains("a &lt; b &amp; &quot;c&quot;") && !svg.contains("NaN"), "{svg}");
    Elements::of(&svg);
}

/// The command and this file: `cargo test -p pad-ir-cli --test evidence -- --ignored`.
#[test]
#[ignore = "trains and evaluates for some minutes"]
fn a_small_comparison_runs_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (root, out) = (folder.path(), folder.path().join("out"));
    // A mix of a plain folder and of the training part of a set.
    for number in 0..12_u64 {
        let config = SceneConfig::new(Size::new(96, 128), 7);
        let scene = render(&config, number).unwrap();
        let picture = image::GrayImage::from_raw(128, 96, scene.gray).unwrap();
        for name in ["street", "set/train", "set/val"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
            picture.save(root.join(name).join(format!("{number}.png"))).unwrap();
        }
    }
    let place = |name: &str| root.join(name).display().to_string();
    let arguments = || {
        let words =
            ["evidence", "--budget=tiny", "--only=random,full,lora,pad,frozen", "--seeds=3"];
        let more = ["--threads=2", "--mix-scenes=4", "--pad", env!("CARGO_BIN_EXE_pad"), "--mix"];
        let words = words.into_iter().chain(more).map(String::from);
        words.chain([place("street"), place("set"), "--out".into(), out.display().to_string()])
    };
    let code = |code: ExitCode| format!("{code:?}");
    let first = evidence::main(arguments()).unwrap();
    let plan = Plan::new(&Flags::parse_from(arguments())).unwrap();
    let logs: Vec<String> = plan
        .cells
        .iter()
        .filter(|cell| !cell.has_ended())
        .map(|cell| std::fs::read_to_string(cell.log()).unwrap_or_default())
        .collect();
    assert_eq!(code(first), code(ExitCode::SUCCESS), "{logs:?}");
    let text = std::fs::read_to_string(out.join("tables/evidence.md")).unwrap();
    // A search of regions, four pre-trainings, five rows and six judges.
    assert!(text.contains("35 of 35 cells have ended"), "{text}");
    assert!(text.contains("- pre-training: street, set, and 4 rendered scenes"), "{text}");
    assert!(text.contains("- run on: pad "), "{text}");
    assert!(text.contains("| **PAD: adapters, patchwise scale** | "), "{text}");
    let detect = plan.cell("shipped/pad/3/detect").unwrap();
    let detect = detect.run.as_ref().unwrap();
    assert!(!detect.join("checkpoints").exists() && !detect.join("detector.safetensors").exists());
    let mixed = std::fs::read_dir(out.join("data/mix/set/thermal")).unwrap().count();
    assert_eq!(mixed, 12, "the images of `train` alone");
    assert!(out.join("data/mix/set/roi").is_dir());
    // Nothing was learnt from random values.
    let random = plan.cell("shipped/random/3/pretrain").unwrap().report().unwrap().unwrap();
    assert_eq!(random["held_out_before"], random["held_out_after"]);
    // Nothing is repeated.
    let changed = |path: &Path| path.metadata().unwrap().modified().unwrap();
    let before: Vec<_> = plan.cells.iter().map(|cell| changed(&cell.result)).collect();
    assert_eq!(code(evidence::main(arguments()).unwrap()), code(ExitCode::SUCCESS));
    let after: Vec<_> = plan.cells.iter().map(|cell| changed(&cell.result)).collect();
    assert_eq!(before, after);
}
