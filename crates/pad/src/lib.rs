//! PAD: self-supervised pre-training with patchwise-scale adapters for infrared images, in Rust on candle.
