//! The settings that every training run has.

use std::{fmt, path::PathBuf};

use pad::{
    AdapterConfig, AdapterKind, AdapterNorm, LoraConfig, LoraTarget, MatmulPrecision, Scale,
    data::{
        LoaderConfig,
        image::{DecodeOptions, RadiometricMode},
        transform::Normalize,
        window::Window,
    },
    vit::ViTConfig,
};

use super::{
    list::settings,
    names::{Adapters, ScheduleKind},
    paths::Paths,
    values::{Auto, EvalEvery, List, Pair, Text},
};
use crate::{
    run::{Result, group::GroupName},
    tools::{device::DeviceName, values},
};

settings! {
    /// The settings that every training run has.
    RunSettings, RunFlags;
    "Data" {
        /// Folder of images (PNG, JPEG, BMP, TIFF, NumPy, sequences of thermal cameras); `pad
        /// pretrain` also takes one file of frames, or tar shards [default: rendered scenes]
        data: Option<PathBuf> = None, value_name = "DIR";
        /// Number of data loading threads; results do not depend on it
        workers: usize = 2, value_name = "N";
        /// Size of the cache for decoded images, MiB
        cache_mib: u64 = 0, value_name = "MIB";
        /// Maximum share of unreadable images, 0 to 1; more end the run
        max_unreadable: f64 = 0.05, value_name = "SHARE", value_parser = values::share;
        /// Probability of a horizontal flip in training
        flip: f64 = 0.5, value_name = "SHARE", value_parser = values::share;
        /// How radiometric files are read: auto (kelvin if the file has the camera's constants,
        /// else counts), raw (counts), kelvin, celsius, or picture (the colour picture in the file)
        radiometric: Text<RadiometricMode> = Text(RadiometricMode::Auto), value_name = "MODE";
        /// Page of a TIFF, frame of a sequence or of a NumPy array, from 0 [default: the first]
        page: Option<usize> = None, value_name = "N";
        /// Keep the fourth sample of RGBA (the second of grey with alpha) as a band
        alpha_is_band: bool = false;
        /// Range of 16-bit and float images that is mapped to black and white: percentiles of each
        /// image (1%,99%) or values of the file (28000,31000); or a gain control of each image:
        /// plateau, plateau:LIMIT%, clahe, clahe:TILES,LIMIT
        levels: Text<Window> = Text(Window::default()), value_name = "LOW,HIGH", allow_hyphen_values = true;
        /// Normalisation: msip, downstream, imagenet, clip, MEAN,STD of values in 0..1, or auto
        /// (that of the weights, if known)
        normalize: Auto<Normalize> = Auto::Auto, value_name = "NAME";
        /// Number of input channels: 1, 3, or more bands up to 64 (pretraining only)
        in_channels: usize = 3, value_name = "N";
    }
    "Weights" {
        /// Weights to start from, in any known format: a file, a folder, hf://OWNER/REPO[/FILE], a
        /// run folder, an adapter file, `asset` (the small built-in backbone) or `none`
        weights: String = "asset".into(), value_name = "WEIGHTS";
        /// Prefix of the tensor names in the checkpoint, e.g. `encoder.` [default: detected]
        prefix: Option<String> = None, value_name = "PREFIX";
        /// Key of the state dict in a PyTorch file that has several, e.g. `model_ema`
        key: Option<String> = None, value_name = "KEY";
        /// Backbone for an adapter file [default: the one named in the file]
        backbone: Option<String> = None, value_name = "WEIGHTS";
        /// Allow adapters on a backbone that they were not trained on
        any_backbone: bool = false;
        /// Architecture: auto (inferred from the weights), pico, tiny, small, base, large, huge, or
        /// a published model, e.g. dinov2-small, dinov3-small, eva02-base, siglip-base
        model: Auto<String> = Auto::Auto, value_name = "NAME", value_parser = model;
        /// Patch size of --model pico to huge, pixels
        patch_size: usize = 16, value_name = "PIXELS", value_parser = values::count;
        /// Adapters: auto (those of the weights; the settings below that are given must agree with
        /// them), new (in place of those of the weights) or none (those of the weights are left out)
        /// [default: auto]
        adapters: Option<Adapters> = None, value_name = "NAME";
        /// Kind of new adapters: pad, adaptformer, houlsby, pfeiffer, lora, rslora or dora [default:
        /// that of the weights, else pad]
        adapter: Option<Text<AdapterKind>> = None, value_name = "NAME";
        /// Scale of new adapters, and of those in a file that does not store it: concat, sum, side,
        /// gside, fixed=S, fixed-decay=S, fixed-linear=S, learnable=S, or auto (that of the kind:
        /// concat for pad)
        adapter_scale: Auto<Scale> = Auto::Auto, value_name = "SCALE";
        /// Bottleneck width of new adapters
        bottleneck: usize = 64, value_name = "N", value_parser = values::count;
        /// Whether new adapters start with a layer norm [default: only those of pad]
        adapter_norm: Option<bool> = None, value_name = "BOOL";
        /// Dropout rate of new adapters, 0 to 1: in the bottleneck, or on the input of LoRA's A
        /// [default: 0.1 for pad and adaptformer, else 0]
        adapter_dropout: Option<f64> = None, value_name = "SHARE", value_parser = values::share;
        /// Rank of new low-rank adapters [default: 8]
        lora_rank: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// Numerator of their scale: alpha / rank, alpha / sqrt(rank) for rslora [default: twice the
        /// rank]
        lora_alpha: Option<f64> = None, value_name = "ALPHA";
        /// Layers to adapt, separated by commas: qkv, or query, key and value; proj, fc1, fc2
        /// [default: query,value]
        lora_targets: Option<List<Text<LoraTarget>>> = None, value_name = "LAYERS";
        /// Also train the biases of these layers
        lora_bias: Option<bool> = None, value_name = "BOOL";
    }
    "Training" {
        /// Number of epochs; with --max-steps, the shorter of the two lengths applies
        epochs: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// Number of updates
        max_steps: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// Stop this session after update N of the run; --resume continues it
        stop_after: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// Images per micro-batch
        batch_size: usize = 8, value_name = "N", value_parser = values::count;
        /// Gradient accumulation: micro-batches per update, over all processes [default: 1; `pad
        /// pretrain`: as many as 4096 images take, at least 8 updates an epoch]
        accumulate: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// Peak learning rate
        lr: Option<f64> = None, value_name = "RATE", value_parser = values::not_negative;
        /// Peak learning rate per 256 images of an update; replaces --lr
        blr: Option<f64> = None, value_name = "RATE", value_parser = values::not_negative;
        /// Learning rate schedule: cosine (half a cosine down to --min-lr), poly (linear decay to
        /// --min-lr) or steps (divided by 10 at each of --lr-steps)
        schedule: ScheduleKind = ScheduleKind::Cosine, value_name = "NAME";
        /// Final learning rate (cosine, poly)
        min_lr: f64 = 0.0, value_name = "RATE", value_parser = values::not_negative;
        /// Fractions of the run at which the learning rate drops (steps)
        lr_steps: Pair = Pair([2.0 / 3.0, 11.0 / 12.0]), value_name = "FIRST,SECOND";
        /// Warm-up of the learning rate, epochs; shorter in a short run
        warmup_epochs: Option<f64> = None, value_name = "EPOCHS", value_parser = values::not_negative;
        /// Warm-up of the learning rate, updates; replaces --warmup-epochs
        warmup_steps: Option<usize> = None, value_name = "N";
        /// Layer-wise decay: factor on the learning rate from each block to the one below
        layer_decay: Option<f64> = None, value_name = "FACTOR";
        /// Weight decay of matrices
        weight_decay: f64 = 0.05, value_name = "FACTOR", value_parser = values::not_negative;
        /// beta2 of AdamW
        beta2: f64 = 0.999, value_name = "BETA", value_parser = values::share;
        /// Maximum gradient norm; larger gradients are scaled down [default: no clipping]
        clip_norm: Option<f64> = None, value_name = "NORM";
        /// Decay of an exponential moving average (EMA) of the weights, e.g. 0.9999, which
        /// evaluation and result use [default: no average]
        ema: Option<f64> = None, value_name = "DECAY", value_parser = values::share;
        /// Random seed
        seed: u64 = 0, value_name = "N";
    }
    "Evaluation and checkpoints" {
        /// Epochs between evaluations, or end (after the last update only)
        eval_every: EvalEvery = EvalEvery::Epochs(1), value_name = "EPOCHS";
        /// Updates between evaluations; replaces --eval-every
        eval_steps: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// Updates between checkpoints
        checkpoint_every: usize = 500, value_name = "N", value_parser = values::count;
        /// Number of checkpoints to keep, besides the best
        keep: usize = 2, value_name = "N", value_parser = values::count;
        /// Updates between lines of the log
        log_every: usize = 50, value_name = "N", value_parser = values::count;
    }
    "Machine" {
        /// Device: cpu, cuda, cuda:N or metal
        device: Text<DeviceName> = Text(DeviceName::Cpu), value_name = "NAME";
        /// Number of compute threads; results do not depend on it [default: one per core]
        threads: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// Precision of the products in linear layers: f32 or bf16 (all else stays f32)
        dtype: Text<MatmulPrecision> = Text(MatmulPrecision::F32), value_name = "NAME";
        /// Activation checkpointing: keep only the inputs of the blocks and recompute the rest in
        /// the backward pass; a third slower, far less memory
        checkpoint_blocks: bool = false;
        /// Distributed training: auto (MPI under mpirun), none, mpi, or nccl:FILE (a file that does
        /// not exist yet, through which the processes find each other)
        group: Text<GroupName> = Text(GroupName::Auto), value_name = "NAME";
    }
}

