//! What a forward pass may do.

use crate::rng::Key;

/// What a forward pass may do. `Copy`, passed down, never stored in a layer: it replaces a `train`
/// flag and every hidden random number generator.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use pad_ops::{Mode, dropout, rng::Key};
/// let x = Tensor::new(&[1_f32, 2.0], &Device::Cpu)?;
/// assert_eq!(dropout(&x, 0.5, Mode::Eval)?.to_vec1::<f32>()?, [1.0, 2.0]);
/// let train = Mode::Train(Key::new(1));
/// let (first, again) = (dropout(&x, 0.5, train)?, dropout(&x, 0.5, train)?);
/// assert_eq!(first.to_vec1::<f32>()?, again.to_vec1::<f32>()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No dropout, no randomness.
    Eval,
    /// Dropout and drop path draw from this place.
    Train(Key),
}

impl Mode {
    /// Returns the mode inside layer `layer` of this place, so that no two layers drop the same
    /// units. Layers nest ([`Key::layer`]): a model hands `mode.layer(stage)` to a stage, which
    /// hands `mode.layer(block)` to its blocks.
    ///
    /// ```
    /// use pad_ops::{Mode, rng::Key};
    /// let mode = Mode::Train(Key::new(1));
    /// assert_ne!(mode.layer(0).layer(5), mode.layer(1).layer(5));
    /// assert_eq!(Mode::Eval.layer(3), Mode::Eval);
    /// ```
    #[must_use]
    pub fn layer(self, layer: u32) -> Self {
        match self {
            Mode::Eval => Mode::Eval,
            Mode::Train(key) => Mode::Train(key.layer(layer)),
        }
    }

    /// Returns the mode of the use `name` at this place ([`Key::scope`]): two dropouts of one layer
    /// that are given the same mode drop the same units; named, they do not.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use pad_ops::{Mode, dropout, rng::Key};
    /// let (x, mode) = (Tensor::ones(64, DType::F32, &Device::Cpu)?, Mode::Train(Key::new(1)));
    /// let first = dropout(&x, 0.5, mode.scope("attn_drop"))?.to_vec1::<f32>()?;
    /// let second = dropout(&x, 0.5, mode.scope("proj_drop"))?.to_vec1::<f32>()?;
    /// assert_ne!(first, second);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn scope(self, name: &str) -> Self {
        match self {
            Mode::Eval => Mode::Eval,
            Mode::Train(key) => Mode::Train(key.scope(name)),
        }
    }
}
