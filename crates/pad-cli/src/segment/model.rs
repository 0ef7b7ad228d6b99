//! A segmentor from settings and weights, and the file that a run leaves.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use candle_core::Device;
use pad::{
    checkpoint::{AdapterFile, Checkpoint, FloatType, save},
    data::{draw::Color, sets::segmentation::Classes},
    heads::{
        backbone::DownstreamConfig,
        segmentation::{
            BackboneKind, FcnConfig, HeadKind, LayerDecay, Segmentor, SegmentorConfig, UperConfig,
            pretrained, role_of,
        },
    },
    params::{ParamStore, Role},
    rng::Key,
    train::Parameter,
    vit::{ViTConfig, sin_cos_table},
};
use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::run::{self, Result, model::MODEL};

const FORMAT: &str = "pad-segmentor/1";

/// What an adapter file says of itself.
const ADAPTER_FORMAT: &str = "pad-adapter/1";

/// The classes, as the file keeps them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptClasses {
    names: Vec<String>,
    palette: Vec<Color>,
    ignore: u8,
}

/// A built segmentor and what it was built from.
pub struct Network {
    pub segmentor: Segmentor,
    pub store: ParamStore,
    pub classes: Classes,
}

/// A pre-trained backbone under our names, and what it is.
struct Backbone {
    checkpoint: Checkpoint,
    /// Where a file of adapters or of a segmentor says so.
    config: Option<ViTConfig>,
}

impl Backbone {
    fn config(&self) -> Result<ViTConfig> {
        Ok(match self.config {
            Some(config) => config,
            None => self.checkpoint.vit_config()?,
        })
    }

    fn has_adapters(&self) -> bool {
        self.checkpoint.names().any(|name| Role::of(name).is_adapter())
    }
}

/// Adapters on the backbone that they were trained on; another one is refused.
fn with_adapters(path: &Path, backbone: Option<Checkpoint>) -> Result<Backbone> {
    let name = path.display();
    let file = AdapterFile::open(path)?;
    let backbone = backbone.ok_or_else(|| format!("{name}: adapters without a backbone"))?;
    let checkpoint = file.onto(backbone)?;
    let config = *file.config();
    Ok(Backbone { checkpoint, config: Some(config) })
}

/// A file of a whole network; of a segmentor, the backbone will be taken.
fn whole_file(checkpoint: Checkpoint) -> Result<Backbone> {
    let config = match checkpoint.metadata().get("segmentor") {
        Some(json) => {
            let config: SegmentorConfig = serde_json::from_str(json).map_err(|error| {
                format!("{}: metadata `segmentor`: {error}", checkpoint.path().display())
            })?;
            Some(*config.backbone.vit())
        }
        None => None,
    };
    Ok(Backbone { checkpoint: run::model::ours(checkpoint)?, config })
}

/// The weights that settings name; none for `none`.
fn open(settings: &Settings) -> Result<Option<Backbone>> {
    let name = settings.weights.as_str();
    if name == "none" {
        return Ok(None);
    }
    let folder = Path::new(name);
    if folder.join("config.toml").is_file() {
        let whole = folder.join(MODEL);
        if whole.is_file() {
            return whole_file(Checkpoint::open(whole)?).map(Some);
        }
        let run = run::settings::Settings::of_run(folder)?;
        let adapter = folder.join(run::model::ADAPTER);
        return with_adapters(&adapter, run::model::weights(&run)?).map(Some);
    }
    let checkpoint = run::model::open_weights(name)?;
    if checkpoint.metadata().get("format").is_some_and(|format| format == ADAPTER_FORMAT) {
        let backbone = run::model::ours(run::model::open_weights(&settings.backbone)?)?;
        return with_adapters(folder, Some(backbone)).map(Some);
    }
    whole_file(checkpoint).map(Some)
}

