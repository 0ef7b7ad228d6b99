//! Segmentation as a downstream task.

use std::path::PathBuf;

use clap::Args;
use pad::{
    checkpoint::Backbone,
    data::{
        sets::segmentation::{Classes, SegmentationFormat, SegmentationImage},
        transform::{Normalize, segmentation::SegmentationPipeline},
    },
    heads::{
        Trained,
        segmentation::{
            BackboneForm, FcnConfig, HeadKind, SegmentationEvaluator, SegmentationInference,
            SegmentationModel, SegmentationReport, Segmentor, SegmentorConfig, UperConfig,
        },
    },
    vit::ViTConfig,
};

use super::{
    data,
    inference::InferenceFlags,
    predict::{Pictures, PredictFlags},
    settings::{Segment, SegmentParadigm},
};
use crate::{
    downstream::{Downstream, Images, selection::Selection},
    run::{Result, adapters::Place, backbone, session::Session},
    settings::{
        Settings,
        names::Adapters,
        values::{Auto, Text},
    },
    tools::{output::print, shipped::ASSET},
};

/// Flags of `pad segment eval`, beside those of all tasks.
#[derive(Args, Debug)]
pub struct EvalFlags {
    /// Layout of the folder: auto, folder, soda or mfnet [default: the run's]
    #[arg(long, value_name = "NAME")]
    format: Option<SegmentationFormat>,
    #[command(flatten)]
    inference: InferenceFlags,
}

/// Checks that paradigm and weights agree.
fn check_paradigm(settings: &Settings<Segment>, backbone: Option<&Backbone>) -> Result<()> {
    let (paradigm, weights) = (settings.own.paradigm, settings.run.weights.as_str());
    match (paradigm, backbone) {
        (SegmentParadigm::Scratch, _) => Ok(()),
        (SegmentParadigm::RgbOnly | SegmentParadigm::Full, Some(backbone))
            if backbone.has_adapters() && settings.run.adapters != Some(Adapters::None) =>
        {
            Err(format!(
                "paradigm {paradigm} has no adapters, found some in {weights}: use --paradigm pad, or leave them out \
                 with --adapters none"
            )
            .into())
        }
        (SegmentParadigm::Full, Some(_)) if weights == ASSET => {
            Err("paradigm full needs the weights of a continued pre-training (--weights RUN of \
                 `pad pretrain --paradigm full`), found --weights asset"
                .into())
        }
        (_, Some(_)) => Ok(()),
        (_, None) => {
            Err(format!("paradigm {paradigm} needs weights to start from, found --weights none")
                .into())
        }
    }
}

impl Downstream for Segment {
    type Network = Segmentor;
    type Sample = SegmentationImage;
    type Pipeline = SegmentationPipeline;
    type Inference = SegmentationInference;
    type Report = SegmentationReport;
    type Evaluator<'a> = SegmentationEvaluator<'a>;
    type EvalFlags = EvalFlags;
    type PredictFlags = PredictFlags;
    type Predictions = Pictures;

    const FILE: &'static str = "model.safetensors";

    fn weights(settings: &Settings<Self>) -> Result<Option<Backbone>> {
        let Settings { run, own } = settings;
        // From scratch, weights at most say what the model is.
        let named = own.paradigm == SegmentParadigm::Scratch && run.model != Auto::Auto;
        let backbone = if named { None } else { backbone::open(run)? };
        check_paradigm(settings, backbone.as_ref())?;
        Ok(backbone)
    }

    fn starts_on_weights(&self) -> bool {
        self.paradigm != SegmentParadigm::Scratch
    }

    fn trained(&self) -> Trained {
        self.trained.0
    }

    fn training(settings: &Settings<Self>) -> Result<Images<Self>> {
        data::training(settings)
    }

    fn evaluation(settings: &Settings<Self>, _: &Classes) -> Result<Images<Self>> {
        data::evaluation(settings)
    }

    fn adapters(&self) -> Place {
        match self.paradigm {
            SegmentParadigm::Pad => Place::Always,
            _ => Place::Never,
        }
    }

    fn config(
        settings: &Settings<Self>,
        vit: ViTConfig,
        classes: &Classes,
    ) -> Result<SegmentorConfig> {
        let Settings { run, own } = settings;
        let vit = ViTConfig {
            image_size: own.crop_size.0,
            in_channels: run.in_channels,
            drop_path: own.drop_path,
            ..vit
        };
        let head = match &own.head.0 {
            HeadKind::Uper(_) => HeadKind::Uper(UperConfig {
                channels: own.head_channels,
                dropout: own.head_dropout,
                ..Default::default()
            }),
            other => other.clone(),
        };
        let form = match own.form {
            Auto::Given(form) => form,
            Auto::Auto if own.trained.trains_backbone() => BackboneForm::Downstream,
            Auto::Auto => BackboneForm::Plain,
        };
        let base = SegmentorConfig::on_backbone(vit, form, head, classes.len());
        let auxiliary = base.auxiliary.filter(|_| own.auxiliary);
        let auxiliary = auxiliary.map(|fcn| FcnConfig { channels: own.auxiliary_channels, ..fcn });
        let blocks = own.blocks.as_ref().map_or(base.blocks, |blocks| blocks.0.clone());
        let loss = own.loss(classes.ignore, classes.len())?;
        let config = SegmentorConfig { auxiliary, blocks, loss, ..base };
        config.validate()?;
        Ok(config)
    }

    fn pipeline(
        settings: &Settings<Self>,
        normalize: &Normalize,
        classes: &Classes,
    ) -> Result<SegmentationPipeline> {
        settings.own.pipeline(&settings.run, normalize, classes.ignore)
    }

    fn inference(&self, pipeline: SegmentationPipeline) -> Result<SegmentationInference> {
        Segment::inference(self, pipeline)
    }

    fn look(
        model: &SegmentationModel,
        sample: SegmentationImage,
        inference: &SegmentationInference,
    ) -> Result<()> {
        model.predict(sample.image, inference)?;
        Ok(())
    }

    fn evaluator<'a>(
        settings: &Settings<Self>,
        model: &'a SegmentationModel,
        images: &'a Images<Self>,
        inference: SegmentationInference,
    ) -> Result<SegmentationEvaluator<'a>> {
        let evaluator = SegmentationEvaluator::new(model, images.as_ref(), inference)?;
        Ok(evaluator.with_max_unreadable(settings.run.max_unreadable))
    }

    fn leave(
        session: &Session<Self>,
        model: &SegmentationModel,
        held_out: &Images<Self>,
        inference: &SegmentationInference,
        _: &SegmentationReport,
    ) -> Result<Vec<PathBuf>> {
        /// Share of the colours in the picture.
        const OPACITY: f32 = 0.6;
        let picture = session.path("overlays.png");
        model.pictures(held_out.as_ref(), inference, 6, OPACITY)?.save_png(&picture)?;
        Ok(vec![picture])
    }

    fn for_eval(
        flags: &EvalFlags,
        selection: &Selection,
        settings: Settings<Self>,
    ) -> Settings<Self> {
        let mut settings = flags.inference.over(settings);
        let own = &mut settings.own;
        own.format = flags.format.map_or(own.format, Text);
        selection.over(&mut own.val_split, &mut own.val_images);
        settings
    }

    fn report(_: &EvalFlags, report: &SegmentationReport) -> Result<()> {
        print(format_args!("{}\n\n{report}", report.confusion_table()))
    }

    fn for_predict(flags: &PredictFlags, settings: Settings<Self>) -> Settings<Self> {
        flags.inference.over(settings)
    }
}
