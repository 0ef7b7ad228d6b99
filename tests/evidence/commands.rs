//! The plan: which cells there are, and what their commands say.

use clap::Parser;
use pad::{
    checkpoint::{self, BackboneOptions},
    params::Role,
    ssl::Paradigm,
    vit::ViTConfig,
};

use super::{
    evidence::{
        cell::{Cell, Work},
        flags::Flags,
        judge::Judge,
        plan::Plan,
    },
    flags, plan, tree,
};

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
