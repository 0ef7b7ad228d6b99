//! Writes a set into tar files, which network disks read faster than many small files, and checks them.
//!
//!     cargo run --release --example shards -- MSIP shards --shards 64
//!     cargo run --release --example shards -- MSIP shards --verify

use std::{path::PathBuf, };

use clap::Args;
use crate::run::Result;
use indicatif::ProgressBar;
use pad::data::{
    image::DecodeOptions,
    sets::{ImageFolder, ImageSource},
    shards::{ShardSet, write},
};
use rayon::prelude::*;

/// Writes the images of a folder, and their RoI files, into tar files.
#[derive(Args, Debug)]
pub(crate) struct Program {
    /// Folder of images, or a set in MSIP's layout
    images: PathBuf,
    /// Folder of the tar files
    out: PathBuf,
    /// How many; images are dealt out in turn
    #[arg(long, value_name = "N", default_value_t = 16)]
    shards: usize,
    /// Compare every image of the tar files with the folder's; write nothing
    #[arg(long)]
    verify: bool,
}

pub(crate) fn run(program: &Program) -> Result<()> {
    let folder = ImageFolder::open(program.images)?;
    if program.verify {
        let set = ShardSet::open(program.out)?;
        return verify(&folder, &set);
    }
    let bar = ProgressBar::new(folder.len() as u64);
    let paths = write(&folder, &program.out, program.shards, &mut |done| {
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let bytes: u64 = paths.iter().filter_map(|path| path.metadata().ok()).map(|m| m.len()).sum();
    println!(
        "{}: {} images in {} files, {:.1} MB",
        program.out.display(),
        folder.len(),
        paths.len(),
        bytes as f64 / 1e6
    );
    Ok(())
}

fn verify(folder: &ImageFolder, set: &ShardSet) -> Result<()> {
    if folder.len() != set.len() {
        return Err(format!("expected {} images, found {}", folder.len(), set.len()).into());
    }
    let options = DecodeOptions::default();
    let compare = |index: usize| -> Result<()> {
        let name = ImageSource::name(folder, index);
        if name != ImageSource::name(set, index) {
            return Err(format!("expected {name}, found {}", ImageSource::name(set, index)).into());
        }
        if folder.load(index, &options)? != set.load(index, &options)? {
            return Err(format!("{name}: the images differ").into());
        }
        Ok(())
    };
    let results: Vec<Result<()>> = (0..set.len()).into_par_iter().map(compare).collect();
    results.into_iter().collect::<Result<Vec<()>>>()?;
    println!("{} images are those of the folder", set.len());
    Ok(())
}

