//! Segmentation against the original's recorded results.

mod backbone;
mod heads;
mod recorded;
mod segmentor;
mod windows;
