//! Models as files, on backbones, on images of a dataset, and between the epochs of a run.

use std::{
    cell::Cell,
    sync::{Arc, atomic::AtomicBool},
};

use candle_core::{DType, Device, Tensor};
use pad_adapter::{
    AdapterConfig,
    checkpoint::{Backbone, BackboneOptions, Checkpoint, FloatType, save},
    params::{ParamStore, Role},
    vit::{ViT, ViTConfig},
};
use pad_data::{
    Dataset, Loader, LoaderConfig,
    image::DecodeOptions,
    scenes::{SceneConfig, Size},
    sets::{detection::DetectionScenes, segmentation::SegmentationScenes},
    transform::{
        Normalize,
        detection::{DetectionPipeline, DetectionTargets},
        segmentation::{LimitedCrop, Rescale, SegmentationPipeline},
    },
};
use pad_heads::{
    Evaluation, EvaluationReport, Evaluator, Start, Trained,
    detection::{
        self, DetectionEvaluator, DetectionModel, DetectionTask, DetectorConfig, RpnConfig,
        Thresholds, coco::truth_of,
    },
    segmentation::{
        self, BackboneForm, HeadKind, InferenceMode, SegmentationEvaluator, SegmentationInference,
        SegmentationModel, SegmentationTask, SegmentorConfig, SlidingWindow, UperConfig,
    },
};
use pad_ops::{ImageSize, rng::Key};
use pad_testkit::numbers;
use pad_train::{
    AdamW, AdamWConfig, CheckpointConfig, Checkpoints, EpochStream, Schedule, Trainer,
    TrainerConfig,
};

const SIZE: ImageSize = ImageSize::new(48, 64);

fn scene_config() -> SceneConfig {
    SceneConfig::new(Size::new(SIZE.height, SIZE.width), 5)
}

fn vit() -> ViTConfig {
    ViTConfig {
        image_size: ImageSize::square(32),
        adapter: Some(AdapterConfig { bottleneck: 4, ..Default::default() }),
        ..ViTConfig::new(16, 16, 4, 2)
    }
}

/// The file of a pre-trained ViT, with or without adapters.
fn pretrained(config: &ViTConfig) -> Checkpoint {
    let store = ParamStore::scratch(&Device::Cpu, Key::new(3));
    store.build(|vb| ViT::new(config, vb)).unwrap();
    let mut tensors = store.tensors(|_| true);
    tensors.insert("pos_embed".into(), numbers(&[1, 5, 16], DType::F32, 9));
    Checkpoint::from_tensors("vit.safetensors", tensors)
}

fn start() -> Start {
    Start::new(&Device::Cpu, Key::new(1)).with_trained(Trained::AdaptersAndHeads)
}

fn segmentor_config(form: BackboneForm) -> SegmentorConfig {
    let head = HeadKind::Uper(UperConfig { channels: 6, ..Default::default() });
    let config = SegmentorConfig::on_backbone(vit(), form, head, classes().len());
    let auxiliary = config.auxiliary.map(|head| segmentation::FcnConfig { channels: 4, ..head });
    SegmentorConfig { auxiliary, ..config }
}

fn classes() -> pad_data::sets::segmentation::Classes {
    SegmentationScenes::render(&scene_config(), 0, 1).unwrap().classes().clone()
}

fn segmentation_model(backbone: Option<Checkpoint>) -> SegmentationModel {
    let config = segmentor_config(BackboneForm::Downstream);
    SegmentationModel::new(&config, classes(), backbone, &start()).unwrap()
}

fn inference() -> SegmentationInference {
    SegmentationInference {
        pipeline: SegmentationPipeline {
            rescale: Rescale { scale: None, ..Default::default() },
            crop: LimitedCrop { size: ImageSize::square(32), ..Default::default() },
            ..Default::default()
        },
        mode: InferenceMode::Sliding(SlidingWindow::new(ImageSize::square(32), None)),
        ..Default::default()
    }
}

fn detector_config(vit: ViTConfig) -> DetectorConfig {
    DetectorConfig {
        channels: 8,
        head_dim: 12,
        window: Some(2),
        relative_size: SIZE,
        masks: true,
        rpn: RpnConfig { anchor_sizes: vec![8.0, 16.0, 32.0, 64.0, 128.0], ..Default::default() }
            .with_proposals(30),
        score_threshold: 0.0,
        ..DetectorConfig::on_backbone(vit, 4)
    }
}

