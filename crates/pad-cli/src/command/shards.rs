//! Writes a set into tar files, which network disks read faster than many small files, and checks
//! them.
//!
//!     pad shards MSIP --out shards --shards 64
//!     pad shards MSIP --out shards --verify

use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;
use pad::data::{
    Dataset,
    image::DecodeOptions,
    sets::ImageFolder,
    shards::{ShardSet, write},
};
use rayon::prelude::*;

use crate::{
    run::Result,
    tools::{
        data::Data,
        output::{Replace, print},
        values::count,
    },
};

/// Writes the images of a folder, and their RoI files, into tar files
#[derive(Args, Debug)]
pub(crate) struct Program {
    #[command(flatten)]
    data: Data,
    /// Folder of the tar files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
    /// Number of tar files; image I goes into file I modulo N
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = count)]
    shards: usize,
    /// Compare every image in the tar files with the folder's; write nothing
    #[arg(long, conflicts_with = "overwrite")]
    verify: bool,
}

pub(crate) fn run(program: &Program) -> Result<()> {
    let folder = program.data.required()?;
    if program.verify {
        return verify(&ImageFolder::open(folder)?, &ShardSet::open(&program.out)?);
    }
    program.replace.check_folder(&program.out, "tar")?;
    let folder = ImageFolder::open(folder)?;
    let bar = ProgressBar::new(folder.len() as u64);
    let paths = write(&folder, &program.out, program.shards, &mut |done| {
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let bytes: u64 = paths.iter().filter_map(|path| path.metadata().ok()).map(|m| m.len()).sum();
    print(format_args!(
        "{}: {} images in {} files, {:.1} MB",
        program.out.display(),
        folder.len(),
        paths.len(),
        bytes as f64 / 1e6
    ))
}

fn verify(folder: &ImageFolder, set: &ShardSet) -> Result<()> {
    if folder.len() != set.len() {
        return Err(format!("expected {} images, found {}", folder.len(), set.len()).into());
    }
    let options = DecodeOptions::default();
    let compare = |index: usize| -> Result<()> {
        let name = folder.name(index);
        if name != set.name(index) {
            return Err(format!("expected {name}, found {}", set.name(index)).into());
        }
        if folder.get(index, &options)? != set.get(index, &options)? {
            return Err(format!("{name}: the images differ").into());
        }
        Ok(())
    };
    let results: Vec<Result<()>> = (0..set.len()).into_par_iter().map(compare).collect();
    results.into_iter().collect::<Result<Vec<()>>>()?;
    print(format_args!("{} images are those of the folder", set.len()))
}
