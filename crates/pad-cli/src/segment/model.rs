//! A segmentor at the start of a run, and the one that a run left.

use candle_core::Device;
use pad::{
    checkpoint::Backbone,
    data::{sets::segmentation::Classes, transform::Normalize},
    heads::{
        Start,
        segmentation::{
            BackboneForm, FcnConfig, HeadKind, SegmentationModel, SegmentorConfig, UperConfig,
        },
    },
    rng::Key,
    vit::ViTConfig,
};

use super::{Segment, settings::SegmentParadigm};
use crate::{
    run::{Result, backbone, source::Found},
    settings::{Settings, values::Auto},
    tools::weights::ASSET,
};

/// The file of a run that has ended.
pub const FILE: &str = "model.safetensors";
/// The classes of a run, in its folder.
pub const CLASSES: &str = "classes.json";

/// The classes as the run's folder keeps them.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredClasses {
    names: Vec<String>,
    palette: Vec<[u8; 3]>,
    ignore: u8,
}

/// The classes as JSON.
pub fn classes_to_json(classes: &Classes) -> Result<String> {
    let Classes { names, palette, ignore, .. } = classes.clone();
    Ok(serde_json::to_string_pretty(&StoredClasses { names, palette, ignore })? + "\n")
}

fn classes_of_run(folder: &std::path::Path) -> Result<Classes> {
    let path = folder.join(CLASSES);
    let fault = |error: String| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(&path).map_err(|error| fault(error.to_string()))?;
    let stored: StoredClasses =
        serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
    let mut classes = Classes::new(stored.names)?;
    if stored.palette.len() != classes.len() {
        return Err(
            fault(format!("{} colours, expected one of each class", stored.palette.len())).into()
        );
    }
    (classes.palette, classes.ignore) = (stored.palette, stored.ignore);
    Ok(classes)
}

/// Opens the weights of a run; `None` if they say nothing that matters.
pub fn weights(settings: &Settings<Segment>) -> Result<Option<Backbone>> {
    let Settings { run, own } = settings;
    // From scratch, weights at most say what the model is.
    let named = own.paradigm == SegmentParadigm::Scratch && run.model != Auto::Auto;
    let backbone = if named { None } else { backbone::open(run)? };
    check_paradigm(settings, backbone.as_ref())?;
    Ok(backbone)
}

/// Checks that paradigm and weights agree.
fn check_paradigm(settings: &Settings<Segment>, backbone: Option<&Backbone>) -> Result<()> {
    let (paradigm, weights) = (settings.own.paradigm, settings.run.weights.as_str());
    match (paradigm, backbone) {
        (SegmentParadigm::Scratch, _) => Ok(()),
        (SegmentParadigm::RgbOnly | SegmentParadigm::Full, Some(backbone))
            if backbone.has_adapters() =>
        {
            Err(format!(
                "paradigm {paradigm} has no adapters, found some in {weights}: use --paradigm pad"
            )
            .into())
        }
        (SegmentParadigm::Full, Some(_)) if weights == ASSET => {
            Err("paradigm full needs the weights of a continued pre-training (--weights RUN of \
                 `pad pretrain --paradigm full`), found --weights asset"
                .into())
        }
        (_, Some(_)) => Ok(()),
        (_, None) => {
            Err(format!("paradigm {paradigm} needs weights to start from, found --weights none")
                .into())
        }
    }
}

/// The transformer that settings and weights describe.
fn vit(settings: &Settings<Segment>, backbone: Option<&Backbone>) -> Result<ViTConfig> {
    let Settings { run, own } = settings;
    let base = backbone::vit(run, backbone)?;
    let adapter = match own.paradigm {
        SegmentParadigm::Pad => Some(base.adapter.unwrap_or_else(|| run.adapter())),
        _ => None,
    };
    let drop_path = if own.trained.trains_backbone() { own.drop_path } else { 0.0 };
    Ok(ViTConfig {
        image_size: own.crop_size.0,
        in_channels: run.in_channels,
        adapter,
        drop_path,
        ..base
    })
}

fn config(
    settings: &Settings<Segment>,
    vit: ViTConfig,
    classes: &Classes,
) -> Result<SegmentorConfig> {
    let own = &settings.own;
    let head = match &own.head.0 {
        HeadKind::Uper(_) => HeadKind::Uper(UperConfig {
            channels: own.head_channels,
            dropout: own.head_dropout,
            ..Default::default()
        }),
        other => other.clone(),
    };
    let form = match own.form {
        Auto::Given(form) => form,
        Auto::Auto if !own.trained.trains_backbone() => BackboneForm::Plain,
        Auto::Auto => BackboneForm::Downstream,
    };
    let base = SegmentorConfig::on_backbone(vit, form, head, classes.len());
    let auxiliary = base.auxiliary.filter(|_| own.auxiliary);
    let auxiliary = auxiliary.map(|fcn| FcnConfig { channels: own.auxiliary_channels, ..fcn });
    let blocks = own.blocks.as_ref().map_or(base.blocks, |blocks| blocks.0.clone());
    let loss = own.loss(classes.ignore, classes.len())?;
    let config = SegmentorConfig { auxiliary, blocks, loss, ..base };
    config.validate()?;
    Ok(config)
}

/// The segmentor at the start of a run.
pub fn start(
    settings: &Settings<Segment>,
    backbone: Option<Backbone>,
    classes: &Classes,
    normalize: Normalize,
    device: &Device,
) -> Result<SegmentationModel> {
    let Settings { run, own } = settings;
    let config = config(settings, vit(settings, backbone.as_ref())?, classes)?;
    let scratch = own.paradigm == SegmentParadigm::Scratch;
    let checkpoint = backbone.map(Backbone::into_checkpoint).filter(|_| !scratch);
    let start = Start::new(device, Key::new(run.seed))
        .with_trained(own.trained.0)
        .with_layer_decay(run.layer_decay.unwrap_or(1.0));
    let model = SegmentationModel::new(&config, classes.clone(), checkpoint, &start)?
        .with_normalize(normalize)
        .with_checkpointing(run.checkpoint_blocks)
        .with_matmul_precision(run.dtype.0);
    backbone::log_changes(run, model.changes());
    Ok(model)
}

/// A trained segmentor. For a checkpoint the model is built as the run built it.
pub fn open(
    settings: &Settings<Segment>,
    found: &Found,
    run: Option<&std::path::Path>,
    device: &Device,
) -> Result<SegmentationModel> {
    match found {
        Found::File(path) => Ok(SegmentationModel::open(path, device)?),
        Found::Checkpoint(checkpoint) => {
            let classes = classes_of_run(run.ok_or("a checkpoint needs --run")?)?;
            let backbone = weights(settings)?;
            let usual = Normalize::downstream();
            let normalize = backbone::normalize(&settings.run, backbone.as_ref(), usual);
            let model = start(settings, backbone, &classes, normalize, device)?;
            checkpoint.load_evaluated(&model.parameters(settings.run.weight_decay))?;
            Ok(model)
        }
    }
}
