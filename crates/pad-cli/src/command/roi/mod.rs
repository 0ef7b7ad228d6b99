//! Finds the regions of interest of infrared images and writes a RoI file for each, for
//! `pad pretrain` to crop around.
//!
//!     pad roi                       # rendered scenes, needs nothing
//!     pad roi DIR                   # DIR/NAME/thermal/* to DIR/NAME/roi/*
//!     pad roi DIR --part 1/4        # a quarter of the images, on each of four machines
//!     pad roi DIR --preview 12      # draws the regions of 12 images
//!
//! Images whose RoI file exists are skipped, and a file is whole or absent: stop it (Ctrl-C) and
//! start it again at will.

mod flags;
mod preview;
mod search;

use std::{
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use clap::Args;
use pad::data::{
    Dataset, Error,
    image::DecodeOptions,
    scenes::{SceneConfig, SceneSet, Size},
    sets::{ImageFolder, gray_levels},
    window::Window,
};

use self::{
    flags::{Part, Search},
    preview::preview,
    search::{Done, Searcher, Task, search},
};
use crate::{
    run::{
        Result,
        folder::{Reserved, reserve},
        signals::Signals,
    },
    tools::{
        data::Data,
        output::{Replace, make_folder, print},
        reading::Files,
        values::{count, share},
    },
};

/// Finds the regions of interest of infrared images and writes a RoI file for each
#[derive(Args, Debug)]
#[command(
    after_help = "Without DIR scenes are rendered. Images whose RoI file exists are skipped: stop it and start it \
                        again at will."
)]
pub(crate) struct Program {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    data: Data,
    /// Number of rendered scenes, without DIR
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = count)]
    scenes: usize,
    /// Folder for the rendered scenes [default: runs/roi-1, or the next that is free]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["folder", "data"])]
    out: Option<PathBuf>,
    /// Search only part I of N of the images, I from 1
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    part: Part,
    /// Replace RoI files and pictures that exist; without it, images with a RoI file are skipped
    #[arg(long)]
    overwrite: bool,
    /// Number of images to draw with their regions
    #[arg(long, value_name = "N", default_value_t = 0)]
    preview: usize,
    /// Folder for those pictures [default: runs/roi-1, or the next that is free; OUT/preview for
    /// rendered scenes]
    #[arg(long, value_name = "DIR", requires = "preview")]
    preview_dir: Option<PathBuf>,
    /// Range of 16-bit and float images that is mapped to black and white: percentiles of each
    /// image (1%,99%) or values of the file (28000,31000); or a gain control of each image:
    /// plateau, plateau:LIMIT%, clahe, clahe:TILES,LIMIT
    #[arg(long, value_name = "LOW,HIGH", default_value_t, allow_hyphen_values = true)]
    levels: Window,
    /// Maximum size of an image, pixels; larger ones count as unreadable. A thread needs about 60
    /// bytes per pixel
    #[arg(long, value_name = "PIXELS", default_value_t = 25_000_000)]
    max_pixels: u64,
    /// Maximum share of unreadable images, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share)]
    max_unreadable: f64,
    /// Number of search threads, an image each [default: one per core]
    #[arg(long, value_name = "N", value_parser = count)]
    threads: Option<usize>,
    #[command(flatten)]
    search: Search,
}

