//! An encoder that is fine-tuned on labelled images: the classifier as a task of pad-train, and the
//! settings of its run.

use candle_core::{Device, Tensor};
use pad_adapter::params::ParamStore;
use pad_data::loader::{Batch, Loader, LoaderConfig};
use pad_ops::{CrossEntropy, Mode, cross_entropy2d};
use pad_train::{
    AdamW, AdamWConfig, BoxError, EpochStream, Losses, Outcome, Parameter, Schedule, Task, Trainer,
    TrainerConfig,
};
use serde::{Deserialize, Serialize};

use super::{Classifier, fault, features::check_labels};
use crate::Result;

/// Trains a [`Classifier`] on the batches of a [`Loader`]: the mean cross entropy, without label
/// smoothing and with the same weight for every image.
pub struct Classification<'a> {
    classifier: &'a Classifier,
    device: Device,
}

impl<'a> Classification<'a> {
    /// Creates the task of training `classifier` on `device`.
    pub fn new(classifier: &'a Classifier, device: &Device) -> Self {
        Self { classifier, device: device.clone() }
    }

    fn loss(&self, batch: &Batch<Vec<usize>>, mode: Mode) -> Result<Losses> {
        check_labels(batch, self.classifier.config().classes)?;
        let logits = self.classifier.forward(&batch.images.to_device(&self.device)?, mode)?;
        // An image is a map of one pixel.
        let logits = logits.unsqueeze(2)?.unsqueeze(3)?;
        let labels: Vec<u32> = batch.labels.iter().map(|&label| label as u32).collect();
        let labels = Tensor::from_vec(labels, (batch.labels.len(), 1, 1), &self.device)?;
        let every = CrossEntropy { ignore_index: None, ..CrossEntropy::default() };
        Ok(Losses::new(cross_entropy2d(&logits, &labels, &every)?))
    }
}

impl Task for Classification<'_> {
    type Batch = Batch<Vec<usize>>;

    fn losses(&self, batch: &Self::Batch, mode: Mode) -> Result<Losses, BoxError> {
        Ok(self.loss(batch, mode)?)
    }

    fn images_in(&self, batch: &Self::Batch) -> usize {
        batch.len()
    }
}

/// How a [`Classifier`] is fine-tuned: AdamW, half a cosine after a linear warm-up.
///
/// ```
/// use candle_core::Device;
/// use pad_adapter::{params::{ParamStore, Plan}, vit::ViTConfig};
/// use pad_data::{Loader, LoaderConfig, draw::Canvas, sets::classification::ClassFolder, transform::ImagePipeline};
/// use pad_ops::{ImageSize, rng::Key};
/// use pad_ssl::probe::{Classifier, ClassifierConfig, FineTuning};
///
/// let folder = tempfile::tempdir().unwrap();
/// for (class, level) in [("cold", 20), ("warm", 200)] {
///     for image in 0..4_u8 {
///         let path = folder.path().join(format!("{class}/{image}.png"));
///         std::fs::create_dir_all(path.parent().unwrap()).unwrap();
///         Canvas::new(ImageSize::square(16), [level + image; 3]).save_png(path)?;
///     }
/// }
/// let set = || ClassFolder::open(folder.path());
/// let size = ImageSize::square(16);
/// let vit = ViTConfig { image_size: size, ..ViTConfig::new(8, 16, 1, 2) };
/// let store = ParamStore::scratch(&Device::Cpu, Key::new(0)).with_plan(Plan::everything());
/// let classifier = store.build(|vb| Classifier::new(&vit, &ClassifierConfig::new(2), vb))?;
///
/// let tuning = FineTuning { epochs: 8, lr: 1e-2, ..Default::default() };
/// // A set of fewer images than a batch is one batch.
/// let reading = FineTuning::loader(LoaderConfig { workers: 0, ..Default::default() }, 8);
/// assert_eq!((reading.batch_size, tuning.updates(1)), (8, 8));
/// let train = Loader::new(set()?, ImagePipeline { size, ..Default::default() }, reading.clone())?;
/// tuning.fit(&classifier, &store, &train, &Device::Cpu)?;
/// let val = Loader::new(set()?, ImagePipeline::evaluation(size), reading.in_order())?;
/// assert_eq!(classifier.scores(&val, &Device::Cpu)?.accuracy(), 1.0);
/// # Ok::<(), pad_ssl::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FineTuning {
    /// Passes over the training images. Default 20.
    pub epochs: usize,
    /// Number of updates in place of [`FineTuning::epochs`]: few labelled images are then seen more
    /// often. Default `None`.
    pub max_steps: Option<usize>,
    /// Peak learning rate. Default 5e-4.
    pub lr: f64,
    /// Share of the run in which the learning rate rises; without effect where it is less than an
    /// update. Default 0.1.
    pub warmup: f64,
    /// Weight decay of matrices. Default 0.05.
    pub weight_decay: f64,
    /// Maximum norm of the gradient. Default `None`.
    pub clip_norm: Option<f64>,
    /// Seed of dropout; that of order, crops and flips is the loader's. Default 0.
    pub seed: u64,
}

