//! From settings to the parts of a run.

use std::path::Path;

use pad::{
    AdapterConfig, ImageSize,
    data::{
        loader::LoaderConfig,
        transform::{
            HorizontalFlip, Normalize,
            segmentation::{LimitedCrop, PhotometricDistortion, Rescale, SegmentationPipeline},
        },
        window::Window,
    },
    heads::segmentation::{Augmentation, InferenceMode, SlidingWindow, Trained},
    ops::{CrossEntropy, HardPixels, PixelMean},
    train::Schedule,
};

pub use super::flags::{Flags, Settings};
use crate::run::{self, Result, overlay};

/// What the program does without `--data`: the small backbone with adapters on rendered scenes, in minutes.
const DEMO: &str = include_str!("../../recipes/segment_demo.toml");

/// One number for both sides, or height,width.
fn size(name: &str, sides: &[usize]) -> Result<ImageSize> {
    match *sides {
        [side] => Ok(ImageSize::square(side)),
        [height, width] => Ok(ImageSize { height, width }),
        _ => Err(format!("`{name}` takes one number or height,width").into()),
    }
}

impl Settings {
    /// Defaults, overlaid by `recipe` (or, without any data, by the demo's), overlaid by `flags`.
    pub fn merge(recipe: Option<&Path>, flags: &Flags) -> Result<Self> {
        let demo = flags.data.is_none().then_some(("segment_demo.toml", DEMO));
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

    /// Size of a crop.
    pub fn crop_size(&self) -> Result<ImageSize> {
        size("crop", &self.crop)
    }

    /// From images to samples; `ignore` is the label that the set ignores.
    pub fn pipeline(&self, ignore: u8) -> Result<SegmentationPipeline> {
        let scale = match self.base_scale[..] {
            [0] => None,
            [long, short] => Some([long, short]),
            _ => return Err("`base_scale` takes LONG,SHORT, or 0".into()),
        };
        let normalize = match self.normalize.as_str() {
            "downstream" => Normalize::downstream(),
            "msip" => Normalize::msip(),
            "imagenet" => Normalize::imagenet(),
            other => {
                return Err(format!(
                    "`normalize` is {other}, expected downstream, msip or imagenet"
                )
                .into());
            }
        };
        let [low, high] = self.percentiles;
        let pipeline = SegmentationPipeline {
            rescale: Rescale { scale, ratio: self.ratio },
            crop: LimitedCrop { size: self.crop_size()?, max_class_share: self.max_class_share },
            flip: HorizontalFlip { probability: self.flip },
            distortion: match self.distortion {
                true => PhotometricDistortion::default(),
                false => PhotometricDistortion::NEVER,
            },
            normalize,
            window: match self.fixed_window {
                Some([low, high]) => Window::Fixed { low, high },
                None => Window::Percentile { low, high },
            },
            channels: self.channels,
            ignore,
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

    /// Updates between two evaluations: an epoch of the trainer.
    pub fn interval(&self) -> Result<usize> {
        let (all, every) = (self.iterations, self.eval_every);
        match every {
            0 => Ok(all),
            every if all.is_multiple_of(every) => Ok(every),
            _ => {
                Err(format!("`eval_every` is {every}, expected a divisor of `iterations` {all}")
                    .into())
            }
        }
    }

    /// A straight line to 0 after a linear rise, in the trainer's epochs.
    pub fn schedule(&self) -> Result<Schedule> {
        let interval = self.interval()?.max(1) as f64;
        let warmup = self.warmup_iterations.min(self.iterations / 2);
        Ok(Schedule::poly(self.lr, warmup as f64 / interval, self.iterations as f64 / interval))
    }

    /// How pixels count.
    pub fn loss(&self, ignore: u8, classes: usize) -> Result<CrossEntropy> {
        let weights = self.class_weights.clone();
        if !weights.is_empty() && weights.len() != classes {
            let found = weights.len();
            return Err(format!(
                "`class_weights` has {found} numbers, expected {classes}, one for each class"
            )
            .into());
        }
        let hard = (self.ohem_threshold.is_some() || self.ohem_min_kept.is_some()).then(|| {
            let min_kept = self.ohem_min_kept.unwrap_or(100_000); // mmsegmentation's
            HardPixels { threshold: self.ohem_threshold, min_kept }
        });
        Ok(CrossEntropy {
            ignore_index: Some(u32::from(ignore)),
            mean: if self.valid_mean { PixelMean::Valid } else { PixelMean::All },
            class_weights: (!weights.is_empty()).then_some(weights),
            hard,
        })
    }

    /// What trains.
    pub fn trained(&self) -> Result<Trained> {
        match (self.freeze_backbone, self.freeze_adapters) {
            (false, false) => Ok(Trained::Everything),
            (true, false) => Ok(Trained::AdaptersAndHeads),
            (true, true) => Ok(Trained::Heads),
            (false, true) => Err("`freeze_adapters` needs `freeze_backbone`".into()),
        }
    }

    /// Adapters that the weights lack.
    pub fn adapter(&self) -> Result<AdapterConfig> {
        // The same words as in pre-training.
        let other = run::settings::Settings {
            scale: self.scale.clone(),
            bottleneck: self.bottleneck,
            ..Default::default()
        };
        other.adapter()
    }

    /// Whole images, or windows.
    pub fn extent(&self) -> Result<InferenceMode> {
        match self.extent.as_str() {
            "whole" => Ok(InferenceMode::Whole),
            "slide" => {
                let window = if self.window.is_empty() { &self.crop } else { &self.window };
                let window = size("window", window)?;
                let two_thirds = |side: usize| (2 * side / 3).max(1);
                let stride = match self.stride[..] {
                    [] => ImageSize::new(two_thirds(window.height), two_thirds(window.width)),
                    ref given => size("stride", given)?,
                };
                let sliding = SlidingWindow { window, stride, ..Default::default() };
                sliding.validate()?;
                Ok(InferenceMode::Sliding(sliding))
            }
            other => Err(format!("`extent` is {other}, expected slide or whole").into()),
        }
    }

    /// Variants of an image at inference.
    pub fn augmentation(&self) -> Result<Augmentation> {
        let augmentation = Augmentation { scales: self.scales.clone(), flip: self.flip_test };
        augmentation.validate()?;
        Ok(augmentation)
    }
}
