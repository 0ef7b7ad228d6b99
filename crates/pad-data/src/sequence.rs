//! The frames of one file as a set.

use std::{
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
};

use crate::{
    Error, Result,
    dataset::{Dataset, no_such_sample},
    image::{DecodeOptions, Image, decode_bytes_collapsed, frame_count, frame_places, read},
    sets::{ImageInfo, StoredFile},
};

/// The frames of a file with several: pages of a TIFF, a sequence of a FLIR camera (`.seq`,
/// `.csq`), an array of NumPy with frames. A file of another kind is a sequence of one.
///
/// Names are those of the file and the number of the frame, from 0: `flight.seq/00012`.
#[derive(Clone, Debug)]
pub struct Sequence {
    path: PathBuf,
    name: String,
    count: usize,
    /// Bytes of each frame, where frames can be read alone.
    places: Option<Vec<Range<usize>>>,
}

impl Sequence {
    /// Counts the frames of a file.
    ///
    /// # Errors
    /// As [`decode`](crate::image::decode).
    pub fn open(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read(path, options)?;
        let places = frame_places(&bytes, path)?;
        let count = match &places {
            Some(places) => places.len(),
            None => frame_count(&bytes, path)?,
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { path: path.into(), name, count, places })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn frame(&self, place: &Range<usize>) -> std::io::Result<Vec<u8>> {
        let mut file = pad_ops::fs::open(&self.path)?;
        file.seek(SeekFrom::Start(place.start as u64))?;
        let mut bytes = vec![0; place.len()];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl Dataset for Sequence {
    type Sample = Image;

    fn len(&self) -> usize {
        self.count
    }

    fn name(&self, index: usize) -> String {
        format!("{}/{index:05}", self.name)
    }

    fn classes(&self) -> &() {
        &()
    }

    fn info(&self, index: usize) -> Result<ImageInfo> {
        match index < self.count {
            true => {
                let file = Some(StoredFile::on_disk(&self.path));
                Ok(ImageInfo { file, roi_file: None })
            }
            false => Err(no_such_sample(index, self.count)),
        }
    }

    /// Frame `index`; [`DecodeOptions::page`] does not count.
    fn get(&self, index: usize, options: &DecodeOptions) -> Result<Image> {
        if index >= self.count {
            return Err(no_such_sample(index, self.count));
        }
        let io = |cause| Error::Io { path: self.path.clone(), cause };
        let (bytes, page) = match self.places.as_ref().and_then(|places| places.get(index)) {
            Some(place) => (self.frame(place).map_err(io)?, 0),
            None => (read(&self.path, options)?, index),
        };
        let options = DecodeOptions { page: Some(page), ..options.clone() };
        decode_bytes_collapsed(&bytes, &self.path, &options)
    }

    fn source(&self, _: usize) -> String {
        ".".into()
    }
}