/// The name of a model.
fn model(name: &str) -> Result<Auto<String>, String> {
    if name == "auto" {
        return Ok(Auto::Auto);
    }
    pad::vit::ViTConfig::preset(name, 16).map_err(|error| error.to_string())?;
    Ok(Auto::Given(name.into()))
}

/// Settings that replace each other: one of a row, in a later layer, removes the others of the row.
pub const EXCLUSIVE: [&[&str]; 4] = [
    &["lr", "blr"],
    &["warmup_epochs", "warmup_steps"],
    &["eval_every", "eval_steps"],
    &["epochs", "max_steps"],
];

/// Settings that do not change what the updates of a run do, or that may change on resume.
pub const WITHOUT_EFFECT: [&str; 19] = [
    "data",
    "workers",
    "cache_mib",
    "backbone",
    "any_backbone",
    "epochs",
    "max_steps",
    "stop_after",
    "eval_every",
    "checkpoint_every",
    "keep",
    "log_every",
    "device",
    "threads",
    "checkpoint_blocks",
    "group",
    "preset",
    "program",
    "chosen",
];

impl RunSettings {
    /// What is read of a file.
    pub fn choice(&self) -> DecodeOptions {
        DecodeOptions {
            radiometric: self.radiometric.0,
            page: self.page,
            alpha_is_band: self.alpha_is_band,
            ..Default::default()
        }
    }

