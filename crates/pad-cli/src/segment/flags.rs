//! Every knob of segmentation: the original's defaults, and the flags that replace them.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

/// The effective settings of a run; written to its folder as `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub data: Option<PathBuf>,
    pub dataset: String,
    pub train_split: String,
    pub val_split: String,
    pub train_images: Option<usize>,
    pub val_images: Option<usize>,
    pub scenes: usize,
    pub val_scenes: usize,
    pub scene_size: [usize; 2],
    pub workers: usize,
    pub max_unreadable: f64,
    pub base_scale: Vec<usize>,
    pub ratio: [f64; 2],
    pub crop: Vec<usize>,
    pub max_class_share: f64,
    pub flip: f64,
    pub distortion: bool,
    pub percentiles: [f64; 2],
    pub fixed_window: Option<[f64; 2]>,
    pub normalize: String,
    pub channels: usize,
    pub weights: String,
    pub backbone: String,
    pub model: String,
    pub patch_size: usize,
    pub paradigm: String,
    pub form: String,
    pub head: String,
    pub head_channels: usize,
    pub head_dropout: f64,
    pub auxiliary: bool,
    pub auxiliary_channels: usize,
    pub blocks: Vec<usize>,
    pub freeze_backbone: bool,
    pub freeze_adapters: bool,
    pub drop_path: f64,
    pub scale: String,
    pub bottleneck: usize,
    pub valid_mean: bool,
    pub class_weights: Vec<f32>,
    pub ohem_threshold: Option<f64>,
    pub ohem_min_kept: Option<usize>,
    pub iterations: usize,
    pub batch_size: usize,
    pub lr: f64,
    pub warmup_iterations: usize,
    pub layer_decay: f64,
    pub weight_decay: f64,
    pub clip_norm: Option<f64>,
    pub ema: Option<f64>,
    pub eval_every: usize,
    pub checkpoint_every: usize,
    pub keep: usize,
    pub max_steps: Option<usize>,
    pub seed: u64,
    pub device: String,
    pub threads: usize,
    pub extent: String,
    pub window: Vec<usize>,
    pub stride: Vec<usize>,
    pub scales: Vec<f64>,
    pub flip_test: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data: None,
            dataset: "folder".into(),
            train_split: "train".into(),
            val_split: "val".into(),
            train_images: None,
            val_images: None,
            scenes: 300,
            val_scenes: 40,
            scene_size: [192, 256],
            workers: 2,
            max_unreadable: 0.05,
            base_scale: vec![2048, 512],
            ratio: [0.5, 2.0],
            crop: vec![512],
            max_class_share: 0.75,
            flip: 0.5,
            distortion: true,
            percentiles: [1.0, 99.0],
            fixed_window: None,
            normalize: "downstream".into(),
            channels: 3,
            weights: "asset".into(),
            backbone: "asset".into(),
            model: "auto".into(),
            patch_size: 16,
            paradigm: "pad".into(),
            form: "auto".into(),
            head: "uper".into(),
            head_channels: 768,
            head_dropout: 0.1,
            auxiliary: true,
            auxiliary_channels: 256,
            blocks: Vec::new(),
            freeze_backbone: false,
            freeze_adapters: false,
            drop_path: 0.1,
            scale: "concat".into(),
            bottleneck: 64,
            valid_mean: false,
            class_weights: Vec::new(),
            ohem_threshold: None,
            ohem_min_kept: None,
            iterations: 14_400,
            batch_size: 8,
            lr: 2e-4,
            warmup_iterations: 1500,
            layer_decay: 0.65,
            weight_decay: 0.05,
            clip_norm: None,
            ema: None,
            eval_every: 0,
            checkpoint_every: 500,
            keep: 2,
            max_steps: None,
            seed: 0,
            device: "cpu".into(),
            threads: 0,
            extent: "slide".into(),
            window: Vec::new(),
            stride: Vec::new(),
            scales: vec![1.0],
            flip_test: false,
        }
    }
}

