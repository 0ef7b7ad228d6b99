//! Dropout with a name.

use candle_core::Tensor;

use crate::{Mode, Result, dropout::check_probability};

/// Dropout whose units are drawn from the place of its name inside the mode that it is given, so
/// that two of one layer do not drop the same units. It is no `candle_core::Module`: that trait has
/// no way to say whether a model trains, nor what to draw from.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_ops::{Mode, nn::Dropout, rng::Key};
/// let (x, mode) = (Tensor::ones(64, DType::F32, &Device::Cpu)?, Mode::Train(Key::new(1)));
/// let dropped = |name| Dropout::new(0.5, name)?.forward(&x, mode)?.to_vec1::<f32>();
/// assert_ne!(dropped("attn_drop")?, dropped("proj_drop")?);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Dropout {
    p: f64,
    name: String,
}

impl Dropout {
    /// Creates a dropout of probability `p`, named among those of its layer.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) unless `0 <= p < 1`.
    pub fn new(p: f64, name: impl Into<String>) -> Result<Self> {
        check_probability("dropout", p)?;
        Ok(Self { p, name: name.into() })
    }

    /// Applies [`crate::dropout`].
    ///
    /// # Errors
    /// As [`crate::dropout`].
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        crate::dropout(x, self.p, mode.scope(&self.name))
    }
}
