//! Trains an object detector (ViTDet) on labelled infrared images, evaluates it the COCO way, and finds objects in
//! images without labels.
//!
//!     cargo run --release --example detect -- train                     # some minutes, needs nothing
//!     cargo run --release --example detect -- train --data DIR          # your images; formats: docs/detection.md
//!     cargo run --release --example detect -- train --data DIR --weights runs/pretrain-1
//!     cargo run --release --example detect -- train --resume runs/detect-1
//!     cargo run --release --example detect -- eval --run runs/detect-1
//!     cargo run --release --example detect -- show --data DIR --out labels    # look at the labels first
//!     cargo run --release --example detect -- predict --run runs/detect-1 --images DIR --out found
//!
//! `train` writes a run folder: `config.toml`, `log.jsonl`, `tensorboard/`, `checkpoints/` (with the best by AP),
//! `detector.safetensors` (the best one), `results.json` (its detections), `detections.png`, `summary.json`.

use std::{path::PathBuf, };

use clap::{Args, Subcommand};
use crate::run::Result;
use crate::detect::{
    data, evaluation, model, predict, report,
    settings::{Flags, Settings},
    train,
};

/// Object detection in infrared images.
#[derive(Args, Debug)]
pub(crate) struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Trains a detector
    Train(Box<Train>),
    /// AP, AP50, AP75 and the rest of COCO's numbers, AP of each class, multiply-adds and time of an image
    Eval(Eval),
    /// Finds objects in a folder of images: pictures with boxes, and a COCO results file
    Predict(Predict),
    /// Draws the labels of a set, and what training sees of it
    Show(Box<Show>),
}

#[derive(Args, Debug)]
struct Train {
    /// Settings in a TOML file; flags override its entries
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the run [default: runs/detect-1, or the next that is free]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Continue the run in this folder
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Args, Debug)]
struct Eval {
    /// Folder of a run of `train`
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Labelled images [default: those of the run]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Part of DATA [default: the run's for evaluation]
    #[arg(long, value_name = "NAME")]
    val_split: Option<String>,
    /// Only the first so many images
    #[arg(long)]
    val_images: Option<usize>,
    /// File for the numbers
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// File for the detections, COCO results
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    #[command(flatten)]
    detecting: Detecting,
}

#[derive(Args, Debug)]
struct Predict {
    /// Folder of a run of `train`
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Folder of infrared images (8 or 16 bit; PNG, JPEG, BMP, TIFF), in any depth
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Folder for pictures and results
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Pixels of lines and of the letters' dots
    #[arg(long, default_value_t = 1)]
    scale: usize,
    #[command(flatten)]
    detecting: Detecting,
}

#[derive(Args, Debug)]
struct Show {
    /// Settings in a TOML file; flags override its entries
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder for the pictures
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Pictures, spread over the set
    #[arg(long, default_value_t = 10)]
    count: usize,
    /// Pixels of lines and of the letters' dots
    #[arg(long, default_value_t = 1)]
    scale: usize,
    #[command(flatten)]
    flags: Flags,
}

/// What may differ from training.
#[derive(Args, Debug)]
struct Detecting {
    /// Smallest score of a detection, 0 to 1 [default: the run's for `eval`, 0.3 for `predict`]
    #[arg(long)]
    score: Option<f64>,
    /// Overlap above which the lower of two detections of a class is dropped, 0 to 1 [default: the run's]
    #[arg(long)]
    nms: Option<f64>,
    /// Most detections of an image [default: the run's]
    #[arg(long)]
    most: Option<usize>,
    /// Side that images are fitted into, pixels [default: the run's]
    #[arg(long)]
    test_size: Option<usize>,
    /// cpu, cuda, cuda:N, metal
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads of the operators; 0 = all cores
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

impl Detecting {
    /// The settings of a run with these in place of its own.
    fn over(&self, mut settings: Settings) -> Settings {
        settings.score = self.score.unwrap_or(settings.score);
        settings.nms = self.nms.unwrap_or(settings.nms);
        settings.most = self.most.unwrap_or(settings.most);
        settings.test_size = self.test_size.or(settings.test_size);
        settings.device.clone_from(&self.device);
        settings.threads = self.threads;
        settings
    }
}

fn eval(eval: &Eval) -> Result<()> {
    let mut settings = eval.detecting.over(Settings::of_run(&eval.run)?);
    if eval.data.is_some() {
        settings.data.clone_from(&eval.data);
    }
    settings.val_split = eval.val_split.clone().unwrap_or(settings.val_split);
    settings.val_images = eval.val_images.or(settings.val_images);
    run::threads(settings.threads)?;
    let device = run::device(&settings.device)?;
    let network = model::of_run(&eval.run, &settings, &device)?;
    let source = data::evaluation(&settings, Some(network.classes()))?;
    let truth = data::truth(source.as_ref())?;
    let pipeline = settings.pipeline()?;
    let found = evaluation::measure(&network, source.as_ref(), &truth, &pipeline)?;
    let speed = report::Speed::of(found.times_ms.clone(), found.gmacs);
    println!("{}", report::table(&found, network.classes(), &truth, speed.as_ref()));
    if let Some(path) = &eval.json {
        let numbers = report::json(&found, network.classes(), source.len(), speed.as_ref());
        run::write_text(path, &format!("{numbers:#}\n"))?;
    }
    if let Some(path) = &eval.results {
        pad::heads::detection::coco::write_results(path, &found.results)?;
    }
    Ok(())
}

fn predict(predict: &Predict) -> Result<()> {
    let mut settings = predict.detecting.over(Settings::of_run(&predict.run)?);
    // Evaluation counts on weak detections; in pictures they are a nuisance.
    settings.score = predict.detecting.score.unwrap_or(0.3);
    run::threads(settings.threads)?;
    let device = run::device(&settings.device)?;
    let network = model::of_run(&predict.run, &settings, &device)?;
    let pipeline = settings.pipeline()?;
    let found = predict::folder(&network, &pipeline, &predict.images, &predict.out, predict.scale)?;
    println!("{} objects in {} images", found.detections, found.images);
    for file in found.files.iter().rev().take(2) {
        println!("wrote {}", file.display());
    }
    println!("wrote {} pictures to {}", found.images, predict.out.display());
    Ok(())
}

fn show(show: &Show) -> Result<()> {
    let settings = Settings::merge(show.config.as_deref(), &show.flags)?;
    let source = data::training(&settings)?;
    let pipeline = settings.pipeline()?;
    let written =
        data::show(source.as_ref(), &pipeline, &show.out, show.count, show.scale, settings.seed)?;
    println!("wrote {written} pictures to {}", show.out.display());
    Ok(())
}

pub(crate) fn run(program: Program) -> Result<()> {
    match program.command {
        Command::Train(arguments) => {
            let Train { config, out, resume, flags } = *arguments;
            train::run(config.as_deref(), out, resume, &flags)
        }
        Command::Eval(arguments) => eval(&arguments),
        Command::Predict(arguments) => predict(&arguments),
        Command::Show(arguments) => show(&arguments),
    }
}

