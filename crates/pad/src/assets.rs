//! Weights that come with the crate.

/// A small ViT (pico: 160 values a token, 6 blocks, patches of 16 pixels) with its MAE decoder, pre-trained on RGB
/// photographs: a safetensors file of half floats. `docs/asset.md` says how it was trained.
///
/// ```
/// use pad::{assets::VIT_PICO_RGB, checkpoint::Checkpoint};
///
/// let checkpoint = Checkpoint::from_safetensors(VIT_PICO_RGB, "vit_pico_rgb")?;
/// assert_eq!(checkpoint.get("blocks.5.norm1.weight").map(|norm| norm.dims()), Some(&[160][..]));
/// # Ok::<(), pad::Error>(())
/// ```
pub const VIT_PICO_RGB: &[u8] = include_bytes!("../assets/vit_pico_rgb.safetensors");
