//! The labels of a set, and what training sees of it.

use std::{collections::BTreeMap, path::PathBuf};

use candle_core::{Device, Tensor};
use clap::Args;
use pad::{
    data::{
        Dataset,
        draw::{Canvas, DrawnBox},
        image::DecodeOptions,
        sets::detection::{DetectionFormat, DetectionImage},
        transform::Normalize,
        window::Window,
    },
    rng::Key,
};

use super::{Detect, data::training, settings::DetectFlags};
use crate::{
    run::Result,
    settings::{
        Flags, Settings, Start,
        recipes::PRESETS,
        run::RunFlags,
        values::{List, Pair, Text},
    },
    tools::{
        output::{Replace, make_folder, picture_path, print},
        values,
    },
};

/// Flags of `pad detect show`.
#[derive(Args, Debug)]
pub struct Show {
    /// Folder of labelled images [default: rendered scenes]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Layout of the folder: auto, coco, cvat, flir, hit-uav, label-studio, llvip, voc or yolo [default: auto]
    #[arg(long, value_name = "NAME")]
    format: Option<DetectionFormat>,
    /// Split of the folder [default: train]
    #[arg(long, value_name = "NAME")]
    train_split: Option<String>,
    /// Folder that image names are relative to [default: the one in DATA that holds them]
    #[arg(long, value_name = "DIR")]
    images_root: Option<PathBuf>,
    /// Maximum share of unusable images and annotations, 0 to 1 [default: 0.05]
    #[arg(long, value_name = "SHARE", value_parser = values::share)]
    max_unreadable: Option<f64>,
    /// Read and draw the masks of objects
    #[arg(long)]
    masks: bool,
    /// Classes, separated by commas [default: those of the folder]
    #[arg(long, value_name = "NAMES")]
    classes: Option<List<String>>,
    /// Cut boxes to their images and leave out empty ones
    #[arg(long)]
    clip_boxes: bool,
    /// Number of rendered scenes, without DATA
    #[arg(long, value_name = "N", value_parser = values::count)]
    scenes: Option<usize>,
    /// Settings by name or in a TOML file, as `pad detect train` takes them
    #[arg(long, visible_alias = "config", value_name = "NAME|FILE")]
    recipe: Option<String>,
    /// Size of a run: small or paper
    #[arg(long, value_name = "NAME", value_parser = PRESETS, conflicts_with = "recipe")]
    preset: Option<String>,
    /// Side of training crops, pixels
    #[arg(long, value_name = "PIXELS", value_parser = values::count)]
    size: Option<usize>,
    /// Range of the random scale in training (large-scale jitter)
    #[arg(long, value_name = "LOW,HIGH")]
    jitter: Option<Pair>,
    /// Minimum width and height of a box within a crop, pixels
    #[arg(long, value_name = "PIXELS", value_parser = values::not_negative)]
    min_side: Option<f64>,
    /// Probability of a horizontal flip
    #[arg(long, value_name = "SHARE", value_parser = values::share)]
    flip: Option<f64>,
    /// Range of 16-bit and float images that is mapped to black and white: LOW,HIGH, LOW%,HIGH%,
    /// plateau, plateau:LIMIT%, clahe or clahe:TILES,LIMIT [default: 1%,99%]
    #[arg(long, value_name = "LOW,HIGH", allow_hyphen_values = true)]
    levels: Option<Window>,
    /// Seed of crops and scenes
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Folder for the pictures
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
    /// Number of pictures, spread over the set
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = values::count)]
    count: usize,
    /// Line width of boxes and letters, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 1, value_parser = values::count)]
    line_width: usize,
}

impl Show {
    fn settings(&self) -> Result<Settings<Detect>> {
        let run = RunFlags {
            data: self.data.clone(),
            flip: self.flip,
            levels: self.levels.map(Text),
            seed: self.seed,
            max_unreadable: self.max_unreadable,
            ..Default::default()
        };
        let own = DetectFlags {
            format: self.format.map(Text),
            train_split: self.train_split.clone(),
            images_root: self.images_root.clone(),
            masks: self.masks.then_some(true),
            classes: self.classes.clone(),
            clip_boxes: self.clip_boxes.then_some(true),
            scenes: self.scenes,
            size: self.size,
            jitter: self.jitter,
            min_side: self.min_side,
            ..Default::default()
        };
        let (recipe, preset) = (self.recipe.clone(), self.preset.clone());
        let start = Start { recipe, preset, ..Default::default() };
        Settings::of(&start, &Flags { run, own })
    }
}

/// Writes `OUT/NAME.png`: an image with its labels, and beside it a sample of the first epoch as
/// the network sees it, with its boxes.
pub fn run(show: &Show) -> Result<()> {
    show.replace.check_folder(&show.out, "png")?;
    let settings = show.settings()?;
    let pipeline = settings.own.pipeline(&settings.run, &Normalize::downstream())?;
    let images = training(&settings)?;
    let classes = images.classes();
    let count = show.count.min(images.len());
    make_folder(&show.out)?;
    let mut unreadable = 0;
    let mut names = BTreeMap::new();
    for place in 0..count {
        let index = place * images.len() / count;
        let sample = images.get(index, &DecodeOptions::default());
        let DetectionImage { image, labels } = match sample {
            Ok(sample) => sample,
            Err(error) => {
                tracing::warn!("left out: {error}");
                unreadable += 1;
                continue;
            }
        };
        let mut stored = Canvas::from_image(&image, Some(&pipeline.window))?;
        stored.boxes(&DrawnBox::truth(&labels), classes, show.line_width);
        let key = Key::new(settings.run.seed).epoch(0).sample(index as u64);
        let sample = pipeline.train(image, &labels.objects, key)?;
        let shape = (sample.channels, sample.padded.height, sample.padded.width);
        let pixels = Tensor::from_vec(sample.pixels, shape, &Device::Cpu)?;
        let mut seen = Canvas::from_tensor(&pixels, &pipeline.normalize)?;
        let boxes = sample.boxes.iter().zip(&sample.labels);
        let boxes: Vec<DrawnBox> =
            boxes.map(|(&bbox, &class)| DrawnBox { bbox, class, score: None }).collect();
        seen.boxes(&boxes, classes, show.line_width);
        // Images of two folders may have one name.
        let uses = names.entry(labels.name.clone()).or_insert(0_usize);
        *uses += 1;
        let name = match *uses {
            1 => labels.name.clone(),
            more => format!("{}-{more}", labels.name),
        };
        let path = picture_path(&show.out, &name)?;
        Canvas::tiled(&[vec![stored, seen]], 8, [255; 3]).save_png(path)?;
    }
    if unreadable == count {
        return Err(format!("none of {count} images could be read").into());
    }
    print(format_args!("wrote {} pictures to {}", count - unreadable, show.out.display()))
}