/// The same as flags; what is not given is not there.
#[derive(Args, Clone, Debug, Default, Serialize)]
pub struct Flags {
    /// Folder of labelled images; without it scenes are rendered
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// Layout of the folder: folder (classes.toml), soda, mfnet; scenes renders [default: folder]
    #[arg(long, help_heading = "Data")]
    pub dataset: Option<String>,
    /// List of the images for training [default: train]
    #[arg(long, help_heading = "Data")]
    pub train_split: Option<String>,
    /// List of the images for evaluation [default: val]
    #[arg(long, help_heading = "Data")]
    pub val_split: Option<String>,
    /// Only the first so many images for training
    #[arg(long, help_heading = "Data")]
    pub train_images: Option<usize>,
    /// Only the first so many images for evaluation
    #[arg(long, help_heading = "Data")]
    pub val_images: Option<usize>,
    /// Rendered scenes for training [default: 300]
    #[arg(long, help_heading = "Data")]
    pub scenes: Option<usize>,
    /// Rendered scenes for evaluation [default: 40]
    #[arg(long, help_heading = "Data")]
    pub val_scenes: Option<usize>,
    /// Height,width of rendered scenes, pixels [default: 192,256]
    #[arg(long, value_delimiter = ',', value_name = "H,W", help_heading = "Data")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scene_size: Vec<usize>,
    /// Threads that read images [default: 2]
    #[arg(long, help_heading = "Data")]
    pub workers: Option<usize>,
    /// Largest share of unreadable images, 0 to 1 [default: 0.05]
    #[arg(long, help_heading = "Data")]
    pub max_unreadable: Option<f64>,
    /// Largest long,short side that images are fitted into; 0 leaves them as they are [default: 2048,512]
    #[arg(long, value_delimiter = ',', value_name = "LONG,SHORT", help_heading = "Data")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub base_scale: Vec<usize>,
    /// Range of the random ratio on it [default: 0.5,2]
    #[arg(long, value_delimiter = ',', value_name = "LOW,HIGH", help_heading = "Data")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ratio: Vec<f64>,
    /// Height,width of a crop, or one number for both, pixels [default: 512]
    #[arg(long, value_delimiter = ',', value_name = "PIXELS", help_heading = "Data")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub crop: Vec<usize>,
    /// Largest share of a crop that one class may have [default: 0.75]
    #[arg(long, help_heading = "Data")]
    pub max_class_share: Option<f64>,
    /// Probability of mirroring [default: 0.5]
    #[arg(long, help_heading = "Data")]
    pub flip: Option<f64>,
    /// Whether brightness and contrast are changed at random [default: true]
    #[arg(long, help_heading = "Data")]
    pub distortion: Option<bool>,
    /// Window of 16-bit images: percentiles of each image [default: 1,99]
    #[arg(long, value_delimiter = ',', value_name = "LOW,HIGH", help_heading = "Data")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percentiles: Vec<f64>,
    /// Window of 16-bit images: the same counts for all, in place of percentiles
    #[arg(long, value_delimiter = ',', value_name = "LOW,HIGH", help_heading = "Data")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fixed_window: Vec<f64>,
    /// Input statistics: downstream, msip, imagenet [default: downstream]
    #[arg(long, help_heading = "Data")]
    pub normalize: Option<String>,
    /// Channels of the input, 1 or 3 [default: 3]
    #[arg(long, help_heading = "Data")]
    pub channels: Option<usize>,
    /// Where the backbone starts: a checkpoint of any format, an adapter file, a run folder of pretrain,
    /// `asset` (the small backbone of this repository) or `none` [default: asset]
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub weights: Option<String>,
    /// The weights that an adapter file belongs on [default: asset]
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub backbone: Option<String>,
    /// auto (what the weights say), pico, tiny, small, base, large, huge, dinov2-small [default: auto]
    #[arg(long, help_heading = "Model")]
    pub model: Option<String>,
    /// Side of a patch of a model that is named, pixels [default: 16]
    #[arg(long, help_heading = "Model")]
    pub patch_size: Option<usize>,
    /// scratch (random weights), rgb-only (weights as they are), full (weights of a continued pre-training),
    /// pad (with adapters) [default: pad]
    #[arg(long, help_heading = "Model")]
    pub paradigm: Option<String>,
    /// downstream (relative positions, layer scale; the original's), plain (as it was pre-trained), auto (plain
    /// if frozen) [default: auto]
    #[arg(long, help_heading = "Model")]
    pub form: Option<String>,
    /// uper or linear [default: uper]
    #[arg(long, help_heading = "Model")]
    pub head: Option<String>,
    /// Channels inside UPerNet [default: 768]
    #[arg(long, help_heading = "Model")]
    pub head_channels: Option<usize>,
    /// Share of channels dropped in front of UPerNet's classifier [default: 0.1]
    #[arg(long, help_heading = "Model")]
    pub head_dropout: Option<f64>,
    /// Whether UPerNet has an auxiliary FCN in training [default: true]
    #[arg(long, help_heading = "Model")]
    pub auxiliary: Option<bool>,
    /// Channels inside the auxiliary head [default: 256]
    #[arg(long, help_heading = "Model")]
    pub auxiliary_channels: Option<usize>,
    /// Blocks that the head looks at, from 0 [default: four spread as 3,5,7,11 of 12; the last for linear]
    #[arg(long, value_delimiter = ',', help_heading = "Model")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<usize>,
    /// Train adapters and heads only [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", help_heading = "Model")]
    pub freeze_backbone: Option<bool>,
    /// With a frozen backbone, train the heads only [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", help_heading = "Model")]
    pub freeze_adapters: Option<bool>,
    /// Largest rate of stochastic depth in training; 0 where the backbone is frozen [default: 0.1]
    #[arg(long, help_heading = "Model")]
    pub drop_path: Option<f64>,
    /// Scale of adapters that the weights lack: concat, sum, side, gside, fixed=S, learnable=S [default: concat]
    #[arg(long, help_heading = "Model")]
    pub scale: Option<String>,
    /// Width of adapters that the weights lack [default: 64]
    #[arg(long, help_heading = "Model")]
    pub bottleneck: Option<usize>,
    /// Average over labelled pixels; the original averages over all [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", help_heading = "Loss")]
    pub valid_mean: Option<bool>,
    /// A weight for each class [default: all equal]
    #[arg(long, value_delimiter = ',', help_heading = "Loss")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub class_weights: Vec<f32>,
    /// Only pixels whose own class has a probability below this count
    #[arg(long, help_heading = "Loss")]
    pub ohem_threshold: Option<f64>,
    /// So many hard pixels of an image count at least; switches hard pixels on
    #[arg(long, help_heading = "Loss")]
    pub ohem_min_kept: Option<usize>,
    /// Updates [default: 14400]
    #[arg(long, help_heading = "Training")]
    pub iterations: Option<usize>,
    /// Images of an update [default: 8]
    #[arg(long, help_heading = "Training")]
    pub batch_size: Option<usize>,
    /// Highest learning rate [default: 2e-4]
    #[arg(long, help_heading = "Training")]
    pub lr: Option<f64>,
    /// Updates of linear rise, at most half of all [default: 1500]
    #[arg(long, help_heading = "Training")]
    pub warmup_iterations: Option<usize>,
    /// Factor on the learning rate from a block to the one below [default: 0.65]
    #[arg(long, help_heading = "Training")]
    pub layer_decay: Option<f64>,
    /// Weight decay of matrices [default: 0.05]
    #[arg(long, help_heading = "Training")]
    pub weight_decay: Option<f64>,
    /// Largest gradient norm [default: no limit]
    #[arg(long, help_heading = "Training")]
    pub clip_norm: Option<f64>,
    /// Keep averages of the weights with this decay, e.g. 0.999; evaluation and the result use them [default: none]
    #[arg(long, value_name = "DECAY", help_heading = "Training")]
    pub ema: Option<f64>,
    /// Evaluate every so many updates, a divisor of --iterations; 0 = at the end [default: 0]
    #[arg(long, help_heading = "Training")]
    pub eval_every: Option<usize>,
    /// Write a checkpoint every so many updates [default: 500]
    #[arg(long, help_heading = "Training")]
    pub checkpoint_every: Option<usize>,
    /// Checkpoints kept, beside the best [default: 2]
    #[arg(long, help_heading = "Training")]
    pub keep: Option<usize>,
    /// End after so many updates, to be continued with --resume
    #[arg(long, help_heading = "Training")]
    pub max_steps: Option<usize>,
    /// Seed of everything random [default: 0]
    #[arg(long, help_heading = "Training")]
    pub seed: Option<u64>,
    /// cpu, cuda, cuda:N, metal [default: cpu]
    #[arg(long, help_heading = "Training")]
    pub device: Option<String>,
    /// Threads of the operators; 0 = all cores; results do not depend on it [default: 0]
    #[arg(long, help_heading = "Training")]
    pub threads: Option<usize>,
    /// slide (windows) or whole [default: slide]
    #[arg(long, help_heading = "Inference")]
    pub extent: Option<String>,
    /// Height,width of a window [default: that of a crop]
    #[arg(long, value_delimiter = ',', value_name = "PIXELS", help_heading = "Inference")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub window: Vec<usize>,
    /// Between windows [default: two thirds of one]
    #[arg(long, value_delimiter = ',', value_name = "PIXELS", help_heading = "Inference")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stride: Vec<usize>,
    /// Sizes whose probabilities are averaged, over the image's own [default: 1]
    #[arg(long, value_delimiter = ',', help_heading = "Inference")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scales: Vec<f64>,
    /// See every size mirrored, too [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", help_heading = "Inference")]
    pub flip_test: Option<bool>,
}
