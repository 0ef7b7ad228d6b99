//! A detector at the start of a run, and the one that a run left.

use std::path::Path;

use candle_core::Device;
use pad::{
    ImageSize,
    checkpoint::Backbone,
    data::{sets::detection::BoxClasses, transform::Normalize},
    heads::{
        Start,
        detection::{DetectionModel, DetectorConfig, RoiHeadsConfig, RpnConfig, Thresholds},
    },
    rng::Key,
    vit::ViTConfig,
};

use super::{Detect, settings::Adapters};
use crate::{
    run::{Result, backbone, source::Found},
    settings::Settings,
};

/// The file of a run that has ended.
pub const FILE: &str = "detector.safetensors";
/// The classes of a run, in its folder.
pub const CLASSES: &str = "classes.json";

fn classes_of_run(folder: &Path) -> Result<BoxClasses> {
    let path = folder.join(CLASSES);
    let fault = |error: String| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(&path).map_err(|error| fault(error.to_string()))?;
    Ok(serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?)
}

/// The detector that settings and a backbone make.
fn config(
    settings: &Settings<Detect>,
    known: ViTConfig,
    classes: &BoxClasses,
) -> Result<DetectorConfig> {
    let Settings { run, own } = settings;
    let adapter = match own.adapters {
        Adapters::None => None,
        Adapters::Auto => known.adapter,
        Adapters::New => Some(run.adapter()),
    };
    let vit =
        ViTConfig { adapter, drop_path: own.drop_path, in_channels: run.in_channels, ..known };
    let base = DetectorConfig::on_backbone(vit, classes.len());
    let anchor_sizes = own.anchors.0.clone();
    let rpn = RpnConfig { anchor_sizes, ..Default::default() }.with_proposals(own.proposals);
    let config = DetectorConfig {
        window: own.attention_window.0,
        global_blocks: own
            .global_blocks
            .as_ref()
            .map_or(base.global_blocks, |blocks| blocks.0.clone()),
        relative_positions: own.relative_positions,
        relative_size: ImageSize::square(own.size),
        channels: own.pyramid_channels,
        head_dim: own.head_dim,
        cascade: own.cascade,
        masks: own.masks,
        rpn,
        roi: RoiHeadsConfig {
            batch_size_per_image: own.batch_size_per_image,
            ..Default::default()
        },
        score_threshold: own.score_threshold,
        nms_threshold: own.nms_threshold,
        max_detections: own.max_detections,
        ..base
    };
    config.validate()?;
    Ok(config)
}

/// The detector at the start of a run: the backbone of `--weights`, all else new.
pub fn start(
    settings: &Settings<Detect>,
    backbone: Option<Backbone>,
    classes: &BoxClasses,
    normalize: Normalize,
    device: &Device,
) -> Result<DetectionModel> {
    let Settings { run, own } = settings;
    let known = backbone::vit(run, backbone.as_ref())?;
    let config = config(settings, known, classes)?;
    let other_adapters = known.adapter.is_some() && known.adapter != config.vit.adapter;
    let start = Start::new(device, Key::new(run.seed))
        .with_trained(own.trained.0)
        .with_layer_decay(run.layer_decay.unwrap_or(1.0))
        .with_fresh_adapters(other_adapters);
    let checkpoint = backbone.map(Backbone::into_checkpoint);
    let model = DetectionModel::new(&config, classes.clone(), checkpoint, &start)?
        .with_normalize(normalize)
        .with_checkpointing(run.checkpoint_blocks)
        .with_matmul_precision(run.dtype.0);
    backbone::log_changes(run, model.changes());
    Ok(model)
}

/// A trained detector. For a checkpoint the model is built as the run built it.
pub fn open(
    settings: &Settings<Detect>,
    found: &Found,
    run: Option<&Path>,
    device: &Device,
) -> Result<DetectionModel> {
    let model = match found {
        Found::File(path) => DetectionModel::open(path, device)?,
        Found::Checkpoint(checkpoint) => {
            let classes = classes_of_run(run.ok_or("a checkpoint needs --run")?)?;
            let backbone = backbone::open(&settings.run)?;
            let usual = Normalize::downstream();
            let normalize = backbone::normalize(&settings.run, backbone.as_ref(), usual);
            let model = start(settings, backbone, &classes, normalize, device)?;
            checkpoint.load_evaluated(&model.parameters(settings.run.weight_decay))?;
            model
        }
    };
    let own = &settings.own;
    Ok(model.with_thresholds(Thresholds {
        score: Some(own.score_threshold),
        nms: Some(own.nms_threshold),
        max_detections: Some(own.max_detections),
    })?)
}
