//! Features of all images of a folder, to a safetensors file.
//!
//!     cargo run --release --example embed -- DIR features.safetensors --run runs/pretrain-1
//!     cargo run --release --example embed -- DIR features.safetensors --weights vit.safetensors --model base
//!
//! The file holds `features` (images, D) for `--pool mean` and `class`, (images, 1 + L, D) for `tokens`; its metadata
//! `names` lists the images as a JSON array, in the same order. Unreadable images are reported and left out.

use std::{collections::BTreeMap, path::PathBuf, };

use candle_core::Tensor;
use clap::{Args, ValueEnum};
use crate::run::{
    Result, model,
    settings::{Flags, Settings},
};
use indicatif::ProgressIterator;
use pad::{
    Mode,
    checkpoint::{FloatType, save},
};

/// Which tokens make an image's feature.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Pool {
    /// The mean over the patches
    Mean,
    /// The class token
    Class,
    /// All tokens, class token first
    Tokens,
}

/// Writes features of all images of a folder to a safetensors file.
#[derive(Args, Debug)]
pub(crate) struct Program {
    /// Folder of images
    images: PathBuf,
    /// File to write
    output: PathBuf,
    /// Folder of a run of `pretrain`; without it the weights named by --weights
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Which tokens make a feature
    #[arg(long, value_enum, default_value = "mean")]
    pool: Pool,
    /// Use adapters of another backbone all the same
    #[arg(long)]
    force: bool,
    /// Store 16-bit floats
    #[arg(long)]
    half: bool,
    #[command(flatten)]
    flags: Flags,
}

pub(crate) fn run(program: &Program) -> Result<()> {
    let flags = Flags { data: Some(program.images.clone()), ..program.flags.clone() };
    let config = program.run.as_ref().map(|folder| folder.join("config.toml"));
    let settings = Settings::merge(config.as_deref(), &flags)?;
    run::threads(settings.threads)?;
    let device = run::device(&settings.device)?;
    let vit = match &program.run {
        Some(folder) => model::of_run(folder, &device, program.force)?.network.encoder().clone(),
        None => model::encoder(&settings, &device)?,
    };
    let dataset = run::images::evaluation(&settings, Some(program.images))?;
    let loader = run::images::in_order(&settings, dataset)?;
    let (mut features, mut names) = (Vec::new(), Vec::new());
    let start = std::time::Instant::now();
    for batch in loader.epoch(0, 0)?.progress_count(loader.batches_per_epoch() as u64) {
        let batch = batch?;
        let tokens = vit.forward(&batch.images.to_device(&device)?, Mode::Eval)?;
        let patches = tokens.dim(1)? - 1;
        features.push(match program.pool {
            Pool::Mean => tokens.narrow(1, 1, patches)?.mean(1)?,
            Pool::Class => tokens.narrow(1, 0, 1)?.squeeze(1)?,
            Pool::Tokens => tokens,
        });
        names.extend(batch.indices.iter().map(|&index| loader.dataset().name(index)));
    }
    if features.is_empty() {
        return Err(format!("{}: not one readable image", program.images.display()).into());
    }
    let features = Tensor::cat(&features, 0)?;
    let images_per_s = names.len() as f64 / start.elapsed().as_secs_f64();
    let metadata = BTreeMap::from([("names".to_string(), serde_json::to_string(&names)?)]);
    let float_type = if program.half { FloatType::F16 } else { FloatType::F32 };
    let shape = features.dims().to_vec();
    save(program.output, &BTreeMap::from([("features".into(), features)]), &metadata, float_type)?;
    println!("wrote {}: features {shape:?}, {images_per_s:.1} images/s", program.output.display());
    Ok(())
}

