//! What a self-supervised objective is: random decisions drawn as data, and a loss that contains no others.

use candle_core::Tensor;
use pad_ops::{Mode, rng::Key};
use pad_train::Losses;

use crate::Result;

/// A self-supervised objective over a masked encoder.
pub trait Objective {
    /// The random decisions of one batch (MAE: a mask). Data, so that a test can supply them.
    type Draw;

    /// Draws the decisions for a batch, one key per image: an image's decisions do not depend on its batch.
    ///
    /// # Errors
    /// Images that do not fit the model.
    fn draw(&self, images: &Tensor, keys: &[Key]) -> Result<Self::Draw>;

    /// The loss on a batch. No randomness but dropout.
    ///
    /// # Shapes
    /// `images` (B, C, H, W), normalised.
    ///
    /// # Errors
    /// Images or a draw that do not fit the model.
    fn loss(&self, images: &Tensor, draw: &Self::Draw, mode: Mode) -> Result<Losses>;
}
