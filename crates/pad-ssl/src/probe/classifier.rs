//! An encoder with a linear head over its pooled tokens.

use candle_core::{D, Device, Tensor};
use candle_nn::{Init, VarBuilder};
use pad_adapter::{
    params::{ParamStore, Plan, Role},
    vit::{ViT, ViTConfig},
};
use pad_data::{loader::Loader, transform::Normalize};
use pad_ops::{Mode, nn::Linear, rng::Key};

use super::{Scores, fault, features::check_labels};
use crate::{
    OpenOptions, Pool, Result,
    in_order::{finite_values, for_each_batch},
    open::{Prepared, prepare},
};

/// Standard deviation of the head's first weights: all classes are about equally likely.
const HEAD_STD: f64 = 0.01;

/// What a [`Classifier`] has beside its encoder.
///
/// ```
/// use pad_ssl::{Pool, probe::ClassifierConfig};
/// let config = ClassifierConfig { seed: 3, ..ClassifierConfig::new(12) };
/// assert_eq!((config.classes, config.pool), (12, Pool::Mean));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassifierConfig {
    /// Number of classes.
    pub classes: usize,
    /// Which tokens make the feature that is classified: [`Pool::Mean`] or [`Pool::Class`].
    pub pool: Pool,
    /// Seed of the head's first values.
    pub seed: u64,
}

impl ClassifierConfig {
    /// A head for `classes` classes over the mean of the patches.
    pub fn new(classes: usize) -> Self {
        Self { classes, pool: Pool::Mean, seed: 0 }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) for fewer than two classes, and for a pooling that
    /// gives no single feature or needs layers of its own.
    pub fn validate(&self) -> Result<()> {
        if self.classes < 2 {
            return Err(fault(format!("`classes` is {}, expected at least 2", self.classes)));
        }
        match self.pool {
            Pool::Mean | Pool::Class => Ok(()),
            pool => Err(fault(format!("`pool` is {pool}, expected mean or class"))),
        }
    }
}

/// An encoder with a linear head over its pooled tokens.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use pad_adapter::{params::{ParamStore, Plan}, vit::ViTConfig};
/// use pad_ops::{ImageSize, Mode, rng::Key};
/// use pad_ssl::probe::{Classifier, ClassifierConfig};
///
/// let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 1, 2) };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_plan(Plan::everything());
/// let classifier = store.build(|vb| Classifier::new(&vit, &ClassifierConfig::new(3), vb))?;
/// let images = Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// assert_eq!(classifier.forward(&images, Mode::Eval)?.dims(), [2, 3]);
/// # Ok::<(), pad_ssl::Error>(())
/// ```
#[derive(Clone)]
pub struct Classifier {
    encoder: ViT,
    head: Linear,
    config: ClassifierConfig,
    frozen_encoder: bool,
}

impl Classifier {
    /// Builds the encoder from `vb`'s tensors and the head from `head.weight` (classes, D) and
    /// `head.bias` (classes).
    ///
    /// # Errors
    /// An invalid configuration, or one that needs a class token that the encoder does not have;
    /// tensors that `vb` lacks.
    pub fn new(
        encoder: &ViTConfig,
        config: &ClassifierConfig,
        vb: VarBuilder<'static>,
    ) -> Result<Self> {
        config.validate()?;
        if config.pool == Pool::Class && !encoder.class_token {
            return Err(fault("`pool` is class, expected mean: the encoder has no class token"));
        }
        let shape = (config.classes, encoder.embed_dim);
        let normal = Init::Randn { mean: 0.0, stdev: HEAD_STD };
        let head = vb.pp("head");
        let weight = head.get_with_hints(shape, "weight", normal)?;
        let bias = head.get_with_hints(config.classes, "bias", Init::Const(0.0))?;
        let encoder = ViT::new(encoder, vb)?;
        let head = Linear::new(weight, Some(bias));
        Ok(Self { encoder, head, config: *config, frozen_encoder: false })
    }

    /// Sets whether nothing in the encoder trains: then it runs as in evaluation in training, too,
    /// without drop path and dropout, which would be noise that nothing learns from. Default:
    /// false; [`Classifier::open`] sets it by its plan.
    #[must_use]
    pub fn with_frozen_encoder(mut self, frozen_encoder: bool) -> Self {
        self.frozen_encoder = frozen_encoder;
        self
    }

