//! The settings that every training run has.

use std::path::{Path, PathBuf};

use pad::{
    AdapterConfig, AdapterNorm, MatmulPrecision, Scale,
    data::{
        LoaderConfig,
        image::{DecodeOptions, RadiometricMode},
        transform::Normalize,
        window::Window,
    },
};

use super::{
    list::settings,
    names::ScheduleKind,
    values::{Auto, EvalEvery, Pair, Text},
};
use crate::{
    run::{Result, group::GroupName},
    tools::{device::DeviceName, values},
};

settings! {
    /// The settings that every training run has.
    RunSettings, RunFlags;
    "Data" {
        /// Folder of images (8 or 16 bits; PNG, JPEG, BMP, TIFF); without it scenes are rendered
        data: Option<PathBuf> = None, value_name = "DIR";
        /// Threads that read images; results do not depend on it
        workers: usize = 2, value_name = "N";
        /// Memory for decoded images, MiB
        cache_mib: u64 = 0, value_name = "MIB";
        /// Share of unreadable images that is tolerated, 0 to 1
        max_unreadable: f64 = 0.05, value_name = "SHARE", value_parser = values::share;
        /// Probability of mirroring an image in training
        flip: f64 = 0.5, value_name = "SHARE", value_parser = values::share;
        /// What a radiometric file gives: auto (kelvin where the file states the constants, else
        /// counts), raw (counts), kelvin, celsius, or picture (the coloured picture)
        radiometric: Text<RadiometricMode> = Text(RadiometricMode::Auto), value_name = "MODE";
        /// Page of a TIFF, frame of a sequence or of a NumPy array, from 0 [default: the first]
        page: Option<usize> = None, value_name = "N";
        /// The fourth sample of RGBA (the second of grey with alpha) is a band, and is kept
        alpha_is_band: bool = false;
        /// Band of 16-bit and float images that becomes black to white: percentiles of each image
        /// (1%,99%) or values of the file (28000,31000); or a gain control of each image: plateau,
        /// plateau:LIMIT%, clahe, clahe:TILES,LIMIT
        levels: Text<Window> = Text(Window::default()), value_name = "LOW,HIGH", allow_hyphen_values = true;
        /// Normalisation: msip, downstream, imagenet, clip, MEAN,STD of values in 0..1, or auto
        /// (that of the weights, if they tell it)
        normalize: Auto<Normalize> = Auto::Auto, value_name = "NAME";
        /// Channels of the input: 1, 3, or in pre-training the bands of the images
        in_channels: usize = 3, value_name = "N";
    }
    "Weights" {
        /// Weights that training starts from, of any known format: a file, a folder,
        /// hf://OWNER/REPO[/FILE], the folder of a run, an adapter file, `asset` (the small backbone
        /// inside this program) or `none`
        weights: String = "asset".into(), value_name = "WEIGHTS";
        /// What stands in front of the network's names in the weights, e.g. `encoder.` [default: found]
        prefix: Option<String> = None, value_name = "PREFIX";
        /// Dictionary of weights in a file of PyTorch that has several, e.g. `model_ema`
        key: Option<String> = None, value_name = "KEY";
        /// Backbone under an adapter file [default: the one that the file names]
        backbone: Option<String> = None, value_name = "WEIGHTS";
        /// Use adapters on a backbone that they were not trained on
        any_backbone: bool = false;
        /// auto (what the weights say), pico, tiny, small, base, large, huge or dinov2-small
        model: Auto<String> = Auto::Auto, value_name = "NAME", value_parser = model;
        /// Side of a patch of a model that is named, pixels
        patch_size: usize = 16, value_name = "PIXELS", value_parser = values::count;
        /// Scale of adapters that are new or in a file that does not tell it: concat, sum, side, gside,
        /// fixed=S, fixed-decay=S, fixed-linear=S, learnable=S, or auto (concat for new ones)
        adapter_scale: Auto<Scale> = Auto::Auto, value_name = "SCALE";
        /// Width of new adapters
        bottleneck: usize = 64, value_name = "N", value_parser = values::count;
        /// Whether new adapters have a layer norm of their own
        adapter_norm: bool = true, value_name = "BOOL";
        /// Dropout on the bottleneck of new adapters, 0 to 1
        adapter_dropout: f64 = 0.1, value_name = "SHARE", value_parser = values::share;
    }
    "Training" {
        /// Length of the run in epochs; with --max-steps, the shorter of the two
        epochs: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// Length of the run in updates
        max_steps: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// End this session after update N of the run, to be continued with --resume
        stop_after: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// Images per micro-batch
        batch_size: usize = 8, value_name = "N", value_parser = values::count;
        /// Micro-batches per update, over all processes
        accumulate: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// Peak learning rate
        lr: Option<f64> = None, value_name = "RATE", value_parser = values::not_negative;
        /// Peak learning rate per 256 images of an update, in place of --lr
        blr: Option<f64> = None, value_name = "RATE", value_parser = values::not_negative;
        /// Course of the learning rate: cosine (half a cosine down to --min-lr), poly (a straight line
        /// down to --min-lr) or steps (a tenth at each of --lr-steps)
        schedule: ScheduleKind = ScheduleKind::Cosine, value_name = "NAME";
        /// Learning rate at the end (cosine, poly)
        min_lr: f64 = 0.0, value_name = "RATE", value_parser = values::not_negative;
        /// Shares of the run after which the learning rate falls (steps)
        lr_steps: Pair = Pair([2.0 / 3.0, 11.0 / 12.0]), value_name = "FIRST,SECOND";
        /// Epochs in which the learning rate rises; less in a short run
        warmup_epochs: Option<f64> = None, value_name = "EPOCHS", value_parser = values::not_negative;
        /// Updates in which the learning rate rises, in place of --warmup-epochs
        warmup_steps: Option<usize> = None, value_name = "N";
        /// Factor on the learning rate from each block to the one below it
        layer_decay: Option<f64> = None, value_name = "FACTOR";
        /// Weight decay of matrices
        weight_decay: f64 = 0.05, value_name = "FACTOR", value_parser = values::not_negative;
        /// Second momentum of AdamW
        beta2: f64 = 0.999, value_name = "SHARE", value_parser = values::share;
        /// Maximum norm of the gradient
        clip_norm: Option<f64> = None, value_name = "NORM";
        /// Keep averages of the weights with this decay, e.g. 0.9999; evaluation and result use them
        ema: Option<f64> = None, value_name = "DECAY", value_parser = values::share;
        /// Seed of everything random
        seed: u64 = 0, value_name = "N";
    }
    "Evaluation and checkpoints" {
        /// Epochs from one evaluation to the next, or end (after the last update only)
        eval_every: EvalEvery = EvalEvery::Epochs(1), value_name = "EPOCHS";
        /// Updates from one evaluation to the next, in place of --eval-every
        eval_steps: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// Updates from one checkpoint to the next
        checkpoint_every: usize = 500, value_name = "N", value_parser = values::count;
        /// Checkpoints kept, beside the best
        keep: usize = 2, value_name = "N", value_parser = values::count;
        /// Updates from one line of the log to the next
        log_every: usize = 50, value_name = "N", value_parser = values::count;
    }
    "Machine" {
        /// cpu, cuda, cuda:N or metal
        device: Text<DeviceName> = Text(DeviceName::Cpu), value_name = "NAME";
        /// Threads that compute; results do not depend on it [default: one per core]
        threads: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// What linear layers multiply in: f32 or bf16 (sums and all else stay f32)
        dtype: Text<MatmulPrecision> = Text(MatmulPrecision::F32), value_name = "NAME";
        /// Keep only the blocks' inputs for the backward and compute the rest again: a third slower,
        /// far less memory
        checkpoint_blocks: bool = false;
        /// Processes that train together: auto (MPI if mpirun started them), none, mpi, or nccl:FILE (a
        /// file that does not exist yet, where they meet)
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

fn text_of(path: &Path) -> Option<String> {
    path.to_str().map(str::to_string)
}

/// Settings that replace each other: one of a row, in a later layer, removes the others of the row.
pub const EXCLUSIVE: [&[&str]; 4] = [
    &["lr", "blr"],
    &["warmup_epochs", "warmup_steps"],
    &["eval_every", "eval_steps"],
    &["epochs", "max_steps"],
];

/// Settings that do not change what the updates of a run do, or that may change on resume.
pub const WITHOUT_EFFECT: [&str; 18] = [
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

    /// Makes paths independent of the working directory: the run's folder may be used from any.
    /// Names that are no paths (`asset`, `hf://..`, what is absent) stay.
    pub fn make_absolute(&mut self) {
        let absolute = |path: &Path| {
            if path.exists() { std::path::absolute(path).ok() } else { None }
        };
        for source in [Some(&mut self.weights), self.backbone.as_mut()].into_iter().flatten() {
            if let Some(path) = absolute(Path::new(source)).and_then(|path| text_of(&path)) {
                *source = path;
            }
        }
        if let Some(path) = self.data.as_deref().and_then(absolute) {
            self.data = Some(path);
        }
    }

    /// Finds files and folders that the settings in `folder` name and that are not where they were:
    /// paths of another working directory, or of a tree that was moved.
    pub fn find_from(&mut self, folder: &Path) {
        let moved = |path: &Path| {
            if path.exists() { None } else { pad::ops::fs::find_from(folder, path) }
        };
        for source in [Some(&mut self.weights), self.backbone.as_mut()].into_iter().flatten() {
            if let Some(path) = moved(Path::new(source)).and_then(|path| text_of(&path)) {
                tracing::warn!("{source} is not there: {path} is used");
                *source = path;
            }
        }
        if let Some(path) = self.data.as_deref().and_then(moved) {
            let found = path.display();
            tracing::warn!("{} is not there: {found} is used", self.data_name());
            self.data = Some(path);
        }
    }

    fn data_name(&self) -> String {
        self.data.as_deref().map_or_else(String::new, |path| path.display().to_string())
    }

    /// Checks what neither flags nor the libraries check.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        let shares = [
            ("max_unreadable", self.max_unreadable),
            ("flip", self.flip),
            ("adapter_dropout", self.adapter_dropout),
        ];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                faults.push(format!("`{name}` is {share}, expected 0 to 1"));
            }
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

    /// The configuration of new adapters.
    pub fn adapter(&self) -> AdapterConfig {
        AdapterConfig {
            bottleneck: self.bottleneck,
            norm: if self.adapter_norm { AdapterNorm::In } else { AdapterNorm::None },
            dropout: self.adapter_dropout,
            scale: self.adapter_scale.given().copied().unwrap_or_default(),
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
