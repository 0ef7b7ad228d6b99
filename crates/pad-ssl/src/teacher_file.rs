//! Teachers from files.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use pad_adapter::{
    checkpoint::{Checkpoint, Format},
    params::{ParamStore, Role},
    vit::{ViT, ViTConfig},
};
use pad_data::transform::Normalize;
use pad_ops::{ImageSize, MatmulPrecision, rng::Key};

use crate::{
    ClipTeacher, Error, Result, Teacher, TeacherModel, read_backbone, renormalize::renormalize,
    stored::normalize,
};

/// How a teacher is opened.
#[derive(Clone, Debug, Default)]
pub struct TeacherOptions {
    /// Configuration of a teacher that is a plain ViT. Default `None`: that of the file.
    pub config: Option<ViTConfig>,
    /// Statistics that the student's images are normalised with; those of the teacher are restored
    /// from them.
    /// Default [`Normalize::msip`].
    pub input_stats: Normalize,
    /// What the teacher's linear layers multiply in. Default `f32`.
    pub matmul_precision: MatmulPrecision,
}

impl TeacherModel {
    /// Builds the teacher that `checkpoint` holds: CLIP's image tower, recognised by the names of
    /// its tensors, or a ViT of any format that pad-adapter reads. CLIP sees the images at the size
    /// that gives it the patch grid of `student`. Each sees them with the statistics that it was
    /// trained with, if its file says them.
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
        if matches!(Format::detect(&checkpoint), Ok(Format::Clip | Format::ClipVision)) {
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
            // What stands beside the named layers, the file says.
            (Some(config), Some(ViTConfig { adapter, lora, .. })) => {
                ViTConfig { adapter, lora, ..config }
            }
            (Some(config), None) => {
                ViTConfig { adapter: checkpoint.adapter_config(None)?, ..config }
            }
            (None, Some(config)) => config,
            (None, None) => checkpoint.vit_config()?,
        };
        let own_stats = checkpoint.input_stats()?.map(normalize);
        let config = ViTConfig { image_size: student.image_size, ..config };
        if ![1, config.in_channels].contains(&student.in_channels) {
            return Err(Error::TeacherChannels {
                expected: config.in_channels,
                found: student.in_channels,
            });
        }
        checkpoint.fit(&config)?;
        let store = ParamStore::from_checkpoint(checkpoint, device, Key::new(0));
        let store = store.with_unused(|role: Role| role.is_decoder());
        let vit = store.build(|vb| ViT::new(&config, vb))?;
        let vit = vit.with_matmul_precision(options.matmul_precision);
        let target_dim = config.embed_dim;
        let seen = options.input_stats.clone();
        let own = own_stats.unwrap_or_else(|| seen.clone());
        let teacher: Arc<dyn Teacher> = if own == seen && config.in_channels == student.in_channels
        {
            Arc::new(vit)
        } else {
            Arc::new(OtherInput { vit, seen, own })
        };
        Ok(Self { teacher, target_dim })
    }
}

/// A ViT that was trained with other input statistics than the student's, or on colours where the
/// student sees one channel.
struct OtherInput {
    vit: ViT,
    /// Statistics of the images that it is given.
    seen: Normalize,
    /// Its own.
    own: Normalize,
}

