//! Features of all images of a folder, in a safetensors file.
//!
//!     pad embed DIR --out features.safetensors --run runs/pretrain-1
//!     pad embed DIR --weights hf://facebook/dinov2-small --image-size 224
//!
//! The file holds `features`, (images, D) for `--pool mean`, `class` and `head`, (images, 1 + L, D)
//! for `tokens`. Its metadata `names` lists the images as a JSON array in the same order; the others
//! say how the images became input. Unreadable images are reported and left out.

use std::{path::PathBuf, sync::atomic::Ordering, time::Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use pad::{
    checkpoint::FloatType,
    data::{Dataset, Loader, sets::open_images},
    ssl::{
        Pool,
        embed::{Pooling, embed},
    },
};

use crate::{
    run::{Result, signals::Signals},
    tools::{
        data::Data,
        device::Compute,
        output::{Replace, make_parent, print},
        reading::{Files, Reading, read_as},
        run_facts::RunFacts,
        view::View,
        weights::Weights,
    },
};

/// Writes the features of all images of a folder to a safetensors file
#[derive(Args, Debug)]
pub(crate) struct Program {
    #[command(flatten)]
    data: Data,
    /// File to write
    #[arg(long, value_name = "FILE", default_value = "features.safetensors")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
    /// Feature: mean (over the patch tokens), class (the class token), tokens (all of them, class
    /// token first), or head (the pooling layers of the weights: SigLIP's and PE's attention
    /// pooling, a norm of the mean)
    #[arg(long, value_name = "NAME", default_value_t)]
    pool: Pool,
    /// Save 16-bit floats
    #[arg(long)]
    half: bool,
    #[command(flatten)]
    weights: Weights,
    #[command(flatten)]
    view: View,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    compute: Compute,
}

pub(crate) fn run(program: &Program) -> Result<()> {
    let out = &program.out;
    if out.extension().is_none_or(|extension| extension != "safetensors") {
        return Err(
            format!("{}: expected a name that ends with .safetensors", out.display()).into()
        );
    }
    program.replace.check(out)?;
    let images = open_images(program.data.required()?)?;
    let device = program.compute.start()?;
    let facts = RunFacts::of(program.weights.source())?;
    let images = read_as(images, program.files.over(&facts.choice));
    let encoder = program.weights.encoder(program.view.size(&facts), &device)?;
    let input = program.view.input(&facts, encoder.vit.config(), encoder.input_stats.clone());
    print(&input)?;
    let signals = Signals::watch()?;

    let count = images.len();
    let loader: Loader = Loader::new(images, input.pipeline.clone(), program.reading.loader())?;
    let bar = ProgressBar::new(count as u64)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} images, {eta} left")?);
    let start = Instant::now();
    let pooling = match (program.pool, encoder.pool_head) {
        (Pool::Head, Some(head)) => Pooling::from(head),
        (Pool::Head, None) => {
            return Err(format!(
                "{}: no layers that pool its tokens, expected --pool mean, class or tokens",
                program.weights.source()
            )
            .into());
        }
        (pool, _) => pool.into(),
    };
    let embedded = embed(&encoder.vit, &loader, pooling, &device, |done| {
        bar.set_position(done as u64);
        !signals.stop.load(Ordering::Relaxed)
    })?;
    bar.finish_and_clear();
    let Some(embedded) = embedded else { return signals.stopped() };
    for bad in loader.unreadable() {
        tracing::warn!("left out: {}", bad.reason);
    }
    let images_per_s = embedded.names.len() as f64 / start.elapsed().as_secs_f64().max(1e-9);

    let embedded = embedded.with_input_stats(input.pipeline.normalize.clone());
    let mut notes = input.notes();
    notes.insert("weights".into(), program.weights.source().into());
    let float_type = if program.half { FloatType::F16 } else { FloatType::F32 };
    make_parent(out)?;
    embedded.save(out, float_type, &notes)?;
    print(format_args!(
        "wrote {}: features {:?} of {} images, {images_per_s:.1} images/s",
        out.display(),
        embedded.features.dims(),
        embedded.names.len()
    ))
}
