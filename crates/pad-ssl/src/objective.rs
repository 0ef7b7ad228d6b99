//! The interface of self-supervised objectives: random decisions as data, and a loss without
//! others.

use candle_core::Tensor;
use pad_ops::{Mode, rng::Key};
use pad_train::Losses;

use crate::Result;

/// A self-supervised objective over a masked encoder. [`Mae`](crate::Mae), [`Milan`](crate::Milan),
/// [`SimMim`](crate::SimMim) and [`FeatureTarget`](crate::FeatureTarget) implement it. A program
/// can bring its own:
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_nn::{Linear, Module, VarBuilder, linear};
/// use pad_adapter::{params::ParamStore, vit::{ViT, ViTConfig}};
/// use pad_ops::{ImageSize, Mode, rng::Key};
/// use pad_ssl::{Mask, Objective, Result};
/// use pad_train::Losses;
///
/// /// Predicts the mean level of a whole image from a quarter of its patches.
/// struct MeanLevel {
///     encoder: ViT,
///     head: Linear,
/// }
///
/// impl MeanLevel {
///     fn new(config: &ViTConfig, vb: VarBuilder) -> Result<Self> {
///         let head = linear(config.embed_dim, 1, vb.pp("head"))?;
///         Ok(Self { encoder: ViT::new(config, vb)?, head })
///     }
/// }
///
/// impl Objective for MeanLevel {
///     type Draw = Mask;
///
///     fn draw(&self, images: &Tensor, keys: &[Key]) -> Result<Mask> {
///         Mask::random(keys, self.encoder.grid_of(images)?.len(), 0.75, images.device())
///     }
///
///     fn loss(&self, images: &Tensor, mask: &Mask, mode: Mode) -> Result<Losses> {
///         let (tokens, _) = self.encoder.embed(images, Some(&mask.ids_keep))?;
///         let class = self.encoder.encode(&tokens, mode)?.narrow(1, 0, 1)?.squeeze(1)?;
///         let target = images.flatten_from(1)?.mean_keepdim(1)?;
///         Ok(Losses::new((self.head.forward(&class)? - target)?.sqr()?.mean_all()?))
///     }
/// }
///
/// let config = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(8, 16, 2, 2) };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_trained(|_| true);
/// let objective = store.build(|vb| MeanLevel::new(&config, vb))?;
/// let images = Tensor::randn(0_f32, 1.0, (2, 3, 32, 32), &Device::Cpu)?;
/// let draw = objective.draw(&images, &[Key::new(1).sample(0), Key::new(1).sample(1)])?;
/// objective.loss(&images, &draw, Mode::Eval)?.total.backward()?;
/// // `Pretraining::new(&objective, ..)` makes it a task for the trainer.
/// # Ok::<(), pad_ssl::Error>(())
/// ```
pub trait Objective {
    /// The random decisions of one batch (MAE: a mask). They are data, so that a test can supply
    /// them.
    type Draw;

    /// Draws the decisions for a batch, one key per image: an image's decisions do not depend on
    /// its batch.
    ///
    /// # Errors
    /// Images that do not fit the model.
    fn draw(&self, images: &Tensor, keys: &[Key]) -> Result<Self::Draw>;

    /// Returns the loss on a batch. The only randomness is dropout, drawn from `mode`.
    ///
    /// # Shapes
    /// `images` (B, C, H, W), normalised.
    ///
    /// # Errors
    /// Images or a draw that do not fit the model.
    fn loss(&self, images: &Tensor, draw: &Self::Draw, mode: Mode) -> Result<Losses>;
}

impl<O: Objective + ?Sized> Objective for &O {
    type Draw = O::Draw;

    fn draw(&self, images: &Tensor, keys: &[Key]) -> Result<O::Draw> {
        (**self).draw(images, keys)
    }

    fn loss(&self, images: &Tensor, draw: &O::Draw, mode: Mode) -> Result<Losses> {
        (**self).loss(images, draw, mode)
    }
}

/// The draw and the loss in one: an objective whose draws need not be seen.
pub(crate) trait KeyedLoss {
    /// Returns the loss on a batch, its decisions drawn from `keys`.
    fn keyed_loss(&self, images: &Tensor, keys: &[Key], mode: Mode) -> Result<Losses>;
}

impl<O: Objective> KeyedLoss for O {
    fn keyed_loss(&self, images: &Tensor, keys: &[Key], mode: Mode) -> Result<Losses> {
        self.loss(images, &self.draw(images, keys)?, mode)
    }
}

/// An objective of any type, chosen while the program runs. Its draw is the keys themselves. See
/// [`Network`](crate::Network) for the objectives of this crate.
pub struct AnyObjective<'a>(Box<dyn KeyedLoss + 'a>);

impl<'a> AnyObjective<'a> {
    /// Wraps an objective.
    pub fn new(objective: impl Objective + 'a) -> Self {
        Self(Box::new(objective))
    }
}

impl Objective for AnyObjective<'_> {
    type Draw = Vec<Key>;

    fn draw(&self, _: &Tensor, keys: &[Key]) -> Result<Vec<Key>> {
        Ok(keys.to_vec())
    }

    fn loss(&self, images: &Tensor, keys: &Vec<Key>, mode: Mode) -> Result<Losses> {
        self.0.keyed_loss(images, keys, mode)
    }
}
