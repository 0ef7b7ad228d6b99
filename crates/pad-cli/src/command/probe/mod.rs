//! What an encoder is worth on labelled images: nearest neighbours and a linear classifier on its
//! frozen features, or the encoder fine-tuned.
//!
//!     pad probe                                  # two minutes, needs nothing
//!     pad probe DIR --run runs/pretrain-1
//!     pad probe DIR --weights vit.safetensors --model base --method knn
//!     pad probe DIR --run runs/pretrain-1 --method finetune --label-share 0.1
//!
//! DIR holds a folder per class, or `train` and `val` with such folders. Without DIR scenes are
//! rendered; the class is the kind of scene.

mod finetune;

use std::{path::PathBuf, time::Instant};

use candle_core::Device;
use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use pad::{
    data::{
        Dataset, Loader, LoaderConfig,
        dataset::Subset,
        image::DecodeOptions,
        sets::classification::{ClassFolder, ClassifiedImage},
    },
    ssl::{
        Pool,
        probe::{FeatureSet, LinearProbe, NearestNeighbours, Scores},
    },
    vit::ViT,
};
use serde_json::{Map, Value, json};

use crate::{
    run::{Result, peak_mib},
    tools::{
        data::Data,
        device::Compute,
        output::{Replace, print, write_json},
        reading::{Files, Reading},
        run_facts::RunFacts,
        scene_classes::SceneClasses,
        values::{count, inner_share, not_negative, positive_share},
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
    /// No probe: the encoder and a linear head are trained on the labelled images
    Finetune,
}

/// What DIR is.
const DATA: &str = "Folder with a folder of images per class, or with such folders in `train` and \
                    `val` [default: rendered scenes, whose class is the kind of scene]";

/// Evaluates an encoder on labelled images: k-nearest-neighbour and linear probes, fine-tuning
#[derive(Args, Debug)]
#[command(
    mut_arg("folder", |arg| arg.help(DATA).long_help(DATA)),
    after_help = "Folders called `roi` are not classes, unless they hold images."
)]
pub(crate) struct Program {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    data: Data,
    /// Probe to run
    #[arg(long, value_enum, default_value = "both")]
    method: Method,
    /// Share of the labelled training images to learn from, above 0, up to 1: the same share of
    /// each class, at least one image; a smaller share is part of a larger one of the same --seed
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = positive_share)]
    label_share: f64,
    /// Number of neighbours for the nearest-neighbour probe [default: 20]
    #[arg(long, value_name = "N", value_parser = count)]
    k: Option<usize>,
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
    /// Seed of the held-out images, of the scenes, of --label-share, and of fine-tuning
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// JSON file for the results
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    replace: Replace,
    #[command(flatten)]
    finetune: finetune::FineTune,
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
}

/// Prints what a probe has reached.
fn show(name: &str, classes: &[String], scores: &Scores) -> Result<Value> {
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
    match program.method {
        Method::Finetune => program.finetune.check(program.seed)?,
        _ => program.finetune.check_unused()?,
    }
    program.check_unused()?;
    program.linear().validate()?;
    let folders = match program.data.folder() {
        Some(folder) => Some(ClassFolder::open_split(folder, program.held_out, program.seed)?),
        None => None,
    };
    let device = program.compute.start()?;
    match folders {
        Some(sets) => program.evaluate(&device, sets),
        None => {
            let facts = RunFacts::of(program.weights.source())?;
            program.weights.check(program.view.size(&facts), &device)?;
            let sets = SceneClasses::render(program.scenes, program.held_out, program.seed)?;
            program.evaluate(&device, sets)
        }
    }
}

impl Program {
    /// Checks that no flag is given of a probe that the method leaves out.
    fn check_unused(&self) -> Result<()> {
        let (has_knn, has_linear) = match self.method {
            Method::Knn => (true, false),
            Method::Linear => (false, true),
            Method::Both => (true, true),
            Method::Finetune => (false, false),
        };
        if self.k.is_some() && !has_knn {
            return Err("--k without --method knn or both".into());
        }
        if !self.weight_decays.is_empty() && !has_linear {
            return Err("--weight-decays without --method linear or both".into());
        }
        Ok(())
    }