/// The transformer that settings and weights describe.
fn vit(settings: &Settings, backbone: Option<&Backbone>) -> Result<ViTConfig> {
    let base = match (settings.model.as_str(), backbone) {
        ("auto", Some(backbone)) => backbone.config()?,
        ("auto", None) => {
            return Err(
                "without weights the model must be named with --model (pico, tiny, small, \
                        base, large, huge, dinov2-small)"
                    .into(),
            );
        }
        ("pico", _) => ViTConfig::pico(settings.patch_size),
        (name, _) => ViTConfig::preset(name, settings.patch_size)?,
    };
    let adapter = match (settings.paradigm.as_str(), base.adapter) {
        ("pad", Some(stored)) => Some(stored),
        ("pad", None) => Some(settings.adapter()?),
        _ => None,
    };
    let drop_path = if settings.freeze_backbone { 0.0 } else { settings.drop_path };
    Ok(ViTConfig {
        image_size: settings.crop_size()?,
        in_channels: settings.channels,
        adapter,
        drop_path,
        ..base
    })
}

/// The paradigm against the weights.
fn check_paradigm(settings: &Settings, backbone: Option<&Backbone>) -> Result<()> {
    let (paradigm, weights) = (settings.paradigm.as_str(), settings.weights.as_str());
    match (paradigm, backbone) {
        ("scratch", _) => Ok(()),
        ("rgb-only" | "full", Some(backbone)) if backbone.has_adapters() => Err(format!(
            "paradigm {paradigm} has no adapters, found some in {weights}: use --paradigm pad"
        )
        .into()),
        ("full", Some(_)) if weights == "asset" => {
            Err("paradigm full needs the weights of a continued pre-training (--weights RUN of \
             `pretrain --paradigm full`), found --weights asset"
                .into())
        }
        ("rgb-only" | "full" | "pad", Some(_)) => Ok(()),
        ("rgb-only" | "full" | "pad", None) => {
            Err(format!("paradigm {paradigm} needs weights to start from, found --weights none")
                .into())
        }
        _ => {
            Err(format!("`paradigm` is {paradigm}, expected scratch, rgb-only, full or pad").into())
        }
    }
}

/// Which blocks the head looks at, if settings do not say: of 12 the original's 3, 5, 7 and 11.
fn default_blocks(head: &HeadKind, depth: usize) -> Vec<usize> {
    match head {
        HeadKind::Linear => vec![depth.saturating_sub(1)],
        HeadKind::Uper(_) => {
            [4, 6, 8, 12].map(|block| (block * depth / 12).saturating_sub(1)).to_vec()
        }
    }
}

fn segmentor_config(
    settings: &Settings,
    vit: ViTConfig,
    classes: &Classes,
) -> Result<SegmentorConfig> {
    let head = match settings.head.as_str() {
        "uper" => HeadKind::Uper(UperConfig {
            channels: settings.head_channels,
            dropout: settings.head_dropout,
            ..Default::default()
        }),
        "linear" => HeadKind::Linear,
        other => return Err(format!("`head` is {other}, expected uper or linear").into()),
    };
    let backbone = match settings.form.as_str() {
        "plain" => BackboneKind::Plain(vit),
        "auto" if settings.freeze_backbone => BackboneKind::Plain(vit),
        "downstream" | "auto" => {
            let layer_scale = Some(vit.layer_scale.unwrap_or(1.0));
            let vit = ViTConfig { layer_scale, pos_grid: None, ..vit };
            BackboneKind::Downstream(DownstreamConfig { vit, relative_positions: true })
        }
        other => {
            return Err(format!("`form` is {other}, expected downstream, plain or auto").into());
        }
    };
    let auxiliary = (settings.auxiliary && head != HeadKind::Linear)
        .then(|| FcnConfig { channels: settings.auxiliary_channels, ..Default::default() });
    let blocks = match settings.blocks.is_empty() {
        true => default_blocks(&head, vit.depth),
        false => settings.blocks.clone(),
    };
    let count = classes.len();
    let loss = settings.loss(classes.ignore, count)?;
    let config = SegmentorConfig { backbone, blocks, head, auxiliary, classes: count, loss };
    config.validate()?;
    Ok(config)
}

