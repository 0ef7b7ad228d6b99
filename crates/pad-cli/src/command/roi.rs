//! Finds the regions of interest of infrared images and writes a RoI file for each, for `pad pretrain` to crop around.
//!
//!     pad roi                       # rendered scenes, needs nothing
//!     pad roi DIR                   # DIR/NAME/thermal/* to DIR/NAME/roi/*
//!     pad roi DIR --part 1/4        # a quarter of the images, on each of four machines
//!     pad roi DIR --preview 12      # draws the regions of 12 images
//!
//! Images whose RoI file exists are skipped, and a file is whole or absent: stop it (Ctrl-C) and start it again at will.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use pad::{
    ImageSize,
    data::{
        Dataset, Error,
        draw::Canvas,
        image::{DecodeOptions, Image, decode},
        roi::{self, FelzenszwalbConfig, Histograms, RoiConfig, RoiFilter, SelectiveSearchConfig},
        scenes::{SceneConfig, SceneSet, Size},
        sets::{ImageFolder, gray_levels},
        window::Window,
    },
};

use crate::{
    run::{Result, free_run_folder, signals::Signals},
    tools::{
        data::Data,
        images::outline_rois,
        output::{make_folder, print},
        values::{count, share},
    },
};

/// Find the regions of interest of infrared images and write a RoI file for each
#[derive(Args, Debug)]
#[command(after_help = "Without DIR scenes are rendered. Images whose RoI file exists are skipped: stop it and start it \
                        again at will.")]
pub(crate) struct Program {
    #[command(flatten)]
    data: Data,
    /// Number of rendered scenes, where there is no DIR
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = count)]
    scenes: usize,
    /// Folder for the rendered scenes [default: runs/roi-1, or the next that is free]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["folder", "data"])]
    out: Option<PathBuf>,
    /// Part I of N of the images, I from 1
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    part: Part,
    /// Search images again whose RoI file exists, and replace the file
    #[arg(long)]
    overwrite: bool,
    /// Number of images whose regions are drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    preview: usize,
    /// Folder for those pictures [default: runs/roi-1, or the next that is free]
    #[arg(long, value_name = "DIR", requires = "preview")]
    preview_dir: Option<PathBuf>,
    /// Band of 16-bit and float images that becomes black to white: percentiles of each image (1%,99%) or values of the
    /// file (28000,31000)
    #[arg(long, value_name = "LOW,HIGH", default_value_t, allow_hyphen_values = true)]
    levels: Window,
    /// Maximum size of an image, pixels; a thread needs about 60 bytes for each
    #[arg(long, value_name = "PIXELS", default_value_t = 25_000_000)]
    max_pixels: u64,
    /// Share of unreadable images that is tolerated, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share)]
    max_unreadable: f64,
    /// Threads that search, an image each [default: one per core]
    #[arg(long, value_name = "N", value_parser = count)]
    threads: Option<usize>,
    #[command(flatten)]
    search: Search,
}

/// What a region is, and which are kept.
#[derive(Args, Debug)]
#[command(next_help_heading = "Search")]
struct Search {
    /// Scale of the segmentation: larger values give larger segments
    #[arg(long, value_name = "SCALE", default_value_t = FelzenszwalbConfig::default().scale)]
    segment_scale: f64,
    /// Standard deviation of the blur before the segmentation, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = FelzenszwalbConfig::default().sigma)]
    sigma: f64,
    /// Minimum size of a segment, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = FelzenszwalbConfig::default().min_size)]
    min_size: u32,
    /// What the texture histograms count
    #[arg(long, value_enum, default_value_t)]
    histograms: Histogram,
    /// Minimum size of a region of interest, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = RoiFilter::default().min_pixels)]
    min_pixels: u32,
    /// Minimum width and height of its rectangle, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = RoiFilter::default().min_side)]
    min_side: u32,
    /// Maximum ratio of the longer to the shorter side
    #[arg(long, value_name = "RATIO", default_value_t = RoiFilter::default().max_aspect)]
    max_aspect: f64,
}

/// What the texture histograms count.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Histogram {
    /// The reference's ranges: its regions, one for one
    #[default]
    Exact,
    /// The real ranges of the values
    Corrected,
}

impl Search {
    fn config(&self) -> RoiConfig {
        RoiConfig {
            search: SelectiveSearchConfig {
                felzenszwalb: FelzenszwalbConfig {
                    scale: self.segment_scale,
                    sigma: self.sigma,
                    min_size: self.min_size,
                },
                histograms: match self.histograms {
                    Histogram::Exact => Histograms::Exact,
                    Histogram::Corrected => Histograms::Corrected,
                },
            },
            filter: RoiFilter {
                min_pixels: self.min_pixels,
                min_side: self.min_side,
                max_aspect: self.max_aspect,
            },
        }
    }
}

/// Every image whose number gives `part` (from 0) when divided by `parts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    part: usize,
    parts: usize,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(part, parts)| {
            Some((part.trim().parse::<usize>().ok()?, parts.trim().parse::<usize>().ok()?))
        });
        match numbers {
            Some((part, parts)) if (1..=parts).contains(&part) => {
                Ok(Self { part: part - 1, parts })
            }
            _ => Err("expected I/N with I from 1 to N".into()),
        }
    }
}