    fn linear(&self) -> LinearProbe {
        let linear = match self.weight_decays.as_slice() {
            [] => LinearProbe::default(),
            some => LinearProbe::default().with_weight_decays(some.to_vec()),
        };
        linear.with_seed(self.seed)
    }

    /// Learns from a share of the first set and tests on the second one.
    fn evaluate<D>(&self, device: &Device, (train, val): (D, D)) -> Result<()>
    where
        D: Dataset<Sample = ClassifiedImage> + 'static,
    {
        let start = Instant::now();
        let classes = train.classes().clone();
        // Sources of the set are its classes.
        let train = Subset::all(train).share(self.label_share, self.seed)?;
        let facts = RunFacts::of(self.weights.source())?;
        let mut report = Map::new();
        report.insert("classes".into(), classes.clone().into());
        report.insert("weights".into(), self.weights.source().into());
        report.insert("label_share".into(), self.label_share.into());
        let input = match self.method {
            Method::Finetune => {
                print(Counts { classes: classes.len(), learnt: train.len(), tested: val.len() })?;
                let counts = [("train_images", train.len()), ("test_images", val.len())];
                report.extend(counts.map(|(name, count)| (name.into(), count.into())));
                let (scores, input, run) = self.finetune.run(self, device, &facts, (train, val))?;
                let mut shown = show("fine-tuned", &classes, &scores)?;
                if let (Some(shown), Value::Object(run)) = (shown.as_object_mut(), run) {
                    shown.extend(run);
                }
                report.insert("finetune".into(), shown);
                input
            }
            _ => self.probe(device, &facts, &classes, (train, val), &mut report)?,
        };
        report.insert("normalize".into(), input.pipeline.normalize.to_string().into());
        report.extend(input.notes().into_iter().map(|(name, value)| (name, value.into())));
        report.insert("seconds".into(), start.elapsed().as_secs_f64().into());
        report.insert("peak_mib".into(), peak_mib().into());
        match &self.json {
            Some(path) => write_json(path, &report),
            None => Ok(()),
        }
    }

    /// Probes frozen features.
    fn probe(
        &self,
        device: &Device,
        facts: &RunFacts,
        classes: &[String],
        (train, val): (
            impl Dataset<Sample = ClassifiedImage> + 'static,
            impl Dataset<Sample = ClassifiedImage> + 'static,
        ),
        report: &mut Map<String, Value>,
    ) -> Result<Input> {
        let encoder = self.weights.encoder(self.view.size(facts), device)?;
        let input = self.view.input(facts, encoder.vit.config(), encoder.input_stats.clone());
        print(&input)?;
        let choice = self.files.over(&facts.choice);
        let probed = Probed { program: self, encoder: &encoder.vit, input: &input, device, choice };
        let (train, val) = (probed.features(train)?, probed.features(val)?);
        let (learnt, tested) = (train.labels().len(), val.labels().len());
        print(Counts { classes: classes.len(), learnt, tested })?;
        report.insert("train_images".into(), learnt.into());
        report.insert("test_images".into(), tested.into());
        if self.method != Method::Linear {
            let k = self.k.unwrap_or(20);
            let knn = NearestNeighbours { k, ..Default::default() };
            let scores = Scores::new(&knn.classify(&train, &val)?, &val)?;
            let name = format!("{k} nearest neighbours");
            report.insert("knn".into(), show(&name, classes, &scores)?);
        }
        if self.method != Method::Knn {
            let fit = self.linear().fit(&train)?;
            let scores = Scores::new(&fit.classify(&val)?, &val)?;
            let name = format!("linear, weight decay {:e}", fit.weight_decay());
            let mut shown = show(&name, classes, &scores)?;
            shown["weight_decay"] = fit.weight_decay().into();
            shown["weight_decays"] = json!(fit.tried());
            report.insert("linear".into(), shown);
        }
        Ok(input)
    }
}

/// The line that says on what an encoder is evaluated.
struct Counts {
    classes: usize,
    learnt: usize,
    tested: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { classes, learnt, tested } = self;
        write!(f, "{classes} classes, {learnt} training and {tested} test images")
    }
}
