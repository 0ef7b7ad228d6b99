//! Trains, measures and uses a segmentation network on infrared images: a class for every pixel.
//!
//!     cargo run --release --example segment -- train                  # minutes, needs nothing: rendered scenes
//!     cargo run --release --example segment -- train --data DIR       # your images: images/, masks/, classes.toml
//!     cargo run --release --example segment -- train --data DIR --weights runs/pretrain-1
//!     cargo run --release --example segment -- train --config examples/recipes/segment_soda.toml --data DIR
//!     cargo run --release --example segment -- train --resume runs/segment-1
//!     cargo run --release --example segment -- eval --run runs/segment-1 --flip --scales 0.75,1,1.25
//!     cargo run --release --example segment -- predict --run runs/segment-1 --images DIR --out OUT
//!
//! A run folder holds `config.toml`, `metrics.jsonl`, `tensorboard/`, `checkpoints/`, `model.safetensors` (the best by
//! mIoU), `overlays.png` and `summary.json`. Everything is explained in docs/segmentation.md.

use std::{path::PathBuf, };

use clap::{Args, Subcommand};
use crate::run::Result;
use crate::segment::{
    data,
    evaluation::{Looking, measure},
    model, report,
    settings::{Flags, Settings},
    train,
};

/// Trains, measures and uses a segmentation network on infrared images.
#[derive(Args, Debug)]
pub(crate) struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Trains a network
    Train(Box<Train>),
    /// IoU and accuracy of each class, their means, the confusion matrix
    Eval(Eval),
    /// Classes of a folder of images: overlays, class maps, and a JSON file for each image
    Predict(Predict),
}

#[derive(Args, Debug)]
struct Train {
    /// Settings in a TOML file; flags override its entries
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the run [default: runs/segment-1, or the next that is free]
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
    /// Layout of the folder: folder, soda, mfnet [default: the run's]
    #[arg(long)]
    dataset: Option<String>,
    /// List of the images [default: the run's for evaluation]
    #[arg(long, value_name = "NAME")]
    val_split: Option<String>,
    /// Only the first so many images
    #[arg(long)]
    val_images: Option<usize>,
    /// File for the numbers
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    looking: LookingFlags,
}

#[derive(Args, Debug)]
struct Predict {
    /// Folder of a run of `train`
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Folder of infrared images (8 or 16 bit; PNG, JPEG, BMP, TIFF), in any depth
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Folder for `overlays/`, `classes/`, `json/` and `legend.png`
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Share of the colours in overlays, 0 to 1
    #[arg(long, default_value_t = 0.5)]
    opacity: f32,
    #[command(flatten)]
    looking: LookingFlags,
}

/// What may differ from training.
#[derive(Args, Debug)]
struct LookingFlags {
    /// slide (windows) or whole [default: the run's]
    #[arg(long)]
    extent: Option<String>,
    /// Height,width of a window, or one number, pixels [default: the run's]
    #[arg(long, value_delimiter = ',', value_name = "PIXELS")]
    window: Vec<usize>,
    /// Between windows [default: the run's]
    #[arg(long, value_delimiter = ',', value_name = "PIXELS")]
    stride: Vec<usize>,
    /// Sizes whose probabilities are averaged, over the image's own [default: the run's]
    #[arg(long, value_delimiter = ',')]
    scales: Vec<f64>,
    /// See every size mirrored, too
    #[arg(long)]
    flip: bool,
    /// cpu, cuda, cuda:N, metal
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads of the operators; 0 = all cores
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

impl LookingFlags {
    /// The settings of a run with these in place of its own.
    fn over(&self, mut settings: Settings) -> Settings {
        if let Some(extent) = &self.extent {
            settings.extent.clone_from(extent);
        }
        for (given, own) in
            [(&self.window, &mut settings.window), (&self.stride, &mut settings.stride)]
        {
            if !given.is_empty() {
                own.clone_from(given);
            }
        }
        if !self.scales.is_empty() {
            settings.scales.clone_from(&self.scales);
        }
        settings.flip_test |= self.flip;
        settings.device.clone_from(&self.device);
        settings.threads = self.threads;
        settings
    }
}

fn eval(eval: &Eval) -> Result<()> {
    let mut settings = eval.looking.over(Settings::of_run(&eval.run)?);
    if eval.data.is_some() {
        settings.data.clone_from(&eval.data);
        if settings.dataset == "scenes" {
            settings.dataset = "folder".into();
        }
    }
    settings.dataset = eval.dataset.clone().unwrap_or(settings.dataset);
    settings.val_split = eval.val_split.clone().unwrap_or(settings.val_split);
    settings.val_images = eval.val_images.or(settings.val_images);
    run::threads(settings.threads)?;
    let device = run::device(&settings.device)?;
    let network = model::of_run(&eval.run, &device)?;
    let source = data::evaluation(&settings)?;
    let classes = source.classes();
    if classes.names != network.classes.names {
        let (expected, found) = (network.classes.names.join(", "), classes.names.join(", "));
        return Err(format!(
            "classes of the images are {found}; expected those of the run, {expected}"
        )
        .into());
    }
    let looking = Looking::new(&settings, classes.ignore, &device)?;
    let start = std::time::Instant::now();
    let found = measure(&network.segmentor, &source, &looking)?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}\n\n{}",
        report::confusion(&found, classes),
        report::table(&found.metrics(), classes)
    );
    println!("{} images, {:.3} s each", source.len(), seconds / source.len().max(1) as f64);
    if let Some(path) = &eval.json {
        let numbers = report::json(&found, classes, source.len());
        run::write_text(path, &format!("{numbers:#}\n"))?;
    }
    Ok(())
}

fn predict(predict: &Predict) -> Result<()> {
    let settings = predict.looking.over(Settings::of_run(&predict.run)?);
    run::threads(settings.threads)?;
    let device = run::device(&settings.device)?;
    let network = model::of_run(&predict.run, &device)?;
    let looking = Looking::new(&settings, network.classes.ignore, &device)?;
    let (read, unreadable) = segmentation::predict::run(
        &network,
        &looking,
        &predict.images,
        &predict.out,
        predict.opacity,
    )?;
    println!("{read} images, {unreadable} unreadable; wrote {}", predict.out.display());
    Ok(())
}

pub(crate) fn run(program: Program) -> Result<()> {
    match program.command {
        Command::Train(train) => {
            train::run(train.config.as_deref(), train.out, train.resume, &train.flags)
        }
        Command::Eval(flags) => eval(&flags),
        Command::Predict(flags) => predict(&flags),
    }
}

