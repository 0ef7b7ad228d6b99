//! Probes of frozen features: exact answers on toy sets, folders of labelled images, errors.

use std::path::Path;

use candle_core::{Device, Tensor};
use pad_adapter::{
    checkpoint::FloatType,
    params::ParamStore,
    vit::{ViT, ViTConfig},
};
use pad_data::{
    Dataset, Loader, LoaderConfig, draw::Canvas, sets::classification::ClassFolder,
    transform::ImagePipeline,
};
use pad_ops::{ImageSize, rng::Key};
use pad_ssl::{
    Pool,
    embed::{ImageFeatures, embed},
    probe::{FeatureSet, LinearProbe, NearestNeighbours, Scores},
};

fn features(rows: &[[f32; 2]], labels: &[usize], classes: usize) -> FeatureSet {
    let values = Tensor::from_vec(rows.concat(), (rows.len(), 2), &Device::Cpu).unwrap();
    FeatureSet::new(&values, labels.to_vec(), classes).unwrap()
}

/// Directions: class 0 along +x (two images), 1 along +y (one), 2 along -x (one).
fn known() -> FeatureSet {
    features(&[[2.0, 0.1], [5.0, -0.2], [0.1, 3.0], [-1.0, 0.0]], &[0, 0, 1, 2], 3)
}

#[test]
fn neighbours_vote_by_cosine() {
    let query = features(&[[9.0, 0.0], [0.0, 0.1], [-3.0, 1.0], [1.0, 1.1]], &[0, 1, 1, 1], 3);
    let knn = |k| NearestNeighbours { k, ..Default::default() };
    assert_eq!(knn(1).classify(&known(), &query).unwrap(), [0, 1, 2, 1]);
    let scores = Scores::new(&knn(1).classify(&known(), &query).unwrap(), &query).unwrap();
    assert_eq!((scores.correct(), scores.images()), (vec![1, 2, 0], vec![1, 3, 0]));
    assert_eq!(scores.accuracy(), 0.75);
    assert_eq!(scores.by_class(), [Some(1.0), Some(2.0 / 3.0), None]);
    assert!((scores.balanced_accuracy() - 5.0 / 6.0).abs() < 1e-12);
    assert_eq!(scores.majority_share(), 0.75);
    assert_eq!(scores.confusion(), [[1, 0, 0], [0, 2, 1], [0, 0, 0]]);
    let names = ["a", "bb", "c"].map(String::from);
    assert_eq!(
        scores.confusion_table(&names),
        "    predicted\n         0   1   2\n a  0    1   0   0\nbb  1    0   2   1\n c  2    0   0   0"
    );
    assert_eq!(
        scores.to_string(),
        "accuracy 75.0%, balanced accuracy 83.3% (most frequent class 75.0%)"
    );
    // Two neighbours of class 0 outvote a nearer one of class 1 where votes hardly fall with
    // distance.
    let flat = NearestNeighbours { k: 3, temperature: 100.0 };
    assert_eq!(flat.classify(&known(), &query).unwrap()[3], 0);
    assert_eq!(knn(3).classify(&known(), &query).unwrap()[3], 1);
    // More neighbours than images: all vote.
    assert_eq!(knn(50).classify(&known(), &query).unwrap(), [0, 1, 2, 1]);
}

/// Three classes around `centres` with normal noise.
fn blobs(centres: [[f32; 2]; 3], noise: [f32; 2], count: usize, seed: u64) -> FeatureSet {
    let mut stream = Key::new(seed).stream();
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for i in 0..count {
        let centre = centres[i % 3];
        let off = noise.map(|noise| noise * stream.normal() as f32);
        rows.push([centre[0] + off[0], centre[1] + off[1]]);
        labels.push(i % 3);
    }
    features(&rows, &labels, 3)
}

#[test]
fn a_linear_layer_separates_what_is_separable() {
    let set = |seed| blobs([[30.0, 1.0], [31.0, 1.0], [30.0, 1.02]], [0.1, 0.002], 300, seed);
    let (train, val) = (set(4), set(5));
    for normalize in [true, false] {
        let probe = LinearProbe::default().with_normalize(normalize);
        let fit = probe.fit(&train).unwrap();
        let scores = Scores::new(&fit.classify(&val).unwrap(), &val).unwrap();
        // Without normalisation the second value, a thousandth of the first, has too little weight.
        assert!(scores.accuracy() > if normalize { 0.99 } else { 0.6 }, "{normalize}: {scores}");
        assert_eq!(fit.tried().len(), 8);
        assert_eq!(fit.classify(&val).unwrap(), probe.classify(&train, &val).unwrap());
    }
}

