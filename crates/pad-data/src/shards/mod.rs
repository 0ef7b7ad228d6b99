//! Sets in a few large tar files, which network disks read faster than many small files.
//!
//! A shard is a plain ustar archive, as `tar --format=ustar` makes it, with the paths of the
//! folder: `NAME/thermal/*` and `NAME/roi/*`. Opening a set reads the headers once; an image is
//! then one read at a known offset.
//!
//! ```
//! use pad_data::{Dataset, draw::Canvas, sets::ImageFolder, shards::{ShardSet, write}};
//! use pad_ops::ImageSize;
//!
//! # let root = tempfile::tempdir().unwrap();
//! # let (folder, out) = (root.path().join("images"), root.path().join("shards"));
//! # std::fs::create_dir_all(&folder).unwrap();
//! for index in 0..10_u8 {
//!     let image = Canvas::new(ImageSize::new(48, 64), [index * 20; 3]);
//!     image.save_png(folder.join(format!("{index}.png")))?;
//! }
//! write(&ImageFolder::open(&folder)?, &out, 3, &mut |_| {})?;
//! let set = ShardSet::open(&out)?;
//! assert_eq!(set.len(), 10);
//! assert_eq!(set.name(7), "7.png");
//! # Ok::<(), pad_data::Error>(())
//! ```

mod ustar;
mod write;

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use self::{
    ustar::{Member, index},
    write::write,
};
use crate::{
    Error, Result,
    dataset::Dataset,
    image::{DecodeOptions, Image, decode_bytes_collapsed},
    sets::{
        ImageInfo, StoredFile,
        folder::{is_image, list},
        layout::RoiNames,
        natural, no_image,
    },
};

/// The images of all tar files of a folder, in the order of an
/// [`ImageFolder`](crate::sets::ImageFolder) with the same files.
///
/// Clones and parts share the open files.
#[derive(Clone, Debug)]
pub struct ShardSet {
    shards: Arc<Vec<Shard>>,
    images: Vec<Place>,
    /// Positions of all other files, by name.
    others: Arc<BTreeMap<String, Place>>,
    roi_names: Arc<RoiNames>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
}

/// A file in a shard.
#[derive(Clone, Debug)]
struct Place {
    shard: usize,
    member: Member,
}

impl ShardSet {
    /// Reads the headers of all files `*.tar` in a folder, or of one such file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Structure`] and [`Error::Unsupported`] as [`index`];
    /// [`Error::NoImages`]; [`Error::SameStem`] for a name that occurs twice.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut paths = vec![path.to_path_buf()];
        if path.is_dir() {
            paths = list(path)?.into_iter().map(|entry| entry.path).collect();
            paths.retain(|path| path.extension().is_some_and(|found| found == "tar"));
        }
        let (mut shards, mut images, mut others) =
            (Vec::<Shard>::new(), Vec::new(), BTreeMap::new());
        let mut first_with: BTreeMap<String, usize> = BTreeMap::new();
        for path in paths {
            let io = |cause| Error::Io { path: path.clone(), cause };
            let mut file = pad_ops::fs::open(&path).map_err(io)?;
            let members = index(&mut file, &path)?;
            let shard = shards.len();
            for member in members {
                if let Some(first) = first_with.insert(member.name.clone(), shard) {
                    let first = shards.get(first).map_or(&path, |shard| &shard.path).clone();
                    return Err(Error::SameStem { first, second: path, stem: member.name });
                }
                let name = member.name.clone();
                // As in folders, hidden files are ignored.
                let hidden = name.split('/').any(|part| part.starts_with('.'));
                let place = Place { shard, member };
                if is_image(&name) && !hidden {
                    images.push(place);
                } else {
                    others.insert(name, place);
                }
            }
            shards.push(Shard { path, file });
        }
        if images.is_empty() {
            return Err(Error::NoImages { path: path.into(), looked_for: "images in *.tar" });
        }
        images.sort_by(|a, b| natural::compare(&a.member.name, &b.member.name));
        let roi_names = RoiNames::of(images.iter().map(|image| image.member.name.as_str()));
        Ok(Self {
            shards: Arc::new(shards),
            images,
            others: Arc::new(others),
            roi_names: Arc::new(roi_names),
        })
    }

    /// A file of the set.
    fn stored(&self, place: &Place) -> StoredFile {
        let (shards, own) = (Arc::clone(&self.shards), place.clone());
        let read = move || read(&shards, &own);
        StoredFile::inside(path_of(&self.shards, place), place.member.bytes, read)
    }
}

/// Path of a file: that of its shard, then its own.
fn path_of(shards: &[Shard], place: &Place) -> PathBuf {
    let shard = shards.get(place.shard).map(|shard| shard.path.as_path());
    shard.unwrap_or(Path::new("")).join(&place.member.name)
}

fn read(shards: &[Shard], place: &Place) -> Result<Vec<u8>> {
    let io = |cause| Error::Io { path: path_of(shards, place), cause };
    let Some(shard) = shards.get(place.shard) else {
        return Err(io(std::io::Error::other("no such shard")));
    };
    // The archive is at least that long, as `index` checked.
    let mut bytes = vec![0; place.member.bytes as usize];
    read_at(shard, &mut bytes, place.member.at).map_err(io)?;
    Ok(bytes)
}

/// Fills `bytes` from an offset, without a file position that threads would share.
#[cfg(unix)]
fn read_at(shard: &Shard, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(&shard.file, bytes, at)
}

/// Fills `bytes` from an offset, through a new handle: two threads must not share a file position.
#[cfg(not(unix))]
fn read_at(shard: &Shard, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let _ = &shard.file;
    let mut file = File::open(&shard.path)?;
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(bytes)
}

impl Dataset for ShardSet {
    type Sample = Image;

    fn len(&self) -> usize {
        self.images.len()
    }

    fn name(&self, index: usize) -> String {
        self.images.get(index).map_or("(no such image)", |image| &image.member.name).to_string()
    }

    fn classes(&self) -> &() {
        &()
    }

    fn info(&self, index: usize) -> Result<ImageInfo> {
        let image = self.images.get(index).ok_or_else(|| no_image(index, self.images.len()))?;
        let exists = |name: &str| self.others.contains_key(name);
        let name = self.roi_names.name(&image.member.name, exists);
        let roi_file = name.and_then(|name| self.others.get(&name));
        Ok(ImageInfo {
            file: Some(self.stored(image)),
            roi_file: roi_file.map(|place| self.stored(place)),
        })
    }

    fn get(&self, index: usize, options: &DecodeOptions) -> Result<Image> {
        let image = self.images.get(index).ok_or_else(|| no_image(index, self.images.len()))?;
        let path = path_of(&self.shards, image);
        if image.member.bytes > options.max_alloc_bytes {
            return Err(Error::Limit {
                path,
                what: "bytes of file",
                limit: options.max_alloc_bytes,
                found: image.member.bytes,
            });
        }
        decode_bytes_collapsed(&read(&self.shards, image)?, &path, options)
    }
}
