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
        ("--objective=milan", "objective milan needs --teacher"),
        (
            "--objective=simclr",
            "objective: expected mae, milan, simmim or features, found `simclr`",
        ),
        (
            "--masking=spiral",
            "masking: expected random, block, cells, attention or intensity, found `spiral`",
        ),
        ("--masking=attention", "masking attention needs --teacher, the weights of CLIP"),
    ];
    for (flag, want) in refused {
        let out = folder.path().join("refused");
        let output = programs::pretrain(&data, &out, &[flag]).output().unwrap();
        assert!(!output.status.success() && said(&output).contains(want), "{}", said(&output));
        assert!(!out.exists());
    }
}
