//! Images for training and evaluation: a folder's, or rendered ones.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use candle_core::Tensor;
use pad::{
    data::{
        dataset::{Dataset, Repeated},
        loader::{Loader, LoaderConfig},
        roi::{Roi, RoiConfig},
        scenes::{SceneConfig, SceneSet, Size},
        sets::{
            Crop, ImageDataset, ImageDatasetConfig, ImageFolder, ImageList, ImageSource,
            search_rois,
        },
        shards::ShardSet,
        transform::{HorizontalFlip, RandomResizedCrop, RoiCrop},
    },
    rng::Key,
};

use super::{Result, settings::Settings};

/// Regions of interest of a set's images, in order.
type Rois = Arc<[Vec<Roi>]>;

/// What a run trains on and is measured on.
struct Parts {
    training: Arc<dyn ImageSource>,
    /// Of the training images, if there are any.
    rois: Option<Rois>,
    held_out: Arc<dyn ImageSource>,
    /// What a resumed run must find again; nothing for rendered scenes, which are what the settings say.
    identity: BTreeMap<String, String>,
}

fn sources(settings: &Settings) -> Result<Parts> {
    let Some(folder) = &settings.data else {
        if !(settings.ratio > 0.0 && settings.ratio <= 1.0) {
            let found = settings.ratio;
            return Err(format!("`ratio` is {found}, expected above 0, up to 1").into());
        }
        let held_out = (settings.scenes as f64 * settings.held_out).round() as usize;
        let (held_out, training) = scenes(settings)?.split_at(held_out);
        let kept = (training.len() as f64 * settings.ratio).round() as usize;
        let (training, _) = training.split_at(kept.max(1));
        let rois = if settings.no_roi { None } else { Some(scene_rois(settings, &training)?) };
        let (training, held_out) = (Arc::new(training), Arc::new(held_out));
        return Ok(Parts { training, rois, held_out, identity: BTreeMap::new() });
    };
    match holds_shards(folder)? {
        true => parts(settings, ShardSet::open(folder)?),
        false => parts(settings, ImageFolder::open(folder)?),
    }
}

/// Whether a folder (or file) is what example `shards` writes: `*.tar`, directly in it.
fn holds_shards(path: &Path) -> Result<bool> {
    let is_tar = |path: &Path| path.extension().is_some_and(|found| found == "tar");
    if !path.is_dir() {
        return Ok(is_tar(path));
    }
    let entries =
        std::fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(entries.flatten().any(|entry| is_tar(&entry.path())))
}

/// The parts of a folder, or of the shards made of it.
fn parts<L: ImageList + 'static>(settings: &Settings, mut images: L) -> Result<Parts> {
    if !settings.sources.is_empty() {
        let names: Vec<&str> = settings.sources.iter().map(String::as_str).collect();
        images = images.only(&names)?;
    }
    for source in images.sources() {
        tracing::info!("{}: {} images", source.name, source.images);
    }
    let all = images.fingerprint()?.to_string();
    let (training, held_out) = images.split(settings.held_out, settings.seed)?;
    if training.is_empty() || (held_out.is_empty() && settings.held_out > 0.0) {
        return Err(format!(
            "{}: {} images give {} for training and {} held out, expected some in both (see --held-out)",
            settings.data.as_deref().unwrap_or(Path::new("")).display(),
            images.len(),
            training.len(),
            held_out.len()
        )
        .into());
    }
    let training = training.share(settings.ratio, settings.seed)?;
    let rois = if settings.no_roi { None } else { rois_of(&training)? };
    let mut identity = BTreeMap::from([("images".to_string(), all)]);
    if let Some(rois) = &rois {
        let name = "regions of interest".to_string();
        identity.insert(name, training.rois_fingerprint(rois).to_string());
    }
    let (training, held_out) = (Arc::new(training), Arc::new(held_out));
    Ok(Parts { training, rois, held_out, identity })
}

/// The regions that stand in files beside the images. None if not one image has such a file.
fn rois_of(images: &impl ImageList) -> Result<Option<Rois>> {
    let rois = images.read_rois()?;
    let files = rois.iter().flatten().count();
    if files == 0 {
        tracing::info!("no RoI files: plain random crops (example `roi` makes them)");
        return Ok(None);
    }
    let rois: Vec<Vec<Roi>> = rois.into_iter().map(Option::unwrap_or_default).collect();
    report_rois(&rois);
    if files < rois.len() {
        tracing::warn!(
            "{} images have no RoI file: plain random crops of them",
            rois.len() - files
        );
    }
    Ok(Some(rois.into()))
}

/// Regions of rendered scenes: searched once, kept in memory.
fn scene_rois(settings: &Settings, scenes: &SceneSet) -> Result<Rois> {
    let config = RoiConfig::default();
    let rois = search_rois(scenes, &Default::default(), &settings.window(), &config)?;
    report_rois(&rois);
    Ok(rois.into())
}

fn report_rois(rois: &[Vec<Roi>]) {
    let with = rois.iter().filter(|rois| !rois.is_empty()).count();
    let total: usize = rois.iter().map(Vec::len).sum();
    tracing::info!("{with} of {} training images have RoIs, {total} in all", rois.len());
}

fn scenes(settings: &Settings) -> Result<SceneSet> {
    tracing::info!("rendering {} scenes", settings.scenes);
    // Large enough for crops of 224, small enough to render hundreds in seconds.
    let config = SceneConfig::new(Size::new(256, 320), settings.seed);
    Ok(SceneSet::render(&config, settings.scenes)?)
}