    /// Removes the default of `name`, because a layer has another setting of its row.
    pub fn clear(&mut self, name: &str) {
        match name {
            "lr" => self.lr = None,
            "blr" => self.blr = None,
            "warmup_epochs" => self.warmup_epochs = None,
            "warmup_steps" => self.warmup_steps = None,
            "eval_steps" => self.eval_steps = None,
            "epochs" => self.epochs = None,
            "max_steps" => self.max_steps = None,
            _ => {}
        }
    }

    /// What its settings name that must be found from any working directory.
    pub fn paths(&mut self) -> Paths<'_> {
        let backbone = self.backbone.as_mut().map(|backbone| ("backbone", backbone));
        Paths {
            weights: [("weights", &mut self.weights)].into_iter().chain(backbone).collect(),
            folders: self.data.iter_mut().map(|data| ("data", data)).collect(),
        }
    }

    /// Checks what neither flags nor the libraries check.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        let shares = [
            ("max_unreadable", Some(self.max_unreadable)),
            ("flip", Some(self.flip)),
            ("adapter_dropout", self.adapter_dropout),
        ];
        for (name, share) in shares {
            if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
                faults.push(format!("`{name}` is {share}, expected 0 to 1"));
            }
        }
        // Without a kind it is that of the weights, which are not known yet.
        if self.adapter.is_some() || self.adapters == Some(Adapters::New) {
            faults.extend(self.new_adapter_faults());
        }
        // Beyond these a run only takes memory or hangs the machine.
        let counts = [
            ("workers", self.workers, 1024),
            ("batch_size", self.batch_size, 1 << 16),
            ("bottleneck", self.bottleneck, 1 << 16),
            ("patch_size", self.patch_size, 1 << 12),
        ];
        for (name, found, most) in counts {
            if found > most {
                faults.push(format!("`{name}` is {found}, expected at most {most}"));
            }
        }
        if !matches!(self.in_channels, 1 | 3..=64) {
            faults.push(format!("`in_channels` is {}, expected 1 or 3 to 64", self.in_channels));
        }
        if self.lr.is_none() && self.blr.is_none() {
            faults.push("`lr` and `blr` are missing, expected one of them".into());
        }
        if self.lr.is_some() && self.blr.is_some() {
            faults.push("`lr` and `blr` are both given, expected one of them".into());
        }
        if self.epochs.is_none() && self.max_steps.is_none() {
            faults.push("`epochs` and `max_steps` are missing, expected one of them".into());
        }
        if let Some(decay) = self.layer_decay.filter(|decay| !(*decay > 0.0 && *decay <= 1.0)) {
            faults.push(format!("`layer_decay` is {decay}, expected above 0, up to 1"));
        }
        let [first, second] = self.lr_steps.0;
        if !(0.0 <= first && first <= second && second <= 1.0) {
            faults.push(format!(
                "`lr_steps` is {first},{second}, expected two shares from 0 to 1 in order"
            ));
        }
        if let Auto::Given(name) = &self.model {
            faults.extend(model(name).err());
        }
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ").into()) }
    }

    /// The kind of new adapters.
    fn kind(&self) -> AdapterKind {
        self.adapter.map_or(AdapterKind::Pad, |kind| kind.0)
    }

    /// What is wrong with the settings of new adapters.
    pub fn new_adapter_faults(&self) -> Vec<String> {
        let Some(lora) = self.new_lora() else {
            let given = [
                ("lora_rank", self.lora_rank.is_some()),
                ("lora_alpha", self.lora_alpha.is_some()),
                ("lora_targets", self.lora_targets.is_some()),
                ("lora_bias", self.lora_bias.is_some()),
            ];
            let given = given.into_iter().filter(|(_, given)| *given);
            return given
                .map(|(name, _)| {
                    format!(
                        "`{name}` with `adapter` {}, expected lora, rslora or dora",
                        self.kind()
                    )
                })
                .collect();
        };
        lora.validate().err().map(|error| error.to_string()).into_iter().collect()
    }

    /// The configuration of new bottlenecks; `None` for low-rank adapters.
    fn new_adapter(&self) -> Option<AdapterConfig> {
        let kind = self.kind().adapter()?;
        Some(AdapterConfig {
            bottleneck: self.bottleneck,
            norm: match self.adapter_norm {
                Some(true) => AdapterNorm::In,
                Some(false) => AdapterNorm::None,
                None => kind.norm,
            },
            dropout: self.adapter_dropout.unwrap_or(kind.dropout),
            scale: self.adapter_scale.given().copied().unwrap_or(kind.scale),
            ..kind
        })
    }

    /// The configuration of new low-rank adapters; `None` for bottlenecks.
    fn new_lora(&self) -> Option<LoraConfig> {
        let kind = self.kind().lora()?;
        let rank = self.lora_rank.unwrap_or(8);
        let alpha = self.lora_alpha.unwrap_or(2.0 * rank as f64);
        let sizes = match &self.lora_targets {
            Some(targets) => {
                let targets: Vec<LoraTarget> = targets.iter().map(|target| target.0).collect();
                LoraConfig::new(rank, alpha, &targets).targets
            }
            None => LoraConfig::new(rank, alpha, &[LoraTarget::Query, LoraTarget::Value]).targets,
        };
        Some(LoraConfig {
            targets: sizes,
            dropout: self.adapter_dropout.unwrap_or(kind.dropout),
            bias: self.lora_bias.unwrap_or(kind.bias),
            ..kind
        })
    }

    /// `vit` with new adapters in place of those that it has.
    pub fn with_new_adapters(&self, vit: ViTConfig) -> ViTConfig {
        ViTConfig { adapter: self.new_adapter(), lora: self.new_lora(), ..vit }
    }

    /// What is wrong with `adapters` in a paradigm that has some, or none.
    pub fn adapters_fault(&self, has: bool, paradigm: &dyn fmt::Display) -> Option<String> {
        match (self.adapters, has) {
            (Some(Adapters::None), true) => Some(format!(
                "`adapters` none with paradigm {paradigm}, which has some: expected auto or new"
            )),
            (Some(Adapters::New), false) => Some(format!(
                "`adapters` new with paradigm {paradigm}, which has none: expected auto or none"
            )),
            _ => None,
        }
    }

    /// How training images are read.
    pub fn loader(&self) -> LoaderConfig {
        LoaderConfig {
            batch_size: self.batch_size,
            workers: self.workers,
            max_unreadable: self.max_unreadable,
            seed: self.seed,
            cache_bytes: self.cache_mib << 20,
            ..Default::default()
        }
    }
}
