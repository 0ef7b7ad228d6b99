//! Probes of frozen features: exact answers on toy sets, folders of labelled images, refusals.

mod programs;

use std::{path::Path, process::Output, sync::Arc};

use candle_core::{Device, Tensor};
use pad::{
    ImageSize,
    data::{
        draw::Canvas,
        loader::{Loader, LoaderConfig},
        sets::{ImageDataset, ImageDatasetConfig},
    },
    params::ParamStore,
    rng::Key,
    ssl::probe::{Features, Labelled, LabelledPart, LinearProbe, NearestNeighbours, Pool, Scores},
    vit::{ViT, ViTConfig},
};

fn features(rows: &[[f32; 2]], labels: &[usize], classes: usize) -> Features {
    let values = Tensor::from_vec(rows.concat(), (rows.len(), 2), &Device::Cpu).unwrap();
    Features::new(&values, labels.to_vec(), classes).unwrap()
}

/// Directions: class 0 along +x (two images), 1 along +y (one), 2 along -x (one).
fn known() -> Features {
    features(&[[2.0, 0.1], [5.0, -0.2], [0.1, 3.0], [-1.0, 0.0]], &[0, 0, 1, 2], 3)
}

#[test]
fn neighbours_vote_by_cosine() {
    let asked = features(&[[9.0, 0.0], [0.0, 0.1], [-3.0, 1.0], [1.0, 1.1]], &[0, 1, 1, 1], 3);
    let knn = |k| NearestNeighbours { k, ..Default::default() };
    assert_eq!(knn(1).classify(&known(), &asked).unwrap(), [0, 1, 2, 1]);
    let scores = Scores::new(&knn(1).classify(&known(), &asked).unwrap(), &asked).unwrap();
    assert_eq!((scores.correct.clone(), scores.images.clone()), (vec![1, 2, 0], vec![1, 3, 0]));
    assert_eq!(scores.accuracy(), 0.75);
    assert_eq!(scores.by_class(), [1.0, 2.0 / 3.0, 0.0]);
    // Two neighbours of class 0 outvote a nearer one of class 1 where votes hardly fall with distance.
    let flat = NearestNeighbours { k: 3, temperature: 100.0 };
    assert_eq!(flat.classify(&known(), &asked).unwrap()[3], 0);
    assert_eq!(knn(3).classify(&known(), &asked).unwrap()[3], 1);
    // More neighbours than images: all vote.
    assert_eq!(knn(50).classify(&known(), &asked).unwrap(), [0, 1, 2, 1]);
}

#[test]
fn a_linear_layer_separates_what_is_separable() {
    let mut stream = Key::new(4).stream();
    let mut set = |count: usize| {
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        for i in 0..count {
            let centre = [[30.0_f32, 1.0], [31.0, 1.0], [30.0, 1.02]][i % 3];
            let noise = [0.1 * stream.normal() as f32, 0.002 * stream.normal() as f32];
            rows.push([centre[0] + noise[0], centre[1] + noise[1]]);
            labels.push(i % 3);
        }
        features(&rows, &labels, 3)
    };
    let (train, asked) = (set(300), set(90));
    let probe = LinearProbe { batch_size: 32, ..Default::default() };
    let scores = Scores::new(&probe.classify(&train, &asked).unwrap(), &asked).unwrap();
    assert_eq!(scores.accuracy(), 1.0);
    // The values' own scales would need far more updates.
    let raw = LinearProbe { normalize: false, lr: 1e-3, ..probe };
    let raw = Scores::new(&raw.classify(&train, &asked).unwrap(), &asked).unwrap();
    assert!(raw.accuracy() < 0.9);
    assert_eq!(probe.classify(&train, &asked).unwrap(), probe.classify(&train, &asked).unwrap());
}

fn image(folder: &Path, name: &str, level: u8) {
    std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
    Canvas::new(ImageSize::square(40), [level; 3]).save_png(folder.join(name)).unwrap();
}

fn extract(part: &LabelledPart, max_unreadable: f64) -> pad::ssl::Result<Features> {
    let config = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 1, 2) };
    let vit = ParamStore::scratch(&Device::Cpu, Key::new(0)).build(|vb| ViT::new(&config, vb))?;
    let config = ImageDatasetConfig::evaluation(ImageSize::square(32));
    let dataset = ImageDataset::new(part.images.clone(), config)?;
    let config = LoaderConfig {
        batch_size: 4,
        workers: 1,
        shuffle: false,
        drop_last: false,
        max_unreadable,
        ..Default::default()
    };
    let loader = Loader::new(Arc::new(dataset), config)?;
    Features::extract(&vit, &loader, &part.labels, 2, Pool::Mean, &Device::Cpu)
}

#[test]
fn folders_of_classes() {
    let root = tempfile::tempdir().unwrap();
    for i in 0..20 {
        image(root.path(), &format!("dark/{i}.png"), 20 + i);
        image(root.path(), &format!("bright/sub/{i}.png"), 200 + i);
    }
    let set = Labelled::open(root.path(), 0.3, 1).unwrap();
    assert_eq!(set.classes, ["bright", "dark"]);
    assert_eq!(set.train.labels.len() + set.val.labels.len(), 40);
    assert!((4..=20).contains(&set.val.labels.len()));
    for (index, &label) in set.val.labels.iter().enumerate() {
        assert_eq!(set.val.images.name(index).unwrap().starts_with("dark"), label == 1);
    }
    let (train, val) = (extract(&set.train, 0.0).unwrap(), extract(&set.val, 0.0).unwrap());
    let knn = NearestNeighbours { k: 5, ..Default::default() }.classify(&train, &val).unwrap();
    assert_eq!(Scores::new(&knn, &val).unwrap().accuracy(), 1.0);
    // A given split is taken as it is.
    let root = tempfile::tempdir().unwrap();
    for (part, count) in [("train", 3), ("val", 2)] {
        for i in 0..count {
            image(root.path(), &format!("{part}/a/{i}.png"), 9);
            image(root.path(), &format!("{part}/b/{i}.png"), 99);
        }
    }
    let set = Labelled::open(root.path(), 0.0, 1).unwrap();
    assert_eq!((set.train.labels.len(), set.val.labels.len()), (6, 4));
}

