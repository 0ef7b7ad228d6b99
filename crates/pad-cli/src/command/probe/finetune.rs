//! The encoder itself, trained further on the labelled images.

use std::time::Instant;

use candle_core::Device;
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use pad::{
    data::{
        Dataset, Loader, LoaderConfig,
        image::DecodeOptions,
        sets::classification::ClassifiedImage,
        transform::{Crop, HorizontalFlip, ImagePipeline, RandomResizedCrop},
    },
    heads::Trained,
    ssl::probe::{Classification, ClassifierConfig, FineTuning, Scores},
    train::log::ProgressBar,
};
use serde_json::json;

use super::Program;
use crate::{
    run::Result,
    tools::{
        output::print,
        run_facts::RunFacts,
        values::{count, not_negative, positive_share, share},
        view::Input,
    },
};

/// Flags of fine-tuning.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Fine-tuning")]
pub(super) struct FineTune {
    /// Trained parameters: everything, adapters-and-heads or heads [default: everything]
    #[arg(long, value_name = "NAME", value_parser = trained())]
    trained: Option<Trained>,
    /// Number of epochs [default: 20]
    #[arg(long, value_name = "N", value_parser = count, conflicts_with = "max_steps")]
    epochs: Option<usize>,
    /// Number of updates, in place of --epochs
    #[arg(long, value_name = "N", value_parser = count)]
    max_steps: Option<usize>,
    /// Peak learning rate [default: 5e-4]
    #[arg(long, value_name = "RATE", value_parser = not_negative)]
    lr: Option<f64>,
    /// Layer-wise decay: factor on the learning rate from each block to the one below [default:
    /// 0.75]
    #[arg(long, value_name = "FACTOR", value_parser = positive_share)]
    layer_decay: Option<f64>,
    /// Weight decay of matrices [default: 0.05]
    #[arg(long, value_name = "FACTOR", value_parser = not_negative)]
    weight_decay: Option<f64>,
    /// Share of the run in which the learning rate rises [default: 0.1]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    warmup: Option<f64>,
    /// Maximum gradient norm; larger gradients are scaled down [default: no clipping]
    #[arg(long, value_name = "NORM", value_parser = not_negative)]
    clip_norm: Option<f64>,
    /// Minimum share of the image's area that a training crop covers, of about the shape of the
    /// input (under --fit whole, test images change their shape, and crops do not); 1: training
    /// images are seen as test images are [default: 0.5]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    min_scale: Option<f64>,
    /// Probability of a horizontal flip in training [default: 0.5]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    flip: Option<f64>,
}

fn trained() -> impl TypedValueParser<Value = Trained> {
    PossibleValuesParser::new(Trained::NAMES).try_map(|name| name.parse::<Trained>())
}

