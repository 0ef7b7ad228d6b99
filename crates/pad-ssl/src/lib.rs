//! Self-supervised pre-training of vision transformers on infrared images: MAE with patchwise-scale adapters (PAD).
