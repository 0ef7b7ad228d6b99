//! Every knob of detection: the original's defaults, then a TOML file, then flags.

use std::path::{Path, PathBuf};

use clap::Args;
use pad::{
    AdapterConfig, ImageSize,
    data::{
        loader::LoaderConfig,
        sets::detection::DetectionFormat,
        transform::{
            HorizontalFlip, Normalize,
            detection::{DetectionPipeline, ScaleJitter, ShortestEdge},
        },
        window::Window,
    },
    train::Schedule,
};
use serde::{Deserialize, Serialize};

use crate::run::{Result, overlay, settings::Settings as PretrainSettings};

/// The effective settings of a run; written to its folder as `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub data: Option<PathBuf>,
    pub format: DetectionFormat,
    pub train_split: String,
    pub val_split: String,
    pub classes: Vec<String>,
    pub clip_boxes: bool,
    pub images: Option<usize>,
    pub val_images: Option<usize>,
    pub scenes: usize,
    pub val_scenes: usize,
    pub workers: usize,
    pub max_unreadable: f64,
    pub percentiles: [f64; 2],
    pub fixed_window: Option<[f64; 2]>,
    pub normalize: String,
    pub size: usize,
    pub test_size: Option<usize>,
    pub jitter: [f64; 2],
    pub flip: f64,
    pub min_side: f64,
    pub pad_to: Option<usize>,
    pub weights: String,
    pub model: String,
    pub patch_size: usize,
    pub adapters: String,
    pub bottleneck: usize,
    pub window: usize,
    pub global_blocks: Vec<usize>,
    pub relative_positions: bool,
    pub drop_path: f64,
    pub channels: usize,
    pub head_dim: usize,
    pub cascade: bool,
    pub masks: bool,
    pub anchors: Vec<f64>,
    pub proposals: usize,
    pub samples: usize,
    pub trained: String,
    pub score: f64,
    pub nms: f64,
    pub most: usize,
    pub epochs: usize,
    pub max_steps: Option<usize>,
    pub batch_size: usize,
    pub accumulate: usize,
    pub lr: f64,
    pub layer_decay: f64,
    pub weight_decay: f64,
    pub lr_steps: [f64; 2],
    pub warmup_steps: usize,
    pub clip_norm: Option<f64>,
    pub ema: Option<f64>,
    pub eval_every: usize,
    pub checkpoint_every: usize,
    pub keep: usize,
    pub seed: u64,
    pub device: String,
    pub threads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data: None,
            format: DetectionFormat::Auto,
            train_split: "train".into(),
            val_split: "val".into(),
            classes: Vec::new(),
            clip_boxes: false,
            images: None,
            val_images: None,
            scenes: 400,
            val_scenes: 60,
            workers: 2,
            max_unreadable: 0.05,
            percentiles: [1.0, 99.0],
            fixed_window: None,
            normalize: "downstream".into(),
            size: 1024,
            test_size: None,
            jitter: [0.1, 2.0],
            flip: 0.5,
            min_side: 1e-5,
            pad_to: None,
            weights: "asset".into(),
            model: "auto".into(),
            patch_size: 16,
            adapters: "auto".into(),
            bottleneck: 64,
            window: 14,
            global_blocks: Vec::new(),
            relative_positions: true,
            drop_path: 0.1,
            channels: 256,
            head_dim: 1024,
            cascade: false,
            masks: false,
            anchors: vec![32.0, 64.0, 128.0, 256.0, 512.0],
            proposals: 1000,
            samples: 512,
            trained: "everything".into(),
            score: 0.05,
            nms: 0.5,
            most: 100,
            epochs: 12,
            max_steps: None,
            batch_size: 2,
            accumulate: 1,
            lr: 1e-4,
            layer_decay: 0.7,
            weight_decay: 0.1,
            lr_steps: [2.0 / 3.0, 11.0 / 12.0],
            warmup_steps: 250,
            clip_norm: None,
            ema: None,
            eval_every: 1,
            checkpoint_every: 500,
            keep: 2,
            seed: 0,
            device: "cpu".into(),
            threads: 0,
        }
    }
}

