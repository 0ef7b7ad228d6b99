//! The backbones that rows start from.

use anyhow::{Context, ensure};

use super::{Result, flags::Flags};

/// A pre-trained backbone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Backbone {
    /// Its name in folders and tables.
    pub(crate) id: &'static str,
    /// What tables call it.
    pub(crate) title: String,
    /// Its weights, as `pad` takes them.
    pub(crate) weights: String,
    /// Its architecture where the weights do not say it.
    pub(crate) model: Option<&'static str>,
    /// Its architecture with random values.
    pub(crate) scratch_model: &'static str,
    /// Side of a patch, pixels.
    pub(crate) patch: usize,
}

impl Backbone {
    /// The backbones that are compared.
    pub(crate) fn all(flags: &Flags) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        if flags.shipped != "none" {
            all.push(Self {
                id: "shipped",
                title: format!("the shipped backbone (`{}`)", flags.shipped),
                weights: flags.shipped.clone(),
                model: None,
                scratch_model: "pico",
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
                weights: path.display().to_string(),
                model: Some("dinov2-small"),
                scratch_model: "dinov2-small",
                patch: 14,
            });
        }
        ensure!(!all.is_empty(), "no backbone: expected --dino FILE or --shipped NAME");
        Ok(all)
    }

    /// The largest multiple of the patch's side that is not above `pixels`.
    pub(crate) fn fit(&self, pixels: usize) -> usize {
        (pixels / self.patch).max(1) * self.patch
    }
}
