//! Infrared image data for training: 8- and 16-bit images, MSIP, augmentations, a threaded loader,
//! rendered scenes.
//!
//! A [`Dataset`] gives samples by index, a [`Transform`] makes tensors of them, a [`Loader`] makes
//! batches (B, C, H, W), f32, normalised. Sizes are height before width. 8-bit pixels are levels of 0 to
//! 255; 16-bit ones are counts and radiometric ones kelvin, which a [`window::Window`] takes to
//! levels. Class maps have a `u8` a pixel, 255 for none; boxes are left, top, right and bottom edge
//! in pixels.
//!
//! | module | what |
//! |---|---|
//! | [`dataset`] | the one trait of all sets, and adaptors: subsets, repetition, concatenation |
//! | [`sets`] | folders of images, images of classes, with class maps, with boxes |
//! | [`transform`] | crops, mirroring, normalisation; pipelines from a sample to its place in a batch |
//! | [`loader`] | batches from worker threads |
//! | [`image`] | files to images: PNG, JPEG, BMP, TIFF, NumPy, radiometric files; 8 and 16 bits, floats |
//! | [`window`] | counts and kelvin to levels of 0 to 255 |
//! | [`resize`] | Pillow's bicubic and bilinear resize, bit for bit |
//! | [`rle`] | masks of objects as COCO keeps them: runs and outlines |
//! | [`roi`] | regions of interest by selective search, with the regions of the reference; their files |
//! | [`msip`] | MSIP from its eight public sources, with a manifest |
//! | [`sequence`] | the frames of one file: pages of a TIFF, FLIR sequences, NumPy arrays |
//! | [`shards`] | sets in tar files, for network disks |
//! | [`fingerprint`] | the content of a set in one line, so that a resumed run notices a change |
//! | [`stats`] | mean, standard deviation and percentiles of a set |
//! | [`scenes`] | rendered infrared scenes with class maps and boxes |
//! | [`draw`] | pictures of results |
//!
//! ```
//! use pad_data::{
//!     ImageSize, Loader, LoaderConfig, draw::Canvas, sets::ImageFolder, transform::ImagePipeline,
//! };
//!
//! # let folder = tempfile::tempdir().unwrap();
//! for index in 0..10_u8 {
//!     let image = Canvas::new(ImageSize::new(48, 64), [index * 20; 3]);
//!     image.save_png(folder.path().join(format!("{index}.png")))?;
//! }
//! let images = ImageFolder::open(folder.path())?;
//! let pipeline = ImagePipeline { size: ImageSize::square(32), ..Default::default() };
//! let config = LoaderConfig { batch_size: 4, ..Default::default() };
//! let loader: Loader = Loader::new(images, pipeline, config)?;
//! let mut seen = 0;
//! for batch in loader.epoch(0, 0)? {
//!     let batch = batch?;
//!     assert_eq!(batch.images.dims(), [4, 3, 32, 32]);
//!     seen += batch.len();
//! }
//! assert_eq!(seen, 8); // the incomplete third batch is left out
//! # Ok::<(), pad_data::Error>(())
//! ```
//!
//! A set of your own is an implementation of [`Dataset`]: [`dataset`] has one of 20 lines. Labelled
//! sets on disk are [`sets::segmentation::SegmentationSet`] and [`sets::detection::DetectionSet`];
//! without any data there are [`scenes`].

pub mod ahead;
pub mod dataset;
pub mod draw;
mod error;
pub mod fingerprint;
pub mod image;
pub mod loader;
pub mod msip;
pub mod resize;
pub mod roi;
#[cfg(feature = "scenes")]
pub mod scenes;
pub mod sequence;
pub mod sets;
pub mod shards;
pub mod stats;
pub mod transform;
pub mod window;

pub use dataset::{Dataset, Sample, SharedDataset};
pub use error::{Error, Result};
pub use loader::{Batch, Loader, LoaderConfig};
pub use pad_metrics::{rect, rle};
pub use transform::Transform;

// What the signatures above are made of, so that this crate is enough.
pub use candle_core;
pub use pad_ops::{ImageSize, Mode, rng::Key};

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
