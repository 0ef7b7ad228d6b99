//! The image tower of CLIP (Radford et al., 2021) as a teacher: features of every token in the
//! space shared with text, and the attention of the class token.

use candle_core::{Device, Tensor};
use pad_adapter::{
    checkpoint::{Checkpoint, Format},
    params::ParamStore,
    vit::{PatchGrid, ViT, ViTConfig, layers::Linear},
};
use pad_data::transform::Normalize;
use pad_ops::{ImageSize, MatmulPrecision, Mode, rng::Key};

use crate::{Error, Result, Teacher, TeacherTokens, renormalize::renormalize};

/// The projection's name once a checkpoint has this project's names, (D, P).
const PROJECTION: &str = "proj";

/// Hyperparameters of CLIP's image tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipConfig {
    /// Grid of the position table.
    pub grid: PatchGrid,
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// Values per token.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads; they divide `width`.
    pub heads: usize,
    /// Values of a projected token; `None` = no projection (`CLIPVisionModel` files), features of
    /// `width`.
    pub projection: Option<usize>,
}

impl ClipConfig {
    /// ViT-B/16 for 224 x 224 pixels.
    pub fn base16() -> Self {
        let grid = PatchGrid::new(14, 14);
        Self { grid, patch_size: 16, width: 768, layers: 12, heads: 12, projection: Some(512) }
    }

    /// ViT-L/14 for 224 x 224 pixels.
    pub fn large14() -> Self {
        let grid = PatchGrid::new(16, 16);
        Self { grid, patch_size: 14, width: 1024, layers: 24, heads: 16, projection: Some(768) }
    }

    /// Returns the tower's configuration as a ViT.
    fn vit(&self) -> ViTConfig {
        let side = |patches: usize| patches.saturating_mul(self.patch_size);
        let plain = ViTConfig::new(self.patch_size, self.width, self.layers, self.heads);
        let image_size = ImageSize { height: side(self.grid.height), width: side(self.grid.width) };
        ViTConfig { image_size, ..plain.clip() }
    }

    /// Returns the configuration of the tower `vit`.
    fn of(vit: &ViTConfig, projection: Option<usize>) -> Result<Self> {
        Ok(Self {
            grid: vit.pos_table_grid()?,
            patch_size: vit.patch_size,
            width: vit.embed_dim,
            layers: vit.depth,
            heads: vit.num_heads,
            projection,
        })
    }

    /// Returns the width of a feature.
    pub fn features(&self) -> usize {
        self.projection.unwrap_or(self.width)
    }
}

/// CLIP's image tower with frozen weights: no tensor is tracked, so a forward pass keeps nothing
/// for a backward.
#[derive(Clone, Debug)]
pub struct ClipTeacher {
    config: ClipConfig,
    vit: ViT,
    /// To the space that images share with text.
    projection: Option<Linear>,
    input_stats: Option<Normalize>,
    image_size: Option<ImageSize>,
}

impl ClipTeacher {
    /// The statistics of CLIP's training images.
    pub const NORMALIZE: Normalize = Normalize {
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        std: [0.268_629_55, 0.261_302_6, 0.275_777_1],
    };

    /// Reads a teacher. Its configuration follows from the shapes of its tensors with heads of 64
    /// values, or from transformers' `config.json` beside the file. Names are OpenAI's (`visual.*`,
    /// or without `visual.`) or Hugging Face's (`vision_model.*`, `visual_projection`); the text
    /// tower is ignored.
    ///
    /// # Errors
    /// [`Error::Config`] if the tensors are not those of an image tower; a report of all that are
    /// missing or misshapen.
    pub fn load(checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        let (tower, unresolved) = image_tower(checkpoint)?;
        if let Some(why) = unresolved {
            return Err(fault(&tower, why));
        }
        let vit = tower.vit_config()?;
        let projection = tower.get(PROJECTION).and_then(|weight| weight.dims().last().copied());
        Self::build(ClipConfig::of(&vit, projection)?, &vit, tower, device)
    }

    /// Reads a teacher of a known configuration: [`ClipConfig::base16`], or heads of another width.
    /// Activation and eps of the norms are OpenAI's.
    ///
    /// # Errors
    /// As [`ClipTeacher::load`].
    pub fn load_as(config: &ClipConfig, checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        Self::build(*config, &config.vit(), image_tower(checkpoint)?.0, device)
    }

    fn build(
        config: ClipConfig,
        vit: &ViTConfig,
        tower: Checkpoint,
        device: &Device,
    ) -> Result<Self> {
        let store = ParamStore::from_checkpoint(tower, device, Key::new(0));
        store.build(|vb| {
            let projection = match config.projection {
                Some(values) => {
                    let weight = vb.get((config.width, values), PROJECTION)?.t()?.contiguous()?;
                    Some(Linear::from_tensors(weight, None))
                }
                None => None,
            };
            Ok(Self {
                config,
                vit: ViT::new(vit, vb)?,
                projection,
                input_stats: None,
                image_size: None,
            })
        })
    }