pub(crate) fn run(program: &Program) -> Result<()> {
    let config = program.search.config()?;
    program.levels.validate()?;
    // Scenes and pictures go there; of two commands at once each gets its own.
    let has_files =
        program.data.folder().is_none() || (program.preview > 0 && program.preview_dir.is_none());
    let reserved = (program.out.is_none() && has_files).then(|| reserve("roi").map(Reserved));
    let reserved = reserved.transpose()?;
    let out = match &reserved {
        Some(reserved) => reserved.0.clone(),
        None => program.out.clone().unwrap_or_default(),
    };
    let pictures = match (&program.preview_dir, program.data.folder()) {
        _ if program.preview == 0 => None,
        (Some(folder), _) => Some(folder.clone()),
        (None, Some(_)) => Some(out.clone()),
        (None, None) => Some(out.join("preview")),
    };
    if let Some(pictures) = &pictures {
        Replace { overwrite: program.overwrite }.check_folder(pictures, "png")?;
    }
    let signals = Signals::watch()?;

    let folder = match program.data.folder() {
        Some(folder) => folder.to_path_buf(),
        None => {
            render(&out, program.scenes)?;
            out
        }
    };
    let images = ImageFolder::open(&folder)?;
    let paths = images.roi_paths()?;
    let (mut tasks, mut skipped) = (Vec::new(), 0);
    for (index, roi) in paths.into_iter().enumerate() {
        if !program.part.holds(index) {
            continue;
        }
        if !program.overwrite && roi.exists() {
            skipped += 1;
            continue;
        }
        if let Some(folder) = roi.parent() {
            make_folder(folder)?;
        }
        tasks.push(Task { index, roi });
    }
    let start = Instant::now();
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let limits = DecodeOptions { max_pixels: program.max_pixels, ..Default::default() };
    let decode = program.files.over(&limits);
    let searcher = Searcher {
        images: &images,
        config: &config,
        decode: &decode,
        levels: &program.levels,
        threads: program.threads.unwrap_or_else(cores),
    };
    let done = search(&searcher, &tasks, &signals.stop);
    let seconds = start.elapsed().as_secs_f64();
    for (_, error) in &done.unreadable {
        tracing::warn!("left out: {error}");
    }
    if let Some(error) = done.fatal {
        return Err(error.into());
    }
    report(&images, program, skipped, &done, seconds)?;
    let left = tasks.len() - done.counts.len() - done.unreadable.len();
    if left > 0 {
        tracing::info!("stopped with {left} images left; the same command continues");
        return signals.stopped();
    }
    if let Some(pictures) = &pictures {
        preview(&images, program.preview, pictures, &decode, &program.levels)?;
    }
    match done.unreadable.first() {
        Some((_, first))
            if done.unreadable.len() as f64
                > program.max_unreadable * (tasks.len() + skipped) as f64 =>
        {
            Err(Error::TooManyUnreadable {
                bad: done.unreadable.len(),
                seen: tasks.len() + skipped,
                allowed: program.max_unreadable,
                first: first.to_string(),
            }
            .into())
        }
        _ => Ok(()),
    }
}

/// Renders scenes into a folder in MSIP's layout; those that exist are kept.
fn render(folder: &Path, count: usize) -> Result<()> {
    let thermal = folder.join("scenes/thermal");
    make_folder(&thermal)?;
    print(format_args!("rendering {count} scenes into {}", thermal.display()))?;
    let scenes = SceneSet::render(&SceneConfig::new(Size::new(512, 640), 0), count)?;
    for index in 0..scenes.len() {
        let path = thermal.join(format!("{index:04}.png"));
        if path.exists() {
            continue;
        }
        let image = scenes.get(index, &DecodeOptions::default())?;
        let (levels, size) = gray_levels(image, &Window::default())?;
        let mut png = std::io::Cursor::new(Vec::new());
        let (width, height) = (size.width as u32, size.height as u32);
        image::write_buffer_with_format(
            &mut png,
            &levels,
            width,
            height,
            image::ExtendedColorType::L8,
            image::ImageFormat::Png,
        )?;
        pad::ops::fs::write_atomic_bytes(&path, png.get_ref())
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn report(
    images: &ImageFolder,
    program: &Program,
    skipped: usize,
    done: &Done,
    seconds: f64,
) -> Result<()> {
    let made = done.counts.len();
    let Part { part, parts } = program.part;
    let part = if parts > 1 { format!(" (part {} of {parts})", part + 1) } else { String::new() };
    print(format_args!(
        "{} images{part}: {made} searched, {skipped} skipped (RoI file exists), {} unreadable",
        images.len(),
        done.unreadable.len()
    ))?;
    let (Some(min), Some(max)) = (done.counts.first(), done.counts.last()) else { return Ok(()) };
    let total: usize = done.counts.iter().sum();
    let without = done.counts.iter().filter(|&&count| count == 0).count();
    print(format_args!(
        "RoIs per image: min {min}, median {}, mean {:.1}, max {max}; {without} images without RoI",
        done.counts[made / 2],
        total as f64 / made as f64
    ))?;
    print(format_args!("{:.1} images/s over {seconds:.1} s", made as f64 / seconds.max(1e-9)))
}
