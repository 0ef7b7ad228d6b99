//! What frozen features are worth: nearest neighbours and a linear layer on labelled images.
//!
//!     cargo run --release --example probe                                   # two minutes, needs nothing
//!     cargo run --release --example probe -- --data DIR --run runs/pretrain-1
//!     cargo run --release --example probe -- --data DIR --weights vit.safetensors --model base --method knn
//!
//! `--epochs` (100), `--probe-lr` and `--k` (20) set the probes; `--batch-size`, `--image-size` and the like the encoder's pass.
//! DIR holds a folder per class, or `train` and `val` with such folders. Without DIR scenes are rendered; the label is
//! the kind of scene. Writes a JSON file of the accuracies with `--json`.

use std::{path::PathBuf, sync::Arc};

use candle_core::Device;
use clap::{Args, ValueEnum};
use crate::run::{
    Result, model,
    settings::{Flags, Settings},
};
use pad::{
    data::{
        image::{DecodeOptions, Image},
        scenes::{Family, FamilyWeights, SceneConfig, SceneSet, Size},
        sets::{ImageDataset, ImageSource},
    },
    ssl::probe::{Features, Labelled, LinearProbe, NearestNeighbours, Pool, Scores},
    vit::ViT,
};

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Method {
    /// Nearest neighbours by cosine
    Knn,
    /// A linear layer
    Linear,
    /// Both
    Both,
}

/// Which tokens make an image's feature.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Tokens {
    /// The mean over the patches
    Mean,
    /// The class token
    Class,
}

/// Probes frozen features on labelled images.
#[derive(Args, Debug)]
pub(crate) struct Program {
    /// Folder of a run of `pretrain`; without it the weights named by --weights
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Which probe
    #[arg(long, value_enum, default_value = "both")]
    method: Method,
    /// Neighbours that vote
    #[arg(long, default_value_t = 20)]
    k: usize,
    /// Learning rate of the linear layer
    #[arg(long, default_value_t = 0.1)]
    probe_lr: f64,
    /// Which tokens make a feature
    #[arg(long, value_enum, default_value = "mean")]
    pool: Tokens,
    /// Share of the images that is asked, where DIR has no train and val
    #[arg(long, default_value_t = 0.25)]
    val: f64,
    /// Use adapters of another backbone all the same
    #[arg(long)]
    force: bool,
    /// File for the accuracies
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

/// A source of images with labels.
struct Part {
    source: Arc<dyn ImageSource>,
    labels: Vec<usize>,
}

/// Families of rendered scenes, by label.
const FAMILIES: [(&str, Family); 7] = [
    ("street", Family::Street),
    ("mast", Family::Mast),
    ("aerial", Family::Aerial),
    ("field", Family::Field),
    ("room", Family::Room),
    ("close_up", Family::CloseUp),
    ("plant", Family::Plant),
];

/// Several sources in turn.
struct Chain(Vec<SceneSet>);

impl Chain {
    fn place(&self, mut index: usize) -> Option<(&SceneSet, usize)> {
        for set in &self.0 {
            if index < set.len() {
                return Some((set, index));
            }
            index -= set.len();
        }
        None
    }
}

impl ImageSource for Chain {
    fn len(&self) -> usize {
        self.0.iter().map(ImageSource::len).sum()
    }

    fn name(&self, index: usize) -> String {
        self.place(index).map_or("no such scene".into(), |(set, index)| set.name(index))
    }

