//! Errors of a training run.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use candle_core::{DType, Shape};

/// An error of a task, of data or of a hook, whose types this crate does not know.
///
/// ```
/// use pad_train::BoxError;
/// fn read(name: &str) -> Result<u8, BoxError> {
///     if name.is_empty() {
///         return Err("a name is empty".into());
///     }
///     Ok(name.parse()?) // any error
/// }
/// assert_eq!(read("7")?, 7);
/// assert_eq!(read("").unwrap_err().to_string(), "a name is empty");
/// # Ok::<(), BoxError>(())
/// ```
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// `Result` with this crate's [`Error`].
///
/// ```
/// use pad_train::{Gradients, candle_core::{Device, Tensor}};
/// fn clipped(tensor: Tensor) -> pad_train::Result<f64> {
///     let mut gradients = Gradients::new(vec![Some(tensor)]);
///     gradients.clip(1.0)?;
///     gradients.global_norm()
/// }
/// let norm = clipped(Tensor::new(&[3_f64, 4.0], &Device::Cpu)?)?;
/// assert!((norm - 1.0).abs() < 1e-6); // PyTorch divides by the norm + 1e-6
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that stopped a training run. Every variant names the place.
///
/// ```
/// use pad_train::{Error, Gradients, Sgd, SgdConfig};
/// let mut sgd = Sgd::new(vec![], SgdConfig::default())?;
/// let error = sgd.step(&Gradients::new(vec![]), -0.1, 0).unwrap_err();
/// assert!(matches!(error, Error::LearningRate { found: -0.1 }));
/// assert_eq!(error.to_string(), "learning rate: expected a finite number >= 0, found -0.1");
/// # Ok::<(), pad_train::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Settings are outside their ranges; all of them, not only the first.
    #[error("settings: {}", faults.join("; "))]
    Settings {
        /// One sentence each: name, found, expected.
        faults: Vec<String>,
    },
    /// Two parameters have the same name or are the same variable.
    #[error("parameter `{name}` is listed twice (first as `{first}`)")]
    DuplicateParameter {
        /// The second one's name.
        name: String,
        /// The first one's name.
        first: String,
    },
    /// A variable that cannot be trained.
    #[error("parameter `{name}`: expected dtype f32, f64, f16 or bf16, found {}", found.as_str())]
    ParameterDType {
        /// The parameter.
        name: String,
        /// Its dtype.
        found: DType,
    },
    /// A learning rate that is negative or not finite: a schedule's, or one given to an optimiser.
    #[error("learning rate: expected a finite number >= 0, found {found}")]
    LearningRate {
        /// The rate.
        found: f64,
    },
    /// The loss does not reach parameters that train; the update was not made.
    #[error(
        "step {step}: the loss does not reach {} of {trained} parameters that train: {}",
        names.len(), first_of(names)
    )]
    UnusedParameters {
        /// The step, counted from 1.
        step: usize,
        /// Number of parameters that train at this step.
        trained: usize,
        /// Names of those without a gradient.
        names: Vec<String>,
    },
    /// Gradients that belong to another list of parameters.
    #[error("expected gradients of {expected} parameters, found {found}")]
    GradientCount {
        /// Parameters of the optimiser.
        expected: usize,
        /// Entries given.
        found: usize,
    },
    /// A gradient of another shape than its parameter.
    #[error("gradient of `{name}`: expected shape {:?}, found {:?}", expected.dims(), found.dims())]
    GradientShape {
        /// The parameter.
        name: String,
        /// Its shape.
        expected: Shape,
        /// The gradient's shape.
        found: Shape,
    },
    /// A gradient holds NaN or an infinity. Nothing was updated.
    #[error("the gradient of `{name}` is not finite (its norm is {norm})")]
    NonFiniteGradient {
        /// The first such parameter.
        name: String,
        /// NaN or infinity.
        norm: f64,
    },
    /// A loss that is not one number.
    #[error("loss `{name}`: expected a scalar, found shape {found:?}")]
    NotScalar {
        /// `total`, or the name of a part.
        name: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// The loss or a gradient became NaN or infinite: the run cannot continue.
    #[error("step {step} (epoch {epoch}): {what}; {}", last_good(last_checkpoint.as_deref()))]
    Diverged {
        /// The step that failed, counted from 1.
        step: usize,
        /// Its epoch, counted from 0.
        epoch: usize,
        /// What was not finite.
        what: String,
        /// The newest checkpoint of this run.
        last_checkpoint: Option<PathBuf>,
    },
    /// Tensors of a file or a state do not fit what they are loaded into; nothing was loaded.
    #[error("{place}: {faults}")]
    Tensors {
        /// The file, or `optimizer state`.
        place: String,
        /// Every tensor that does not fit.
        faults: TensorFaults,
    },
    /// A checkpoint was made for something else, e.g. another frozen backbone; nothing was loaded.
    #[error("{}: metadata: {}", file.display(), faults.join("; "))]
    Metadata {
        /// The file.
        file: PathBuf,
        /// One sentence each: key, expected, found.
        faults: Vec<String>,
    },
    /// A file or folder could not be read or written.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        cause: std::io::Error,
    },
    /// A file is truncated, altered or of another kind than its name suggests.
    #[error("{}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, expected before found.
        what: String,
    },
    /// A checkpoint that a newer version of this crate wrote. Nothing in its folder is touched.
    #[error("{}: expected format {newest} or older, found {found}: a newer version wrote it", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The newest format that is read.
        newest: u32,
        /// Its format.
        found: u64,
    },
    /// Another process works in a folder.
    #[error("{} is in use by {holder}", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The process that holds it.
        holder: String,
    },
    /// A run cannot be continued from this checkpoint with these settings or data.
    #[error("cannot resume from {}: {}", checkpoint.display(), faults.join("; "))]
    Resume {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// One sentence each: expected (the checkpoint's) before found (this run's).
        faults: Vec<String>,
    },
    /// A folder does not hold the requested checkpoint.
    #[error("{}: expected the checkpoint `{wanted}`, found {}", folder.display(), listed(known))]
    NoCheckpoint {
        /// Folder of checkpoints.
        folder: PathBuf,
        /// The requested one: `latest`, `best` or its name.
        wanted: String,
        /// Names of those that exist, by step.
        known: Vec<String>,
    },
    /// A run would overwrite a later checkpoint.
    #[error(
        "{}: the run starts at step {step}, but the folder holds {}: resume from it, or use another folder",
        folder.display(), newest.display()
    )]
    FolderInUse {
        /// Folder of checkpoints.
        folder: PathBuf,
        /// Steps done when the run starts.
        step: usize,
        /// The later checkpoint.
        newest: PathBuf,
    },
    /// The task failed.
    #[error("step {step}: the task failed: {cause}")]
    Task {
        /// The step, counted from 1.
        step: usize,
        /// Its error.
        cause: BoxError,
    },
    /// The data failed.
    #[error("epoch {epoch}, batch {batch}: {cause}")]
    Data {
        /// Epoch, counted from 0.
        epoch: usize,
        /// Batch in the epoch, counted from 0.
        batch: usize,
        /// Its error.
        cause: BoxError,
    },
    /// An epoch ended before its time.
    #[error("epoch {epoch}: expected {expected} batches, the data ended after {found}")]
    ShortEpoch {
        /// Epoch, counted from 0.
        epoch: usize,
        /// The number that `per_epoch` gives.
        expected: usize,
        /// The number that came.
        found: usize,
    },
    /// A hook failed.
    #[error("hook `{hook}`: {cause}")]
    Hook {
        /// The hook's name.
        hook: String,
        /// Its error.
        cause: BoxError,
    },
    /// The group of processes broke: one is gone, does something else, or does not answer.
    #[error("rank {rank} of {world_size}: {what}")]
    Group {
        /// The process that noticed.
        rank: usize,
        /// Processes of the group.
        world_size: usize,
        /// What happened.
        what: String,
    },
    /// Another process of the group failed; all stop.
    #[error("rank {rank} failed: {what}")]
    Peer {
        /// Its rank.
        rank: usize,
        /// Its error.
        what: String,
    },
    /// Bytes that are not a PNG image.
    #[error("image `{tag}` is not a PNG file: {what}")]
    NotPng {
        /// The image's name in the log.
        tag: String,
        /// What is wrong.
        what: &'static str,
    },
    /// An error of candle.
    #[error("{doing}: {cause}")]
    Candle {
        /// What was being done, with the tensor's name.
        doing: String,
        /// candle's own error.
        cause: candle_core::Error,
    },
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |cause| Error::Io { path: path.to_path_buf(), cause }
    }

    /// For `map_err` on candle calls. `what` is a verb, `name` a tensor.
    pub(crate) fn candle(what: &str, name: &str) -> impl FnOnce(candle_core::Error) -> Self {
        move |cause| Error::Candle { doing: format!("{what} `{name}`"), cause }
    }

    /// Returns all faults as one error, or `Ok` without a fault.
    pub(crate) fn settings(faults: Vec<String>) -> Result<()> {
        if faults.is_empty() { Ok(()) } else { Err(Error::Settings { faults }) }
    }
}

