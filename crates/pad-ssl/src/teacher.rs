//! Frozen encoders that a student learns from.

use std::sync::Arc;

use candle_core::Tensor;
use pad_adapter::vit::{PatchGrid, ViT};
use pad_ops::Mode;

use crate::{Error, Result};

/// A teacher and the width of its features.
#[derive(Clone)]
pub struct TeacherModel {
    /// The frozen encoder.
    pub teacher: Arc<dyn Teacher>,
    /// Values of one feature.
    pub target_dim: usize,
}

/// A teacher's output for a batch.
#[derive(Clone, Debug)]
pub struct TeacherTokens {
    /// (B, 1 + L, T), class token first; (B, L, T) for teachers without one.
    pub features: Tensor,
    /// Attention of each token, (B, 1 + L, 1 + L), rows that sum to 1; `None` if the teacher has
    /// none.
    pub attention: Option<Tensor>,
}

impl TeacherTokens {
    /// Checks that there is a class token and one token per patch of `grid`.
    ///
    /// # Errors
    /// [`Error::TeacherGrid`].
    pub fn expect_grid(&self, grid: PatchGrid) -> Result<()> {
        let found = self.features.dims3()?.1;
        if found == 1 + grid.len() { Ok(()) } else { Err(Error::TeacherGrid { grid, found }) }
    }

    /// Returns the features of the patches of `grid`, (B, L, T), without a class token.
    ///
    /// # Errors
    /// [`Error::TeacherGrid`].
    pub fn patches(&self, grid: PatchGrid) -> Result<Tensor> {
        let found = self.features.dims3()?.1;
        if found == grid.len() {
            return Ok(self.features.clone());
        }
        self.expect_grid(grid)?;
        Ok(self.features.narrow(1, 1, grid.len())?.contiguous()?)
    }

    /// Returns the attention of the class token, (B, L); `None` if the teacher has none.
    ///
    /// # Errors
    /// An attention of another shape than (B, N, N).
    pub fn importance(&self) -> Result<Option<Tensor>> {
        let Some(attention) = &self.attention else { return Ok(None) };
        let row = attention.narrow(1, 0, 1)?.squeeze(1)?;
        Ok(Some(row.narrow(1, 1, row.dim(1)?.saturating_sub(1))?.contiguous()?))
    }
}

/// A frozen encoder. Its weights must track nothing (plain tensors, no variables); results are
/// detached anyway.
///
/// Implemented by [`ClipTeacher`](crate::ClipTeacher), by [`ViT`] (for example with DINOv2's
/// weights), and through [`TeacherFn`] by any function.
pub trait Teacher: Send + Sync {
    /// Returns the features of every token.
    ///
    /// # Shapes
    /// `images` (B, C, H, W), normalised as the student sees them; result (B, 1 + L, T), class
    /// token first, or (B, L, T), on the student's patch grid.
    ///
    /// # Errors
    /// Images of a shape that the teacher does not take.
    fn features(&self, images: &Tensor) -> Result<Tensor>;

    /// Returns the features and, if the teacher has it, the attention, from one forward pass.
    ///
    /// # Errors
    /// Images of a shape that the teacher does not take.
    fn tokens(&self, images: &Tensor) -> Result<TeacherTokens> {
        Ok(TeacherTokens { features: self.features(images)?, attention: None })
    }
}

impl Teacher for ViT {
    fn features(&self, images: &Tensor) -> Result<Tensor> {
        let tokens = self.forward(&images.detach(), Mode::Eval)?.detach();
        Ok(self.config().prefix().without_registers(&tokens)?)
    }
}

/// A function as a teacher: any model of any crate, without a dependency on it. With
/// candle-transformers' DINOv2 (block 11 is the last of a ViT-S; its patches, without class token,
/// after the norm):
///
/// ```ignore
/// let dino = dinov2::vit_small(vb)?;
/// let teacher = TeacherFn(move |images: &Tensor| {
///     dino.get_intermediate_layers(images, &[11], false, false, true)?.squeeze(0)
/// });
/// ```
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use pad_ssl::{Teacher, TeacherFn};
///
/// // One feature a patch of 16 x 16 pixels: its mean.
/// let teacher = TeacherFn(|images: &Tensor| images.avg_pool2d(16)?.flatten_from(2)?.transpose(1, 2));
/// let images = Tensor::ones((2, 1, 32, 32), DType::F32, &Device::Cpu)?;
/// assert_eq!(teacher.features(&images)?.dims(), [2, 4, 1]);
/// # Ok::<(), pad_ssl::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TeacherFn<F>(
    /// From images (B, C, H, W) to features (B, 1 + L, T) or (B, L, T).
    pub F,
);

impl<F> Teacher for TeacherFn<F>
where
    F: Fn(&Tensor) -> candle_core::Result<Tensor> + Send + Sync,
{
    fn features(&self, images: &Tensor) -> Result<Tensor> {
        Ok((self.0)(&images.detach())?.detach())
    }
}
