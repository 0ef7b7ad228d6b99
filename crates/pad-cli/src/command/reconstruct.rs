//! Pictures of what a pre-trained model sees: input, kept patches, prediction and reconstruction;
//! and the patchwise scales of every block as heat maps.
//!
//!     pad reconstruct --run runs/pretrain-1          # images of the run, or rendered scenes
//!     pad reconstruct DIR --run runs/pretrain-1
//!
//! Writes `reconstruction.png` and, for a model with patchwise scales, `scales.png`.

use std::path::PathBuf;

use clap::Args;
use pad::{
    data::{SharedDataset, image::Image, sets::open_images},
    ssl::pictures::{reconstructions, scales},
};

use crate::{
    run::{
        Result,
        folder::{Reserved, reserve},
    },
    tools::{
        data::Data,
        device::Compute,
        images::{scenes, spread},
        output::{Replace, make_folder, print},
        reading::{Files, read_as},
        run_facts::RunFacts,
        values::count,
        view::View,
        weights::Weights,
    },
};

/// Draws reconstructions and patchwise scales of a pre-trained model
#[derive(Args, Debug)]
#[command(after_help = "Without DIR the images are those of the run, or rendered scenes.")]
pub(crate) struct Program {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    data: Data,
    /// Folder for the pictures [default: runs/reconstruct-1, or the next that is free]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    replace: Replace,
    /// Number of images in a picture, spread over the folder
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = count)]
    count: usize,
    /// Seed of masks and scenes
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    weights: Weights,
    #[command(flatten)]
    view: View,
    #[command(flatten)]
    compute: Compute,
}

pub(crate) fn run(program: &Program) -> Result<()> {
    // Held from the start: of two commands at once each gets its own.
    let reserved =
        program.out.is_none().then(|| reserve("reconstruct").map(Reserved)).transpose()?;
    let folder = match &reserved {
        Some(reserved) => reserved.0.clone(),
        None => program.out.clone().unwrap_or_default(),
    };
    let (reconstruction, heat) = (folder.join("reconstruction.png"), folder.join("scales.png"));
    program.replace.check(&reconstruction)?;
    program.replace.check(&heat)?;
    let source = program.weights.source();
    let facts = RunFacts::of(source)?;
    let data = program.data.folder().or(facts.data.as_deref());
    let images: Option<SharedDataset<Image>> = data.map(open_images).transpose()?;

    let device = program.compute.start()?;
    let opened = program.weights.autoencoder(program.view.known_size(&facts), &device)?;
    let config = *opened.mae.config();
    let input = program.view.input(&facts, &config.encoder, opened.input_stats.clone());
    print(&input)?;
    let pipeline = &input.pipeline;
    let images = match images {
        Some(images) => {
            let images = read_as(images, program.files.over(&facts.choice));
            spread(&images, pipeline, program.count)?
        }
        None => spread(&scenes(program.count, program.seed)?, pipeline, program.count)?,
    };
    let images = images.to_device(&device)?;

    make_folder(&folder)?;
    reconstructions(&opened.mae, &images, &pipeline.normalize, program.seed)?
        .save_png(&reconstruction)?;
    print(format_args!(
        "wrote {}: what {source} makes of removed patches",
        reconstruction.display()
    ))?;
    if config.norm_pix_loss {
        print(
            "  The model predicts patches of mean 0 and variance 1. The last column gives each removed patch its true\n  \
             mean and variance back, which shows outlines even for an untrained decoder: what was learnt is the column\n  \
             `predicted`.",
        )?;
    }
    match scales(opened.mae.encoder(), &images, &pipeline.normalize)? {
        Some(picture) => {
            picture.canvas.save_png(&heat)?;
            let (low, high) = picture.range;
            print(format_args!(
                "wrote {}: patchwise scales of every block, from {low:.3} to {high:.3}",
                heat.display()
            ))
        }
        None => print(format_args!("{source} has no patchwise scales")),
    }
}
