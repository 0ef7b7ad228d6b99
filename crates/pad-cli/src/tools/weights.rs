//! Pre-trained weights from anywhere, for the commands that only use them.

use std::fmt::Display;

use candle_core::Device;
use clap::{Args, builder::PossibleValuesParser};
use pad::{
    ImageSize, Scale,
    checkpoint::BackboneOptions,
    heads::{detection::DetectionModel, segmentation::SegmentationModel},
    params::Plan,
    ssl::{
        Mae, OpenOptions, OpenedEncoder, OpenedMae, open_encoder,
        probe::{Classifier, ClassifierConfig, OpenedClassifier},
    },
    vit::ViTConfig,
};

use super::{
    shipped::{ASSET, SHIPPED},
    values::count,
};
use crate::run::Result;

/// What errors of the libraries say where the scale of adapters is unknown.
pub const SCALE_OPTION: &str = "the option `scale`";

/// Flags of the weights.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Weights")]
pub struct Weights {
    /// Weights in any known format: a file, a folder, hf://OWNER/REPO[/FILE], a run folder, an
    /// adapter file, or `asset`, the small built-in backbone
    #[arg(long, visible_alias = "run", value_name = "WEIGHTS", default_value = ASSET)]
    weights: String,
    /// Prefix of the tensor names in the checkpoint, e.g. `encoder.` [default: detected]
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Key of the state dict in a PyTorch file that has several, e.g. `model_ema`
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Backbone for an adapter file [default: the one named in the file]
    #[arg(long, value_name = "WEIGHTS")]
    backbone: Option<String>,
    /// Allow adapters on a backbone that they were not trained on
    #[arg(long)]
    any_backbone: bool,
    /// Scale of adapters, if their file does not store it: concat, sum, side, gside, fixed=S,
    /// fixed-decay=S, fixed-linear=S or learnable=S
    #[arg(long, value_name = "SCALE")]
    adapter_scale: Option<Scale>,
    /// Architecture, if it cannot be inferred from the weights
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(ViTConfig::PRESETS))]
    model: Option<String>,
    /// Patch size of --model pico to huge, pixels [default: 16]
    #[arg(long, value_name = "PIXELS", requires = "model", value_parser = count)]
    patch_size: Option<usize>,
}

impl Weights {
    /// The weights, as given.
    pub fn source(&self) -> &str {
        &self.weights
    }

    /// Opens the encoder, adapters included, for images of `image_size`.
    pub fn encoder(&self, image_size: ImageSize, device: &Device) -> Result<OpenedEncoder> {
        let opened = open_encoder(&self.weights, &self.options(Some(image_size), device)?);
        let opened = opened.map_err(in_flags)?;
        self.log(&opened.notes);
        Ok(opened)
    }

    /// Opens the encoder, adapters included, for images of `image_size`, with a new head on it;
    /// `plan` says what will train.
    pub fn classifier(
        &self,
        image_size: ImageSize,
        device: &Device,
        head: &ClassifierConfig,
        plan: impl FnOnce(&ViTConfig) -> Plan,
    ) -> Result<OpenedClassifier> {
        let options = self.options(Some(image_size), device)?;
        let opened = Classifier::open(&self.weights, &options, head, plan).map_err(in_flags)?;
        self.log(&opened.notes);
        Ok(opened)
    }

    /// Opens the encoder as [`Weights::encoder`] does and leaves it: what is wrong with it is known
    /// before long work begins.
    pub fn check(&self, image_size: ImageSize, device: &Device) -> Result<()> {
        let opened = open_encoder(&self.weights, &self.options(Some(image_size), device)?);
        opened.map(drop).map_err(|error| in_flags(error).into())
    }

    /// Opens the autoencoder for images of `image_size`, or else of the size that the weights say.
    pub fn autoencoder(&self, image_size: Option<ImageSize>, device: &Device) -> Result<OpenedMae> {
        let opened = Mae::open(&self.weights, &self.options(image_size, device)?);
        let opened = opened.map_err(in_flags)?;
        self.log(&opened.notes);
        Ok(opened)
    }

    fn options(&self, image_size: Option<ImageSize>, device: &Device) -> Result<OpenOptions> {
        let config = match &self.model {
            Some(model) => Some(ViTConfig::preset(model, self.patch_size.unwrap_or(16))?),
            None => None,
        };
        let backbone = backbone_options()
            .with_prefix(self.prefix.clone())
            .with_key(self.key.clone())
            .with_backbone(self.backbone.clone())
            .with_any_backbone(self.any_backbone)
            .with_scale(self.adapter_scale);
        Ok(OpenOptions::default()
            .with_backbone(backbone)
            .with_config(config)
            .with_image_size(image_size)
            .with_device(device))
    }

    fn log(&self, notes: &[String]) {
        notes.iter().for_each(|note| tracing::info!("{}: {note}", self.weights));
    }
}

/// How backbones are opened here: the asset by its name, files of downstream runs too.
pub fn backbone_options() -> BackboneOptions {
    with_shipped(BackboneOptions::default())
        .with_reader(SegmentationModel::read_backbone)
        .with_reader(DetectionModel::read_backbone)
}

/// Options that know the weights inside this program by their names.
pub fn with_shipped(options: BackboneOptions) -> BackboneOptions {
    SHIPPED.iter().fold(options, |options, one| options.with_named(one.name, one.bytes))
}

/// The text of an error of the libraries, with the flags of this program in place of their options.
pub fn in_flags(error: impl Display) -> String {
    let mut text = error.to_string();
    let flags = [
        (SCALE_OPTION, "--adapter-scale"),
        ("the option `prefix`", "--prefix"),
        ("the option `key`", "--key"),
        ("the option `backbone`", "--backbone"),
        ("the option `any_backbone`", "--any-backbone"),
    ];
    let names_one = flags.iter().any(|(option, _)| text.contains(option));
    for (option, flag) in flags {
        text = text.replace(option, flag);
    }
    if !names_one && text.contains("the model cannot be inferred") {
        text += " (--model names it)";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_flags() {
        assert_eq!(
            in_flags("a.safetensors: it names no backbone: expected the option `backbone`"),
            "a.safetensors: it names no backbone: expected --backbone"
        );
        assert_eq!(in_flags("expected the option `key` with one"), "expected --key with one");
        assert_eq!(
            in_flags("a.pth: the model cannot be inferred: vit: `num_heads` cannot be inferred"),
            "a.pth: the model cannot be inferred: vit: `num_heads` cannot be inferred (--model names it)"
        );
    }
}
