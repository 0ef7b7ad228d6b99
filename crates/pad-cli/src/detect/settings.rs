//! The settings that detection alone has.

use std::path::PathBuf;

use pad::{
    ImageSize, Scale,
    data::{
        sets::detection::DetectionFormat,
        transform::{
            HorizontalFlip, Normalize,
            detection::{DetectionPipeline, ScaleJitter, ShortestEdge},
        },
    },
    heads::{
        Trained,
        detection::{LAYER_DECAY, WEIGHT_DECAY},
    },
};

use crate::{
    run::Result,
    settings::{
        RunSettings, Trainer,
        list::settings,
        merge::rename,
        names::ScheduleKind,
        paths::Paths,
        recipes::recipes,
        trainer::Recipe,
        values::{Auto, EvalEvery, List, OrNone, Pair, Text},
    },
    tools::values,
};

settings! {
    /// The settings that detection alone has.
    Detect, DetectFlags;
    "Data" {
        /// Layout of DATA: auto, coco, cvat, flir, hit-uav, label-studio, llvip, voc or yolo
        format: Text<DetectionFormat> = Text::default(), value_name = "NAME";
        /// Split of DATA for training, or its annotation file in DATA
        train_split: String = "train".into(), value_name = "NAME";
        /// Split of DATA for evaluation, or its annotation file in DATA
        val_split: String = "val".into(), value_name = "NAME";
        /// Folder that image names are relative to [default: the one in DATA that holds them]
        images_root: Option<PathBuf> = None, value_name = "DIR";
        /// Classes, separated by commas; boxes of others are left out [default: those of DATA]
        classes: Option<List<String>> = None, value_name = "NAMES";
        /// Clip boxes to their images and drop empty ones, however many; otherwise such boxes count
        /// towards --max-unreadable
        clip_boxes: bool = false;
        /// Number of images for training, the first ones [default: all]
        train_images: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// Number of images for evaluation, the first ones [default: all]
        val_images: Option<usize> = None, value_name = "N", value_parser = values::count;
        /// Number of rendered scenes for training, without DATA
        scenes: usize = 400, value_name = "N", value_parser = values::count;
        /// Number of rendered scenes for evaluation
        val_scenes: usize = 60, value_name = "N", value_parser = values::count;
        /// Side of training crops, pixels; images are resized to fit into it, then jittered
        size: usize = 1024, value_name = "PIXELS", value_parser = values::count;
        /// Side of the square to resize images to fit into in evaluation, pixels [default: --size]
        test_size: Option<usize> = None, value_name = "PIXELS", value_parser = values::count;
        /// Range of the random scale in training (large-scale jitter)
        jitter: Pair = Pair([0.1, 2.0]), value_name = "LOW,HIGH";
        /// Minimum width and height of a box within a crop, pixels; smaller ones are dropped
        min_side: f64 = 1e-5, value_name = "PIXELS", value_parser = values::not_negative;
        /// Pad batches to multiples of this, a divisor of --size, instead of to --size: faster for
        /// small images
        pad_to: Option<usize> = None, value_name = "PIXELS", value_parser = values::count;
    }
    "Model" {
        /// Side of the attention windows, patches, or none (global attention in all blocks)
        attention_window: OrNone<usize> = OrNone(Some(14)), value_name = "PATCHES";
        /// Blocks with global attention, from 0 [default: the last of each quarter]
        global_blocks: Option<List<usize>> = None, value_name = "BLOCKS";
        /// Whether attention has decomposed relative positions
        relative_positions: bool = true, value_name = "BOOL";
        /// Maximum stochastic depth (drop path) rate; no effect where nothing in the backbone trains
        drop_path: f64 = 0.1, value_name = "SHARE", value_parser = values::share;
        /// Number of channels of convolutions that add detail of the image to the two finest maps,
        /// for objects of the size of a patch (the spatial prior of ViT-Adapter), or none
        spatial_prior: OrNone<usize> = OrNone(None), value_name = "N";
        /// Number of channels of the feature pyramid and the heads' convolutions
        pyramid_channels: usize = 256, value_name = "N", value_parser = values::count;
        /// Width of the box head's fully connected layer
        head_dim: usize = 1024, value_name = "N", value_parser = values::count;
        /// Use three box heads in a row (Cascade R-CNN)
        cascade: bool = false;
        /// Add a mask head (Mask R-CNN); DATA must have masks (COCO's `segmentation`)
        masks: bool = false;
        /// Anchor sizes of the five pyramid levels, pixels
        anchors: List<f64> = List(vec![32.0, 64.0, 128.0, 256.0, 512.0]), value_name = "PIXELS";
        /// Number of 3 x 3 convolutions of the region proposals
        rpn_convs: usize = 2, value_name = "N", value_parser = values::count;
        /// Number of 3 x 3 convolutions of the box head
        box_convs: usize = 4, value_name = "N";
        /// Number of region proposals per image kept for the box head
        proposals: usize = 1000, value_name = "N", value_parser = values::count;
        /// Number of proposals per image sampled to train the box head
        batch_size_per_image: usize = 512, value_name = "N", value_parser = values::count;
        /// Trained parameters: everything, adapters-and-heads or heads
        trained: Text<Trained> = Text(Trained::Everything), value_name = "NAME";
    }
    "Detections" {
        /// Minimum score of a detection, 0 to 1
        score_threshold: f64 = 0.05, value_name = "SCORE", value_parser = values::share;
        /// IoU threshold of non-maximum suppression, 0 to 1
        nms_threshold: f64 = 0.5, value_name = "IOU", value_parser = values::share;
        /// Maximum number of detections per image
        max_detections: usize = 100, value_name = "N", value_parser = values::count;
    }
}