    /// Opens an encoder as [`open_encoder`](crate::open_encoder) does, adapters included, and puts
    /// a new head on it; `plan` says, given the encoder's configuration, what will train. A head
    /// that the file has is left out, and the encoder has no drop path.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use candle_core::Device;
    /// use pad_adapter::{checkpoint::{FloatType, save}, params::{ParamStore, Plan, Role}, vit::{ViT, ViTConfig}};
    /// use pad_ops::{ImageSize, rng::Key};
    /// use pad_ssl::{OpenOptions, probe::{Classifier, ClassifierConfig}};
    ///
    /// let vit = ViTConfig { image_size: ImageSize::square(32), ..ViTConfig::new(16, 16, 1, 2) };
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// store.build(|vb| ViT::new(&vit, vb))?;
    /// let folder = tempfile::tempdir().unwrap();
    /// let file = folder.path().join("vit.safetensors");
    /// save(&file, &store.tensors(|_| true), &BTreeMap::new(), FloatType::F32)?;
    ///
    /// let options = OpenOptions::default().with_config(Some(vit));
    /// let heads = |_: &ViTConfig| Plan::of_roles(|role| role == Role::Head);
    /// let opened =
    ///     Classifier::open(file.to_str().unwrap(), &options, &ClassifierConfig::new(5), heads)?;
    /// assert_eq!(opened.store.summary().trained, 5 * 16 + 5);
    /// # Ok::<(), pad_ssl::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`open_encoder`](crate::open_encoder); an invalid configuration.
    pub fn open(
        source: &str,
        options: &OpenOptions,
        config: &ClassifierConfig,
        plan: impl FnOnce(&ViTConfig) -> Plan,
    ) -> Result<OpenedClassifier> {
        config.validate()?;
        let Prepared { config: vit, mut checkpoint, input_stats, notes, device, .. } =
            prepare(source, options)?;
        // A segmentor's or detector's file holds the drop path that it was trained with.
        let vit = ViTConfig { drop_path: 0.0, ..vit };
        checkpoint.retain(|name| Role::of(name) != Role::Head);
        let store = ParamStore::from_checkpoint(checkpoint, &device, Key::new(config.seed))
            .with_unused(|role: Role| role.is_decoder())
            .with_fresh(|role| role == Role::Head)
            .with_plan(plan(&vit));
        let classifier = store.build(|vb| Self::new(&vit, config, vb))?;
        let frozen = !store.planned().iter().any(|one| one.role != Role::Head);
        let classifier = classifier.with_frozen_encoder(frozen);
        Ok(OpenedClassifier { classifier, store, input_stats, notes })
    }

    /// Returns the encoder.
    pub fn encoder(&self) -> &ViT {
        &self.encoder
    }

    /// Returns the settings of the head.
    pub fn config(&self) -> &ClassifierConfig {
        &self.config
    }

    /// Computes the logits of images.
    ///
    /// # Shapes
    /// `images` (B, C, H, W); result (B, classes).
    ///
    /// # Errors
    /// Images that do not fit the encoder.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let below = if self.frozen_encoder { Mode::Eval } else { mode };
        let tokens = self.encoder.forward(images, below)?;
        let features = self.config.pool.apply(&tokens, self.encoder.config().prefix())?;
        Ok(self.head.forward(&features)?)
    }

    /// Classifies the images of a loader that neither shuffles nor drops, and compares with their
    /// labels. Unreadable images within the loader's tolerance are left out.
    ///
    /// # Errors
    /// A loader that drops its last images, more unreadable images than it tolerates, no readable
    /// image, images that do not fit the encoder, labels beyond the classes, logits that are not
    /// finite.
    pub fn scores(&self, loader: &Loader<Vec<usize>>, device: &Device) -> Result<Scores> {
        let (mut predicted, mut labels) = (Vec::new(), Vec::new());
        for_each_batch(loader, device, |images, batch| {
            let logits = self.forward(images, Mode::Eval)?.detach();
            finite_values(&logits, &batch.names, "logit")?;
            check_labels(&batch, self.config.classes)?;
            let classes: Vec<u32> = logits.argmax(D::Minus1)?.to_vec1()?;
            predicted.extend(classes.into_iter().map(|class| class as usize));
            labels.extend(batch.labels);
            Ok(true)
        })?;
        Scores::of_labels(&predicted, &labels, self.config.classes)
    }
}

/// An opened encoder with a new head.
#[derive(Clone)]
#[non_exhaustive]
pub struct OpenedClassifier {
    /// The classifier, adapters included.
    pub classifier: Classifier,
    /// Its parameters.
    pub store: ParamStore,
    /// Statistics of the images that the weights were trained on, if the file has them.
    pub input_stats: Option<Normalize>,
    /// Lines for the log: what was converted, fitted or assumed.
    pub notes: Vec<String>,
}
