//! Features of images, with their names.

use std::{collections::BTreeMap, path::Path};

use candle_core::{Device, Tensor};
use pad_adapter::{
    checkpoint::{Checkpoint, FloatType, save},
    vit::{PoolHead, Prefix, ViT},
};
use pad_data::{loader::Loader, transform::Normalize};
use pad_ops::Mode;

use crate::{
    Pool, Result,
    in_order::{finite_values, for_each_batch},
    stored::{input_stats, normalize},
};

/// The tensor of a file of features.
const FEATURES: &str = "features";
/// Metadata keys: names as a JSON array, and how tokens were pooled.
const NAMES: &str = "names";
const POOL: &str = "pool";

/// How an encoder's tokens become features: by a rule, or by layers.
///
/// ```
/// use pad_ssl::{Pool, embed::Pooling};
/// assert_eq!(Pooling::from(Pool::Class).pool(), Pool::Class);
/// ```
#[derive(Clone, Debug)]
pub struct Pooling {
    pool: Pool,
    head: Option<PoolHead>,
}

impl Pooling {
    /// The rule; [`Pool::Head`] for layers.
    pub fn pool(&self) -> Pool {
        self.pool
    }

    fn apply(&self, tokens: &Tensor, prefix: Prefix) -> Result<Tensor> {
        match &self.head {
            Some(head) => Ok(head.forward(tokens)?),
            None => self.pool.apply(tokens, prefix),
        }
    }
}

impl From<Pool> for Pooling {
    fn from(pool: Pool) -> Self {
        Self { pool, head: None }
    }
}

impl From<PoolHead> for Pooling {
    fn from(head: PoolHead) -> Self {
        Self { pool: Pool::Head, head: Some(head) }
    }
}

/// Features of images.
#[derive(Clone, Debug)]
pub struct ImageFeatures {
    /// (N, D), or (N, 1 + L, D) for [`Pool::Tokens`].
    pub features: Tensor,
    /// Name of each image.
    pub names: Vec<String>,
    /// Which tokens make a feature.
    pub pool: Pool,
    /// Statistics that the images were normalised with. `None`: unknown.
    pub input_stats: Option<Normalize>,
}

/// Computes the features of all images of a loader that neither shuffles nor drops, in their order.
/// Unreadable images within the loader's tolerance are left out ([`Loader::unreadable`] lists
/// them). `progress` is called after each batch with the number of images so far; returns `None`
/// once it returns `false`.
///
/// # Errors
/// A loader that drops its last images, more unreadable images than it tolerates, no readable image,
/// images that do not fit the encoder, or features that are not finite.
pub fn embed<L: Send + 'static>(
    encoder: &ViT,
    loader: &Loader<L>,
    pooling: impl Into<Pooling>,
    device: &Device,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Option<ImageFeatures>> {
    let pooling = pooling.into();
    // One array for all: features of patches take gigabytes, which must not be held twice.
    let (mut values, mut names) = (Vec::<f32>::new(), Vec::new());
    let mut shape = Vec::new();
    let all = for_each_batch(loader, device, |images, batch| {
        let tokens = encoder.forward(images, Mode::Eval)?.detach();
        let rows = pooling.apply(&tokens, encoder.config().prefix())?;
        shape = rows.dims()[1..].to_vec();
        let rows = finite_values(&rows, &batch.names, "feature")?;
        if values.is_empty() {
            values.reserve_exact(rows.len() / batch.names.len().max(1) * loader.len());
        }
        values.extend(rows);
        names.extend(batch.names);
        Ok(progress(names.len()))
    })?;
    if !all {
        return Ok(None);
    }
    shape.insert(0, names.len());
    let features = Tensor::from_vec(values, shape, &Device::Cpu)?;
    Ok(Some(ImageFeatures { features, names, pool: pooling.pool, input_stats: None }))
}

impl ImageFeatures {
    /// Sets the statistics that the images were normalised with, to be stored.
    #[must_use]
    pub fn with_input_stats(self, normalize: Normalize) -> Self {
        Self { input_stats: Some(normalize), ..self }
    }

    /// Writes a safetensors file, atomically: the tensor `features`, and as metadata the names (a
    /// JSON array), the pooling and the input statistics. `notes` are further metadata.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(
        &self,
        path: impl AsRef<Path>,
        float_type: FloatType,
        notes: &BTreeMap<String, String>,
    ) -> Result<()> {
        let path = path.as_ref();
        let names = serde_json::to_string(&self.names).map_err(|error| {
            pad_adapter::Error::Format { path: path.to_path_buf(), what: error.to_string() }
        })?;
        let mut metadata = notes.clone();
        metadata.insert(NAMES.into(), names);
        metadata.insert(POOL.into(), self.pool.to_string());
        if let Some(normalize) = &self.input_stats {
            input_stats(normalize).write(&mut metadata);
        }
        let tensors = BTreeMap::from([(FEATURES.to_string(), self.features.clone())]);
        Ok(save(path, &tensors, &metadata, float_type)?)
    }

    /// Reads a file that [`ImageFeatures::save`] wrote.
    ///
    /// # Errors
    /// A file that cannot be read or is of another kind.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let mut file = Checkpoint::open(path)?;
        let path = file.path().to_path_buf();
        let fault = |what: String| pad_adapter::Error::Format { path: path.clone(), what };
        let names = file.metadata().get(NAMES).map_or("[]", String::as_str);
        let names: Vec<String> = serde_json::from_str(names)
            .map_err(|error| fault(format!("metadata `{NAMES}`: {error}")))?;
        // Files of earlier versions do not say how tokens were pooled.
        let pool = file.metadata().get(POOL).map_or(Ok(Pool::default()), |name| name.parse())?;
        let input_stats = file.input_stats()?.map(normalize);
        let features = file
            .remove(FEATURES)
            .ok_or_else(|| fault(format!("no tensor `{FEATURES}`, expected a file of features")))?;
        let rows = features.dims().first().copied().unwrap_or(0);
        if rows != names.len() {
            return Err(fault(format!(
                "{} names, expected {rows}, one for each feature",
                names.len()
            ))
            .into());
        }
        Ok(Self { features, names, pool, input_stats })
    }
}
