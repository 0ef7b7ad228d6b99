//! Adapters in models that are not this project's, written here in plain candle code under the names
//! that their files have: ViT, CLIP (both towers), DINOv2, ConvNeXt.

mod candle_threads;
mod clip;
mod convnext;
mod dinov2;
mod harness;
mod names;
mod vit;
