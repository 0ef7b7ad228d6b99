//! Images per second of the loader in one thread: decode, crop around a region of interest, bicubic to 224 x 224, flip,
//! normalise, into a batch of 32 x 3 x 224 x 224.
//!
//! `cargo bench --bench loader -- FOLDER` takes each source of FOLDER (MSIP's layout: `NAME/thermal`, with RoI files in
//! `NAME/roi`; `pad roi` makes them) by itself. `benches/peers/loader_reference.py FOLDER` does the same work with
//! Pillow and numpy; `benches/data_peers.sh` runs both and prints the ratios.

use std::{error::Error, time::Instant};

use pad_data::{
    Dataset, Loader, LoaderConfig,
    dataset::Subset,
    roi::Roi,
    sets::{ImageFolder, WithRois, read_rois},
    transform::ImagePipeline,
};

/// Epochs; the best counts, for the machine may be busy. The first also warms the file cache.
const EPOCHS: u64 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds flags such as `--bench`, and runs every bench without arguments.
    let Some(folder) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) else {
        println!("loader: needs a folder of images: cargo bench --bench loader -- FOLDER");
        return Ok(());
    };
    // One thread in all: no workers, and nothing below may use others.
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let images = Subset::all(ImageFolder::open(&folder)?);
    for source in images.sources() {
        let part = images.only(&[source.name.as_str()])?;
        let lists = read_rois(&part)?;
        let with_rois = lists.iter().flatten().filter(|list| !list.is_empty()).count();
        let lists: Vec<Vec<Roi>> = lists.into_iter().map(Option::unwrap_or_default).collect();
        let set = WithRois::new(part, lists)?;
        let config =
            LoaderConfig { workers: 0, batch_size: 32, drop_last: false, ..Default::default() };
        let loader: Loader = Loader::new(set, ImagePipeline::default(), config)?;
        let mut best = 0.0_f64;
        for epoch in 0..EPOCHS {
            let start = Instant::now();
            let mut read = 0;
            for batch in loader.epoch(epoch, 0)? {
                read += batch?.len();
            }
            best = best.max(read as f64 / start.elapsed().as_secs_f64());
        }
        println!(
            "loader {:>8}: {best:7.0} images/s ({} images, {with_rois} with RoIs, one thread, best of {EPOCHS})",
            source.name, source.images
        );
    }
    Ok(())
}
