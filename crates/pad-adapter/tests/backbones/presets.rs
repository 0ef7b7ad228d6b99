//! The published models are timm's.
