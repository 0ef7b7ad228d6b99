//! Statistics of the images of a folder: what to normalise with, and where to put a fixed window.
//!
//!     cargo run --release --example stats -- DIR
//!     cargo run --release --example stats -- DIR --source llvip --every 10

use std::{path::PathBuf, };

use clap::Args;
use crate::run::Result;
use pad::data::{
    image::DecodeOptions,
    sets::{ImageFolder, ImageList},
    stats::Statistics,
    window::Window,
};

/// Prints statistics of the images of a folder.
#[derive(Args, Debug)]
pub(crate) struct Program {
    /// Folder of images, or a set in MSIP's layout
    images: PathBuf,
    /// These sources alone
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    source: Vec<String>,
    /// Every n-th image alone
    #[arg(long, value_name = "N", default_value_t = 1)]
    every: usize,
    /// Percentiles, 0 to 100
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "0.1,1,5,25,50,75,95,99,99.9"
    )]
    percentiles: Vec<f64>,
    /// Window of 16-bit and float images for mean and deviation: percentiles of each image
    #[arg(
        long,
        value_name = "LOW,HIGH",
        value_delimiter = ',',
        num_args = 1,
        default_value = "1,99"
    )]
    window: Vec<f64>,
    /// The same band for all images instead, in the files' units
    #[arg(long, value_name = "LOW,HIGH", value_delimiter = ',', allow_negative_numbers = true)]
    fixed: Vec<f64>,
    /// Radiometric JPEG: the coloured picture instead of the temperatures
    #[arg(long)]
    picture: bool,
}

pub(crate) fn run(program: &Program) -> Result<()> {
    let pair = |flag: &str, values: &[f64]| match values {
        &[low, high] => Ok((low, high)),
        other => Err(format!("--{flag}: expected LOW,HIGH, found {} numbers", other.len())),
    };
    let window = if program.fixed.is_empty() {
        let (low, high) = pair("window", &program.window)?;
        Window::Percentile { low, high }
    } else {
        let (low, high) = pair("fixed", &program.fixed)?;
        Window::Fixed { low, high }
    };
    let mut folder = ImageFolder::open(program.images)?.every(program.every);
    if !program.source.is_empty() {
        let names: Vec<&str> = program.source.iter().map(String::as_str).collect();
        folder = folder.only(&names)?;
    }
    let options = DecodeOptions { radiometric: !program.picture, ..Default::default() };
    let found = Statistics::of(&folder, &options, &window, &program.percentiles)?;
    println!("{} images, {} pixels", found.images, found.pixels);
    for source in folder.sources() {
        println!("  {:<30} {:>8} images", source.name, source.images);
    }
    let listed = |what: String, count: &usize| println!("  {what:<30} {count:>8} images");
    found.kinds.iter().for_each(|(kind, count)| listed(kind.to_string(), count));
    found.sizes.iter().take(10).for_each(|(size, count)| listed(size.to_string(), count));
    if found.sizes.len() > 10 {
        println!("  and {} more sizes", found.sizes.len() - 10);
    }
    println!("after the window, as shares of 255: mean {:.4}, std {:.4}", found.mean, found.std);
    println!("before it, in the files' units: min {}, max {}", found.range.0, found.range.1);
    for (percent, value) in program.percentiles.iter().zip(&found.percentiles) {
        println!("  percentile {percent:>5}: {value}");
    }
    if !found.unreadable.is_empty() {
        return Err(format!(
            "{} files could not be read; first: {}",
            found.unreadable.len(),
            found.unreadable[0]
        )
        .into());
    }
    Ok(())
}