impl Detect {
    /// From images to samples.
    pub fn pipeline(&self, run: &RunSettings, normalize: &Normalize) -> Result<DetectionPipeline> {
        let test = self.test_size.unwrap_or(self.size);
        let target = ImageSize::square(self.size);
        let pipeline = DetectionPipeline {
            jitter: ScaleJitter { target, scale: self.jitter.0 },
            crop: target,
            flip: HorizontalFlip { probability: run.flip },
            min_side: self.min_side,
            pad_to: self.pad_to,
            test: ShortestEdge { short: test, longest: test },
            normalize: normalize.clone(),
            window: run.levels.0,
            channels: run.in_channels,
        };
        let named = |error: pad::data::Error| error.to_string().replace("`scale`", "`jitter`");
        pipeline.validate().map_err(named)?;
        Ok(pipeline)
    }
}

impl Trainer for Detect {
    const NAME: &'static str = "detect";

    const RECIPES: &'static [Recipe] = recipes! {
        "demo": "detect_demo",
        "small": "detect_small",
        "flir": "detect_flir",
        "hit-uav": "detect_hit_uav",
        "table": "detect_table",
    };

    const WITHOUT_EFFECT: &'static [&'static str] = &[
        "test_size",
        "score_threshold",
        "nms_threshold",
        "max_detections",
        "val_split",
        "val_images",
        "val_scenes",
        // Data are compared by what they hold.
        "images_root",
    ];

    fn paths(&mut self) -> Paths<'_> {
        let images_root = self.images_root.iter_mut().map(|folder| ("images_root", folder));
        Paths { folders: images_root.collect(), ..Default::default() }
    }

    fn run_defaults() -> RunSettings {
        RunSettings {
            normalize: Auto::Given(Normalize::downstream()),
            epochs: Some(12),
            batch_size: 2,
            lr: Some(1e-4),
            schedule: ScheduleKind::Steps,
            warmup_steps: Some(250),
            layer_decay: Some(LAYER_DECAY),
            weight_decay: WEIGHT_DECAY,
            eval_every: EvalEvery::Epochs(1),
            ..Default::default()
        }
    }

    fn upgrade(table: &mut toml::Table) {
        for (old, new) in [
            ("images", "train_images"),
            ("window", "attention_window"),
            ("channels", "pyramid_channels"),
            ("samples", "batch_size_per_image"),
            ("score", "score_threshold"),
            ("nms", "nms_threshold"),
            ("most", "max_detections"),
        ] {
            rename(table, old, new);
        }
        if table.get("attention_window").and_then(toml::Value::as_integer) == Some(0) {
            table.insert("attention_window".into(), "none".into());
        }
        // The scale of new adapters was the value.
        let adapters = table.get("adapters").and_then(toml::Value::as_str).map(String::from);
        if let Some(scale) = adapters.filter(|name| name.parse::<Scale>().is_ok()) {
            table.insert("adapters".into(), "new".into());
            table.entry("adapter_scale").or_insert(scale.into());
        }
        for name in ["classes", "global_blocks"] {
            if table.get(name).and_then(toml::Value::as_array).is_some_and(Vec::is_empty) {
                table.remove(name);
            }
        }
    }

    fn validate(&self, run: &RunSettings) -> Result<()> {
        self.pipeline(run, &Normalize::downstream()).map(drop)
    }
}
