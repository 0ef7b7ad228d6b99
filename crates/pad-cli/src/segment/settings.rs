//! The settings that segmentation alone has.

use pad::{
    data::{
        sets::segmentation::SegmentationFormat,
        transform::{
            HorizontalFlip, Normalize,
            segmentation::{LimitedCrop, PhotometricDistortion, SegmentationPipeline},
        },
    },
    heads::{
        Trained,
        segmentation::{
            Augmentation, BackboneForm, HeadKind, InferenceMode, LAYER_DECAY,
            SegmentationInference, SlidingWindow, WEIGHT_DECAY,
        },
    },
    ops::{CrossEntropy, HardPixels, PixelMean},
};

use crate::{
    run::Result,
    settings::{
        RunSettings, Trainer,
        list::settings,
        merge::rename,
        names::{ScheduleKind, names},
        recipes::recipes,
        trainer::Recipe,
        values::{Auto, BaseScale, EvalEvery, List, Pair, Pixels, Text},
    },
    tools::values,
};

settings! {
    /// The settings that segmentation alone has.
    Segment, SegmentFlags;
    "Data" {
        /// Layout of DATA: auto, folder (classes.toml), soda or mfnet
        format: Text<SegmentationFormat> = Text::default(), value_name = "NAME";
        /// Split of DATA for training
        train_split: String = "train".into(), value_name = "NAME";
        /// Split of DATA for evaluation
        val_split: String = "val".into(), value_name = "NAME";
        /// Mask value of each class, in the order of the classes, separated by commas, e.g. 0,255
        /// [default: the class numbers]
        mask_values: Option<List<u8>> = None, value_name = "VALUES";
        /// Number of images for training, the first ones [default: all]
        train_images: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// Number of images for evaluation, the first ones [default: all]
        val_images: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// Number of rendered scenes for training, without DATA
        scenes: usize = 300, value_name = "N", value_parser = values::count;
        /// Number of rendered scenes for evaluation
        val_scenes: usize = 40, value_name = "N", value_parser = values::count;
        /// Height,width of rendered scenes, pixels
        scene_size: Pixels = Pixels(pad::ImageSize { height: 192, width: 256 }), value_name = "PIXELS";
        /// Long and short side to resize images to fit into, pixels, or none (no resizing)
        base_scale: BaseScale = BaseScale(Some([2048, 512])), value_name = "LONG,SHORT";
        /// Range of the random scale factor on --base-scale in training
        ratio: Pair = Pair([0.5, 2.0]), value_name = "LOW,HIGH";
        /// Height,width of a training crop, or one number for both, pixels
        crop_size: Pixels = Pixels::square(512), value_name = "PIXELS";
        /// Maximum share of a crop that one class may fill
        max_class_share: f64 = 0.75, value_name = "SHARE", value_parser = values::share;
        /// Whether brightness and contrast are jittered in training
        distortion: bool = true, value_name = "BOOL";
    }
    "Model" {
        /// Start of the backbone: scratch (random weights), rgb-only (the weights as they are),
        /// full (weights of a continued pre-training) or pad (with adapters)
        paradigm: SegmentParadigm = SegmentParadigm::Pad, value_name = "NAME";
        /// Backbone variant: downstream (relative positions and layer scale, as in the original),
        /// plain (as pre-trained) or auto (plain if frozen)
        form: Auto<BackboneForm> = Auto::Auto, value_name = "NAME";
        /// Segmentation head: uper (UPerNet) or linear
        head: Text<HeadKind> = Text(HeadKind::Uper(Default::default())), value_name = "NAME";
        /// Number of channels in UPerNet
        head_channels: usize = 768, value_name = "N", value_parser = values::count;
        /// Dropout rate before the classifier of UPerNet, 0 to 1
        head_dropout: f64 = 0.1, value_name = "SHARE", value_parser = values::share;
        /// Whether UPerNet is trained with an auxiliary FCN head
        auxiliary: bool = true, value_name = "BOOL";
        /// Number of channels in the auxiliary head
        auxiliary_channels: usize = 256, value_name = "N", value_parser = values::count;
        /// Blocks whose outputs feed the head, from 0 [default: 3,5,7,11 of 12, spread likewise for
        /// other depths; the last one for a linear head]
        blocks: Option<List<usize>> = None, value_name = "BLOCKS";
        /// Trained parameters: everything, adapters-and-heads or heads
        trained: Text<Trained> = Text(Trained::Everything), value_name = "NAME";
        /// Maximum stochastic depth (drop path) rate; no effect where nothing in the backbone trains
        drop_path: f64 = 0.1, value_name = "SHARE", value_parser = values::share;
    }
    "Loss" {
        /// Average the loss over labelled pixels only; the original averages over all
        valid_mean: bool = false, value_name = "BOOL";
        /// Loss weight of each class, separated by commas [default: all equal]
        class_weights: Option<List<f64>> = None, value_name = "WEIGHTS";
        /// OHEM: only pixels whose true class has a probability below this count
        ohem_threshold: Option<f64> = None, value_name = "SHARE", value_parser = values::share;
        /// OHEM: minimum number of pixels kept per image
        ohem_min_kept: Option<usize> = None, value_name = "N";
    }
    "Inference" {
        /// Inference on large images: slide (sliding windows) or whole
        inference: InferenceKind = InferenceKind::Slide, value_name = "NAME";
        /// Height,width of the sliding window, or one number for both, pixels [default: that of a
        /// crop]
        slide_window: Option<Pixels> = None, value_name = "PIXELS";
        /// Stride of the sliding window, pixels [default: two thirds of a window]
        stride: Option<Pixels> = None, value_name = "PIXELS";
        /// Scales of multi-scale testing, relative to the image, separated by commas
        test_scales: List<f64> = List(vec![1.0]), value_name = "SCALES";
        /// Flip testing: average with the mirrored image
        test_flip: bool = false, value_name = "BOOL";
    }
}

