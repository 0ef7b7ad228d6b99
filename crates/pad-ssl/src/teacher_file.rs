//! Teachers from files.

use std::sync::Arc;

use candle_core::Device;
use pad_adapter::{
    checkpoint::Checkpoint,
    params::{ParamStore, Role},
    vit::{ViT, ViTConfig},
};
use pad_data::transform::Normalize;
use pad_ops::{ImageSize, MatmulPrecision, rng::Key};

use crate::{ClipTeacher, Result, TeacherModel, read_backbone};

/// How a teacher is opened.
#[derive(Clone, Debug, Default)]
pub struct TeacherOptions {
    /// Configuration of a teacher that is a plain ViT. Default `None`: that of the file.
    pub config: Option<ViTConfig>,
    /// Statistics that the student's images are normalised with; CLIP's are restored from them.
    /// Default [`Normalize::msip`].
    pub input_stats: Normalize,
    /// What the teacher's linear layers multiply in. Default `f32`.
    pub matmul_precision: MatmulPrecision,
}

impl TeacherModel {
    /// Builds the teacher that `checkpoint` holds: CLIP's image tower, recognised by the names of
    /// its tensors, or a ViT of any format that pad-adapter reads. CLIP sees the images at the size
    /// that gives it the patch grid of `student`.
    ///
    /// # Errors
    /// A file that does not say which model it holds, unless the options name it; a report of
    /// missing, unexpected and misshapen tensors.
    pub fn open(
        checkpoint: Checkpoint,
        student: &ViTConfig,
        options: &TeacherOptions,
        device: &Device,
    ) -> Result<Self> {
        let is_clip = |name: &str| {
            name.starts_with("visual.")
                || name.starts_with("vision_model.")
                || name == "conv1.weight"
        };
        if checkpoint.names().any(is_clip) {
            let clip = ClipTeacher::load(&checkpoint, device)?;
            let (grid, patch) = (student.grid()?, clip.config().patch_size);
            let target_dim = clip.config().features();
            let clip = clip
                .with_input_stats(options.input_stats.clone())
                .with_image_size(ImageSize::new(grid.height * patch, grid.width * patch))
                .with_matmul_precision(options.matmul_precision);
            return Ok(Self { teacher: Arc::new(clip), target_dim });
        }
        let (mut checkpoint, _) = checkpoint.to_ours(None)?;
        let config = match (options.config, read_backbone(&mut checkpoint)?) {
            (Some(config), _) | (None, Some(config)) => config,
            (None, None) => checkpoint.vit_config()?,
        };
        let config =
            ViTConfig { image_size: student.image_size, adapter: None, lora: None, ..config };
        checkpoint.fit(&config)?;
        let store = ParamStore::from_checkpoint(checkpoint, device, Key::new(0));
        let store = store.with_unused(|role: Role| role.is_decoder());
        let vit = store.build(|vb| ViT::new(&config, vb))?;
        let vit = vit.with_matmul_precision(options.matmul_precision);
        Ok(Self { teacher: Arc::new(vit), target_dim: config.embed_dim })
    }
}