impl Program {
    fn decode(&self) -> DecodeOptions {
        DecodeOptions { max_pixels: self.max_pixels, ..Default::default() }
    }
}

/// The text of a setting's error, with this command's flag in place of the library's field.
fn in_flags(error: Error) -> String {
    error.to_string().replace("`scale`", "`segment_scale`")
}

/// One image's work.
struct Task {
    index: usize,
    roi: PathBuf,
}

/// What became of the images, by index.
#[derive(Default)]
struct Done {
    counts: Vec<usize>,
    unreadable: Vec<(usize, Error)>,
    /// What ends the work: a RoI file that cannot be written.
    fatal: Option<Error>,
}

pub(crate) fn run(program: &Program) -> Result<()> {
    let config = program.search.config();
    // Settings are checked before the first image is read.
    program.levels.validate()?;
    roi::rois(&[0], ImageSize::new(1, 1), &config).map_err(in_flags)?;
    let signals = Signals::watch()?;

    let folder = match program.data.folder() {
        Some(folder) => folder.to_path_buf(),
        None => rendered(program)?,
    };
    let images = ImageFolder::open(&folder)?;
    let paths = images.roi_paths()?;
    let (mut tasks, mut skipped) = (Vec::new(), 0);
    for (index, roi) in paths.into_iter().enumerate() {
        if index % program.part.parts != program.part.part {
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
    let done = search(program, &config, &images, &tasks, &signals.stop);
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
    preview(program, &images)?;
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
fn rendered(program: &Program) -> Result<PathBuf> {
    let folder = program.out.clone().unwrap_or_else(|| free_run_folder("roi"));
    let thermal = folder.join("scenes/thermal");
    make_folder(&thermal)?;
    print(format_args!("rendering {} scenes into {}", program.scenes, thermal.display()))?;
    let scenes = SceneSet::render(&SceneConfig::new(Size::new(512, 640), 0), program.scenes)?;
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
    Ok(folder)
}

/// Searches on all cores, one image a thread, until all are done or `stop` is set.
fn search(
    program: &Program,
    config: &RoiConfig,
    images: &ImageFolder,
    tasks: &[Task],
    stop: &AtomicBool,
) -> Done {
    let bar = ProgressBar::new(tasks.len() as u64);
    let style = "{bar:30} {pos}/{len} images, {per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style.with_key(
            "per_sec",
            |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = write!(out, "{:.1} images/s", state.per_sec());
            },
        ));
    }
    let options = program.decode();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Done::default()));
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let threads = program.threads.unwrap_or_else(cores);
    thread::scope(|scope| {
        for _ in 0..threads.min(tasks.len()) {
            scope.spawn(|| {
                let mut workspace = roi::Workspace::new();
                while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let path = images.path(task.index).unwrap_or(Path::new(""));
                    let found = decode(path, &options)
                        .map(Image::collapse_gray)
                        .and_then(|image| gray_levels(image, &program.levels))
                        .and_then(|(gray, size)| workspace.rois(&gray, size, config));
                    let written =
                        found.map(|rois| roi::write(&task.roi, &rois).map(|()| rois.len()));
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    match written {
                        Ok(Ok(count)) => done.counts.push(count),
                        Ok(Err(error)) => {
                            done.fatal.get_or_insert(error);
                            stop.store(true, Ordering::Relaxed);
                        }
                        Err(error) => done.unreadable.push((task.index, error)),
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Threads end in any order.
    done.counts.sort_unstable();
    done.unreadable.sort_by_key(|(index, _)| *index);
    done
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

/// Draws the regions, as their files hold them, of images spread over the set.
fn preview(program: &Program, images: &ImageFolder) -> Result<()> {
    let count = program.preview.min(images.len());
    if count == 0 {
        return Ok(());
    }
    let folder = match (&program.preview_dir, &program.out) {
        (Some(folder), _) => folder.clone(),
        (None, Some(out)) => out.join("preview"),
        (None, None) => free_run_folder("roi"),
    };
    make_folder(&folder)?;
    let options = program.decode();
    let mut drawn = 0;
    for i in 0..count {
        let index = i * images.len() / count;
        let (Some(path), Some(roi)) = (images.path(index), images.roi_path(index)) else {
            continue;
        };
        if !roi.exists() {
            continue; // of another part, or unreadable
        }
        let image = match decode(path, &options) {
            Ok(image) => image,
            Err(error) => {
                tracing::warn!("not drawn: {error}");
                continue;
            }
        };
        let rois = roi::read(&roi, image.size())?;
        let mut canvas = Canvas::from_image(&image, Some(&program.levels))?;
        outline_rois(&mut canvas, &rois);
        let stem = roi.file_stem().unwrap_or_default().to_string_lossy();
        canvas.save_png(folder.join(format!("{index:06}-{stem}.png")))?;
        drawn += 1;
    }
    print(format_args!("drew {drawn} images in {}", folder.display()))
}

