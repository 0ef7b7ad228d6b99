//! Fine-tuning: what is learnt, what stays frozen, shares of labels, errors.

use std::{collections::BTreeMap, path::Path};

use candle_core::{DType, Device, Tensor};
use pad_adapter::{
    AdapterConfig,
    checkpoint::{FloatType, save},
    params::{ParamStore, Plan, Role},
    vit::{ViT, ViTConfig},
};
use pad_data::{
    Batch, Dataset, Loader, LoaderConfig,
    dataset::Subset,
    draw::Canvas,
    image::{Image, Pixels},
    sets::classification::{ClassFolder, ClassifiedImage},
    transform::{Crop, ImagePipeline},
};
use pad_ops::{ImageSize, Mode, rng::Key};
use pad_ssl::{
    OpenOptions, Pool,
    probe::{Classification, Classifier, ClassifierConfig, FineTuning},
};
use pad_testkit::numbers;
use pad_train::Task;

const SIZE: ImageSize = ImageSize::square(32);
const CLASSES: [&str; 3] = ["cool", "mild", "warm"];

fn config() -> ViTConfig {
    ViTConfig { image_size: SIZE, ..ViTConfig::new(8, 32, 2, 2) }
}

/// An image of one of three classes: a bar, cooler or warmer, at any height on noise.
fn image(path: &Path, class: usize, key: Key) {
    let mut stream = key.stream();
    let start = stream.below(28) as usize;
    let bar = [90.0, 150.0, 210.0][class];
    let level = |pixel: usize| {
        let warm = if (start..start + 5).contains(&(pixel / 32)) { bar } else { 40.0 };
        (warm + 40.0 * stream.uniform_f64()) as u8
    };
    let levels = (0..SIZE.area()).map(level).collect();
    let image = Image::new(SIZE, 1, Pixels::U8(levels)).unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    Canvas::from_image(&image, None).unwrap().save_png(path).unwrap();
}

fn set(root: &Path, each: usize, seed: u64) {
    for (class, name) in CLASSES.into_iter().enumerate() {
        for index in 0..each {
            let key = Key::new(seed).sample((class * each + index) as u64);
            image(&root.join(format!("{name}/{index:03}.png")), class, key);
        }
    }
}

fn reading() -> LoaderConfig {
    LoaderConfig { batch_size: 12, workers: 0, seed: 5, ..Default::default() }
}

fn loader(set: impl Dataset<Sample = ClassifiedImage> + 'static) -> Loader<Vec<usize>> {
    let pipeline = ImagePipeline { size: SIZE, ..Default::default() };
    let reading = FineTuning::loader(reading(), set.len());
    Loader::new(set, ImagePipeline { crop: Crop::Whole, ..pipeline }, reading).unwrap()
}

fn evaluation(set: ClassFolder) -> Loader<Vec<usize>> {
    let pipeline = ImagePipeline::evaluation(SIZE);
    let whole = ImagePipeline { crop: Crop::Whole, ..pipeline };
    Loader::new(set, whole, reading().in_order()).unwrap()
}

/// A file of an encoder, with adapters or without.
fn file(folder: &Path, config: &ViTConfig) -> String {
    let store = ParamStore::scratch(&Device::Cpu, Key::new(1));
    store.build(|vb| ViT::new(config, vb)).unwrap();
    let path = folder.join("vit.safetensors");
    save(&path, &store.tensors(|_| true), &BTreeMap::new(), FloatType::F32).unwrap();
    path.display().to_string()
}

