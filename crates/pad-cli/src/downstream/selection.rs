//! The images of an evaluation, where they are others than the run's.

use std::path::PathBuf;

use clap::Args;

use crate::tools::values;

/// The images of an evaluation.
#[derive(Args, Clone, Debug)]
pub struct Selection {
    /// Folder of labelled images [default: the run's, if the model is in the folder of its run]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Split of the folder [default: the run's for evaluation]
    #[arg(long, value_name = "NAME")]
    pub val_split: Option<String>,
    /// Number of images, the first ones [default: the run's]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub val_images: Option<usize>,
}

impl Selection {
    /// Replaces what a run has by what is given.
    pub fn over(&self, val_split: &mut String, val_images: &mut Option<usize>) {
        if let Some(name) = &self.val_split {
            val_split.clone_from(name);
        }
        *val_images = self.val_images.or(*val_images);
    }
}
