//! Patchwise-scale adapters for vision transformers in candle, and the ViT that hosts them.