/// The flags. Every one overrides the TOML file's entry of the same name.
#[derive(Args, Clone, Debug, Default, Serialize)]
pub struct Flags {
    /// Folder of labelled infrared images (8 or 16 bit); without it scenes are rendered
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// How DATA is arranged: auto, coco, flir, hit-uav, llvip, voc, yolo [default: auto]
    #[arg(long, help_heading = "Data")]
    pub format: Option<DetectionFormat>,
    /// Part of DATA for training [default: train]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub train_split: Option<String>,
    /// Part of DATA for evaluation [default: val]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub val_split: Option<String>,
    /// Classes, separated by commas, boxes of others being left out [default: those of DATA]
    #[arg(long, value_delimiter = ',', value_name = "NAMES", help_heading = "Data")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Cut boxes to their images and leave out empty ones, where otherwise the set is refused
    #[arg(long, help_heading = "Data")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub clip_boxes: bool,
    /// Train on the first so many images only
    #[arg(long, help_heading = "Data")]
    pub images: Option<usize>,
    /// Evaluate on the first so many images only
    #[arg(long, help_heading = "Data")]
    pub val_images: Option<usize>,
    /// Rendered scenes for training, where there is no DATA [default: 400]
    #[arg(long, help_heading = "Data")]
    pub scenes: Option<usize>,
    /// Rendered scenes for evaluation [default: 60]
    #[arg(long, help_heading = "Data")]
    pub val_scenes: Option<usize>,
    /// Threads that read images; results do not depend on it [default: 2]
    #[arg(long, help_heading = "Data")]
    pub workers: Option<usize>,
    /// Share of unreadable images that is passed over, 0 to 1 [default: 0.05]
    #[arg(long, help_heading = "Data")]
    pub max_unreadable: Option<f64>,
    /// Window of 16-bit images: percentiles of each image [default: 1,99]
    #[arg(long, value_delimiter = ',', value_name = "LOW,HIGH", help_heading = "Data")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percentiles: Vec<f64>,
    /// Window of 16-bit images: the same counts (or kelvin) for all, in place of percentiles
    #[arg(long, value_delimiter = ',', value_name = "LOW,HIGH", help_heading = "Data")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fixed_window: Vec<f64>,
    /// Input statistics: downstream, msip, imagenet, or MEAN,STD of values in 0..1 [default: downstream]
    #[arg(long, help_heading = "Data")]
    pub normalize: Option<String>,
    /// Side of training crops, pixels; images are fitted into it before they are jittered [default: 1024]
    #[arg(long, help_heading = "Data")]
    pub size: Option<usize>,
    /// Side that images are fitted into in evaluation, pixels [default: SIZE]
    #[arg(long, help_heading = "Data")]
    pub test_size: Option<usize>,
    /// Smallest and largest scale of training images [default: 0.1,2]
    #[arg(long, value_delimiter = ',', value_name = "LOW,HIGH", help_heading = "Data")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jitter: Vec<f64>,
    /// Probability of mirroring [default: 0.5]
    #[arg(long, help_heading = "Data")]
    pub flip: Option<f64>,
    /// Boxes of which a crop shows less, in width or height, are left out, pixels [default: 1e-5]
    #[arg(long, help_heading = "Data")]
    pub min_side: Option<f64>,
    /// Pad batches to multiples of this, a divisor of SIZE, instead of to SIZE: faster where images are small
    #[arg(long, help_heading = "Data")]
    pub pad_to: Option<usize>,

