//! Detection as a downstream task.

use std::path::PathBuf;

use clap::Args;
use pad::{
    ImageSize,
    data::{
        sets::detection::{BoxClasses, DetectionFormat, DetectionImage},
        transform::{Normalize, detection::DetectionPipeline},
    },
    heads::{
        Trained,
        detection::{
            DetectionEvaluator, DetectionModel, DetectionReport, Detector, DetectorConfig,
            RoiHeadsConfig, RpnConfig, Thresholds, coco::write_results,
        },
    },
    vit::ViTConfig,
};

use super::{
    data,
    predict::{Pictures, PredictFlags, SHOWN},
    settings::Detect,
    thresholds::ThresholdFlags,
};
use crate::{
    downstream::{Downstream, Images, selection::Selection},
    run::{Result, adapters::Place, session::Session},
    settings::{Settings, values::Text},
    tools::output::{make_parent, print},
};

/// Flags of `pad detect eval`, beside those of all tasks.
#[derive(Args, Debug)]
pub struct EvalFlags {
    /// Layout of the folder: auto, coco, cvat, flir, hit-uav, label-studio, llvip, voc or yolo
    /// [default: the run's]
    #[arg(long, value_name = "NAME")]
    format: Option<DetectionFormat>,
    /// File for the detections, COCO results
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    #[command(flatten)]
    thresholds: ThresholdFlags,
}

impl Downstream for Detect {
    type Network = Detector;
    type Sample = DetectionImage;
    type Pipeline = DetectionPipeline;
    type Inference = DetectionPipeline;
    type Report = DetectionReport;
    type Evaluator<'a> = DetectionEvaluator<'a>;
    type EvalFlags = EvalFlags;
    type PredictFlags = PredictFlags;
    type Predictions = Pictures;

    const FILE: &'static str = "detector.safetensors";

    fn trained(&self) -> Trained {
        self.trained.0
    }

    fn training(settings: &Settings<Self>) -> Result<Images<Self>> {
        data::training(settings)
    }

    fn evaluation(settings: &Settings<Self>, classes: &BoxClasses) -> Result<Images<Self>> {
        data::evaluation(settings, classes)
    }

    fn adapters(&self) -> Place {
        Place::AsWeights
    }

    fn config(
        settings: &Settings<Self>,
        vit: ViTConfig,
        classes: &BoxClasses,
    ) -> Result<DetectorConfig> {
        let Settings { run, own } = settings;
        let vit = ViTConfig { drop_path: own.drop_path, in_channels: run.in_channels, ..vit };
        let base = DetectorConfig::on_backbone(vit, classes.len());
        let anchor_sizes = own.anchors.0.clone();
        let rpn = RpnConfig { anchor_sizes, convs: own.rpn_convs, ..Default::default() };
        let rpn = rpn.with_proposals(own.proposals);
        let config = DetectorConfig {
            window: own.attention_window.0,
            global_blocks: own
                .global_blocks
                .as_ref()
                .map_or(base.global_blocks, |blocks| blocks.0.clone()),
            relative_positions: own.relative_positions,
            relative_size: ImageSize::square(own.size),
            spatial_prior: own.spatial_prior.0.filter(|&channels| channels > 0),
            channels: own.pyramid_channels,
            head_dim: own.head_dim,
            cascade: own.cascade,
            masks: own.masks,
            rpn,
            roi: RoiHeadsConfig {
                convs: own.box_convs,
                batch_size_per_image: own.batch_size_per_image,
                ..Default::default()
            },
            score_threshold: own.score_threshold,
            nms_threshold: own.nms_threshold,
            max_detections: own.max_detections,
            ..base
        };
        config.validate()?;
        Ok(config)
    }

    fn pipeline(
        settings: &Settings<Self>,
        normalize: &Normalize,
        _: &BoxClasses,
    ) -> Result<DetectionPipeline> {
        settings.own.pipeline(&settings.run, normalize)
    }

    fn inference(&self, pipeline: DetectionPipeline) -> Result<DetectionPipeline> {
        Ok(pipeline)
    }

    fn opened(settings: &mut Settings<Self>, model: DetectionModel) -> Result<DetectionModel> {
        let own = &mut settings.own;
        own.masks = model.network.config().masks;
        Ok(model.with_thresholds(Thresholds {
            score: Some(own.score_threshold),
            nms: Some(own.nms_threshold),
            max_detections: Some(own.max_detections),
        })?)
    }

    fn look(
        model: &DetectionModel,
        sample: DetectionImage,
        pipeline: &DetectionPipeline,
    ) -> Result<()> {
        model.predict(sample.image, pipeline)?;
        Ok(())
    }

    fn evaluator<'a>(
        settings: &Settings<Self>,
        model: &'a DetectionModel,
        images: &'a Images<Self>,
        pipeline: DetectionPipeline,
    ) -> Result<DetectionEvaluator<'a>> {
        let evaluator = DetectionEvaluator::new(model, images.as_ref(), pipeline)?;
        Ok(evaluator.with_max_unreadable(settings.run.max_unreadable))
    }

    fn leave(
        session: &Session<Self>,
        model: &DetectionModel,
        held_out: &Images<Self>,
        pipeline: &DetectionPipeline,
        report: &DetectionReport,
    ) -> Result<Vec<PathBuf>> {
        let (results, picture) = (session.path("results.json"), session.path("detections.png"));
        write_results(&results, &report.results)?;
        model.pictures(held_out.as_ref(), pipeline, 8, SHOWN as f32)?.save_png(&picture)?;
        Ok(vec![results, picture])
    }

    fn for_eval(
        flags: &EvalFlags,
        selection: &Selection,
        settings: Settings<Self>,
    ) -> Settings<Self> {
        let mut settings = flags.thresholds.over(settings, None);
        let own = &mut settings.own;
        own.format = flags.format.map_or(own.format, Text);
        // Labels of another folder must not meet the images of the run's.
        if selection.data.is_some() {
            own.images_root = None;
        }
        selection.over(&mut own.val_split, &mut own.val_images);
        settings
    }

    fn eval_file(flags: &EvalFlags) -> Option<&PathBuf> {
        flags.results.as_ref()
    }

    fn report(flags: &EvalFlags, report: &DetectionReport) -> Result<()> {
        print(report)?;
        let Some(path) = &flags.results else { return Ok(()) };
        make_parent(path)?;
        write_results(path, &report.results)?;
        print(format_args!("wrote {}", path.display()))
    }

    fn for_predict(flags: &PredictFlags, settings: Settings<Self>) -> Settings<Self> {
        flags.thresholds.over(settings, Some(SHOWN))
    }
}
