//! One error for programs that use several of the crates.

/// Any error of the crates below, by `?`. Its text is that of the error inside.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operator's.
    #[error(transparent)]
    Ops(#[from] pad_ops::Error),
    /// Of adapters, the ViT, parameters and checkpoints.
    #[error(transparent)]
    Adapter(#[from] pad_adapter::Error),
    /// Of training runs.
    #[error(transparent)]
    Train(#[from] pad_train::Error),
    /// Of images and sets.
    #[error(transparent)]
    Data(#[from] pad_data::Error),
    /// Of objectives, teachers and probes.
    #[error(transparent)]
    Ssl(#[from] pad_ssl::Error),
    /// Of segmentors and detectors.
    #[error(transparent)]
    Heads(#[from] pad_heads::Error),
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

/// [`std::result::Result`] with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