    /// Where the backbone comes from: a checkpoint of any format, `asset` (the small backbone of this repository), the
    /// folder of a run of `pretrain`, or `none` [default: asset]
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub weights: Option<String>,
    /// auto (what the weights say), pico, tiny, small, base, large, huge, dinov2-small [default: auto]
    #[arg(long, help_heading = "Model")]
    pub model: Option<String>,
    /// Side of a patch, pixels [default: 16]
    #[arg(long, help_heading = "Model")]
    pub patch_size: Option<usize>,
    /// auto (as the weights have them), none, or new ones by their scale: concat, sum, side, gside, fixed=S, learnable=S
    /// [default: auto]
    #[arg(long, help_heading = "Model")]
    pub adapters: Option<String>,
    /// Width of new adapters' bottleneck [default: 64]
    #[arg(long, help_heading = "Model")]
    pub bottleneck: Option<usize>,
    /// Side of the attention windows, patches; 0 = every block sees the whole image [default: 14]
    #[arg(long, help_heading = "Model")]
    pub window: Option<usize>,
    /// Blocks that see the whole image, separated by commas [default: the last of each quarter]
    #[arg(long, value_delimiter = ',', value_name = "BLOCKS", help_heading = "Model")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub global_blocks: Vec<usize>,
    /// Whether blocks have decomposed relative positions [default: true]
    #[arg(long, help_heading = "Model")]
    pub relative_positions: Option<bool>,
    /// Probability with which the last block's branches are dropped in training, rising from 0 [default: 0.1]
    #[arg(long, help_heading = "Model")]
    pub drop_path: Option<f64>,
    /// Channels of the pyramid and the heads' convolutions [default: 256]
    #[arg(long, help_heading = "Model")]
    pub channels: Option<usize>,
    /// Width of the box head's linear layer [default: 1024]
    #[arg(long, help_heading = "Model")]
    pub head_dim: Option<usize>,
    /// Three box heads in a row (Cascade R-CNN)
    #[arg(long, help_heading = "Model")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cascade: bool,
    /// A head on masks (Mask R-CNN), which finds the pixels of objects; DATA must tell them (COCO's `segmentation`)
    #[arg(long, help_heading = "Model")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub masks: bool,
    /// Sides of the anchors of the five levels, pixels [default: 32,64,128,256,512]
    #[arg(long, value_delimiter = ',', value_name = "PIXELS", help_heading = "Model")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub anchors: Vec<f64>,
    /// Proposals of an image that the box head looks at [default: 1000]
    #[arg(long, help_heading = "Model")]
    pub proposals: Option<usize>,
    /// Proposals of an image that the box head is trained on [default: 512]
    #[arg(long, help_heading = "Model")]
    pub samples: Option<usize>,
    /// What trains: everything, adapters-and-heads, heads [default: everything]
    #[arg(long, help_heading = "Model")]
    pub trained: Option<String>,

    /// Smallest score of a detection, 0 to 1 [default: 0.05]
    #[arg(long, help_heading = "Detections")]
    pub score: Option<f64>,
    /// Overlap above which the lower of two detections of a class is dropped, 0 to 1 [default: 0.5]
    #[arg(long, help_heading = "Detections")]
    pub nms: Option<f64>,
    /// Most detections of an image [default: 100]
    #[arg(long, help_heading = "Detections")]
    pub most: Option<usize>,

    /// Epochs [default: 12]
    #[arg(long, help_heading = "Training")]
    pub epochs: Option<usize>,
    /// End after so many updates
    #[arg(long, help_heading = "Training")]
    pub max_steps: Option<usize>,
    /// Images per micro-batch [default: 2]
    #[arg(long, help_heading = "Training")]
    pub batch_size: Option<usize>,
    /// Micro-batches per update [default: 1]
    #[arg(long, help_heading = "Training")]
    pub accumulate: Option<usize>,
    /// Highest learning rate [default: 1e-4]
    #[arg(long, help_heading = "Training")]
    pub lr: Option<f64>,
    /// Factor on the learning rate per block towards the input [default: 0.7]
    #[arg(long, help_heading = "Training")]
    pub layer_decay: Option<f64>,
    /// Decoupled weight decay [default: 0.1]
    #[arg(long, help_heading = "Training")]
    pub weight_decay: Option<f64>,
    /// When the learning rate falls to a tenth, and again: shares of the run [default: 0.667,0.917]
    #[arg(long, value_delimiter = ',', value_name = "FIRST,SECOND", help_heading = "Training")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lr_steps: Vec<f64>,
    /// Updates of linear rise, from a thousandth [default: 250, but at most a tenth of the run]
    #[arg(long, help_heading = "Training")]
    pub warmup_steps: Option<usize>,
    /// Largest norm of the gradients [default: none]
    #[arg(long, help_heading = "Training")]
    pub clip_norm: Option<f64>,
    /// Keep averages of the weights with this decay, e.g. 0.999; evaluation and the result use them [default: none]
    #[arg(long, value_name = "DECAY", help_heading = "Training")]
    pub ema: Option<f64>,
    /// Epochs from one evaluation to the next; 0 = only at the end [default: 1]
    #[arg(long, help_heading = "Training")]
    pub eval_every: Option<usize>,
    /// Updates from one checkpoint to the next [default: 500]
    #[arg(long, help_heading = "Training")]
    pub checkpoint_every: Option<usize>,
    /// Checkpoints kept, the best one besides [default: 2]
    #[arg(long, help_heading = "Training")]
    pub keep: Option<usize>,
    /// Seed of everything random [default: 0]
    #[arg(long, help_heading = "Training")]
    pub seed: Option<u64>,
    /// cpu, cuda, cuda:N, metal [default: cpu]
    #[arg(long, help_heading = "Training")]
    pub device: Option<String>,
    /// Threads of the operators; 0 = all cores; results do not depend on it [default: 0]
    #[arg(long, help_heading = "Training")]
    pub threads: Option<usize>,
}

