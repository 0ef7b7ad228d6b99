//! What frozen features are worth: nearest neighbours and a linear classifier on labelled images.
//!
//!     pad probe                                  # two minutes, needs nothing
//!     pad probe DIR --run runs/pretrain-1
//!     pad probe DIR --weights vit.safetensors --model base --method knn
//!
//! DIR holds a folder per class, or `train` and `val` with such folders. Without DIR scenes are
//! rendered; the class is the kind of scene.

use std::path::PathBuf;

use candle_core::Device;
use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use pad::{
    data::{
        Dataset, Loader, LoaderConfig,
        image::DecodeOptions,
        sets::classification::{ClassFolder, ClassifiedImage},
    },
    ssl::{
        Pool,
        probe::{FeatureSet, LinearProbe, NearestNeighbours, Scores},
    },
    vit::ViT,
};
use serde_json::json;

use crate::{
    run::Result,
    tools::{
        data::Data,
        device::Compute,
        output::{Replace, print, write_json},
        reading::{Files, Reading},
        run_facts::RunFacts,
        scene_classes::SceneClasses,
        values::{count, inner_share, not_negative},
        view::{Input, View},
        weights::Weights,
    },
};

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Method {
    /// Nearest neighbours by cosine, weighted by it
    Knn,
    /// Logistic regression, fitted by L-BFGS
    Linear,
    /// Both
    Both,
}

/// What DIR is.
const DATA: &str = "Folder with a folder of images per class, or with such folders in `train` and \
                    `val` [default: rendered scenes, whose class is the kind of scene]";

/// Evaluates frozen features on labelled images: k-nearest-neighbour and linear probes
#[derive(Args, Debug)]
#[command(
    mut_arg("folder", |arg| arg.help(DATA).long_help(DATA)),
    after_help = "Folders called `roi` are not classes."
)]
pub(crate) struct Program {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    data: Data,
    /// Probe to run
    #[arg(long, value_enum, default_value = "both")]
    method: Method,
    /// Number of neighbours for the nearest-neighbour probe
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count)]
    k: usize,
    /// Weight decays from which the linear probe chooses, on a part of the training images
    /// [default: 1e-6, 1e-5, .. 10]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = not_negative)]
    weight_decays: Vec<f64>,
    /// Feature: mean (over the patch tokens) or class (the class token)
    #[arg(long, value_name = "NAME", default_value = "mean", value_parser = pool())]
    pool: Pool,
    /// Share of the images to test on, if DIR has no `train` and `val`
    #[arg(long, value_name = "SHARE", default_value_t = 0.25, value_parser = inner_share)]
    held_out: f64,
    /// Number of rendered scenes, without DIR
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = count)]
    scenes: usize,
    /// Seed of the held-out images and of the scenes
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// JSON file for the results
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    replace: Replace,
    #[command(flatten)]
    weights: Weights,
    #[command(flatten)]
    view: View,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    compute: Compute,
}

/// Without `tokens`: a probe takes one feature per image.
fn pool() -> impl TypedValueParser<Value = Pool> {
    PossibleValuesParser::new(["mean", "class"]).try_map(|name| name.parse::<Pool>())
}

/// What the probes need of a set.
struct Probed<'a> {
    program: &'a Program,
    encoder: &'a ViT,
    input: &'a Input,
    device: &'a Device,
    /// What is read of a file.
    choice: DecodeOptions,
}

impl Probed<'_> {
    fn features(
        &self,
        set: impl Dataset<Sample = ClassifiedImage> + 'static,
    ) -> Result<FeatureSet> {
        let classes = set.classes().len();
        let config = LoaderConfig { decode: self.choice.clone(), ..self.program.reading.loader() };
        let loader: Loader<Vec<usize>> = Loader::new(set, self.input.pipeline.clone(), config)?;
        let features =
            FeatureSet::extract(self.encoder, &loader, classes, self.program.pool, self.device)?;
        for bad in loader.unreadable() {
            tracing::warn!("left out: {}", bad.reason);
        }
        Ok(features)
    }

    fn both(
        &self,
        train: impl Dataset<Sample = ClassifiedImage> + 'static,
        val: impl Dataset<Sample = ClassifiedImage> + 'static,
    ) -> Result<(FeatureSet, FeatureSet, Vec<String>)> {
        let classes = train.classes().clone();
        Ok((self.features(train)?, self.features(val)?, classes))
    }
}

