//! Finds the regions of interest of infrared images and writes a RoI file for each, for `pretrain` to crop around.
//!
//!     cargo run --release --example roi                       # rendered scenes, needs nothing
//!     cargo run --release --example roi -- DIR                # DIR/NAME/thermal/* to DIR/NAME/roi/*
//!     cargo run --release --example roi -- DIR --shard 1/4    # a quarter of the images, on each of four machines
//!     cargo run --release --example roi -- DIR --preview 12   # draws the regions of 12 images
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
use crate::run::{Result, pictures};
use indicatif::{ProgressBar, ProgressStyle};
use pad::{
    ImageSize,
    data::{
        Error,
        draw::Canvas,
        image::{DecodeOptions, Image, decode},
        roi::{self, FelzenszwalbConfig, Histograms, RoiConfig, RoiFilter, SelectiveSearchConfig},
        scenes::{SceneConfig, SceneSet, Size},
        sets::{ImageFolder, ImageSource, gray_levels},
        window::Window,
    },
};

/// Finds the regions of interest of infrared images and writes a RoI file for each.
#[derive(Args, Debug)]
pub(crate) struct Program {
    /// Folder of infrared images; without it scenes are rendered
    #[arg(value_name = "DIR")]
    data: Option<PathBuf>,
    /// Rendered scenes, where there is no DIR
    #[arg(long, default_value_t = 60)]
    scenes: usize,
    /// Folder for the rendered scenes [default: runs/roi-1, or the next that is free]
    #[arg(long, value_name = "DIR", conflicts_with = "data")]
    out: Option<PathBuf>,
    /// Part I of N of the images, I from 1
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    shard: Shard,
    /// Write files that exist again
    #[arg(long)]
    force: bool,
    /// exact: the reference's regions; corrected: histograms over their real ranges, not the reference's
    #[arg(long, value_enum, default_value_t = Mode::Exact)]
    mode: Mode,
    /// Larger values give larger segments
    #[arg(long, default_value_t = FelzenszwalbConfig::default().scale, help_heading = "Search")]
    scale: f64,
    /// Blur before the segmentation, pixels
    #[arg(long, default_value_t = FelzenszwalbConfig::default().sigma, help_heading = "Search")]
    sigma: f64,
    /// Fewest pixels of a segment
    #[arg(long, default_value_t = FelzenszwalbConfig::default().min_size, help_heading = "Search")]
    min_size: u32,
    /// Fewest pixels of a region of interest
    #[arg(long, default_value_t = RoiFilter::default().min_pixels, help_heading = "Search")]
    min_pixels: u32,
    /// Smallest width and height of its rectangle, pixels
    #[arg(long, default_value_t = RoiFilter::default().min_side, help_heading = "Search")]
    min_side: u32,
    /// Largest ratio of the longer to the shorter side
    #[arg(long, default_value_t = RoiFilter::default().max_aspect, help_heading = "Search")]
    max_aspect: f64,
    /// Window of 16-bit images: percentiles of each image [default: 1,99]
    #[arg(long, value_delimiter = ',', value_name = "LOW,HIGH")]
    percentiles: Vec<f64>,
    /// Window of 16-bit images: the same counts (or kelvin) for all
    #[arg(long, value_delimiter = ',', value_name = "LOW,HIGH")]
    fixed_window: Vec<f64>,
    /// Largest image, pixels; a thread needs about 60 bytes for each
    #[arg(long, default_value_t = 25_000_000)]
    max_pixels: u64,
    /// Share of unreadable images that is passed over, 0 to 1
    #[arg(long, default_value_t = 0.05)]
    max_unreadable: f64,
    /// Threads; 0 = all cores
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Draw the regions of so many images
    #[arg(long, value_name = "N", default_value_t = 0)]
    preview: usize,
    /// Folder for those pictures [default: runs/roi-1, or the next that is free]
    #[arg(long, value_name = "DIR")]
    preview_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    Exact,
    Corrected,
}

/// Every image whose number gives `part` (from 0) when divided by `parts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shard {
    part: usize,
    parts: usize,
}

impl FromStr for Shard {
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
    fn config(&self) -> RoiConfig {
        RoiConfig {
            search: SelectiveSearchConfig {
                felzenszwalb: FelzenszwalbConfig {
                    scale: self.scale,
                    sigma: self.sigma,
                    min_size: self.min_size,
                },
                histograms: match self.mode {
                    Mode::Exact => Histograms::Exact,
                    Mode::Corrected => Histograms::Corrected,
                },
            },
            filter: RoiFilter {
                min_pixels: self.min_pixels,
                min_side: self.min_side,
                max_aspect: self.max_aspect,
            },
        }
    }

