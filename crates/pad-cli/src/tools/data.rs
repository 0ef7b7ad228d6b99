//! The folder that a command reads.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::run::Result;

/// The folder of images, as an argument or as the flag that the trainers have.
#[derive(Args, Clone, Debug)]
pub struct Data {
    /// Folder of images (PNG, JPEG, BMP, TIFF, NumPy, sequences of thermal cameras) in any layout
    /// or MSIP's (NAME/thermal/*); except in `roi` and `shards` also one file of frames, or shards
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The same as DIR
    #[arg(long, value_name = "DIR", conflicts_with = "folder")]
    data: Option<PathBuf>,
}

impl Data {
    /// The folder, if one is given.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref().or(self.data.as_deref())
    }

    /// The folder.
    pub fn required(&self) -> Result<&Path> {
        self.folder().ok_or_else(|| "no images: expected DIR, a folder of images".into())
    }
}