fn detection_model(backbone: Option<Checkpoint>) -> DetectionModel {
    let classes = pad_data::sets::detection::BoxClasses::scenes();
    DetectionModel::new(&detector_config(vit()), classes, backbone, &start()).unwrap()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn refused<T>(result: pad_heads::Result<T>) -> String {
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn a_segmentor_comes_back_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let model = segmentation_model(Some(pretrained(&vit()))).with_normalize(Normalize::imagenet());
    assert_eq!(model.changes(), ["12 layer scales and relative position tables added"]);
    model.save(&path).unwrap();
    let opened = SegmentationModel::open(&path, &Device::Cpu).unwrap();
    assert_eq!(opened.classes.names, model.classes.names);
    assert_eq!(opened.classes.palette, model.classes.palette);
    assert_eq!(opened.normalize, Some(Normalize::imagenet()));
    let images = numbers(&[1, 3, 32, 32], DType::F32, 4);
    let logits = |model: &SegmentationModel| bits(&model.network.logits(&images).unwrap());
    assert_eq!(logits(&opened), logits(&model));
    assert!(opened.store.planned().is_empty(), "nothing trains");

    // A file of an earlier version: no `vit`, no input statistics.
    let mut old = Checkpoint::open(&path).unwrap();
    for key in ["vit", "input_mean", "input_std"] {
        old.remove_metadata(key);
    }
    save(&path, old.tensors(), old.metadata(), FloatType::AsIs).unwrap();
    let opened = SegmentationModel::open(&path, &Device::Cpu).unwrap();
    assert_eq!(opened.normalize, None);
    assert_eq!(logits(&opened), logits(&model));
    let name = path.display();
    assert_eq!(
        refused(DetectionModel::open(&path, &Device::Cpu)),
        format!("{name}: metadata `detector`: missing, expected a detector's file")
    );
    old.set_metadata("format", "pad-segmentor/9");
    save(&path, old.tensors(), old.metadata(), FloatType::AsIs).unwrap();
    assert_eq!(
        refused(SegmentationModel::open(&path, &Device::Cpu)),
        format!("{name}: metadata `format`: expected pad-segmentor/1, found pad-segmentor/9")
    );
    old.set_metadata("format", "pad-segmentor/1");
    old.remove("decode_head.conv_seg.bias");
    save(&path, old.tensors(), old.metadata(), FloatType::AsIs).unwrap();
    let message = refused(SegmentationModel::open(&path, &Device::Cpu));
    assert!(message.contains("decode_head.conv_seg.bias"), "{message}");
}

#[test]
fn a_detector_comes_back_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("detector.safetensors");
    let model = detection_model(Some(pretrained(&vit())));
    assert_eq!(model.changes(), ["8 relative position tables added"]);
    model.save(&path).unwrap();
    let opened = DetectionModel::open(&path, &Device::Cpu).unwrap();
    assert_eq!(opened.classes, model.classes);
    let images = numbers(&[1, 3, 64, 64], DType::F32, 4);
    let sizes = [SIZE];
    let detect = |model: &DetectionModel| model.network.detect(&images, &sizes).unwrap();
    let found = detect(&model);
    assert!(!found[0].is_empty());
    assert_eq!(detect(&opened), found);
    let fewer = Thresholds { max_detections: Some(1), ..Default::default() };
    let fewer = opened.with_thresholds(fewer).unwrap();
    assert_eq!(detect(&fewer)[0], found[0][..1]);
    assert_eq!(
        refused(fewer.with_thresholds(Thresholds { score: Some(2.0), ..Default::default() })),
        "detector: `score_threshold` is 2, expected between 0 and 1"
    );
}

#[test]
fn backbones_come_out_of_the_files_of_both() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) =
        (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    let file = pretrained(&vit());
    let segmentor = segmentation_model(Some(file.clone()));
    segmentor.save(&first).unwrap();
    let detector = detection_model(Some(file.clone()));
    detector.save(&second).unwrap();
    let options = BackboneOptions::default()
        .with_reader(SegmentationModel::read_backbone)
        .with_reader(DetectionModel::read_backbone);
    let open = |path: &std::path::Path| Backbone::open(path.to_str().unwrap(), &options).unwrap();
    let name = "blocks.2.attn.qkv.weight";
    for path in [&first, &second] {
        let backbone = open(path);
        let config = backbone.config().unwrap();
        assert_eq!(config.adapter, vit().adapter);
        assert!(backbone.has_adapters());
        let checkpoint = backbone.into_checkpoint();
        assert_eq!(bits(&checkpoint.tensors()[name]), bits(&file.tensors()[name]));
        assert!(checkpoint.names().all(|name| Role::of(name) != Role::Head));
    }
    // A segmentor on the backbone of a segmentor; a detector on that of either.
    let again = segmentation_model(Some(open(&first).into_checkpoint()));
    assert_eq!(again.changes(), [""; 0]);
    for path in [&first, &second] {
        let config =
            detector_config(ViTConfig { adapter: vit().adapter, ..open(path).config().unwrap() });
        let classes = pad_data::sets::detection::BoxClasses::scenes();
        let checkpoint = Some(open(path).into_checkpoint());
        DetectionModel::new(&config, classes, checkpoint, &start()).unwrap();
    }
}