    fn window(&self) -> Result<Window> {
        let window = match (&self.percentiles[..], &self.fixed_window[..]) {
            ([], []) => Window::default(),
            (&[low, high], []) => Window::Percentile { low, high },
            ([], &[low, high]) => Window::Fixed { low, high },
            ([], _) | (_, []) => {
                return Err("--percentiles and --fixed-window take two numbers, LOW,HIGH".into());
            }
            _ => return Err("--percentiles and --fixed-window exclude each other".into()),
        };
        window.validate()?;
        Ok(window)
    }

    fn decode(&self) -> DecodeOptions {
        DecodeOptions { max_pixels: self.max_pixels, ..Default::default() }
    }
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
    if !(0.0..=1.0).contains(program.max_unreadable) {
        let found = program.max_unreadable;
        return Err(format!("`max_unreadable` is {found}, expected 0 to 1").into());
    }
    let (config, window) = (program.config(), program.window()?);
    // Settings are refused before the first image is.
    roi::rois(&[0], ImageSize::new(1, 1), &config)?;
    let signals = run::signals::Signals::watch()?;

    let folder = match &program.data {
        Some(folder) => folder.clone(),
        None => rendered(program)?,
    };
    let images = ImageFolder::open(&folder)?;
    let paths = images.roi_paths()?;
    let (mut tasks, mut skipped) = (Vec::new(), 0);
    for (index, roi) in paths.into_iter().enumerate() {
        if index % program.shard.parts != program.shard.part {
            continue;
        }
        if !program.force && roi.exists() {
            skipped += 1;
            continue;
        }
        if let Some(folder) = roi.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        tasks.push(Task { index, roi });
    }
    let start = Instant::now();
    let done = search(program, &config, &window, &images, &tasks, &signals.stop);
    let seconds = start.elapsed().as_secs_f64();
    for (_, error) in &done.unreadable {
        tracing::warn!("left out: {error}");
    }
    if let Some(error) = done.fatal {
        return Err(error.into());
    }
    report(&images, program, skipped, &done, seconds);
    let left = tasks.len() - done.counts.len() - done.unreadable.len();
    if left > 0 {
        tracing::info!("stopped with {left} images left; the same command goes on");
        return signals.stopped();
    }
    preview(program, &images, &window)?;
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

/// Renders scenes into a folder laid out as MSIP; those that are there are kept.
fn rendered(program: &Program) -> Result<PathBuf> {
    let folder = program.out.clone().unwrap_or_else(|| run::free_run_folder("roi"));
    let thermal = folder.join("scenes/thermal");
    std::fs::create_dir_all(&thermal).map_err(|error| format!("{}: {error}", thermal.display()))?;
    println!("rendering {} scenes into {}", program.scenes, thermal.display());
    let scenes = SceneSet::render(&SceneConfig::new(Size::new(512, 640), 0), program.scenes)?;
    for index in 0..scenes.len() {
        let path = thermal.join(format!("{index:04}.png"));
        if path.exists() {
            continue;
        }
        let image = scenes.load(index, &DecodeOptions::default())?;
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
    window: &Window,
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
    let threads = if program.threads == 0 { cores() } else { program.threads };
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
                        .and_then(|image| gray_levels(image, window))
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
    // The order in which threads ended is nobody's.
    done.counts.sort_unstable();
    done.unreadable.sort_by_key(|(index, _)| *index);
    done
}

fn report(images: &ImageFolder, program: &Program, skipped: usize, done: &Done, seconds: f64) {
    let made = done.counts.len();
    let Shard { part, parts } = program.shard;
    let shard = if parts > 1 { format!(" (part {} of {parts})", part + 1) } else { String::new() };
    println!(
        "{} images{shard}: {made} searched, {skipped} skipped (RoI file exists), {} unreadable",
        images.len(),
        done.unreadable.len()
    );
    if let (Some(least), Some(most)) = (done.counts.first(), done.counts.last()) {
        let total: usize = done.counts.iter().sum();
        let without = done.counts.iter().filter(|&&count| count == 0).count();
        println!(
            "RoIs per image: min {least}, median {}, mean {:.1}, max {most}; {without} images without RoI",
            done.counts[made / 2],
            total as f64 / made as f64
        );
        println!("{:.1} images/s over {seconds:.1} s", made as f64 / seconds.max(1e-9));
    }
}

/// Draws the regions, as their files hold them, of images spread over the set.
fn preview(program: &Program, images: &ImageFolder, window: &Window) -> Result<()> {
    let count = program.preview.min(images.len());
    if count == 0 {
        return Ok(());
    }
    let folder = match (program.preview_dir, &program.out) {
        (Some(folder), _) => folder.clone(),
        (None, Some(out)) => out.join("preview"),
        (None, None) => run::free_run_folder("roi"),
    };
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
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
        let mut canvas = Canvas::from_image(&image, Some(window))?;
        pictures::outline_rois(&mut canvas, &rois);
        let stem = roi.file_stem().unwrap_or_default().to_string_lossy();
        canvas.save_png(folder.join(format!("{index:06}-{stem}.png")))?;
        drawn += 1;
    }
    println!("drew {drawn} images in {}", folder.display());
    Ok(())
}

