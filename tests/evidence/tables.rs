//! Numbers, tables, plots and forecasts of stored results.

use std::{collections::BTreeMap, path::Path};

use serde_json::json;

use super::{
    evidence::{
        judge::Metric,
        machine,
        measure::{foretold, short},
        plan::Plan,
        report,
        results::Results,
        stats::{Spread, t95},
        svg::{Entry, forest, ticks},
    },
    flags, plan, store, stored, tree,
};

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
