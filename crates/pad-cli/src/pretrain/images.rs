//! Images for training and evaluation: a folder's, or rendered ones.

use std::{collections::BTreeMap, sync::Arc};

use pad::{
    data::{
        Dataset, Loader, LoaderConfig, SharedDataset,
        dataset::Subset,
        fingerprint::Fingerprint,
        image::{DecodeOptions, Image},
        roi::{Roi, RoiConfig},
        sets::{WithRois, open_images, read_rois, search_rois},
        transform::{Crop, HorizontalFlip, ImagePipeline, Normalize, RandomResizedCrop, RoiCrop},
    },
    ssl::pictures::CropExample,
};

use super::settings::{CropKind, Pretrain};
use crate::{
    run::Result,
    settings::Settings,
    tools::{images::scenes, reading::read_as},
};

/// Regions of interest of a set's images, in order.
type Rois = Arc<[Vec<Roi>]>;

/// What a run trains on and is measured on.
struct Parts {
    training: SharedDataset<Image>,
    /// Of the training images, if there are any.
    rois: Option<Rois>,
    held_out: SharedDataset<Image>,
    /// What a resumed run must find again; nothing for rendered scenes, which the settings describe.
    facts: BTreeMap<String, String>,
}

/// What pre-training reads.
pub struct Images {
    /// Random crops.
    pub training: Loader,
    /// The centre of the images that are held out; `None` without any.
    pub held_out: Option<Loader>,
    /// The same images as a set.
    pub held_out_set: SharedDataset<Image>,
    /// How they become input in evaluation.
    pub evaluation: ImagePipeline,
    /// The training images and their regions of interest; `None` without regions.
    pub rois: Option<WithRois<SharedDataset<Image>>>,
    /// Random crops of the pictures.
    pub plain: RandomResizedCrop,
    /// Crops around regions.
    pub around: RoiCrop,
    /// What a resumed run must find again.
    pub facts: BTreeMap<String, String>,
}

impl Images {
    /// Opens the images, with random crops for training (around regions of interest where there are
    /// any) and the centre for evaluation.
    pub fn open(settings: &Settings<Pretrain>, normalize: &Normalize) -> Result<Self> {
        let Settings { run, own } = settings;
        let plain = RandomResizedCrop { scale: (own.min_scale, 1.0), ..Default::default() };
        let around = RoiCrop { any_size: own.roi_p, fallback: plain.clone(), ..Default::default() };
        around.validate().map_err(|error| error.to_string().replace("any_size", "roi_p"))?;
        let base = ImagePipeline {
            size: own.image_size.0,
            channels: run.in_channels,
            normalize: normalize.clone(),
            window: run.levels.0,
            ..Default::default()
        };
        let centre = ImagePipeline::evaluation(own.image_size.0);
        let evaluation = ImagePipeline { crop: centre.crop, flip: centre.flip, ..base.clone() };
        evaluation.validate()?;
        let Parts { training, rois, held_out, facts } = parts(settings)?;
        tracing::info!("{} images for training, {} held out", training.len(), held_out.len());

        let cache = run.cache_mib << 20;
        let images = training.len() * own.repeat;
        let config = LoaderConfig {
            batch_size: run.batch_size.min(images),
            cache_bytes: cache - cache / 10,
            ..run.loader()
        };
        let pipeline = ImagePipeline {
            crop: match &rois {
                Some(_) => Crop::Roi(around.clone()),
                None => Crop::Random(plain.clone()),
            },
            flip: HorizontalFlip { probability: run.flip },
            ..base
        };
        let eval_loader = match held_out.is_empty() {
            true => None,
            false => {
                let config = LoaderConfig { cache_bytes: cache / 10, ..config.clone().in_order() };
                Some(Loader::new(Arc::clone(&held_out), evaluation.clone(), config)?)
            }
        };
        let rois = match rois {
            Some(rois) => Some(WithRois::new(Arc::clone(&training), rois)?),
            None => None,
        };
        let loader = match rois.clone() {
            Some(set) => Loader::new(repeated(set, own.repeat), pipeline, config)?,
            None => Loader::new(repeated(training, own.repeat), pipeline, config)?,
        };
        Ok(Self {
            training: loader,
            held_out: eval_loader,
            held_out_set: held_out,
            evaluation,
            rois,
            plain,
            around,
            facts,
        })
    }