impl FineTune {
    /// Checks that no flag is given that another method would ignore.
    pub(super) fn check_unused(&self) -> Result<()> {
        let given = [
            ("--trained", self.trained.is_some()),
            ("--epochs", self.epochs.is_some()),
            ("--max-steps", self.max_steps.is_some()),
            ("--lr", self.lr.is_some()),
            ("--layer-decay", self.layer_decay.is_some()),
            ("--weight-decay", self.weight_decay.is_some()),
            ("--warmup", self.warmup.is_some()),
            ("--clip-norm", self.clip_norm.is_some()),
            ("--min-scale", self.min_scale.is_some()),
            ("--flip", self.flip.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(format!("{flag} without --method finetune").into()),
            None => Ok(()),
        }
    }

    /// Checks what is given for fine-tuning.
    pub(super) fn check(&self, seed: u64) -> Result<()> {
        if self.layer_decay.is_some() && self.parts() == Trained::Heads {
            return Err("--layer-decay with --trained heads: no layer of the encoder trains".into());
        }
        self.tuning(seed).validate()?;
        Ok(())
    }

    /// The settings of the run.
    fn tuning(&self, seed: u64) -> FineTuning {
        let default = FineTuning::default();
        FineTuning {
            epochs: self.epochs.unwrap_or(default.epochs),
            max_steps: self.max_steps,
            lr: self.lr.unwrap_or(default.lr),
            warmup: self.warmup.unwrap_or(default.warmup),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            clip_norm: self.clip_norm,
            seed,
        }
    }

    /// What trains.
    fn parts(&self) -> Trained {
        self.trained.unwrap_or_default()
    }

    /// From an image to a training sample, given how test images are seen.
    fn pipeline(&self, input: &Input) -> ImagePipeline {
        let min_scale = self.min_scale.unwrap_or(0.5);
        let size = input.pipeline.size;
        let aspect = size.width as f64 / size.height.max(1) as f64;
        let random = RandomResizedCrop {
            scale: (min_scale.max(f64::MIN_POSITIVE), 1.0),
            ratio: (aspect * 3.0 / 4.0, aspect * 4.0 / 3.0),
        };
        ImagePipeline {
            crop: if min_scale < 1.0 { Crop::Random(random) } else { input.pipeline.crop.clone() },
            flip: HorizontalFlip { probability: self.flip.unwrap_or(0.5) },
            ..input.pipeline.clone()
        }
    }

    /// Trains on `train`, tests on `val`; returns the scores and what the report says of the run.
    pub(super) fn run(
        &self,
        program: &Program,
        device: &Device,
        facts: &RunFacts,
        (train, val): (
            impl Dataset<Sample = ClassifiedImage> + 'static,
            impl Dataset<Sample = ClassifiedImage> + 'static,
        ),
    ) -> Result<(Scores, Input, serde_json::Value)> {
        let tuning = self.tuning(program.seed);
        let classes = val.classes().len();
        let head = ClassifierConfig { classes, pool: program.pool, seed: program.seed };
        let (parts, layer_decay) = (self.parts(), self.layer_decay.unwrap_or(0.75));
        let opened =
            program.weights.classifier(program.view.size(facts), device, &head, |encoder| {
                parts.plan(layer_decay, encoder.depth)
            })?;
        let encoder = opened.classifier.encoder().config();
        if parts == Trained::AdaptersAndHeads && encoder.adapter.is_none() && encoder.lora.is_none()
        {
            let what = "the weights have no adapters, expected some with --trained \
                        adapters-and-heads";
            return Err(format!("{}: {what}", program.weights.source()).into());
        }
        let input = program.view.input(facts, encoder, opened.input_stats.clone());
        print(&input)?;
        for line in opened.store.summary().to_string().lines() {
            tracing::info!("{line}");
        }

        let decode = program.files.over(&facts.choice);
        let config = |decode: DecodeOptions| LoaderConfig {
            decode,
            seed: program.seed,
            ..program.reading.loader()
        };
        let reading = FineTuning::loader(config(decode.clone()), train.len());
        let train: Loader<Vec<usize>> = Loader::new(train, self.pipeline(&input), reading)?;
        let val: Loader<Vec<usize>> = Loader::new(val, input.pipeline.clone(), config(decode))?;
        let batches = train.batches_per_epoch();
        let start = Instant::now();
        let outcome = tuning.trainer(&opened.store, batches)?.with_hook(ProgressBar::new(50)).run(
            &Classification::new(&opened.classifier, device),
            &mut FineTuning::stream(&train),
        )?;
        let seconds = start.elapsed().as_secs_f64();
        for name in &outcome.unused_parameters {
            tracing::warn!("{name} trains and is not used");
        }
        let scores = opened.classifier.scores(&val, device)?;
        for bad in train.unreadable().into_iter().chain(val.unreadable()) {
            tracing::warn!("left out: {}", bad.reason);
        }
        let facts = json!({
            "parts": parts.to_string(),
            "trained": opened.store.summary().trained,
            "steps": tuning.updates(batches),
            "batch_size": train.config().batch_size,
            "seconds": seconds,
        });
        Ok((scores, input, facts))
    }
}