/// What opening says once the folder holds `files`.
fn refusal(files: &[&str], folders: &[&str], val_share: f64) -> String {
    let root = tempfile::tempdir().unwrap();
    files.iter().for_each(|name| image(root.path(), name, 3));
    folders.iter().for_each(|name| std::fs::create_dir_all(root.path().join(name)).unwrap());
    let error = Labelled::open(root.path(), val_share, 0).unwrap_err().to_string();
    error.replace(&root.path().display().to_string(), "ROOT")
}

#[test]
fn refusals_of_folders() {
    let two = ["a/0.png", "a/1.png", "b/0.png", "b/1.png"];
    assert_eq!(refusal(&["0.png"], &[], 0.5), "ROOT: no folder in it, expected one per class");
    assert_eq!(refusal(&two[..2], &[], 0.5), "ROOT: one class alone (`a`), expected at least two");
    assert_eq!(refusal(&two, &["c"], 0.5), "ROOT/c: no image in it, expected some of class `c`");
    assert_eq!(
        refusal(&two, &[], 1.0),
        "ROOT: no training image of class `a`, expected some (another seed or a smaller share of validation images)"
    );
    assert_eq!(refusal(&two, &[], 0.0), "ROOT: no validation image, expected some");
    assert_eq!(
        refusal(&["a/0.png", "b/0.png", "stray.png"], &[], 0.5),
        "ROOT: `stray.png` is in no class's folder"
    );
    assert_eq!(
        refusal(&["train/a/0.png", "train/b/0.png", "val/a/0.png", "val/c/0.png"], &[], 0.5),
        "ROOT/val/c: class `c` is not in ROOT/train"
    );
}

#[test]
fn an_unreadable_image_is_named_or_left_out() {
    let root = tempfile::tempdir().unwrap();
    for i in 0..4 {
        image(root.path(), &format!("train/a/{i}.png"), 20);
        image(root.path(), &format!("train/b/{i}.png"), 200);
        image(root.path(), &format!("val/a/{i}.png"), 20);
        image(root.path(), &format!("val/b/{i}.png"), 200);
    }
    std::fs::write(root.path().join("train/b/2.png"), b"no picture").unwrap();
    let set = Labelled::open(root.path(), 0.0, 0).unwrap();
    let error = extract(&set.train, 0.0).unwrap_err().to_string();
    assert!(error.contains("train/b/2.png"), "{error}");
    let features = extract(&set.train, 0.5).unwrap();
    assert_eq!(features.labels(), [0, 0, 0, 0, 1, 1, 1]);
}

#[test]
fn refusals_of_features_and_settings() {
    let values = Tensor::new(&[[1.0_f32, 2.0]], &Device::Cpu).unwrap();
    let text = |values: &Tensor, labels: Vec<usize>| {
        Features::new(values, labels, 2).unwrap_err().to_string()
    };
    assert_eq!(
        text(&values, vec![]),
        "1 features and 0 labels, expected as many of both, and some"
    );
    assert_eq!(text(&values, vec![2]), "label 2, expected below 2");
    let nan = (&values * f64::NAN).unwrap();
    assert_eq!(text(&nan, vec![1]), "feature of image 0 is not finite");
    let asked = features(&[[1.0, 0.0]], &[0], 2);
    assert_eq!(
        NearestNeighbours::default().classify(&known(), &asked).unwrap_err().to_string(),
        "features of 2 values and 2 classes, expected 2 and 3"
    );
    let none = NearestNeighbours { k: 0, ..Default::default() };
    assert_eq!(
        none.classify(&known(), &known()).unwrap_err().to_string(),
        "k 0 and temperature 0.07, expected at least 1 and above 0"
    );
    let probe = LinearProbe { epochs: 0, ..Default::default() };
    assert_eq!(
        probe.classify(&known(), &known()).unwrap_err().to_string(),
        "linear probe: LinearProbe { epochs: 0, batch_size: 256, lr: 0.1, momentum: 0.9, weight_decay: 0.0, normalize: \
         true, seed: 0 }, expected epochs, batch_size and lr above 0, 0 <= momentum < 1, weight_decay of 0 or more"
    );
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
        assert_eq!(report["linear"]["balanced_accuracy"], 1.0, "{objective}: {text}");
        for printed in ["most frequent class", "predicted", "the centre of each image"] {
            assert!(said(&output).contains(printed), "{objective}, {printed}: {}", said(&output));
        }
    }
    let refused = [
        ("--objective=milan", "objective milan needs a teacher, expected --teacher FILE"),
        ("--objective=simclr", "`objective` is simclr, expected mae, milan, simmim or features"),
        ("--masking=spiral", "`masking` is spiral, expected random, block, cells, attention or"),
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
