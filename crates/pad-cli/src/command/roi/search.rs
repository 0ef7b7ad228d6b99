//! The search, an image per thread.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use indicatif::{ProgressBar, ProgressStyle};
use pad::data::{
    Error,
    image::{DecodeOptions, Image, decode},
    roi::{self, RoiConfig},
    sets::{ImageFolder, gray_levels},
    window::Window,
};

/// An image and the file for its regions.
pub struct Task {
    pub index: usize,
    pub roi: PathBuf,
}

/// What became of the images.
#[derive(Default)]
pub struct Done {
    /// Number of regions of each image, sorted.
    pub counts: Vec<usize>,
    /// Images that could not be read, by index.
    pub unreadable: Vec<(usize, Error)>,
    /// What ended the work: a RoI file that cannot be written.
    pub fatal: Option<Error>,
}

/// How images are searched.
pub struct Searcher<'a> {
    pub images: &'a ImageFolder,
    pub config: &'a RoiConfig,
    pub decode: &'a DecodeOptions,
    pub levels: &'a Window,
    pub threads: usize,
}

/// Searches an image per thread, until all are done or `stop` is set.
pub fn search(searcher: &Searcher<'_>, tasks: &[Task], stop: &AtomicBool) -> Done {
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
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Done::default()));
    thread::scope(|scope| {
        for _ in 0..searcher.threads.min(tasks.len()) {
            scope.spawn(|| {
                let mut workspace = roi::Workspace::new();
                while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let path = searcher.images.path(task.index).unwrap_or(Path::new(""));
                    let found = decode(path, searcher.decode)
                        .map(Image::collapse_gray)
                        .and_then(|image| gray_levels(image, searcher.levels))
                        .and_then(|(gray, size)| workspace.rois(&gray, size, searcher.config));
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
