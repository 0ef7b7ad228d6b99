//! Infrared image data for training: 8- and 16-bit images, MSIP, augmentations, a threaded loader, rendered scenes.
//!
//! | module | what |
//! |---|---|
//! | [`fingerprint`] | what a set consists of, so that a resumed run notices a change |
//! | [`image`] | files to images: PNG, JPEG, BMP, TIFF; 8 and 16 bits, floats |
//! | [`window`] | counts and kelvin to levels of 0 to 255 |
//! | [`resize`] | Pillow's bicubic and bilinear resize, bit for bit |
//! | [`transform`] | crops, mirroring, normalisation: decide, then apply |
//! | [`rle`] | masks of objects as COCO keeps them: runs and outlines |
//! | [`roi`] | regions of interest by selective search, with the regions of the reference; their files |
//! | [`sets`] | folders of images as data sets |
//! | [`msip`] | MSIP from its eight public sources, with a manifest |
//! | [`shards`] | sets in tar files, for network disks |
//! | [`dataset`], [`loader`] | what a set is; batches from worker threads |
//! | [`stats`] | what to normalise with |
//! | [`scenes`] | rendered infrared scenes with class maps and boxes |
//! | [`draw`] | pictures of results |
//!
//! ```
//! use std::sync::Arc;
//!
//! use pad_data::{
//!     draw::Canvas,
//!     loader::{Loader, LoaderConfig},
//!     sets::{ImageDataset, ImageDatasetConfig, ImageFolder},
//! };
//! use pad_ops::ImageSize;
//!
//! # let folder = tempfile::tempdir().unwrap();
//! for index in 0..10_u8 {
//!     let image = Canvas::new(ImageSize::new(48, 64), [index * 20; 3]);
//!     image.save_png(folder.path().join(format!("{index}.png")))?;
//! }
//! let config = ImageDatasetConfig { size: ImageSize::square(32), ..Default::default() };
//! let set = ImageDataset::new(ImageFolder::open(folder.path())?, config)?;
//! let config = LoaderConfig { batch_size: 4, ..Default::default() };
//! let loader = Loader::new(Arc::new(set), config)?;
//! let mut seen = 0;
//! for batch in loader.epoch(0, 0)? {
//!     let batch = batch?;
//!     assert_eq!(batch.images.dims(), [4, 3, 32, 32]);
//!     seen += batch.indices.len();
//! }
//! assert_eq!(seen, 8); // the incomplete third batch is left out
//! # Ok::<(), pad_data::Error>(())
//! ```

pub mod ahead;
pub mod dataset;
pub mod draw;
mod error;
pub mod fingerprint;
pub mod image;
pub mod loader;
pub mod msip;
pub mod rect;
pub mod resize;
pub mod rle;
pub mod roi;
#[cfg(feature = "scenes")]
pub mod scenes;
pub mod sets;
pub mod shards;
pub mod stats;
pub mod transform;
pub mod window;

pub use error::{Error, Result};

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
