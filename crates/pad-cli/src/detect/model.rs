//! Detectors from settings and weights, and the file a run leaves.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor};
use pad::{
    ImageSize,
    checkpoint::{AdapterFile, Checkpoint, FloatType, save},
    data::sets::detection::BoxClasses,
    heads::detection::{
        Detection, DetectionWithMask, Detector, DetectorConfig, LayerDecay, MaskConfig, RoiConfig,
        RpnConfig, SoftMask, Trained, pretrained, role_of,
    },
    params::{ParamStore, Role},
    rng::Key,
    train::Parameter,
    vit::ViTConfig,
};

use super::{settings::Settings, work::macs};
use crate::run::{
    Result,
    model::{ADAPTER, MODEL, open_weights, ours, stored_config, weights},
    settings::Settings as PretrainSettings,
};

/// The file of a finished run.
pub const DETECTOR: &str = "detector.safetensors";

/// A backbone as pre-training left it: its tensors, without a decoder, and what they make.
fn backbone(path: &str) -> Result<(Checkpoint, ViTConfig)> {
    let folder = Path::new(path);
    let detector = if folder.is_dir() { folder.join(DETECTOR) } else { folder.into() };
    if detector.is_file()
        && let Some(found) = of_detector(Checkpoint::open(&detector)?)?
    {
        return Ok(found);
    }
    let (mut checkpoint, config) = if !folder.is_dir() {
        let checkpoint = ours(open_weights(path)?)?;
        let config = checkpoint.vit_config()?;
        (checkpoint, config)
    } else if folder.join(MODEL).exists() {
        let checkpoint = Checkpoint::open(folder.join(MODEL))?;
        let config = stored_config(&checkpoint)?
            .ok_or_else(|| format!("{}: no metadata `mae`", folder.join(MODEL).display()))?;
        (checkpoint, config.encoder)
    } else {
        let settings = PretrainSettings::of_run(folder)?;
        let below = weights(&settings)?
            .ok_or_else(|| format!("{path}: no {MODEL} and no weights named"))?;
        let adapter = AdapterFile::open(folder.join(ADAPTER))?;
        let config = *adapter.config();
        (adapter.onto(below)?, config)
    };
    let names: Vec<String> = checkpoint.names().map(String::from).collect();
    for name in names.iter().filter(|name| Role::of(name).is_decoder()) {
        checkpoint.remove(name);
    }
    Ok((checkpoint, config))
}

/// The backbone of a detector's file, heads and pyramid left out; none for a file of another kind.
fn of_detector(mut checkpoint: Checkpoint) -> Result<Option<(Checkpoint, ViTConfig)>> {
    let Some(text) = checkpoint.metadata().get("detector") else { return Ok(None) };
    let config: DetectorConfig = serde_json::from_str(text).map_err(|error| {
        format!("{}: metadata `detector`: {error}", checkpoint.path().display())
    })?;
    let names: Vec<String> = checkpoint.names().map(String::from).collect();
    for name in names.iter().filter(|name| role_of(name) == Role::Head) {
        checkpoint.remove(name);
    }
    Ok(Some((checkpoint, config.vit)))
}

/// What is found, and where in its box it is if the detector tells.
pub type Seen = (Detection, Option<SoftMask>);

/// A detector, the names of what it finds, and its parameters.
pub struct Network {
    detector: Detector,
    config: DetectorConfig,
    classes: BoxClasses,
    pub store: ParamStore,
    device: Device,
}

impl Network {
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    pub fn classes(&self) -> &BoxClasses {
        &self.classes
    }

    /// Sides of images are multiples of this: every level of the pyramid then is half of the one before it.
    pub fn multiple(&self) -> usize {
        64
    }

    /// Whether it tells the pixels of what it finds.
    pub fn masks(&self) -> bool {
        self.config.masks
    }

    /// What is found in a batch, in its pixels, with masks if it tells them.
    pub fn detect(&self, images: &Tensor, sizes: &[ImageSize]) -> Result<Vec<Vec<Seen>>> {
        let images = images.to_device(&self.device)?;
        if !self.masks() {
            let found = self.detector.predict(&images, sizes)?.into_iter();
            return Ok(found
                .map(|image| image.into_iter().map(|detection| (detection, None)).collect())
                .collect());
        }
        let with_mask = |one: DetectionWithMask| (one.detection, Some(one.mask));
        let found = self.detector.segment(&images, sizes)?.into_iter();
        Ok(found.map(|image| image.into_iter().map(with_mask).collect()).collect())
    }

    /// Multiply-adds of a batch of one.
    pub fn macs(&self, images: &Tensor) -> Result<f64> {
        let (_, _, height, width) = images.dims4()?;
        Ok(macs(&self.config, height, width))
    }
}

/// The detector that settings and a backbone's own configuration describe.
fn configured(
    settings: &Settings,
    stored: Option<&ViTConfig>,
    classes: &BoxClasses,
) -> Result<DetectorConfig> {
    let known = match (settings.model.as_str(), stored) {
        ("auto", Some(stored)) => *stored,
        ("auto", None) => {
            return Err("without weights the model must be named: --model pico, tiny, small, base, large, huge or \
                        dinov2-small"
                .into());
        }
        (name, stored) => {
            let preset = ViTConfig::preset(name, settings.patch_size)?;
            ViTConfig { adapter: stored.and_then(|stored| stored.adapter), ..preset }
        }
    };
    let adapter = match settings.adapters.as_str() {
        "none" => None,
        "auto" => known.adapter,
        _ => settings.new_adapters()?,
    };
    let vit = ViTConfig { adapter, drop_path: settings.drop_path, in_channels: 3, ..known };
    let rpn = RpnConfig {
        anchor_sizes: settings.anchors.clone(),
        before_nms: [2 * settings.proposals, settings.proposals],
        after_nms: [settings.proposals; 2],
        ..Default::default()
    };
    let config = DetectorConfig {
        global_blocks: global_blocks(settings, vit.depth),
        vit,
        window: settings.window,
        relative_positions: settings.relative_positions,
        relative_size: ImageSize::square(settings.size),
        channels: settings.channels,
        head_dim: settings.head_dim,
        classes: classes.len(),
        cascade: settings.cascade,
        masks: settings.masks,
        rpn,
        roi: RoiConfig { samples: settings.samples, ..Default::default() },
        mask: MaskConfig::default(),
        score: settings.score,
        nms: settings.nms,
        most: settings.most,
    };
    config.validate()?;
    Ok(config)
}