/// What all datasets of a run share.
fn dataset_config(settings: &Settings) -> Result<ImageDatasetConfig> {
    Ok(ImageDatasetConfig {
        size: settings.image_size()?,
        channels: settings.channels,
        normalize: settings.normalize()?,
        window: settings.window(),
        ..Default::default()
    })
}

/// The same with nothing random in it: the centre, not mirrored.
pub fn evaluation_config(settings: &Settings) -> Result<ImageDatasetConfig> {
    let centre = ImageDatasetConfig::evaluation(settings.image_size()?);
    Ok(ImageDatasetConfig { crop: centre.crop, flip: centre.flip, ..dataset_config(settings)? })
}

/// What pre-training reads.
pub struct Images {
    /// Random crops.
    pub training: Loader,
    /// The centre of the images that are held out; absent if there are none.
    pub held_out: Option<Loader>,
    /// For a picture of what regions of interest do; absent if there are none.
    pub crops: Option<CropComparison>,
    /// What a resumed run must find again; nothing for rendered scenes.
    pub identity: BTreeMap<String, String>,
}

/// The training images with and without their regions of interest, not mirrored.
pub struct CropComparison {
    pub with: ImageDataset,
    pub without: ImageDataset,
    pub rois: Rois,
}

impl CropComparison {
    /// Training images that have regions.
    pub fn with_rois(&self) -> usize {
        self.rois.iter().filter(|rois| !rois.is_empty()).count()
    }
}

/// Loaders of both parts: random crops for training, around regions of interest where there are any, and the centre
/// for evaluation.
pub fn loaders(settings: &Settings) -> Result<Images> {
    let Parts { training, rois, held_out, identity } = sources(settings)?;
    tracing::info!("{} images for training, {} held out", training.len(), held_out.len());
    let cache = settings.cache_mib << 20;
    let images = training.len() * settings.repeat.max(1);
    let plain = RandomResizedCrop { scale: (settings.min_scale, 1.0), ..Default::default() };
    let around =
        RoiCrop { any_size: settings.roi_p, fallback: plain.clone(), ..Default::default() };
    around.validate().map_err(|error| error.to_string().replace("any_size", "roi_p"))?;
    let crop = if rois.is_some() { Crop::Roi(around) } else { Crop::Random(plain.clone()) };
    let train_config = ImageDatasetConfig {
        crop,
        flip: HorizontalFlip { probability: settings.flip },
        cache_bytes: cache - cache / 10,
        ..dataset_config(settings)?
    };
    let eval_config =
        ImageDatasetConfig { cache_bytes: cache / 10, ..evaluation_config(settings)? };
    let loader_config = LoaderConfig {
        batch_size: settings.batch_size.min(images),
        workers: settings.workers,
        max_unreadable: settings.max_unreadable,
        seed: settings.seed,
        ..Default::default()
    };
    let eval_loader = if held_out.is_empty() {
        None
    } else {
        let config = LoaderConfig { shuffle: false, drop_last: false, ..loader_config.clone() };
        let dataset = ImageDataset::from_source(held_out, eval_config)?;
        Some(Loader::new(Arc::new(dataset), config)?)
    };
    let mut crops = None;
    if let Some(rois) = &rois {
        let with = ImageDatasetConfig {
            flip: HorizontalFlip::NEVER,
            cache_bytes: 0,
            ..train_config.clone()
        };
        let without = ImageDatasetConfig { crop: Crop::Random(plain), ..with.clone() };
        crops = Some(CropComparison {
            with: ImageDataset::from_source(Arc::clone(&training), with)?
                .with_rois(Arc::clone(rois))?,
            without: ImageDataset::from_source(Arc::clone(&training), without)?,
            rois: Arc::clone(rois),
        });
    }
    let mut dataset = ImageDataset::from_source(training, train_config)?;
    if let Some(rois) = rois {
        dataset = dataset.with_rois(rois)?;
    }
    let dataset = Repeated::new(dataset, settings.repeat);
    let training = Loader::new(Arc::new(dataset), loader_config)?;
    Ok(Images { training, held_out: eval_loader, crops, identity })
}

/// All images of `folder`, of the run's own folder, or rendered ones, as they are evaluated.
pub fn evaluation(settings: &Settings, folder: Option<&Path>) -> Result<ImageDataset> {
    let source: Arc<dyn ImageSource> = match folder.or(settings.data.as_deref()) {
        Some(folder) if holds_shards(folder)? => Arc::new(ShardSet::open(folder)?),
        Some(folder) => Arc::new(ImageFolder::open(folder)?),
        None => Arc::new(scenes(settings)?),
    };
    Ok(ImageDataset::from_source(source, evaluation_config(settings)?)?)
}

/// Every image of `dataset` once and in order, in batches.
pub fn in_order(settings: &Settings, dataset: ImageDataset) -> Result<Loader> {
    let config = LoaderConfig {
        batch_size: settings.batch_size,
        workers: settings.workers,
        max_unreadable: settings.max_unreadable,
        shuffle: false,
        drop_last: false,
        ..Default::default()
    };
    Ok(Loader::new(Arc::new(dataset), config)?)
}

/// `count` images spread over a set, as a batch; those that cannot be read are reported and left out.
pub fn spread(dataset: &dyn Dataset, count: usize) -> Result<Tensor> {
    let count = count.clamp(1, dataset.len().max(1));
    let mut images = Vec::with_capacity(count);
    for i in 0..count {
        let index = i * dataset.len() / count;
        match dataset.get(index, Key::new(0).sample(index as u64)) {
            Ok(sample) => images.push(sample.into_tensor()?),
            Err(error) => tracing::warn!("left out of the picture: {error}"),
        }
    }
    if images.is_empty() {
        return Err("not one of the images for the picture could be read".into());
    }
    Ok(Tensor::cat(&images, 0)?)
}