impl Default for FineTuning {
    fn default() -> Self {
        Self {
            epochs: 20,
            max_steps: None,
            lr: 5e-4,
            warmup: 0.1,
            weight_decay: 0.05,
            clip_norm: None,
            seed: 0,
        }
    }
}

impl FineTuning {
    /// Checks the settings and returns every fault at once.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe).
    ///
    /// ```
    /// use pad_ssl::probe::FineTuning;
    /// let wrong = FineTuning { epochs: 0, warmup: 1.0, ..Default::default() };
    /// assert_eq!(
    ///     wrong.validate().unwrap_err().to_string(),
    ///     "fine-tuning: `epochs` is 0, expected at least 1; `warmup` is 1, expected 0 or more, below 1"
    /// );
    /// ```
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        if self.epochs == 0 && self.max_steps.is_none() {
            faults.push("`epochs` is 0, expected at least 1".to_string());
        }
        if self.max_steps == Some(0) {
            faults.push("`max_steps` is 0, expected at least 1".into());
        }
        for (name, value) in [("lr", self.lr), ("weight_decay", self.weight_decay)] {
            if !(value >= 0.0 && value.is_finite()) {
                faults.push(format!("`{name}` is {value}, expected a finite number of 0 or more"));
            }
        }
        if !(0.0..1.0).contains(&self.warmup) {
            faults.push(format!("`warmup` is {}, expected 0 or more, below 1", self.warmup));
        }
        if let Some(norm) = self.clip_norm.filter(|norm| !(*norm > 0.0 && norm.is_finite())) {
            faults.push(format!("`clip_norm` is {norm}, expected a finite number above 0"));
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(fault(format!("fine-tuning: {}", faults.join("; "))))
    }

    /// Returns how a training set of `images` images is read: shuffled, without the incomplete last
    /// batch; of fewer images than a batch of `config`, as one batch.
    pub fn loader(config: LoaderConfig, images: usize) -> LoaderConfig {
        // An empty set stays an error of the loader.
        let batch_size = config.batch_size.min(images.max(1));
        LoaderConfig { batch_size, shuffle: true, drop_last: true, ..config }
    }

    /// Returns the number of updates of a run whose passes have `batches` batches.
    pub fn updates(&self, batches: usize) -> usize {
        self.max_steps.unwrap_or_else(|| self.epochs.saturating_mul(batches))
    }

    /// Creates the run over the parameters of `store` that its plan trains, for passes of `batches`
    /// batches. Hooks and a signal to stop can be added to it.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) for settings out of range, passes without a batch, and
    /// a store in which nothing trains.
    pub fn trainer<'h>(&self, store: &ParamStore, batches: usize) -> Result<Trainer<'h, AdamW>> {
        self.validate()?;
        if batches == 0 {
            return Err(fault("fine-tuning: a pass has no batch, expected at least 1"));
        }
        let parameters: Vec<Parameter> = crate::parameters(store, self.weight_decay);
        if parameters.is_empty() {
            return Err(fault("fine-tuning: nothing trains, expected a plan that trains the head"));
        }
        let steps = self.updates(batches);
        let length = steps as f64 / batches as f64;
        // A rise that is shorter than an update would leave that update without any rate.
        let warmup = if self.warmup * steps as f64 >= 1.0 { self.warmup * length } else { 0.0 };
        let schedule = Schedule::warmup_cosine(self.lr, 0.0, warmup, length);
        let config = TrainerConfig {
            epochs: steps.div_ceil(batches),
            max_steps: Some(steps),
            accumulate: 1,
            clip_norm: self.clip_norm,
            seed: self.seed,
        };
        Ok(Trainer::new(config, schedule, AdamW::new(parameters, AdamWConfig::default())?)?)
    }

    /// Fine-tunes `classifier`, whose parameters are those of `store`, on the images of `loader`.
    ///
    /// # Errors
    /// As [`FineTuning::trainer`]; as [`Trainer::run`].
    pub fn fit(
        &self,
        classifier: &Classifier,
        store: &ParamStore,
        loader: &Loader<Vec<usize>>,
        device: &Device,
    ) -> Result<Outcome> {
        let batches = loader.batches_per_epoch();
        let task = Classification::new(classifier, device);
        Ok(self.trainer(store, batches)?.run(&task, &mut Self::stream(loader))?)
    }

    /// Returns the batches of `loader` for a trainer.
    pub fn stream(loader: &Loader<Vec<usize>>) -> EpochStream<'_, Batch<Vec<usize>>> {
        EpochStream::new(loader.batches_per_epoch(), |pass, first, stride| {
            loader.epoch_strided(pass, first, stride)
        })
    }
}