impl Teacher for OtherInput {
    fn features(&self, images: &Tensor) -> Result<Tensor> {
        let channels = self.vit.config().in_channels;
        let images = renormalize(&images.detach(), &self.seen, &self.own, channels)?;
        Teacher::features(&self.vit, &images)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use pad_adapter::{AdapterConfig, checkpoint::InputStats};
    use pad_ops::Mode;

    use super::*;

    /// A file of a small ViT that was trained on `stats`.
    fn file(config: &ViTConfig, stats: &Normalize) -> Checkpoint {
        let store = ParamStore::scratch(&Device::Cpu, Key::new(3));
        store.build(|vb| ViT::new(config, vb)).unwrap();
        let mut checkpoint =
            Checkpoint::from_tensors("teacher.safetensors", store.tensors(|_| true));
        checkpoint.describe(config).unwrap();
        checkpoint.set_input_stats(&InputStats { mean: stats.mean, std: stats.std });
        checkpoint
    }

    fn largest(tensor: &Tensor) -> f32 {
        tensor.abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn a_teacher_sees_images_with_its_own_statistics() {
        let config =
            ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
        let (own, seen) = (Normalize::imagenet(), Normalize::msip());
        let options = TeacherOptions { input_stats: seen.clone(), ..Default::default() };
        let open = |stats: &Normalize| {
            let file = file(&config, stats);
            TeacherModel::open(file, &config, &options, &Device::Cpu).unwrap().teacher
        };
        let levels: Vec<f32> = (0..2 * 3 * 32 * 32).map(|i| (i * 37 % 256) as f32).collect();
        let channel = |i: usize| i / (32 * 32) % 3;
        let normalized = |stats: &Normalize| {
            let values = levels.iter().enumerate();
            let values: Vec<f32> =
                values.map(|(i, &level)| stats.apply(level, channel(i))).collect();
            Tensor::from_vec(values, (2, 3, 32, 32), &Device::Cpu).unwrap()
        };
        // By hand: the same network on images of its own statistics.
        let vit = ParamStore::scratch(&Device::Cpu, Key::new(3));
        let vit = vit.build(|vb| ViT::new(&config, vb)).unwrap();
        let want = vit.forward(&normalized(&own), Mode::Eval).unwrap();
        let raw = vit.forward(&normalized(&seen), Mode::Eval).unwrap();
        let found = open(&own).features(&normalized(&seen)).unwrap();
        let scale = largest(&want);
        assert!(largest(&(&found - &want).unwrap()) < 1e-4 * scale);
        assert!(largest(&(&raw - &want).unwrap()) > 1e-2 * scale, "the statistics matter");
        // Where they are the same, nothing is converted.
        let same = open(&seen).features(&normalized(&seen)).unwrap();
        assert_eq!(largest(&(&same - &raw).unwrap()), 0.0);
        assert_eq!(same.dtype(), DType::F32);
    }

    #[test]
    fn a_teacher_of_colour_images_sees_one_channel_as_three_equal_ones() {
        let config =
            ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 2, 2) };
        let (own, seen) = (Normalize::imagenet(), Normalize::msip());
        let options = TeacherOptions { input_stats: seen.clone(), ..Default::default() };
        let open = |stats: &Normalize, channels| {
            let student = ViTConfig { in_channels: channels, ..config };
            TeacherModel::open(file(&config, stats), &student, &options, &Device::Cpu)
        };
        let levels: Vec<f32> = (0..2 * 32 * 32).map(|i| (i * 37 % 256) as f32).collect();
        let normalized = |stats: &Normalize, channels: usize| {
            let image = |image: &[f32]| -> Vec<f32> {
                let channel = |c| image.iter().map(move |&level| stats.apply(level, c));
                (0..channels).flat_map(channel).collect()
            };
            let values: Vec<f32> = levels.chunks(32 * 32).flat_map(image).collect();
            Tensor::from_vec(values, (2, channels, 32, 32), &Device::Cpu).unwrap()
        };
        for stats in [&own, &seen] {
            let want = open(stats, 3).unwrap().teacher.features(&normalized(&seen, 3)).unwrap();
            let found = open(stats, 1).unwrap().teacher.features(&normalized(&seen, 1)).unwrap();
            assert!(largest(&(&found - &want).unwrap()) < 1e-4 * largest(&want));
        }
        assert_eq!(
            open(&own, 4).err().unwrap().to_string(),
            "the teacher takes images of 3 channels, the student's have 4 (a single one would be \
             repeated)"
        );
    }

    #[test]
    fn a_named_teacher_has_the_adapters_of_its_file() {
        let config = ViTConfig {
            image_size: ImageSize::square(32),
            adapter: Some(AdapterConfig { bottleneck: 4, ..Default::default() }),
            ..ViTConfig::new(16, 16, 2, 2)
        };
        let named = ViTConfig { adapter: None, ..config };
        let seen = Normalize::msip();
        let options =
            TeacherOptions { config: Some(named), input_stats: seen.clone(), ..Default::default() };
        let opened = TeacherModel::open(file(&config, &seen), &named, &options, &Device::Cpu);
        assert_eq!(opened.unwrap().target_dim, 16);
    }
}
