//! Segmentation and detection against the original's recorded results.

mod backbone;
mod detection;
mod heads;
mod pretrained;
mod recorded;
mod segmentor;
mod windows;