    /// Sets the statistics that images were normalised with; the teacher brings them to CLIP's own.
    /// Default: images are normalised with [`ClipTeacher::NORMALIZE`].
    #[must_use]
    pub fn with_input_stats(self, normalize: Normalize) -> Self {
        Self { input_stats: Some(normalize), ..self }
    }

    /// Sets the size that images are resized to (bilinear). ViT-L/14 takes 196 x 196 pixels beside
    /// a student of patch 16 on 224 x 224, so that both have 14 x 14 patches. Default: images are
    /// not resized.
    #[must_use]
    pub fn with_image_size(self, size: ImageSize) -> Self {
        Self { image_size: Some(size), ..self }
    }

    /// Sets what the linear layers of the attention multiply in.
    #[must_use]
    pub fn with_matmul_precision(self, precision: MatmulPrecision) -> Self {
        Self { vit: self.vit.with_matmul_precision(precision), ..self }
    }

    /// Returns the configuration.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// Returns the images with three channels, CLIP's statistics and the configured size.
    #[allow(clippy::disallowed_methods)] // the resize has no backward: images are detached, nothing flows to them
    fn prepare(&self, images: &Tensor) -> Result<Tensor> {
        let (b, channels, height, width) = images.dims4()?;
        let mut images = images.detach();
        if let Some(seen) = &self.input_stats {
            images = renormalize(&images, seen, &Self::NORMALIZE, 3)?;
        } else if channels == 1 {
            images = images.broadcast_as((b, 3, height, width))?.contiguous()?;
        }
        match self.image_size {
            Some(size) if (height, width) != (size.height, size.width) => {
                Ok(images.upsample_bilinear2d(size.height, size.width, false)?)
            }
            _ => Ok(images),
        }
    }
}

/// Returns the image tower under this project's names, and why its configuration is unknown if it
/// is.
fn image_tower(checkpoint: &Checkpoint) -> Result<(Checkpoint, Option<String>)> {
    let format = Format::detect(checkpoint).ok();
    if !matches!(format, Some(Format::Clip | Format::ClipVision)) {
        let what = match format {
            Some(format) => format!("names of the format {format}"),
            None => "names of no known format".into(),
        };
        return Err(fault(
            checkpoint,
            format!("{what}, expected CLIP's image tower (`conv1.weight` or `vision_model.*`)"),
        ));
    }
    let (tower, report) = checkpoint.clone().to_ours(format)?;
    // A missing table would be replaced by a sine-cosine one, but CLIP's positions are learnt.
    match tower.get("pos_embed") {
        Some(_) => Ok((tower, report.unresolved)),
        None => Err(fault(&tower, "no `pos_embed`, expected a table of positions".into())),
    }
}

fn fault(checkpoint: &Checkpoint, what: String) -> Error {
    let fault = format!("{}: {what}", checkpoint.path().display());
    Error::Config { what: "clip", faults: vec![fault] }
}

impl Teacher for ClipTeacher {
    fn features(&self, images: &Tensor) -> Result<Tensor> {
        Ok(self.tokens(images)?.features)
    }

    /// Every token after the last norm and the projection, and the last block's attention.
    fn tokens(&self, images: &Tensor) -> Result<TeacherTokens> {
        let (tokens, grid) = self.vit.embed(&self.prepare(images)?, None)?;
        let places = self.vit.places(grid, None)?;
        let (features, attention) = self.vit.encode_with_attention(&tokens, &places, Mode::Eval)?;
        let features = match &self.projection {
            Some(projection) => projection.forward(&features)?,
            None => features,
        };
        Ok(TeacherTokens { features, attention: Some(attention) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_towers() {
        for (config, tokens, features) in
            [(ClipConfig::base16(), 197, 512), (ClipConfig::large14(), 257, 768)]
        {
            let vit = config.vit();
            vit.validate().unwrap();
            assert_eq!((vit.image_size, 1 + config.grid.len()), (ImageSize::square(224), tokens));
            assert_eq!(ClipConfig::of(&vit, config.projection).unwrap(), config);
            assert_eq!((config.features(), config.width / config.heads), (features, 64));
        }
        let bare = ClipConfig { projection: None, ..ClipConfig::base16() };
        assert_eq!(bare.features(), 768);
        let none = ClipConfig { layers: 0, heads: 7, ..bare };
        let refused = none.vit().validate().unwrap_err().to_string();
        assert!(
            refused.contains("`depth` is 0") && refused.contains("`num_heads` is 7"),
            "{refused}"
        );
    }
}