/// Prints what a probe has reached.
fn show(name: &str, classes: &[String], scores: &Scores) -> Result<serde_json::Value> {
    print(format_args!("\n{name}: {scores}"))?;
    let counts = classes
        .iter()
        .zip(scores.by_class())
        .zip(scores.correct().into_iter().zip(scores.images()));
    for ((class, accuracy), (correct, images)) in counts {
        let accuracy = accuracy.map_or("     -".into(), |share| format!("{:5.1}%", 100.0 * share));
        print(format_args!("  {class:<16} {accuracy}  {correct} of {images}"))?;
    }
    print(scores.confusion_table(classes))?;
    Ok(json!({
        "accuracy": scores.accuracy(),
        "balanced_accuracy": scores.balanced_accuracy(),
        "majority_share": scores.majority_share(),
        "by_class": scores.by_class(),
        "correct": scores.correct(),
        "images": scores.images(),
        "confusion": scores.confusion(),
    }))
}

pub(crate) fn run(program: &Program) -> Result<()> {
    program.replace.check_some(program.json.as_ref())?;
    let linear = match program.weight_decays.as_slice() {
        [] => LinearProbe::default(),
        some => LinearProbe::default().with_weight_decays(some.to_vec()),
    };
    let linear = linear.with_seed(program.seed);
    linear.validate()?;
    let folders = match program.data.folder() {
        Some(folder) => Some(ClassFolder::open_split(folder, program.held_out, program.seed)?),
        None => None,
    };
    let device = program.compute.start()?;
    let facts = RunFacts::of(program.weights.source())?;
    let encoder = program.weights.encoder(program.view.size(&facts), &device)?;
    let input = program.view.input(&facts, encoder.vit.config(), encoder.input_stats.clone());
    print(&input)?;

    let choice = program.files.over(&facts.choice);
    let probed = Probed { program, encoder: &encoder.vit, input: &input, device: &device, choice };
    let (train, val, classes) = match folders {
        Some((train, val)) => probed.both(train, val)?,
        None => {
            let (train, val) =
                SceneClasses::render(program.scenes, program.held_out, program.seed)?;
            probed.both(train, val)?
        }
    };
    let (learnt, tested) = (train.labels().len(), val.labels().len());
    print(format_args!("{} classes, {learnt} training and {tested} test images", classes.len()))?;

    let mut report = serde_json::Map::new();
    report.insert("classes".into(), classes.clone().into());
    report.insert("weights".into(), program.weights.source().into());
    report.insert("normalize".into(), input.pipeline.normalize.to_string().into());
    report.extend(input.notes().into_iter().map(|(name, value)| (name, value.into())));
    if program.method != Method::Linear {
        let knn = NearestNeighbours { k: program.k, ..Default::default() };
        let scores = Scores::new(&knn.classify(&train, &val)?, &val)?;
        let name = format!("{} nearest neighbours", program.k);
        report.insert("knn".into(), show(&name, &classes, &scores)?);
    }
    if program.method != Method::Knn {
        let fit = linear.fit(&train)?;
        let scores = Scores::new(&fit.classify(&val)?, &val)?;
        let name = format!("linear, weight decay {:e}", fit.weight_decay());
        let mut shown = show(&name, &classes, &scores)?;
        shown["weight_decay"] = fit.weight_decay().into();
        shown["weight_decays"] = json!(fit.tried());
        report.insert("linear".into(), shown);
    }
    match &program.json {
        Some(path) => write_json(path, &report),
        None => Ok(()),
    }
}
