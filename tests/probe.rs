//! Every objective by the command, and probes of what it has learnt.

mod programs;

use std::{path::Path, process::Output};

use candle_core::Tensor;
use pad::{ImageSize, data::draw::Canvas};

fn image(folder: &Path, name: &str, level: u8) {
    std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
    Canvas::new(ImageSize::square(40), [level; 3]).save_png(folder.join(name)).unwrap();
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn every_objective_trains_and_its_encoder_is_probed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    programs::write_images(&data, 12);
    // CLIP with the recorded weights: any student's grid, by its own size of images.
    let clip: std::collections::HashMap<String, Tensor> =
        pad_testkit::golden("clip_visual_teacher")
            .into_iter()
            .filter_map(|(name, tensor)| {
                Some((format!("visual.{}", name.strip_prefix("param.")?), tensor))
            })
            .collect();
    let teacher = folder.path().join("clip.safetensors");
    candle_core::safetensors::save(&clip, &teacher).unwrap();
    let teacher = format!("--teacher={}", teacher.display());
    let labelled = folder.path().join("labelled");
    for i in 0..8 {
        image(&labelled, &format!("dark/{i}.png"), 20 + i);
        image(&labelled, &format!("bright/{i}.png"), 200 + i);
    }
    let runs: [(&str, &[&str]); 4] = [
        ("milan", &[&teacher]),
        ("simmim", &["--mask-ratio=0.5"]),
        ("features", &["--teacher=asset"]),
        ("mae", &["--masking=attention", &teacher]),
    ];
    for (objective, more) in runs {
        let run = folder.path().join(objective);
        let name = format!("--objective={objective}");
        let flags: Vec<&str> = [name.as_str()].into_iter().chain(more.iter().copied()).collect();
        let output = programs::pretrain(&data, &run, &flags).output().unwrap();
        assert!(output.status.success(), "{objective}: {}", said(&output));
        assert!(run.join("model.safetensors").exists());
        let json = run.join("probe.json");
        let mut probe = programs::program("probe");
        probe.arg(&labelled).arg("--run").arg(&run).arg("--json").arg(&json);
        let output = probe.arg("--k=3").output().unwrap();
        assert!(output.status.success(), "{objective}: {}", said(&output));
        let text = std::fs::read_to_string(&json).unwrap();
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["classes"], serde_json::json!(["bright", "dark"]));
        assert_eq!(report["knn"]["accuracy"], 1.0, "{objective}: {text}");
        let linear = &report["linear"];
        assert!(linear["balanced_accuracy"].as_f64().unwrap() > 0.5, "{objective}: {text}");
        assert_eq!(linear["confusion"].as_array().unwrap().len(), 2, "{objective}: {text}");
        for printed in ["most frequent class", "predicted", "the centre of each image"] {
            assert!(said(&output).contains(printed), "{objective}, {printed}: {}", said(&output));
        }
    }
    let refused = [
        ("--objective=milan", "objective milan needs a teacher, expected --teacher FILE"),
        (
            "--objective=simclr",
            "objective: expected mae, milan, simmim or features, found `simclr`",
        ),
        (
            "--masking=spiral",
            "masking: expected random, block, cells, attention or intensity, found `spiral`",
        ),
        (
            "--masking=attention",
            "masking attention needs a teacher, expected --teacher FILE of CLIP",
        ),
    ];
    for (flag, want) in refused {
        let out = folder.path().join("refused");
        let output = programs::pretrain(&data, &out, &[flag]).output().unwrap();
        assert!(!output.status.success() && said(&output).contains(want), "{}", said(&output));
        assert!(!out.exists());
    }
}

#[test]
fn an_encoder_is_fine_tuned_on_a_share_of_the_labels() {
    let folder = tempfile::tempdir().unwrap();
    let run = |threads: usize, flags: &[&str]| {
        let json = folder.path().join(format!("{threads}-{}.json", flags.join("")));
        let mut probe = programs::program("probe");
        probe.args(["--method=finetune", "--image-size=64", "--batch-size=16"]);
        probe.arg(format!("--threads={threads}")).arg(format!("--workers={threads}"));
        let output = probe.args(flags).arg("--json").arg(&json).output().unwrap();
        assert!(output.status.success(), "{flags:?}: {}", said(&output));
        let text = std::fs::read_to_string(&json).unwrap();
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        (report, said(&output))
    };
    // Seven kinds of scenes: chance is 14%.
    let long = ["--scenes=168", "--max-steps=30", "--lr=1e-3"];
    let (report, printed) = run(2, &long);
    let tuned = &report["finetune"];
    assert!(tuned["accuracy"].as_f64().unwrap() > 0.3, "{report}");
    assert_eq!((&tuned["steps"], &tuned["parts"]), (&30.into(), &"everything".into()));
    assert_eq!((&report["train_images"], &report["test_images"]), (&126.into(), &42.into()));
    assert!(report["peak_mib"].as_u64() > Some(0) && printed.contains("fine-tuned: accuracy"));
    // A third of the labels: 2 of 6 images of each class, in one batch, and the same bits for any
    // number of threads.
    let few = ["--scenes=56", "--label-share=0.33", "--max-steps=6"];
    let results = |threads| {
        let (mut report, _) = run(threads, &few);
        assert_eq!(report["train_images"], 14, "{report}");
        assert_eq!(report["finetune"]["batch_size"], 14);
        for name in ["seconds", "peak_mib"] {
            report[name] = serde_json::Value::Null;
            report["finetune"][name] = serde_json::Value::Null;
        }
        report
    };
    assert_eq!(results(1), results(2));
    // The head alone: 7 x 160 weights and 7 biases.
    let (heads, _) = run(1, &["--scenes=28", "--trained=heads", "--max-steps=2"]);
    assert_eq!(heads["finetune"]["trained"], 7 * 161);

    let refused: [(&[&str], &str); 10] = [
        (&["--method=finetune", "--k=5"], "--k without --method knn or both"),
        (&["--method=linear", "--k=5"], "--k without --method knn or both"),
        (
            &["--method=finetune", "--weight-decays=0.1"],
            "--weight-decays without --method linear or both",
        ),
        (
            &["--method=knn", "--weight-decays=0.1"],
            "--weight-decays without --method linear or both",
        ),
        (
            &["--method=finetune", "--trained=heads", "--layer-decay=0.5"],
            "--layer-decay with --trained heads: no layer of the encoder trains",
        ),
        (&["--epochs=3"], "--epochs without --method finetune"),
        (&["--label-share=0"], "expected a number above 0, up to 1"),
        (&["--method=finetune", "--epochs=1", "--max-steps=1"], "cannot be used with"),
        (
            &["--method=finetune", "--trained=adapters-and-heads", "--scenes=28"],
            "asset: the weights have no adapters, expected some with --trained adapters-and-heads",
        ),
        (
            &["--method=finetune", "--warmup=1"],
            "fine-tuning: `warmup` is 1, expected 0 or more, below 1",
        ),
    ];
    for (flags, want) in refused {
        let output = programs::program("probe").args(flags).output().unwrap();
        assert!(!output.status.success() && said(&output).contains(want), "{}", said(&output));
    }
}