    /// Training images that have regions of interest.
    pub fn with_rois(&self) -> usize {
        let rois = self.rois.iter().flat_map(|set| set.rois().iter());
        rois.filter(|rois| !rois.is_empty()).count()
    }

    /// Images with regions for a picture, spread over the set; those that cannot be read are
    /// reported and left out.
    pub fn crop_examples(&self, count: usize) -> Vec<CropExample> {
        let Some(set) = &self.rois else { return Vec::new() };
        let with: Vec<usize> =
            (0..set.len()).filter(|&index| !set.rois()[index].is_empty()).collect();
        let count = count.min(with.len());
        let mut examples = Vec::with_capacity(count);
        for place in 0..count {
            match set.get(with[place * with.len() / count], &DecodeOptions::default()) {
                Ok(found) => {
                    let image = Arc::new(found.image);
                    examples.push(CropExample { image, rois: found.rois });
                }
                Err(error) => tracing::warn!("left out of the picture: {error}"),
            }
        }
        examples
    }
}

/// A set several times over.
fn repeated<D: Dataset>(set: D, times: usize) -> pad::data::dataset::Repeat<D> {
    pad::data::dataset::Repeat::new(set, times)
}

fn parts(settings: &Settings<Pretrain>) -> Result<Parts> {
    let Settings { run, own } = settings;
    let Some(folder) = &run.data else {
        let scenes = scenes(own.scenes, run.seed)?;
        let held_out = (own.scenes as f64 * own.held_out).round() as usize;
        let (held_out, training) = scenes.split_at(held_out.min(own.held_out_max));
        let kept = (training.len() as f64 * own.ratio).round() as usize;
        let (training, _) = training.split_at(kept.max(1));
        let rois = match own.crop {
            CropKind::Random => None,
            CropKind::Roi => {
                let config = RoiConfig::default();
                let rois = search_rois(&training, &Default::default(), &run.levels, &config)?;
                report(&rois);
                Some(rois.into())
            }
        };
        let (training, held_out) = (Arc::new(training), Arc::new(held_out));
        return Ok(Parts { training, rois, held_out, facts: BTreeMap::new() });
    };
    let mut images = Subset::all(read_as(open_images(folder)?, run.choice()));
    if let Some(sources) = &own.sources {
        let names: Vec<&str> = sources.iter().map(String::as_str).collect();
        images = images.only(&names)?;
    }
    for source in images.sources() {
        tracing::info!("{}: {} images", source.name, source.images);
    }
    let all = Fingerprint::of_images(&images)?.to_string();
    let (training, held_out) = images.split(own.held_out, Some(own.held_out_max), run.seed)?;
    if training.is_empty() || (held_out.is_empty() && own.held_out > 0.0) {
        return Err(format!(
            "{}: {} images give {} for training and {} held out, expected some in both (see --held-out)",
            folder.display(),
            images.len(),
            training.len(),
            held_out.len()
        )
        .into());
    }
    let training = training.share(own.ratio, run.seed)?;
    let rois = match own.crop {
        CropKind::Random => None,
        CropKind::Roi => rois_of(&training)?,
    };
    let mut facts = BTreeMap::from([("images".to_string(), all)]);
    if let Some(rois) = &rois {
        let found = Fingerprint::of_rois(&training, rois).to_string();
        facts.insert("regions of interest".into(), found);
    }
    Ok(Parts { training: Arc::new(training), rois, held_out: Arc::new(held_out), facts })
}

/// The regions in files beside the images. `None` if no image has such a file.
fn rois_of(images: &impl Dataset<Sample = Image>) -> Result<Option<Rois>> {
    let rois = read_rois(images)?;
    let files = rois.iter().flatten().count();
    if files == 0 {
        tracing::info!("no RoI files: plain random crops (`pad roi` makes them)");
        return Ok(None);
    }
    let rois: Vec<Vec<Roi>> = rois.into_iter().map(Option::unwrap_or_default).collect();
    report(&rois);
    if files < rois.len() {
        let missing = rois.len() - files;
        tracing::warn!("{missing} images have no RoI file: plain random crops of them");
    }
    Ok(Some(rois.into()))
}

fn report(rois: &[Vec<Roi>]) {
    let with = rois.iter().filter(|rois| !rois.is_empty()).count();
    let total: usize = rois.iter().map(Vec::len).sum();
    tracing::info!("{with} of {} training images have RoIs, {total} in all", rois.len());
}