/// The blocks asked for, or the last of each quarter.
fn global_blocks(settings: &Settings, depth: usize) -> Vec<usize> {
    if !settings.global_blocks.is_empty() {
        return settings.global_blocks.clone();
    }
    let mut blocks: Vec<usize> =
        (1..=4).filter_map(|quarter| (quarter * depth / 4).checked_sub(1)).collect();
    blocks.dedup();
    blocks
}

fn trained(settings: &Settings) -> Result<Trained> {
    match settings.trained.as_str() {
        "everything" => Ok(Trained::Everything),
        "adapters-and-heads" => Ok(Trained::AdaptersAndHeads),
        "heads" => Ok(Trained::Heads),
        found => {
            Err(format!("`trained` is {found}, expected everything, adapters-and-heads or heads")
                .into())
        }
    }
}

/// The detector at the start of a run: the backbone of `--weights`, all else new.
pub fn at_start(settings: &Settings, classes: &BoxClasses, device: &Device) -> Result<Network> {
    let trained = trained(settings)?;
    let key = Key::new(settings.seed);
    let (store, config) = match settings.weights.as_str() {
        "none" => (ParamStore::scratch(device, key), configured(settings, None, classes)?),
        path => {
            let (checkpoint, stored) = backbone(path)?;
            let config = configured(settings, Some(&stored), classes)?;
            // Adapters of the file, if these are not what is asked for, would be unknown to the network.
            let adapted = stored.adapter.is_some() && stored.adapter == config.vit.adapter;
            let checkpoint = if adapted { checkpoint } else { without_adapters(checkpoint) };
            let (checkpoint, changes) = pretrained(checkpoint, &config)?;
            for change in changes {
                tracing::info!("{path}: {change}");
            }
            let store = ParamStore::from_checkpoint(checkpoint, device, key)
                .with_fresh(move |role| role == Role::Head || (role.is_adapter() && !adapted));
            (store, config)
        }
    };
    let store = store.with_roles(role_of).with_trained(move |role| trained.includes(role));
    built(store, config, classes.clone(), device)
}

fn without_adapters(mut checkpoint: Checkpoint) -> Checkpoint {
    let names: Vec<String> = checkpoint.names().map(String::from).collect();
    for name in names.iter().filter(|n| Role::of(n).is_adapter() || role_of(n).is_adapter()) {
        checkpoint.remove(name);
    }
    checkpoint
}

fn built(
    store: ParamStore,
    config: DetectorConfig,
    classes: BoxClasses,
    device: &Device,
) -> Result<Network> {
    let detector = store.build(|vb| Detector::new(&config, vb))?;
    Ok(Network { detector, config, classes, store, device: device.clone() })
}

/// The detector that a finished run left, with the thresholds of `settings`.
pub fn of_run(folder: &Path, settings: &Settings, device: &Device) -> Result<Network> {
    let path = folder.join(DETECTOR);
    let checkpoint = Checkpoint::open(&path)?;
    let part = |name: &str| -> Result<String> {
        let text = checkpoint.metadata().get(name);
        let text = text.ok_or_else(|| format!("{}: no metadata `{name}`", path.display()))?;
        Ok(text.clone())
    };
    let fault = |name: &str, error: serde_json::Error| {
        format!("{}: metadata `{name}`: {error}", path.display())
    };
    let config: DetectorConfig =
        serde_json::from_str(&part("detector")?).map_err(|error| fault("detector", error))?;
    let classes: BoxClasses =
        serde_json::from_str(&part("classes")?).map_err(|error| fault("classes", error))?;
    let config =
        DetectorConfig { score: settings.score, nms: settings.nms, most: settings.most, ..config };
    let store = ParamStore::from_checkpoint(checkpoint, device, Key::new(settings.seed));
    built(store.with_roles(role_of), config, classes, device)
}

impl Network {
    /// What trains, with the learning rates of its layers.
    pub fn parameters(&self, settings: &Settings) -> Vec<Parameter> {
        let decay = LayerDecay { rate: settings.layer_decay, weight_decay: settings.weight_decay };
        decay.parameters(&self.store, self.config.vit.depth)
    }

    /// Writes the whole detector, what it is made of, and what it finds. Returns the file.
    pub fn save(&self, folder: &Path) -> Result<PathBuf> {
        let metadata = BTreeMap::from([
            ("format".to_string(), "pad-detector/1".to_string()),
            ("made_by".into(), "pad detect".into()),
            ("detector".into(), serde_json::to_string(&self.config)?),
            ("classes".into(), serde_json::to_string(&self.classes)?),
        ]);
        let path = folder.join(DETECTOR);
        save(&path, &self.store.tensors(|_| true), &metadata, FloatType::AsIs)?;
        Ok(path)
    }
}
