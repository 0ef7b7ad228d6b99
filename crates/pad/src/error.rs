//! One error for programs that use several of the crates.

/// Any error of the crates below, by `?`. Its text is that of the error inside. Large ones are boxed, so that a
/// [`Result`] stays small.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operator's.
    #[error(transparent)]
    Ops(#[from] pad_ops::Error),
    /// Of adapters, the ViT, parameters and checkpoints.
    #[error(transparent)]
    Adapter(Box<pad_adapter::Error>),
    /// Of training runs.
    #[error(transparent)]
    Train(Box<pad_train::Error>),
    /// Of images and sets.
    #[error(transparent)]
    Data(Box<pad_data::Error>),
    /// Of objectives, teachers and probes.
    #[error(transparent)]
    Ssl(Box<pad_ssl::Error>),
    /// Of segmentors and detectors.
    #[error(transparent)]
    Heads(Box<pad_heads::Error>),
    /// Of rendered scenes.
    #[cfg(feature = "scenes")]
    #[error(transparent)]
    Scenes(#[from] pad_data::scenes::SceneError),
    /// candle's.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// Of files.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

macro_rules! boxed {
    ($($variant:ident: $error:ty),*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::$variant(Box::new(error))
            }
        })*
    };
}

boxed!(
    Adapter: pad_adapter::Error,
    Train: pad_train::Error,
    Data: pad_data::Error,
    Ssl: pad_ssl::Error,
    Heads: pad_heads::Error
);

/// [`std::result::Result`] with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
