//! An objective that draws a mask, with another masking strategy than its own.

use std::{any::Any, sync::Arc};

use candle_core::Tensor;
use pad_adapter::vit::{PatchGrid, ViT};
use pad_ops::{ImageSize, Mode, rng::Key};
use pad_train::Losses;

use crate::{Mask, Masking, Objective, Result, Teacher, student::Student};

/// An objective whose masks are drawn by a [`Masking`]:
/// `MaskedBy::new(&mae, Masking::Intensity, 16, 0.75)`.
#[derive(Clone)]
pub struct MaskedBy<O> {
    objective: O,
    masking: Masking,
    patch_size: usize,
    mask_ratio: f64,
    teacher: Option<Arc<dyn Teacher>>,
}

impl<O: Objective<Draw = Mask>> MaskedBy<O> {
    /// Wraps `objective`, whose encoder has patches of `patch_size` pixels: `masking` removes the
    /// fraction `mask_ratio`.
    pub fn new(objective: O, masking: Masking, patch_size: usize, mask_ratio: f64) -> Self {
        Self { objective, masking, patch_size, mask_ratio, teacher: None }
    }

    /// Sets the teacher whose attention [`Masking::Attention`] follows.
    #[must_use]
    pub fn with_teacher(self, teacher: Arc<dyn Teacher>) -> Self {
        Self { teacher: Some(teacher), ..self }
    }
}

impl<O: Objective<Draw = Mask>> Objective for MaskedBy<O> {
    type Draw = Mask;

    fn draw(&self, images: &Tensor, keys: &[Key]) -> Result<Mask> {
        let (_, _, height, width) = images.dims4()?;
        let grid = PatchGrid::of(ImageSize { height, width }, self.patch_size)?;
        let importance = match &self.teacher {
            Some(teacher) if self.masking == Masking::Attention => {
                let tokens = teacher.tokens(images)?;
                tokens.expect_grid(grid)?;
                tokens.importance()?
            }
            _ => None,
        };
        self.masking.draw(images, grid, self.mask_ratio, importance.as_ref(), keys)
    }

    fn loss(&self, images: &Tensor, mask: &Mask, mode: Mode) -> Result<Losses> {
        self.objective.loss(images, mask, mode)
    }
}

impl<O: Student + Objective<Draw = Mask>> Student for MaskedBy<O> {
    fn encoder(&self) -> &ViT {
        self.objective.encoder()
    }

    fn as_any(&self) -> &dyn Any {
        self.objective.as_any()
    }
}