fn bits(tensors: &BTreeMap<String, Tensor>) -> BTreeMap<&str, Vec<u32>> {
    let bits = |tensor: &Tensor| {
        let values = tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap();
        values.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    tensors.iter().map(|(name, tensor)| (name.as_str(), bits(tensor))).collect()
}

#[test]
fn everything_learns_what_can_be_learnt() {
    let root = tempfile::tempdir().unwrap();
    set(&root.path().join("train"), 16, 1);
    set(&root.path().join("val"), 20, 2);
    let (train, val) = ClassFolder::open_split(root.path(), 0.0, 0).unwrap();
    let weights = file(root.path(), &config());
    let options = OpenOptions::default().with_config(Some(config()));
    let fitted = |seed: u64| {
        let head = ClassifierConfig { seed, ..ClassifierConfig::new(3) };
        let plan = |vit: &ViTConfig| Plan::everything().with_layer_decay(0.9, vit.depth);
        let opened = Classifier::open(&weights, &options, &head, plan).unwrap();
        let tuning = FineTuning { epochs: 25, lr: 2e-3, seed, ..Default::default() };
        let train = loader(train.clone());
        assert_eq!(tuning.updates(train.batches_per_epoch()), 100);
        let outcome = tuning.fit(&opened.classifier, &opened.store, &train, &Device::Cpu).unwrap();
        assert!(outcome.is_finished() && outcome.unused_parameters.is_empty());
        let scores = opened.classifier.scores(&evaluation(val.clone()), &Device::Cpu).unwrap();
        assert_eq!(scores.images(), [20, 20, 20]);
        (opened, scores)
    };
    let (first, scores) = fitted(0);
    assert!(scores.accuracy() > 0.7, "{scores}");
    // The same seed gives the same bits, another one others.
    let (again, _) = fitted(0);
    let all = |store: &ParamStore| store.tensors(|_| true);
    assert_eq!(bits(&all(&first.store)), bits(&all(&again.store)));
    let (other, _) = fitted(1);
    assert_ne!(bits(&all(&first.store)), bits(&all(&other.store)));
    let head = |tensors: &BTreeMap<String, Tensor>| tensors["head.weight"].dims().to_vec();
    assert_eq!(head(&all(&first.store)), [3, 32]);
}

#[test]
fn what_is_frozen_stays() {
    let root = tempfile::tempdir().unwrap();
    set(root.path(), 4, 1);
    let adapter = Some(AdapterConfig { bottleneck: 4, ..Default::default() });
    let vit = ViTConfig { adapter, ..config() };
    let weights = file(root.path(), &vit);
    std::fs::create_dir(root.path().join("set")).unwrap();
    for class in CLASSES {
        std::fs::rename(root.path().join(class), root.path().join("set").join(class)).unwrap();
    }
    let set = || ClassFolder::open(root.path().join("set")).unwrap();
    let options = OpenOptions::default().with_config(Some(vit));
    type Rule = (&'static str, fn(Role) -> bool);
    let rules: [Rule; 2] = [
        ("heads", |role| role == Role::Head),
        ("adapters and heads", |role| role == Role::Head || role.is_adapter()),
    ];
    for (name, trains) in rules {
        let head = ClassifierConfig { pool: Pool::Class, ..ClassifierConfig::new(3) };
        let plan = |_: &ViTConfig| Plan::of_roles(trains);
        let opened = Classifier::open(&weights, &options, &head, plan).unwrap();
        let of = |wanted: bool| opened.store.tensors(|role| trains(role) == wanted);
        let copied = |tensors: BTreeMap<String, Tensor>| -> BTreeMap<String, Tensor> {
            tensors.into_iter().map(|(name, tensor)| (name, tensor.copy().unwrap())).collect()
        };
        let (frozen, trained) = (copied(of(false)), copied(of(true)));
        let tuning = FineTuning { max_steps: Some(3), lr: 1e-2, ..Default::default() };
        tuning.fit(&opened.classifier, &opened.store, &loader(set()), &Device::Cpu).unwrap();
        assert_eq!(bits(&frozen), bits(&of(false)), "{name}");
        let after = of(true);
        for (name, before) in &bits(&trained) {
            // The gate's weights are zero at first and their gradient is small: the others move.
            assert_ne!(before, &bits(&after)[name], "{name}");
        }
    }
}

/// Dropout of adapters and a drop path that a file states are noise to a head that trains alone.
#[test]
fn a_frozen_encoder_has_no_noise() {
    let root = tempfile::tempdir().unwrap();
    let adapter = Some(AdapterConfig { bottleneck: 4, dropout: 0.5, ..Default::default() });
    let vit = ViTConfig { adapter, drop_path: 0.9, ..config() };
    let store = ParamStore::scratch(&Device::Cpu, Key::new(1));
    store.build(|vb| ViT::new(&vit, vb)).unwrap();
    let mut tensors = store.tensors(|_| true);
    for (name, tensor) in &mut tensors {
        // Zero at first: then dropout in front of it changes nothing.
        if name.ends_with("up_proj.weight") {
            *tensor = numbers(tensor.dims(), DType::F32, 3);
        }
    }
    let weights = root.path().join("vit.safetensors");
    save(&weights, &tensors, &BTreeMap::new(), FloatType::F32).unwrap();
    let options = OpenOptions::default().with_config(Some(vit));
    let images = numbers(&[2, 3, 32, 32], DType::F32, 5);
    type Rule = fn(Role) -> bool;
    let rules: [(Rule, bool); 2] = [
        (|role| role == Role::Head, false),
        (|role| role == Role::Head || role.is_adapter(), true),
    ];
    for (trains, noisy) in rules {
        let plan = |_: &ViTConfig| Plan::of_roles(trains);
        let head = ClassifierConfig::new(3);
        let opened = Classifier::open(weights.to_str().unwrap(), &options, &head, plan).unwrap();
        assert_eq!(opened.classifier.encoder().config().drop_path, 0.0);
        let logits = |mode| -> Vec<Vec<f32>> {
            opened.classifier.forward(&images, mode).unwrap().to_vec2().unwrap()
        };
        let [first, second] = [1, 2].map(|seed| logits(Mode::Train(Key::new(seed))));
        assert_eq!(first != second, noisy);
        assert_eq!(first == logits(Mode::Eval), !noisy);
    }
}

/// The rise of the learning rate is shorter than the only update: it has the whole rate.
#[test]
fn a_single_update_learns() {
    let root = tempfile::tempdir().unwrap();
    set(root.path(), 4, 1);
    let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_plan(Plan::everything());
    let head = ClassifierConfig::new(3);
    let classifier = store.build(|vb| Classifier::new(&config(), &head, vb)).unwrap();
    let before = store.tensors(|_| true)["head.weight"].copy().unwrap();
    let tuning = FineTuning { max_steps: Some(1), ..Default::default() };
    let images = loader(ClassFolder::open(root.path()).unwrap());
    tuning.fit(&classifier, &store, &images, &Device::Cpu).unwrap();
    let moved = (&store.tensors(|_| true)["head.weight"] - before).unwrap();
    let moved = moved.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    // AdamW's first update is the learning rate itself.
    assert!((moved / 5e-4 - 1.0).abs() < 0.05, "{moved}");
}

#[test]
fn every_image_is_scored() {
    let root = tempfile::tempdir().unwrap();
    set(root.path(), 3, 1);
    let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    let head = ClassifierConfig::new(3);
    let classifier = store.build(|vb| Classifier::new(&config(), &head, vb)).unwrap();
    let scores = |config: LoaderConfig| {
        let set = ClassFolder::open(root.path()).unwrap();
        let loader = Loader::new(set, ImagePipeline::evaluation(SIZE), config).unwrap();
        classifier.scores(&loader, &Device::Cpu).map_err(|error| error.to_string())
    };
    let reading = LoaderConfig { batch_size: 4, workers: 0, ..Default::default() };
    assert_eq!(scores(reading.clone().in_order()).unwrap().images(), [3, 3, 3]);
    assert_eq!(
        scores(reading).unwrap_err(),
        "`drop_last` of the loader is true, expected false: every image counts"
    );
}

#[test]
fn the_loss_is_the_mean_cross_entropy() {
    let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_plan(Plan::everything());
    let head = ClassifierConfig::new(3);
    let classifier = store.build(|vb| Classifier::new(&config(), &head, vb)).unwrap();
    let values: Vec<f32> = (0..2 * 3 * 32 * 32).map(|i| (i % 17) as f32 / 17.0).collect();
    let images = Tensor::from_vec(values, (2, 3, 32, 32), &Device::Cpu).unwrap();
    let logits = classifier.forward(&images, Mode::Eval).unwrap().to_vec2::<f32>().unwrap();
    let of = |row: &[f32], label: usize| {
        let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        sum.ln() - f64::from(row[label])
    };
    let want = (of(&logits[0], 2) + of(&logits[1], 0)) / 2.0;
    let task = Classification::new(&classifier, &Device::Cpu);
    let losses = task.losses(&Batch::new(images.clone(), vec![2, 0]), Mode::Eval).unwrap();
    let got = f64::from(losses.total.to_scalar::<f32>().unwrap());
    assert!((got - want).abs() < 1e-5, "{got} for {want}");
    let gradients = losses.total.backward().unwrap();
    assert!(store.planned().iter().all(|one| gradients.get(&one.var).is_some()));
    let batch = Batch { names: vec!["a".into(), "b".into()], ..Batch::new(images, vec![2, 3]) };
    let wrong = task.losses(&batch, Mode::Eval).unwrap_err();
    assert_eq!(wrong.to_string(), "b: label 3, expected below 3");
}

#[test]
fn shares_of_labels_are_nested_and_have_every_class() {
    let root = tempfile::tempdir().unwrap();
    for (class, images) in [("many", 60), ("few", 3), ("one", 1)] {
        for index in 0..images {
            let path = root.path().join(format!("{class}/{index}.png"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            Canvas::new(ImageSize::square(16), [9; 3]).save_png(&path).unwrap();
        }
    }
    let all = Subset::all(ClassFolder::open(root.path()).unwrap());
    for seed in 0..5 {
        let mut larger: Option<Vec<usize>> = None;
        for share in [1.0, 0.5, 0.1, 0.01, 1e-6] {
            let part = all.share(share, seed).unwrap();
            let counts = |name: &str| (0..part.len()).filter(|&i| part.source(i) == name).count();
            let expected = |count: f64| ((count * share).round() as usize).max(1);
            let found = [counts("few"), counts("many"), counts("one")];
            assert_eq!(found, [expected(3.0), expected(60.0), 1], "{share}");
            if let Some(larger) = &larger {
                assert!(part.indices().iter().all(|index| larger.contains(index)), "{share}");
            }
            larger = Some(part.indices().to_vec());
        }
    }
    assert_ne!(all.share(0.1, 0).unwrap().indices(), all.share(0.1, 1).unwrap().indices());
}

#[test]
fn errors_of_fine_tuning() {
    let head = |classes, pool| {
        let config = ClassifierConfig { pool, ..ClassifierConfig::new(classes) };
        config.validate().unwrap_err().to_string()
    };
    assert_eq!(head(1, Pool::Mean), "`classes` is 1, expected at least 2");
    assert_eq!(head(3, Pool::Tokens), "`pool` is tokens, expected mean or class");
    let patches = ViTConfig { class_token: false, ..config() };
    let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    let class = ClassifierConfig { pool: Pool::Class, ..ClassifierConfig::new(3) };
    assert_eq!(
        store.build(|vb| Classifier::new(&patches, &class, vb)).err().unwrap().to_string(),
        "`pool` is class, expected mean: the encoder has no class token"
    );
    let tuning = FineTuning {
        max_steps: Some(0),
        lr: f64::NAN,
        clip_norm: Some(0.0),
        warmup: -0.1,
        ..Default::default()
    };
    assert_eq!(
        tuning.validate().unwrap_err().to_string(),
        "fine-tuning: `max_steps` is 0, expected at least 1; `lr` is NaN, expected a finite number of 0 or more; \
         `warmup` is -0.1, expected 0 or more, below 1; `clip_norm` is 0, expected a finite number above 0"
    );
    let frozen = ParamStore::scratch(&Device::Cpu, Key::new(0));
    frozen.build(|vb| Classifier::new(&config(), &ClassifierConfig::new(2), vb)).unwrap();
    let text = |batches| FineTuning::default().trainer(&frozen, batches).err().unwrap().to_string();
    assert_eq!(text(0), "fine-tuning: a pass has no batch, expected at least 1");
    assert_eq!(text(2), "fine-tuning: nothing trains, expected a plan that trains the head");
    // Fewer images than a batch are one batch.
    let few = FineTuning::loader(LoaderConfig { batch_size: 64, ..Default::default() }, 5);
    assert_eq!((few.batch_size, few.shuffle, few.drop_last), (5, true, true));
    let of = |batch_size, images| {
        FineTuning::loader(LoaderConfig { batch_size, ..Default::default() }, images).batch_size
    };
    assert_eq!((of(0, 5), of(4, 0)), (0, 1)); // what the loader refuses stays as it is
}