#[test]
fn adapters_are_kept_dropped_or_new() {
    let digest = |model: &SegmentationModel| {
        let adapters = model.store.tensors(Role::is_adapter);
        adapters.values().map(bits).collect::<Vec<_>>()
    };
    let file = pretrained(&vit());
    let config = segmentor_config(BackboneForm::Plain);
    let kept = SegmentationModel::new(&config, classes(), Some(file.clone()), &start()).unwrap();
    let name = "blocks.0.adaptmlp.down_proj.weight";
    let found = &kept.store.tensors(|_| true)[&format!("backbone.{name}")];
    assert_eq!(bits(found), bits(&file.tensors()[name]));
    let fresh = start().with_fresh_adapters(true);
    let fresh = SegmentationModel::new(&config, classes(), Some(file.clone()), &fresh).unwrap();
    assert_eq!(fresh.changes(), ["28 tensors of adapters dropped"]);
    assert_ne!(digest(&fresh), digest(&kept));
    let without = ViTConfig { adapter: None, ..vit() };
    let without = SegmentorConfig::probe(without, classes().len());
    let without = SegmentationModel::new(&without, classes(), Some(file), &start()).unwrap();
    assert!(digest(&without).is_empty());
    let few = pad_data::sets::segmentation::Classes::new(["one"]).unwrap();
    let message = refused(SegmentationModel::new(&config, few, None, &start()));
    assert_eq!(message, format!("classes: expected {}, found 1", classes().len()));
}

/// Returns true from the third call on.
fn soon() -> impl Fn() -> bool {
    let calls = Cell::new(0);
    move || {
        calls.set(calls.get() + 1);
        calls.get() > 2
    }
}

#[test]
fn a_segmentor_is_measured_on_a_dataset() {
    let model = segmentation_model(None);
    let dataset = SegmentationScenes::render(&scene_config(), 0, 4).unwrap();
    let report = segmentation::measure(&model, &dataset, &inference(), &|| false).unwrap().unwrap();
    let counted: u64 = report.confusion.counts().iter().sum();
    let mut labelled = 0;
    for index in 0..dataset.len() {
        let sample = dataset.get(index, &DecodeOptions::default()).unwrap();
        let ignore = dataset.classes().ignore;
        labelled += sample.labels.classes().iter().filter(|&&class| class != ignore).count();
    }
    assert_eq!(counted, labelled as u64);
    assert_eq!((report.images, report.speed.unwrap().images), (4, 4));
    assert!(report.speed.unwrap().gmacs > 0.0);
    assert!(report.to_string().contains("mIoU"));
    assert!(serde_json::to_value(&report).unwrap()["mean_iou"].is_number());
    let stopped = segmentation::measure(&model, &dataset, &inference(), &soon()).unwrap();
    assert!(stopped.is_none());
    let picture = model.pictures(&dataset, &inference(), 3, 0.5).unwrap();
    assert!(picture.size().width > 6 * SIZE.width && picture.size().height > 2 * SIZE.height);
    let few = pad_data::sets::segmentation::Classes::new(["one", "two"]).unwrap();
    let other = SegmentorConfig { classes: 2, ..segmentor_config(BackboneForm::Downstream) };
    let other = SegmentationModel::new(&other, few, None, &start()).unwrap();
    let message = refused(SegmentationEvaluator::new(&other, &dataset, inference()));
    assert!(message.starts_with("classes: expected one, two, found "), "{message}");
}

