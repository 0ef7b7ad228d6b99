//! Segmentation against the original's recorded results.

mod backbone;
mod heads;
mod pretrained;
mod recorded;
mod segmentor;
mod windows;