/// The first names of a list, and how many more there are.
pub(crate) fn first_of(names: &[String]) -> String {
    let shown = names.get(..LISTED).unwrap_or(names).join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown}, .. and {more} more"),
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn last_good(checkpoint: Option<&Path>) -> String {
    match checkpoint {
        Some(path) => format!("last good checkpoint: {}", path.display()),
        None => "no checkpoint was written yet".into(),
    }
}

/// Maximum number of tensors of each kind that an error lists.
const LISTED: usize = 10;

/// Differences between the expected tensors and those that were found.
///
/// ```
/// use pad_train::TensorFaults;
/// let mut faults = TensorFaults::default();
/// assert!(faults.is_empty());
/// faults.missing.push("norm.bias".into());
/// let error = faults.into_result("model.safetensors").unwrap_err().to_string();
/// assert_eq!(error, "model.safetensors: 1 tensor missing (norm.bias)");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorFaults {
    /// Expected, not found.
    pub missing: Vec<String>,
    /// Found, not expected.
    pub unexpected: Vec<String>,
    /// Of another shape or dtype.
    pub wrong: Vec<WrongTensor>,
}

/// A tensor of another shape or dtype than expected.
///
/// ```
/// use pad_train::{Error, Parameter, Sgd, SgdConfig, candle_core::{Device, Var}};
/// let sgd = |values: &[f32]| -> Result<Sgd, Box<dyn std::error::Error>> {
///     let var = Var::new(values, &Device::Cpu)?;
///     Ok(Sgd::new(vec![Parameter::new("x", var)], SgdConfig::default())?)
/// };
/// let of_three = sgd(&[1.0, 2.0, 3.0])?.state()?;
/// let Err(Error::Tensors { faults, .. }) = sgd(&[1.0])?.load_state(&of_three) else { panic!() };
/// let wrong = &faults.wrong[0];
/// assert_eq!((wrong.expected.as_str(), wrong.found.as_str()), ("[1] f32", "[3] f32"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrongTensor {
    /// Its name.
    pub name: String,
    /// Shape and dtype, e.g. `[64, 768] f32`.
    pub expected: String,
    /// Shape and dtype.
    pub found: String,
}