#[test]
fn a_detector_is_measured_on_a_dataset() {
    let model = detection_model(None);
    let dataset = DetectionScenes::render(&scene_config(), 0, 4).unwrap();
    let truth = truth_of(&dataset).unwrap();
    truth.validate().unwrap();
    assert_eq!(truth.images.len(), 4);
    let objects: usize = (0..4).map(|index| dataset.info(index).unwrap().objects.len()).sum();
    assert_eq!(truth.annotations.len(), objects);
    assert!(objects > 0);
    let pipeline = DetectionPipeline::square(64);
    let report = detection::measure(&model, &dataset, &pipeline, &|| false).unwrap().unwrap();
    assert!(!report.results.is_empty() && report.masks.is_some());
    assert_eq!(report.objects.iter().sum::<usize>(), objects);
    let ids: Vec<_> = truth.images.iter().map(|image| image.id.clone()).collect();
    assert!(report.results.iter().all(|result| ids.contains(&result.image_id)));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["stats"]["AP"].as_f64(), report.boxes.stats[0]);
    assert!(json["masks"]["per_class"].is_object() && json["speed"]["gmacs"].is_number());
    assert!(report.to_string().starts_with("boxes:\n   AP "), "{report}");
    assert!(detection::measure(&model, &dataset, &pipeline, &soon()).unwrap().is_none());
    let picture = model.pictures(&dataset, &pipeline, 2, 0.3).unwrap();
    assert!(picture.size().width > 4 * SIZE.width);
}

/// Steps, metrics at which they were measured, and what the hook says in the end.
fn trained<E: Evaluator>(
    evaluation: &mut Evaluation<E>,
    stop: &Arc<AtomicBool>,
    run: impl FnOnce(&mut Trainer<'_>),
    parameters: Vec<pad_train::Parameter>,
) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path(), CheckpointConfig::default()).unwrap();
    let settings =
        TrainerConfig { epochs: 2, max_steps: None, accumulate: 1, clip_norm: Some(1.0), seed: 3 };
    let optimizer = AdamW::new(parameters, AdamWConfig::default()).unwrap();
    let mut trainer = Trainer::new(settings, Schedule::poly(1e-3, 0.0, 2.0), optimizer)
        .unwrap()
        .with_checkpoints(checkpoints)
        .with_stop(Arc::clone(stop))
        .with_hook(evaluation);
    run(&mut trainer);
    let steps = trainer.state().step;
    drop(trainer);
    assert!(folder.path().join("best").exists() || steps == 0);
    steps
}

#[test]
fn runs_are_evaluated_and_the_best_is_marked() {
    let stop = Arc::new(AtomicBool::new(false));
    let model = segmentation_model(Some(pretrained(&vit())));
    let dataset = SegmentationScenes::render(&scene_config(), 0, 4).unwrap();
    let evaluator = SegmentationEvaluator::new(&model, &dataset, inference()).unwrap();
    let mut evaluation = Evaluation::new(evaluator);
    let config = LoaderConfig { batch_size: 2, workers: 1, ..Default::default() };
    let loader: Loader<Tensor> =
        Loader::new(dataset.clone(), inference().pipeline, config.clone()).unwrap();
    let mut batches = EpochStream::new(loader.batches_per_epoch(), |epoch, first, stride| {
        loader.epoch_strided(epoch, first, stride)
    });
    let task = SegmentationTask::new(&model.network);
    let run = |trainer: &mut Trainer<'_>| {
        trainer.run(&task, &mut batches).unwrap();
    };
    let steps = trained(&mut evaluation, &stop, run, model.parameters(0.05));
    assert_eq!(steps, 4);
    let best = evaluation.best().unwrap();
    assert!(best.step == 2 || best.step == 4, "{best:?}");
    let newest = evaluation.newest().unwrap();
    assert!(best.score >= newest.score().unwrap());

    let model = detection_model(Some(pretrained(&vit())));
    let dataset = DetectionScenes::render(&scene_config(), 0, 4).unwrap();
    let pipeline = DetectionPipeline::square(64);
    let evaluator = DetectionEvaluator::new(&model, &dataset, pipeline.clone()).unwrap();
    let mut evaluation = Evaluation::new(evaluator).with_every_epochs(None).with_start(false);
    let loader: Loader<DetectionTargets> = Loader::new(dataset.clone(), pipeline, config).unwrap();
    let mut batches = EpochStream::new(loader.batches_per_epoch(), |epoch, first, stride| {
        loader.epoch_strided(epoch, first, stride)
    });
    let task = DetectionTask::new(&model.network);
    let run = |trainer: &mut Trainer<'_>| {
        trainer.run(&task, &mut batches).unwrap();
    };
    trained(&mut evaluation, &stop, run, model.parameters(0.1));
    assert_eq!(evaluation.best().unwrap().step, 4, "measured after the last step only");
    let metrics = evaluation.newest().unwrap().metrics();
    assert!(metrics.iter().any(|(name, _)| name == "mask AP50"), "{metrics:?}");
}
