//! Statistics of the images of a folder: what to normalise with, and where to put fixed levels.
//!
//!     pad stats DIR
//!     pad stats DIR --sources llvip --every 10

use std::path::PathBuf;

use clap::Args;
use pad::data::{
    Dataset, dataset::Subset, image::DecodeOptions, sets::open_images, stats::Statistics,
    window::Window,
};
use serde_json::json;

use crate::{
    run::Result,
    tools::{
        data::Data,
        output::{Replace, print, write_json},
        reading::Files,
        values::{count, percentile, share},
    },
};

/// Prints statistics of the images of a folder
#[derive(Args, Debug)]
pub(crate) struct Program {
    #[command(flatten)]
    data: Data,
    /// Sources (folders of DIR) to read, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    sources: Vec<String>,
    /// Read every N-th image
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
    every: usize,
    /// Percentiles to print, 0 to 100, of the values in the files
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "0.1,1,5,25,50,75,95,99,99.9",
        value_parser = percentile
    )]
    percentiles: Vec<f64>,
    /// Range of 16-bit and float images that is mapped to black and white, for mean and standard
    /// deviation: percentiles of each image (1%,99%) or values of the file (28000,31000); or a gain
    /// control of each image: plateau, plateau:LIMIT%, clahe, clahe:TILES,LIMIT
    #[arg(long, value_name = "LOW,HIGH", default_value_t, allow_hyphen_values = true)]
    levels: Window,
    #[command(flatten)]
    files: Files,
    /// Maximum share of unreadable images, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share)]
    max_unreadable: f64,
    /// JSON file for the statistics
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    replace: Replace,
}

pub(crate) fn run(program: &Program) -> Result<()> {
    program.replace.check_some(program.json.as_ref())?;
    program.levels.validate()?;
    let mut images = Subset::all(open_images(program.data.required()?)?);
    if !program.sources.is_empty() {
        let names: Vec<&str> = program.sources.iter().map(String::as_str).collect();
        images = images.only(&names)?;
    }
    let images = images.every(program.every);
    let options = program.files.over(&DecodeOptions::default());
    let found = Statistics::of(&images, &options, &program.levels, &program.percentiles)?;

    print(format_args!("{} images, {} pixels", found.images, found.pixels))?;
    if found.masked > 0 {
        print(format_args!(
            "  {} more pixels are masked: nodata, NaN, absent or dead",
            found.masked
        ))?;
    }
    for source in images.sources() {
        print(format_args!("  {:<30} {:>8} images", source.name, source.images))?;
    }
    let listed = |what: String, count: usize| print(format_args!("  {what:<30} {count:>8} images"));
    for (kind, count) in &found.kinds {
        listed(kind.to_string(), *count)?;
    }
    for (size, count) in found.sizes.iter().take(10) {
        listed(size.to_string(), *count)?;
    }
    if found.sizes.len() > 10 {
        print(format_args!("  and {} more sizes", found.sizes.len() - 10))?;
    }
    let (mean, std, (low, high)) = (found.mean, found.std, found.range);
    print(format_args!("levels {} as 0 to 1: mean {mean:.4}, std {std:.4}", program.levels))?;
    print(format_args!("  for --normalize: {mean:.4},{std:.4}"))?;
    print(format_args!("values in the files: min {low}, max {high}"))?;
    for (percent, value) in program.percentiles.iter().zip(&found.percentiles) {
        print(format_args!("  percentile {percent:>5}: {value}"))?;
    }
    if let Some(path) = &program.json {
        write_json(path, &report(program, &found))?;
    }
    for fault in &found.unreadable {
        tracing::warn!("left out: {fault}");
    }
    let bad = found.unreadable.len();
    match found.unreadable.first() {
        Some(first) if bad as f64 > program.max_unreadable * images.len() as f64 => {
            Err(pad::data::Error::TooManyUnreadable {
                bad,
                seen: images.len(),
                allowed: program.max_unreadable,
                first: first.clone(),
            }
            .into())
        }
        _ => Ok(()),
    }
}

fn report(program: &Program, found: &Statistics) -> serde_json::Value {
    let counted = |name: String, images: usize| json!({ "name": name, "images": images });
    let kinds = found.kinds.iter().map(|(kind, images)| counted(kind.to_string(), *images));
    let sizes = found.sizes.iter().map(|(size, images)| counted(size.to_string(), *images));
    let percentiles = program.percentiles.iter().zip(&found.percentiles);
    json!({
        "images": found.images,
        "pixels": found.pixels,
        "levels": program.levels.to_string(),
        "mean": found.mean,
        "std": found.std,
        "min": found.range.0,
        "max": found.range.1,
        "percentiles": percentiles.map(|(percent, value)| json!([percent, value])).collect::<Vec<_>>(),
        "kinds": kinds.collect::<Vec<_>>(),
        "sizes": sizes.collect::<Vec<_>>(),
        "unreadable": found.unreadable,
    })
}