#[test]
fn noise_needs_weight_decay() {
    // 100 images per class in 180 dimensions, one of which differs between classes.
    let set = |seed: u64, count: usize| {
        let mut stream = Key::new(seed).stream();
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for i in 0..count {
            let class = i % 2;
            values.extend((0..180).map(|_| stream.normal() as f32));
            let first = values.len() - 180;
            values[first] += 3.0 * class as f32;
            labels.push(class);
        }
        let values = Tensor::from_vec(values, (count, 180), &Device::Cpu).unwrap();
        FeatureSet::new(&values, labels, 2).unwrap()
    };
    let (train, val) = (set(1, 200), set(2, 600));
    let accuracy = |probe: &LinearProbe| {
        let predicted = probe.classify(&train, &val).unwrap();
        Scores::new(&predicted, &val).unwrap().accuracy()
    };
    // Normalisation would shrink the one dimension that differs.
    let searched = LinearProbe::default().with_normalize(false);
    let loose = searched.clone().with_weight_decays(vec![1e-6]);
    let (searched_accuracy, loose_accuracy) = (accuracy(&searched), accuracy(&loose));
    assert!(
        searched_accuracy > loose_accuracy + 0.05,
        "{searched_accuracy} searched, {loose_accuracy} without decay"
    );
    assert!(searched.fit(&train).unwrap().weight_decay() >= 0.01);
    assert!(loose.fit(&train).unwrap().tried().is_empty());
}

#[test]
fn errors_of_features_and_settings() {
    let values = Tensor::new(&[[1.0_f32, 2.0]], &Device::Cpu).unwrap();
    let text = |values: &Tensor, labels: Vec<usize>| {
        FeatureSet::new(values, labels, 2).unwrap_err().to_string()
    };
    assert_eq!(
        text(&values, vec![]),
        "1 features and 0 labels, expected at least 1, and as many of both"
    );
    assert_eq!(text(&values, vec![2]), "label 2, expected below 2");
    let nan = (&values * f64::NAN).unwrap();
    assert_eq!(text(&nan, vec![1]), "feature of image 0 is not finite");
    let tokens = values.unsqueeze(0).unwrap();
    assert_eq!(text(&tokens, vec![1]), "features of shape [1, 1, 2], expected one row per image");
    let query = features(&[[1.0, 0.0]], &[0], 2);
    assert_eq!(
        NearestNeighbours::default().classify(&known(), &query).unwrap_err().to_string(),
        "features of 2 values and 2 classes, expected 2 and 3"
    );
    let none = NearestNeighbours { k: 0, ..Default::default() };
    assert_eq!(
        none.classify(&known(), &known()).unwrap_err().to_string(),
        "`k` is 0 and `temperature` 0.07, expected at least 1 and above 0"
    );
    let probe = LinearProbe::default().with_weight_decays(vec![-1.0]);
    assert_eq!(
        probe.fit(&known()).unwrap_err().to_string(),
        "linear probe: `weight_decays` is [-1.0], expected numbers of 0 or more"
    );
    let few = Scores::new(&[0, 1], &known()).unwrap_err().to_string();
    assert_eq!(few, "2 predictions, expected 4");
}

fn image(folder: &Path, name: &str, level: u8) {
    std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
    Canvas::new(ImageSize::square(40), [level; 3]).save_png(folder.join(name)).unwrap();
}

fn vit() -> ViT {
    let config = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 1, 2) };
    let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    store.build(|vb| ViT::new(&config, vb)).unwrap()
}

fn loader(set: ClassFolder, max_unreadable: f64) -> Loader<Vec<usize>> {
    let pipeline = ImagePipeline::evaluation(ImageSize::square(32));
    let config = LoaderConfig { batch_size: 4, workers: 1, max_unreadable, ..Default::default() };
    Loader::new(set, pipeline, config.in_order()).unwrap()
}

