//! Pictures of what a pre-trained model sees: input, what is kept of it, its reconstruction; and the patchwise scales
//! of every block as heat maps.
//!
//!     cargo run --release --example reconstruct -- runs/pretrain-1 DIR
//!
//! DIR is a folder of images; without it the run's own images (or rendered scenes) are used. Writes
//! `reconstruction.png` and `scales.png` to the run folder, or to `--out`.

use std::{path::PathBuf, };

use clap::Args;
use crate::run::{Result, model, settings::Settings};

/// Draws reconstructions and patchwise scales of a pre-trained model.
#[derive(Args, Debug)]
pub(crate) struct Program {
    /// Folder of a run of `pretrain`
    run: PathBuf,
    /// Folder of images [default: the run's own]
    images: Option<PathBuf>,
    /// Folder for the pictures [default: the run's]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Images in a picture, spread over the folder
    #[arg(long, default_value_t = 6)]
    count: usize,
    /// Seed of the masks
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Use adapters of another backbone all the same
    #[arg(long)]
    force: bool,
    /// cpu, cuda, cuda:N, metal
    #[arg(long, default_value = "cpu")]
    device: String,
}

pub(crate) fn run(program: &Program) -> Result<()> {
    let device = run::device(program.device)?;
    let settings = Settings::of_run(program.run)?;
    let model = model::of_run(program.run, &device, program.force)?;
    let dataset = run::images::evaluation(&settings, program.images.as_deref())?;
    let images = run::images::spread(&dataset, program.count)?.to_device(&device)?;
    let normalize = settings.normalize()?;
    let folder = program.out.unwrap_or(program.run);
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let path = folder.join("reconstruction.png");
    run::pictures::reconstructions(model.mae()?, &images, &normalize, program.seed)?
        .save_png(&path)?;
    println!("wrote {}: input, kept patches, reconstruction", path.display());
    match run::pictures::scales(model.network.encoder(), &images, &normalize)? {
        Some((canvas, (low, high))) => {
            let path = folder.join("scales.png");
            canvas.save_png(&path)?;
            let blocks = model.config.encoder.depth;
            println!(
                "wrote {}: input, scales of blocks 0 to {}, from {low:.3} (dark) to {high:.3} (bright)",
                path.display(),
                blocks - 1
            );
        }
        None => println!("no patchwise scales in this model"),
    }
    Ok(())
}

