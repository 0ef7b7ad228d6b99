//! The knobs of pre-training: every setting with its default, and the flag of the same name.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

/// The effective settings of a run; written to its folder as `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub data: Option<PathBuf>,
    pub sources: Vec<String>,
    pub ratio: f64,
    pub no_roi: bool,
    pub roi_p: f64,
    pub checkpoint_blocks: bool,
    pub dtype: String,
    pub scenes: usize,
    pub held_out: f64,
    pub workers: usize,
    pub cache_mib: u64,
    pub max_unreadable: f64,
    pub repeat: usize,
    pub min_scale: f64,
    pub flip: f64,
    pub percentiles: [f64; 2],
    pub fixed_window: Option<[f64; 2]>,
    pub normalize: String,
    pub weights: String,
    pub model: String,
    pub patch_size: usize,
    pub image_size: Vec<usize>,
    pub channels: usize,
    pub decoder_dim: Option<usize>,
    pub decoder_depth: Option<usize>,
    pub decoder_heads: Option<usize>,
    pub mask_ratio: Option<f64>,
    pub objective: String,
    pub masking: Option<String>,
    pub teacher: Option<String>,
    pub teacher_model: String,
    pub norm_pix_loss: bool,
    pub paradigm: String,
    pub scale: String,
    pub bottleneck: usize,
    pub adapter_norm: bool,
    pub dropout: f64,
    pub gate_frozen: f64,
    pub layer_decay: Option<f64>,
    pub train_decoder_embed: Option<bool>,
    pub epochs: usize,
    pub max_steps: Option<usize>,
    pub batch_size: usize,
    pub accumulate: Option<usize>,
    pub blr: f64,
    pub min_lr: f64,
    pub warmup_epochs: f64,
    pub weight_decay: f64,
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
            sources: Vec::new(),
            ratio: 1.0,
            no_roi: false,
            roi_p: 0.85,
            checkpoint_blocks: false,
            dtype: "f32".into(),
            scenes: 600,
            held_out: 0.1,
            workers: 2,
            cache_mib: 0,
            max_unreadable: 0.05,
            repeat: 1,
            min_scale: 0.2,
            flip: 0.5,
            percentiles: [1.0, 99.0],
            fixed_window: None,
            normalize: "msip".into(),
            weights: "asset".into(),
            model: "auto".into(),
            patch_size: 16,
            image_size: vec![224],
            channels: 3,
            decoder_dim: None,
            decoder_depth: None,
            decoder_heads: None,
            mask_ratio: None,
            objective: "mae".into(),
            masking: None,
            teacher: None,
            teacher_model: "auto".into(),
            norm_pix_loss: true,
            paradigm: "pad".into(),
            scale: "concat".into(),
            bottleneck: 64,
            adapter_norm: true,
            dropout: 0.1,
            gate_frozen: 0.6,
            layer_decay: None,
            train_decoder_embed: None,
            epochs: 100,
            max_steps: None,
            batch_size: 64,
            accumulate: None,
            blr: 1e-4,
            min_lr: 0.0,
            warmup_epochs: 30.0,
            weight_decay: 0.05,
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
    /// Folder of infrared images (8 or 16 bit; PNG, JPEG, BMP, TIFF), any layout or MSIP's NAME/thermal, or of
    /// shards (example `shards`); without it scenes are rendered
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// Sources (folders of DATA) to use, separated by commas [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAMES", help_heading = "Data")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Share of each source's training images that is used, above 0 up to 1 [default: 1]
    #[arg(long, help_heading = "Data")]
    pub ratio: Option<f64>,
    /// Plain random crops, even where there are regions of interest (NAME/roi beside NAME/thermal)
    #[arg(long, help_heading = "Data")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_roi: bool,
    /// Probability that a crop around a region may be of any size; else it covers 15% of the image [default: 0.85]
    #[arg(long, help_heading = "Data")]
    pub roi_p: Option<f64>,
    /// What linear layers multiply in: f32 or bf16 (sums and all else stay f32) [default: f32]
    #[arg(long, help_heading = "Training")]
    pub dtype: Option<String>,
    /// Keep only the blocks' inputs for the backward and compute the rest again: a third slower, far less memory
    #[arg(long, help_heading = "Training")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub checkpoint_blocks: bool,
    /// Rendered scenes, where there is no DATA [default: 600]
    #[arg(long, help_heading = "Data")]
    pub scenes: Option<usize>,
    /// Share of the images held out for evaluation, 0 to 1 [default: 0.1]
    #[arg(long, help_heading = "Data")]
    pub held_out: Option<f64>,
    /// Threads that read images; results do not depend on it [default: 2]
    #[arg(long, help_heading = "Data")]
    pub workers: Option<usize>,
    /// Memory for decoded images, MiB [default: 0]
    #[arg(long, help_heading = "Data")]
    pub cache_mib: Option<u64>,
    /// Share of unreadable images that is passed over, 0 to 1 [default: 0.05]
    #[arg(long, help_heading = "Data")]
    pub max_unreadable: Option<f64>,
    /// Crops of each image in an epoch: for few, large images [default: 1]
    #[arg(long, help_heading = "Data")]
    pub repeat: Option<usize>,
    /// Smallest share of the image's area that a random crop covers [default: 0.2]
    #[arg(long, help_heading = "Data")]
    pub min_scale: Option<f64>,
    /// Probability of mirroring [default: 0.5]
    #[arg(long, help_heading = "Data")]
    pub flip: Option<f64>,
    /// Window of 16-bit images: percentiles of each image [default: 1,99]
    #[arg(long, value_delimiter = ',', value_name = "LOW,HIGH", help_heading = "Data")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percentiles: Vec<f64>,
    /// Window of 16-bit images: the same counts (or kelvin) for all, in place of percentiles
    #[arg(long, value_delimiter = ',', value_name = "LOW,HIGH", help_heading = "Data")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fixed_window: Vec<f64>,
    /// Input statistics: msip, imagenet, or MEAN,STD of values in 0..1 [default: msip]
    #[arg(long, help_heading = "Data")]
    pub normalize: Option<String>,

    /// Where training starts: a checkpoint (.safetensors, .pth), `asset` (the small backbone of this repository) or
    /// `none` [default: asset]
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub weights: Option<String>,
    /// auto (what the weights say), pico, tiny, small, base, large, huge, dinov2-small [default: auto]
    #[arg(long, help_heading = "Model")]
    pub model: Option<String>,
    /// Side of a patch, pixels [default: 16]
    #[arg(long, help_heading = "Model")]
    pub patch_size: Option<usize>,
    /// Height,width of the input, or one number for both, pixels [default: 224]
    #[arg(long, value_delimiter = ',', value_name = "PIXELS", help_heading = "Model")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_size: Vec<usize>,
    /// Channels of the input, 1 or 3 [default: 3]
    #[arg(long, help_heading = "Model")]
    pub channels: Option<usize>,
    /// Values per token in the decoder [default: what the weights say, else 512; 128 for pico]
    #[arg(long, help_heading = "Model")]
    pub decoder_dim: Option<usize>,
    /// Blocks of the decoder [default: what the weights say, else 8; 2 for pico]
    #[arg(long, help_heading = "Model")]
    pub decoder_depth: Option<usize>,
    /// Heads of the decoder [default: what the weights say, else 16; 4 for pico]
    #[arg(long, help_heading = "Model")]
    pub decoder_heads: Option<usize>,
    /// What is learnt: mae (pixels), milan (CLIP's features; needs --teacher), simmim (pixels, masked inside the
    /// encoder), features (a frozen encoder's features; needs --teacher) [default: mae]
    #[arg(long, help_heading = "Objective")]
    pub objective: Option<String>,
    /// Which patches are removed: random, block, cells (32 pixels), attention (needs a CLIP teacher), intensity
    /// [default: random; attention for milan, cells for simmim, block for features]
    #[arg(long, help_heading = "Objective")]
    pub masking: Option<String>,
    /// Share of patches that are removed [default: 0.75; 0.6 for simmim, 0.4 for features]
    #[arg(long, help_heading = "Objective")]
    pub mask_ratio: Option<f64>,
    /// Weights of the teacher: CLIP's (OpenAI's or Hugging Face's names), or a ViT's; `asset` for the small backbone
    #[arg(long, value_name = "FILE", help_heading = "Objective")]
    pub teacher: Option<String>,
    /// A teacher that is no CLIP: auto (what its weights say), pico, tiny, .., dinov2-small [default: auto]
    #[arg(long, help_heading = "Objective")]
    pub teacher_model: Option<String>,
    /// Whether targets are normalised patch by patch [default: true]
    #[arg(long, help_heading = "Model")]
    pub norm_pix_loss: Option<bool>,

    /// pad (adapters and decoder), full (all weights), scratch (all, from random ones), decoder-only [default: pad]
    #[arg(long, help_heading = "Paradigm")]
    pub paradigm: Option<String>,
    /// Scale of the adapters: concat, sum, side, gside (patchwise, by what the gate sees), fixed=S, fixed-decay=S,
    /// fixed-linear=S, learnable=S [default: concat]
    #[arg(long, help_heading = "Paradigm")]
    pub scale: Option<String>,
    /// Width of the adapters' bottleneck [default: 64]
    #[arg(long, help_heading = "Paradigm")]
    pub bottleneck: Option<usize>,
    /// Whether adapters have a layer norm of their own [default: true]
    #[arg(long, help_heading = "Paradigm")]
    pub adapter_norm: Option<bool>,
    /// Dropout on the bottleneck [default: 0.1]
    #[arg(long, help_heading = "Paradigm")]
    pub dropout: Option<f64>,
    /// Share of the epochs in which the gates stay frozen [default: 0.6]
    #[arg(long, help_heading = "Paradigm")]
    pub gate_frozen: Option<f64>,
    /// Full: factor on the learning rate per block towards the input (0.7 in the paper) [default: none]
    #[arg(long, help_heading = "Paradigm")]
    pub layer_decay: Option<f64>,
    /// PAD: whether the decoder's first layer trains [default: only if the weights hold no decoder]
    #[arg(long, help_heading = "Paradigm")]
    pub train_decoder_embed: Option<bool>,

    /// Epochs [default: 100]
    #[arg(long, help_heading = "Training")]
    pub epochs: Option<usize>,
    /// End after so many updates
    #[arg(long, help_heading = "Training")]
    pub max_steps: Option<usize>,
    /// Images per micro-batch [default: 64]
    #[arg(long, help_heading = "Training")]
    pub batch_size: Option<usize>,
    /// Micro-batches per update, over all processes [default: what makes 4096 images, but at least 8 updates an epoch]
    #[arg(long, help_heading = "Training")]
    pub accumulate: Option<usize>,
    /// Learning rate per 256 images of the effective batch [default: 1e-4]
    #[arg(long, help_heading = "Training")]
    pub blr: Option<f64>,
    /// Learning rate at the end [default: 0]
    #[arg(long, help_heading = "Training")]
    pub min_lr: Option<f64>,
    /// Epochs of linear rise [default: 30]
    #[arg(long, help_heading = "Training")]
    pub warmup_epochs: Option<f64>,
    /// Weight decay of matrices [default: 0.05]
    #[arg(long, help_heading = "Training")]
    pub weight_decay: Option<f64>,
    /// Largest gradient norm [default: no limit]
    #[arg(long, help_heading = "Training")]
    pub clip_norm: Option<f64>,
    /// Keep averages of the weights with this decay, e.g. 0.9999; evaluation and the result use them [default: none]
    #[arg(long, value_name = "DECAY", help_heading = "Training")]
    pub ema: Option<f64>,
    /// Evaluate on held-out images every so many epochs; 0 = only before and after [default: 1]
    #[arg(long, help_heading = "Training")]
    pub eval_every: Option<usize>,
    /// Write a checkpoint every so many updates [default: 500]
    #[arg(long, help_heading = "Training")]
    pub checkpoint_every: Option<usize>,
    /// Checkpoints kept [default: 2]
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