    fn load(&self, index: usize, options: &DecodeOptions) -> pad::data::Result<Image> {
        let none = || pad::data::Error::Setting {
            name: "index",
            expected: format!("below {}", self.len()),
            found: index.to_string(),
        };
        let (set, index) = self.place(index).ok_or_else(none)?;
        set.load(index, options)
    }
}

/// As many scenes of each family, a share of them to be asked.
fn scenes(settings: &Settings, val: f64) -> Result<(Vec<String>, Part, Part)> {
    let each = (settings.scenes / FAMILIES.len()).max(4);
    let asked = ((each as f64 * val).round() as usize).clamp(1, each - 1);
    tracing::info!("rendering {each} scenes of each of {} families", FAMILIES.len());
    let mut sets = (Vec::new(), Vec::new());
    let mut labels = (Vec::new(), Vec::new());
    for (label, (_, family)) in FAMILIES.iter().enumerate() {
        // Another seed for each family: not the same weather in all.
        let seed = settings.seed.wrapping_mul(1000).wrapping_add(label as u64);
        let config = SceneConfig {
            families: FamilyWeights::only(*family),
            ..SceneConfig::new(Size::new(256, 320), seed)
        };
        let (val, train) = SceneSet::render(&config, each)?.split_at(asked);
        labels.0.extend(vec![label; train.len()]);
        labels.1.extend(vec![label; val.len()]);
        sets.0.push(train);
        sets.1.push(val);
    }
    let train = Part { source: Arc::new(Chain(sets.0)), labels: labels.0 };
    let val = Part { source: Arc::new(Chain(sets.1)), labels: labels.1 };
    Ok((FAMILIES.map(|(name, _)| name.to_string()).to_vec(), train, val))
}

fn labelled(settings: &Settings, val: f64) -> Result<(Vec<String>, Part, Part)> {
    let Some(folder) = &settings.data else { return scenes(settings, val) };
    let set = Labelled::open(folder, val, settings.seed)?;
    let train = Part { source: Arc::new(set.train.images), labels: set.train.labels };
    let val = Part { source: Arc::new(set.val.images), labels: set.val.labels };
    Ok((set.classes, train, val))
}

fn features(
    program: &Program,
    settings: &Settings,
    vit: &ViT,
    part: Part,
    classes: usize,
    device: &Device,
) -> Result<Features> {
    let config = run::images::evaluation_config(settings)?;
    let dataset = ImageDataset::from_source(part.source, config)?;
    let loader = run::images::in_order(settings, dataset)?;
    let pool = match program.pool {
        Tokens::Mean => Pool::Mean,
        Tokens::Class => Pool::Class,
    };
    let features = Features::extract(vit, &loader, &part.labels, classes, pool, device)?;
    for bad in loader.unreadable() {
        tracing::warn!("left out: {}", bad.reason);
    }
    Ok(features)
}

fn print(name: &str, classes: &[String], scores: &Scores) -> serde_json::Value {
    println!("{name}: {:.1}%", 100.0 * scores.accuracy());
    for (i, (class, accuracy)) in classes.iter().zip(scores.by_class()).enumerate() {
        let (correct, images) = (scores.correct[i], scores.images[i]);
        println!("  {class:<16} {:5.1}%  {correct} of {images}", 100.0 * accuracy);
    }
    serde_json::json!({ "accuracy": scores.accuracy(), "by_class": scores.by_class(),
                        "correct": scores.correct, "images": scores.images })
}

pub(crate) fn run(program: &Program) -> Result<()> {
    let config = program.run.as_ref().map(|folder| folder.join("config.toml"));
    let mut settings = Settings::merge(config.as_deref(), &program.flags)?;
    // The labelled images, not those of the run.
    settings.data = program.flags.data.clone();
    run::threads(settings.threads)?;
    let device = run::device(&settings.device)?;
    let vit = match &program.run {
        Some(folder) => model::of_run(folder, &device, program.force)?.network.encoder().clone(),
        None => model::encoder(&settings, &device)?,
    };
    let (classes, train, val) = labelled(&settings, program.val)?;
    let part = |part| features(program, &settings, &vit, part, classes.len(), &device);
    let (train, val) = (part(train)?, part(val)?);
    println!(
        "{} classes, {} training and {} validation images",
        classes.len(),
        train.labels().len(),
        val.labels().len()
    );
    let mut report = serde_json::Map::new();
    report.insert("classes".into(), classes.clone().into());
    if program.method != Method::Linear {
        let knn = NearestNeighbours { k: program.k, ..Default::default() };
        let scores = Scores::new(&knn.classify(&train, &val)?, &val)?;
        let name = format!("{} nearest neighbours", program.k);
        report.insert("knn".into(), print(&name, &classes, &scores));
    }
    if program.method != Method::Knn {
        let linear = LinearProbe {
            epochs: program.flags.epochs.unwrap_or(100), // and not the run's
            lr: program.probe_lr,
            seed: settings.seed,
            ..Default::default()
        };
        let scores = Scores::new(&linear.classify(&train, &val)?, &val)?;
        report.insert("linear".into(), print("linear layer", &classes, &scores));
    }
    if let Some(path) = &program.json {
        run::write_text(path, &format!("{:#}\n", serde_json::Value::Object(report)))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