/// The segmentor at the start of a run.
pub fn at_start(settings: &Settings, classes: &Classes, device: &Device) -> Result<Network> {
    let scratch = settings.paradigm == "scratch";
    // From scratch, weights say what the model is, and no more.
    let named = scratch && settings.model != "auto";
    let backbone = if named { None } else { open(settings)? };
    check_paradigm(settings, backbone.as_ref())?;
    let vit = vit(settings, backbone.as_ref())?;
    let config = segmentor_config(settings, vit, classes)?;
    let trained = settings.trained()?;
    let key = Key::new(settings.seed);
    let mut store = match backbone {
        Some(backbone) if !scratch => {
            let has_adapters = backbone.has_adapters();
            let (checkpoint, changes) = pretrained(backbone.checkpoint, &config.backbone)?;
            for change in changes {
                tracing::info!("{}: {change}", checkpoint.path().display());
            }
            let fresh =
                move |role: Role| role == Role::Head || (role.is_adapter() && !has_adapters);
            ParamStore::from_checkpoint(checkpoint, device, key).with_fresh(fresh)
        }
        _ => ParamStore::scratch(device, key),
    };
    if scratch && let BackboneKind::Plain(vit) = &config.backbone {
        let table = sin_cos_table(vit.embed_dim, vit.pos_table_grid()?, device)?;
        store = store.with_value("backbone.pos_embed", table);
    }
    let store = store.with_roles(role_of).with_trained(move |role| trained.includes(role));
    let segmentor = store.build(|vb| Segmentor::new(&config, vb))?;
    Ok(Network { segmentor, store, classes: classes.clone() })
}

impl Network {
    /// What an optimiser gets.
    pub fn parameters(&self, settings: &Settings) -> Vec<Parameter> {
        let (rate, weight_decay) = (settings.layer_decay, settings.weight_decay);
        let depth = self.segmentor.config().backbone.vit().depth;
        LayerDecay { rate, weight_decay }.parameters(&self.store, depth)
    }

    /// Writes the whole segmentor.
    pub fn save(&self, folder: &Path) -> Result<PathBuf> {
        let Classes { names, palette, ignore, .. } = self.classes.clone();
        let metadata = BTreeMap::from([
            ("format".into(), FORMAT.into()),
            ("segmentor".into(), serde_json::to_string(self.segmentor.config())?),
            ("classes".into(), serde_json::to_string(&KeptClasses { names, palette, ignore })?),
        ]);
        let path = folder.join(MODEL);
        save(&path, &self.store.tensors(|_| true), &metadata, FloatType::AsIs)?;
        Ok(path)
    }
}

/// The segmentor that a finished run left.
pub fn of_run(folder: &Path, device: &Device) -> Result<Network> {
    let path = folder.join(MODEL);
    let name = path.display();
    if folder.join("config.toml").is_file() && !path.is_file() {
        return Err(format!(
            "{name}: not there; the run has not ended (continue it with --resume)"
        )
        .into());
    }
    let checkpoint = Checkpoint::open(&path)?;
    let entry = |key: &str| {
        let text = checkpoint.metadata().get(key);
        text.ok_or_else(|| format!("{name}: no metadata `{key}`, expected a segmentor's file"))
    };
    let fault = |key: &str, error: serde_json::Error| format!("{name}: metadata `{key}`: {error}");
    let config: SegmentorConfig =
        serde_json::from_str(entry("segmentor")?).map_err(|error| fault("segmentor", error))?;
    let kept: KeptClasses =
        serde_json::from_str(entry("classes")?).map_err(|error| fault("classes", error))?;
    let mut classes = Classes::new(kept.names)?;
    if classes.len() != config.classes || kept.palette.len() != config.classes {
        let found = classes.len();
        return Err(format!(
            "{name}: {found} classes, expected {}, with a colour each",
            config.classes
        )
        .into());
    }
    (classes.palette, classes.ignore) = (kept.palette, kept.ignore);
    let store = ParamStore::from_checkpoint(checkpoint, device, Key::new(0)).with_roles(role_of);
    let segmentor = store.build(|vb| Segmentor::new(&config, vb))?;
    Ok(Network { segmentor, store, classes })
}
