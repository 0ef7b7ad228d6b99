//! Time of region search per image, one thread, and how it grows with the image's area.
//!
//! `cargo bench --bench roi -- [FOLDER] [IMAGES]` takes up to IMAGES (default 20) images of FOLDER, evenly spaced by
//! name (default: the photographs of `tests/golden/data/img`). `benches/peers/roi_reference.py` times the reference
//! on the same ones.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use image::{GrayImage, imageops::FilterType};
use pad_data::roi::{RoiConfig, Workspace};
use pad_ops::ImageSize;

/// Sizes of the growth table, columns by rows.
const SIZES: [(u32, u32); 5] = [(160, 128), (320, 256), (640, 512), (1280, 1024), (2560, 2048)];
/// Calls per image; the best counts, for the machine may be busy.
const CALLS: usize = 7;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo adds flags such as `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let folder = match arguments.next() {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/data/img"),
    };
    let wanted: usize = arguments.next().map_or(Ok(20), |number| number.parse())?;
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "png" || e == "jpg"));
    paths.sort();
    let step = paths.len().div_ceil(wanted.max(1)).max(1);
    let images: Vec<GrayImage> = paths
        .iter()
        .step_by(step)
        .map(|path| image::open(path).map(|image| image.into_luma8()))
        .collect::<Result<_, _>>()?;
    println!("{} images of {}, one thread, best of {CALLS} calls", images.len(), folder.display());

    let mut workspace = Workspace::new();
    let report = |name: &str, results: &mut Vec<(f64, usize, f64)>| {
        results.sort_by(|a, b| a.0.total_cmp(&b.0));
        if let Some(&(median, _, _)) = results.get(results.len() / 2) {
            let count = results.len() as f64;
            let mean = results.iter().map(|r| r.0).sum::<f64>() / count;
            let rois = results.iter().map(|r| r.1 as f64).sum::<f64>() / count;
            let per_pixel = results.iter().map(|r| r.0 / r.2).sum::<f64>() / count * 1e6;
            println!(
                "{name:>10}: median {median:7.2} ms, mean {mean:7.2} ms, {per_pixel:5.1} ns per pixel, \
                 {rois:5.1} RoIs"
            );
        }
    };
    let mut results = Vec::new();
    for image in &images {
        results.push(measure(&mut workspace, image)?);
    }
    report("as it is", &mut results);
    for (width, height) in SIZES {
        results.clear();
        for image in &images {
            let image = image::imageops::resize(image, width, height, FilterType::CatmullRom);
            results.push(measure(&mut workspace, &image)?);
        }
        report(&format!("{width}x{height}"), &mut results);
    }
    Ok(())
}

/// Milliseconds of the best call, RoIs, pixels.
fn measure(
    workspace: &mut Workspace,
    image: &GrayImage,
) -> Result<(f64, usize, f64), Box<dyn std::error::Error>> {
    let size = ImageSize::new(image.height() as usize, image.width() as usize);
    let config = RoiConfig::default();
    let mut best = f64::INFINITY;
    let mut rois = 0;
    for _ in 0..CALLS {
        let start = Instant::now();
        rois = workspace.rois(image.as_raw(), size, &config)?.len();
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok((best, rois, size.area() as f64))
}
