//! Your own dataset: the frames of a raw 16-bit recording, one file. The loader, its threads, the cache, crops
//! and splits are the library's, and give the same bits for any number of workers.
//!
//!     cargo run --release --example custom_dataset
//!
//! Writes the recording, `runs/example-custom_dataset/frames.raw`.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use pad::{
    ImageSize,
    data::{
        Dataset, Error, Loader, LoaderConfig, Result,
        dataset::{Repeat, Subset},
        image::{DecodeOptions, Image, Pixels},
        scenes::{SceneConfig, Size, render},
        sets::ImageInfo,
        transform::ImagePipeline,
    },
};

/// A file of frames: no header, little-endian counts, row by row.
struct Recording {
    path: PathBuf,
    size: ImageSize,
    frames: usize,
}

impl Recording {
    fn open(path: &Path, size: ImageSize) -> Result<Self> {
        let io = |cause| Error::Io { path: path.into(), cause };
        let bytes = File::open(path).and_then(|file| file.metadata()).map_err(io)?.len() as usize;
        let frame = 2 * size.area();
        if bytes == 0 || !bytes.is_multiple_of(frame) {
            return Err(Error::Setting {
                name: "recording",
                expected: format!("a multiple of {frame} bytes"),
                found: format!("{bytes} bytes in {}", path.display()),
            });
        }
        Ok(Self { path: path.into(), size, frames: bytes / frame })
    }
}

impl Dataset for Recording {
    type Sample = Image;

    fn len(&self) -> usize {
        self.frames
    }

    fn name(&self, index: usize) -> String {
        format!("{}#{index}", self.path.display())
    }

    fn classes(&self) -> &() {
        &()
    }

    fn info(&self, _: usize) -> Result<ImageInfo> {
        Ok(ImageInfo::default())
    }

    // Called from several threads at once, in any order: each opens the file for itself.
    fn get(&self, index: usize, _: &DecodeOptions) -> Result<Image> {
        let io = |cause| Error::Io { path: self.path.clone(), cause };
        let mut bytes = vec![0; 2 * self.size.area()];
        let mut file = File::open(&self.path).map_err(io)?;
        file.seek(SeekFrom::Start((index * bytes.len()) as u64)).map_err(io)?;
        file.read_exact(&mut bytes).map_err(io)?;
        let counts = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        Image::new(self.size, 1, Pixels::U16(counts.collect()))
    }
}

fn main() -> anyhow::Result<()> {
    // A recording: 40 rendered frames, as the counts of a 16-bit sensor.
    let folder = Path::new("runs/example-custom_dataset");
    std::fs::create_dir_all(folder)?;
    let path = folder.join("frames.raw");
    let mut file = File::create(&path)?;
    for index in 0..40 {
        let scene = render(&SceneConfig::new(Size::new(120, 160), 0), index)?;
        let bytes: Vec<u8> = scene.counts.iter().flat_map(|count| count.to_le_bytes()).collect();
        file.write_all(&bytes)?;
    }

    let recording = Recording::open(&path, ImageSize::new(120, 160))?;
    let (training, held_out) = Subset::all(recording).split(0.25, None, 0)?;
    println!("{} frames for training, {} held out", training.len(), held_out.len());
    let pipeline = ImagePipeline { size: ImageSize::square(64), ..Default::default() };
    let config = LoaderConfig { batch_size: 8, ..Default::default() };
    let loader: Loader = Loader::new(Repeat::new(training, 2), pipeline, config)?;
    for batch in loader.epoch(0, 0)? {
        let batch = batch?;
        let mean = batch.images.mean_all()?.to_scalar::<f32>()?;
        println!(
            "batch {}: {:?}, mean {mean:.3}, {}",
            batch.number,
            batch.images.dims(),
            batch.names[0]
        );
    }
    Ok(())
}