names! {
    /// What a segmentor starts from.
    SegmentParadigm, "paradigm";
    /// Random weights.
    Scratch = "scratch",
    /// Weights as they are.
    RgbOnly = "rgb-only",
    /// Weights of a continued pre-training.
    Full = "full",
    /// With adapters.
    Pad = "pad",
}

names! {
    /// How images that are larger than a crop are seen.
    InferenceKind, "inference";
    /// In windows.
    Slide = "slide",
    /// As a whole.
    Whole = "whole",
}

impl Segment {
    /// From images to samples; `ignore` is the label that the set ignores.
    pub fn pipeline(
        &self,
        run: &RunSettings,
        normalize: &Normalize,
        ignore: u8,
    ) -> Result<SegmentationPipeline> {
        let pipeline = SegmentationPipeline {
            rescale: self.base_scale.rescale(self.ratio.0),
            crop: LimitedCrop { size: self.crop_size.0, max_class_share: self.max_class_share },
            flip: HorizontalFlip { probability: run.flip },
            distortion: match self.distortion {
                true => PhotometricDistortion::default(),
                false => PhotometricDistortion::NEVER,
            },
            normalize: normalize.clone(),
            window: run.levels.0,
            channels: run.in_channels,
            ignore,
        };
        pipeline.validate()?;
        Ok(pipeline)
    }

