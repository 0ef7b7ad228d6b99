//! The backbones that rows start from.

use std::path::Path;

use anyhow::{Context, ensure};
use pad::{
    assets::VIT_PICO_RGB,
    checkpoint::{Backbone as Weights, BackboneOptions, FloatType, save},
    params::Role,
};

use super::{Result, cell::text, flags::Flags};

/// The shipped backbone by its name in `pad`.
const ASSET: &str = "asset";

/// A pre-trained backbone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Backbone {
    /// Its name in folders and tables.
    pub(crate) id: &'static str,
    /// What tables call it.
    pub(crate) title: String,
    /// Its weights, as `pad` takes them.
    pub(crate) weights: String,
    /// The name in `pad` of what [`Backbone::prepare`] makes them of; `None`: they are there.
    made_of: Option<&'static str>,
    /// Its architecture where the weights do not say it.
    pub(crate) model: Option<&'static str>,
    /// The flags of its architecture with random values.
    pub(crate) scratch: &'static [&'static str],
    /// Side of a patch, pixels.
    pub(crate) patch: usize,
}

impl Backbone {
    /// The backbones that are compared in the folder `out`.
    pub(crate) fn all(flags: &Flags, out: &Path) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        if flags.shipped != "none" {
            let name = flags.shipped.as_str();
            ensure!(name == ASSET, "--shipped: expected {ASSET} or none, found `{name}`");
            all.push(Self {
                id: "shipped",
                title: format!("the shipped backbone (`{ASSET}`)"),
                weights: text(&out.join("data/shipped.safetensors")),
                made_of: Some(ASSET),
                model: None,
                scratch: &["--model", "pico"],
                patch: 16,
            });
        }
        if let Some(path) = &flags.dino {
            let path = std::path::absolute(path)
                .with_context(|| format!("{}: not a path", path.display()))?;
            ensure!(path.exists(), "{}: no such file (--dino)", path.display());
            all.push(Self {
                id: "dinov2-s",
                title: "DINOv2 ViT-S/14".into(),
                weights: text(&path),
                made_of: None,
                model: Some("dinov2-small"),
                // Of the same widths, without layer scales: they begin at 1e-5, and random blocks behind them would stay
                // random in a run of this length.
                scratch: &["--model", "small", "--patch-size", "14"],
                patch: 14,
            });
        }
        ensure!(!all.is_empty(), "no backbone: expected --dino FILE or --shipped NAME");
        Ok(all)
    }

    /// Writes its weights without their decoder, if they are not there: rows that start from them would begin with one that
    /// has been trained, others with a new one.
    pub(crate) fn prepare(&self) -> Result<()> {
        let path = Path::new(&self.weights);
        let Some(name) = self.made_of.filter(|_| !path.is_file()) else { return Ok(()) };
        let options = BackboneOptions::default()
            .with_named(ASSET, VIT_PICO_RGB)
            .with_reader(pad::ssl::read_backbone);
        let opened = Weights::open(name, &options)?;
        let mut checkpoint = opened.into_checkpoint();
        checkpoint.retain(|name| !Role::of(name).is_decoder());
        checkpoint.remove_metadata("mae"); // of the decoder
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        save(path, checkpoint.tensors(), checkpoint.metadata(), FloatType::AsIs)?;
        Ok(())
    }

    /// The largest multiple of the patch's side that is not above `pixels`.
    pub(crate) fn fit(&self, pixels: usize) -> usize {
        (pixels / self.patch).max(1) * self.patch
    }
}
