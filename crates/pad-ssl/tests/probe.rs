//! Probes of frozen features: exact answers on toy sets, refusals.

use candle_core::{Device, Tensor};
use pad_ops::rng::Key;
use pad_ssl::probe::{FeatureSet, LinearProbe, NearestNeighbours, Scores};

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
fn noise_asks_for_weight_decay() {
    // 40 images per class in 60 dimensions, one of which differs between classes.
    let set = |seed: u64, count: usize| {
        let mut stream = Key::new(seed).stream();
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for i in 0..count {
            let class = i % 2;
            values.extend((0..60).map(|_| stream.normal() as f32));
            let first = values.len() - 60;
            values[first] += 3.0 * class as f32;
            labels.push(class);
        }
        let values = Tensor::from_vec(values, (count, 60), &Device::Cpu).unwrap();
        FeatureSet::new(&values, labels, 2).unwrap()
    };
    let (train, val) = (set(1, 80), set(2, 600));
    let accuracy = |probe: &LinearProbe| {
        let predicted = probe.classify(&train, &val).unwrap();
        Scores::new(&predicted, &val).unwrap().accuracy()
    };
    let searched = LinearProbe::default();
    let loose = LinearProbe::default().with_weight_decays(vec![1e-6]);
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