    /// How pixels count, of `classes` classes and the ignored label.
    pub fn loss(&self, ignore: u8, classes: usize) -> Result<CrossEntropy> {
        let weights = self.class_weights.as_ref();
        if let Some(weights) = weights.filter(|weights| weights.len() != classes) {
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
            class_weights: weights.map(|list| list.iter().map(|&weight| weight as f32).collect()),
            hard,
        })
    }

    /// How images go through the network in evaluation.
    pub fn inference(&self, pipeline: SegmentationPipeline) -> Result<SegmentationInference> {
        let mode = match self.inference {
            InferenceKind::Whole => InferenceMode::Whole,
            InferenceKind::Slide => {
                let window = self.slide_window.unwrap_or(self.crop_size).0;
                let stride = self.stride.map(|stride| stride.0);
                InferenceMode::Sliding(SlidingWindow::new(window, stride))
            }
        };
        let (scales, flip) = (self.test_scales.0.clone(), self.test_flip);
        let augmentation = Augmentation { scales, flip };
        let inference = SegmentationInference { pipeline, mode, augmentation };
        inference.validate()?;
        Ok(inference)
    }
}

impl Trainer for Segment {
    const NAME: &'static str = "segment";

    const RECIPES: &'static [Recipe] = recipes! {
        "demo": "segment_demo",
        "small": "segment_small",
        "soda": "segment_soda",
        "mfnet": "segment_mfnet",
        "table": "segment_table",
    };

    const WITHOUT_EFFECT: &'static [&'static str] = &[
        "inference",
        "slide_window",
        "stride",
        "test_scales",
        "test_flip",
        "val_split",
        "val_images",
        "val_scenes",
    ];

    fn run_defaults() -> RunSettings {
        RunSettings {
            normalize: Auto::Given(Normalize::downstream()),
            max_steps: Some(14_400),
            batch_size: 8,
            lr: Some(2e-4),
            schedule: ScheduleKind::Poly,
            warmup_steps: Some(1500),
            layer_decay: Some(LAYER_DECAY),
            weight_decay: WEIGHT_DECAY,
            eval_every: EvalEvery::End,
            ..Default::default()
        }
    }

    fn upgrade(table: &mut toml::Table) {
        if let Some(iterations) = table.remove("iterations") {
            // There, `max_steps` ended a session, and evaluations were counted in updates.
            table.insert("max_steps".into(), iterations);
            match table.remove("eval_every") {
                Some(toml::Value::Integer(steps)) if steps > 0 => {
                    table.insert("eval_steps".into(), steps.into());
                }
                Some(_) => {
                    table.insert("eval_every".into(), "end".into());
                }
                None => {}
            }
        }
        for (old, new) in [
            ("warmup_iterations", "warmup_steps"),
            ("channels", "in_channels"),
            ("crop", "crop_size"),
            ("extent", "inference"),
            ("window", "slide_window"),
            ("scales", "test_scales"),
            ("flip_test", "test_flip"),
        ] {
            rename(table, old, new);
        }
        if table.get("format").and_then(toml::Value::as_str) == Some("scenes") {
            table.remove("format");
        }
        let flag = |table: &mut toml::Table, name: &str| {
            table.remove(name).and_then(|value| value.as_bool())
        };
        let frozen = (flag(table, "freeze_backbone"), flag(table, "freeze_adapters"));
        let trained = match frozen {
            (Some(true), Some(true)) => Some(Trained::Heads),
            (Some(true), _) => Some(Trained::AdaptersAndHeads),
            _ => None,
        };
        if let Some(trained) = trained {
            table.entry("trained").or_insert_with(|| trained.to_string().into());
        }
        for name in ["blocks", "class_weights", "slide_window", "stride"] {
            if table.get(name).and_then(toml::Value::as_array).is_some_and(Vec::is_empty) {
                table.remove(name);
            }
        }
    }

    fn validate(&self, run: &RunSettings) -> Result<()> {
        if run.batch_size < 2 {
            let found = run.batch_size;
            return Err(format!("`batch_size` is {found}, expected at least 2 (batch norm)").into());
        }
        if let Some(fault) =
            run.adapters_fault(self.paradigm == SegmentParadigm::Pad, &self.paradigm)
        {
            return Err(fault.into());
        }
        self.inference(self.pipeline(run, &Normalize::downstream(), 255)?)?;
        Ok(())
    }
}