fn extract(set: ClassFolder, max_unreadable: f64) -> pad_ssl::Result<FeatureSet> {
    FeatureSet::extract(&vit(), &loader(set, max_unreadable), 2, Pool::Mean, &Device::Cpu)
}

#[test]
fn folders_of_classes() {
    let root = tempfile::tempdir().unwrap();
    for i in 0..20 {
        image(root.path(), &format!("dark/{i}.png"), 20 + i);
        image(root.path(), &format!("bright/sub/{i}.png"), 200 + i);
    }
    let (train, val) = ClassFolder::open_split(root.path(), 0.3, 1).unwrap();
    assert_eq!(*train.classes(), ["bright", "dark"]);
    assert_eq!(train.len() + val.len(), 40);
    assert!((4..=20).contains(&val.len()));
    for index in 0..val.len() {
        assert_eq!(val.name(index).starts_with("dark"), val.info(index).unwrap() == 1);
    }
    let (train, val) = (extract(train, 0.0).unwrap(), extract(val, 0.0).unwrap());
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
    let (train, val) = ClassFolder::open_split(root.path(), 0.0, 1).unwrap();
    assert_eq!((train.len(), val.len()), (6, 4));
}

/// The error of opening a folder that holds `files`.
fn error_of(files: &[&str], folders: &[&str], val_share: f64) -> String {
    let root = tempfile::tempdir().unwrap();
    files.iter().for_each(|name| image(root.path(), name, 3));
    folders.iter().for_each(|name| std::fs::create_dir_all(root.path().join(name)).unwrap());
    let error = ClassFolder::open_split(root.path(), val_share, 0).unwrap_err().to_string();
    error.replace(&root.path().display().to_string(), "ROOT")
}

#[test]
fn errors_of_folders() {
    let two = ["a/0.png", "a/1.png", "b/0.png", "b/1.png"];
    assert_eq!(error_of(&["0.png"], &[], 0.5), "ROOT: no folder in it, expected one per class");
    assert_eq!(error_of(&two[..2], &[], 0.5), "ROOT: one class alone (`a`), expected at least two");
    assert_eq!(error_of(&two, &["c"], 0.5), "ROOT/c: no image in it, expected some of class `c`");
    assert_eq!(
        error_of(&two, &[], 1.0),
        "ROOT: no training image of class `a`, expected some (another seed or a smaller share of validation images)"
    );
    assert_eq!(error_of(&two, &[], 0.0), "ROOT: no validation image, expected some");
    assert_eq!(
        error_of(&["a/0.png", "b/0.png", "stray.png"], &[], 0.5),
        "ROOT: `stray.png` is not in the folder of a class"
    );
    assert_eq!(
        error_of(&["train/a/0.png", "train/b/0.png", "val/a/0.png", "val/c/0.png"], &[], 0.5),
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
    let train = || ClassFolder::open_split(root.path(), 0.0, 0).unwrap().0;
    let error = extract(train(), 0.0).unwrap_err().to_string();
    assert!(error.contains("b/2.png"), "{error}");
    let features = extract(train(), 0.5).unwrap();
    assert_eq!(features.labels(), [0, 0, 0, 0, 1, 1, 1]);
}

#[test]
fn features_of_a_folder_come_back_from_their_file() {
    let root = tempfile::tempdir().unwrap();
    for i in 0..3 {
        image(root.path(), &format!("a/{i}.png"), 20);
        image(root.path(), &format!("b/{i}.png"), 200);
    }
    let loader = loader(ClassFolder::open(root.path()).unwrap(), 0.0);
    let stats = pad_data::transform::Normalize::msip();
    for pool in [Pool::Mean, Pool::Class, Pool::Tokens] {
        let found = embed(&vit(), &loader, pool, &Device::Cpu, |_| true).unwrap().unwrap();
        assert_eq!(found.names.len(), 6);
        let path = root.path().join("features.safetensors");
        let found = found.with_input_stats(stats.clone());
        found.save(&path, FloatType::F32, &Default::default()).unwrap();
        let back = ImageFeatures::open(&path).unwrap();
        assert_eq!((back.pool, &back.names), (pool, &found.names));
        assert_eq!(back.input_stats.as_ref(), Some(&stats));
        assert_eq!(back.features.dims(), found.features.dims());
    }
    assert!(embed(&vit(), &loader, Pool::Mean, &Device::Cpu, |_| false).unwrap().is_none());
}