impl TensorFaults {
    /// Returns whether there is no fault.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.wrong.is_empty()
    }

    /// Returns all faults as one error, or `Ok` without a fault.
    ///
    /// # Errors
    /// [`Error::Tensors`] at `place`.
    pub fn into_result(self, place: impl Into<String>) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        Err(Error::Tensors { place: place.into(), faults: self })
    }
}

/// One line, at most ten tensors of each kind:
/// `2 tensors missing (a, b); 1 unexpected (c); 1 wrong (d: expected [2] f32, found [3] f32)`.
impl fmt::Display for TensorFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong: Vec<String> = self
            .wrong
            .iter()
            .map(|w| format!("{}: expected {}, found {}", w.name, w.expected, w.found))
            .collect();
        let kinds =
            [("missing", &self.missing), ("unexpected", &self.unexpected), ("wrong", &wrong)];
        let mut separator = "";
        for (kind, items) in kinds.into_iter().filter(|(_, items)| !items.is_empty()) {
            let noun = if items.len() == 1 { "tensor" } else { "tensors" };
            let listed = items[..items.len().min(LISTED)].join(", ");
            let more = items.len().saturating_sub(LISTED);
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            write!(f, "{separator}{} {noun} {kind} ({listed}{more})", items.len())?;
            separator = "; ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let faults = TensorFaults {
            missing: vec!["a".into(), "b".into()],
            unexpected: vec!["c".into()],
            wrong: vec![WrongTensor {
                name: "d".into(),
                expected: "[2] f32".into(),
                found: "[3] f32".into(),
            }],
        };
        assert_eq!(
            faults.into_result("x.safetensors").unwrap_err().to_string(),
            "x.safetensors: 2 tensors missing (a, b); 1 tensor unexpected (c); \
             1 tensor wrong (d: expected [2] f32, found [3] f32)"
        );
        TensorFaults::default().into_result("x").unwrap();
        let missing = (0..13).map(|i| format!("w{i}")).collect();
        assert_eq!(
            TensorFaults { missing, ..TensorFaults::default() }.to_string(),
            "13 tensors missing (w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, and 3 more)"
        );
        let diverged = |last_checkpoint| {
            Error::Diverged { step: 7, epoch: 1, what: "the loss is NaN".into(), last_checkpoint }
                .to_string()
        };
        assert_eq!(
            diverged(None),
            "step 7 (epoch 1): the loss is NaN; no checkpoint was written yet"
        );
        assert_eq!(
            diverged(Some("run/checkpoint-00000005".into())),
            "step 7 (epoch 1): the loss is NaN; last good checkpoint: run/checkpoint-00000005"
        );
    }
}