/// What the program does without `--data`: a small detector on rendered scenes, some minutes.
const DEMO: &str = include_str!("../../recipes/detect_demo.toml");

impl Settings {
    /// Defaults, overlaid by `recipe` (or, without any data, by the demo's), overlaid by `flags`.
    pub fn merge(recipe: Option<&Path>, flags: &Flags) -> Result<Self> {
        let demo = flags.data.is_none().then_some(("detect_demo.toml", DEMO));
        overlay::merge(recipe, demo, flags)
    }

    /// Reads the `config.toml` of a run.
    pub fn of_run(folder: &Path) -> Result<Self> {
        Self::merge(Some(&folder.join("config.toml")), &Flags::default())
    }

    /// As TOML.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }

    pub fn counts_window(&self) -> Window {
        match self.fixed_window {
            Some([low, high]) => Window::Fixed { low, high },
            None => Window::Percentile { low: self.percentiles[0], high: self.percentiles[1] },
        }
    }

    fn statistics(&self) -> Result<Normalize> {
        match self.normalize.as_str() {
            "downstream" => Ok(Normalize::downstream()),
            other => {
                let pretrain = PretrainSettings { normalize: other.into(), ..Default::default() };
                pretrain.normalize().map_err(|error| {
                    error.to_string().replace("expected msip", "expected downstream, msip").into()
                })
            }
        }
    }

    pub fn pipeline(&self) -> Result<DetectionPipeline> {
        let test = self.test_size.unwrap_or(self.size);
        let pipeline = DetectionPipeline {
            jitter: ScaleJitter { target: ImageSize::square(self.size), scale: self.jitter },
            crop: ImageSize::square(self.size),
            flip: HorizontalFlip { probability: self.flip },
            min_side: self.min_side,
            pad_to: self.pad_to,
            test: ShortestEdge { short: test, longest: test },
            normalize: self.statistics()?,
            window: self.counts_window(),
            channels: 3,
        };
        pipeline.validate()?;
        Ok(pipeline)
    }

    pub fn loader(&self) -> LoaderConfig {
        LoaderConfig {
            batch_size: self.batch_size,
            workers: self.workers,
            max_unreadable: self.max_unreadable,
            seed: self.seed,
            ..Default::default()
        }
    }

    /// New adapters, if they are asked for by name.
    pub fn new_adapters(&self) -> Result<Option<AdapterConfig>> {
        match self.adapters.as_str() {
            "auto" | "none" => Ok(None),
            scale => {
                let pretrain = PretrainSettings {
                    scale: scale.into(),
                    bottleneck: self.bottleneck,
                    ..Default::default()
                };
                let adapter = pretrain.adapter().map_err(|error| {
                    let text = error.to_string();
                    text.replace("scale: expected one of ", "adapters: expected auto, none, ")
                })?;
                Ok(Some(adapter))
            }
        }
    }

    /// The learning rate over a run whose epochs have `steps` updates.
    pub fn schedule(&self, steps: usize) -> Schedule {
        let steps = steps.max(1) as f64;
        let all = self.epochs as f64 * steps;
        let whole = self.max_steps.map_or(all, |most| all.min(most as f64));
        Schedule::Steps {
            peak_lr: self.lr,
            gamma: 0.1,
            at_epochs: self.lr_steps.map(|share| share * whole / steps),
            warmup_epochs: (self.warmup_steps as f64).min(whole / 10.0) / steps,
            warmup_ratio: 1e-3,
        }
    }
}
