//! Weights inside this program, by name.

/// The name of the small backbone.
pub const ASSET: &str = "asset";

/// Weights inside this program.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// What flags call them.
    pub name: &'static str,
    /// A safetensors file.
    pub bytes: &'static [u8],
}

/// All of them.
pub const SHIPPED: &[Shipped] = &[Shipped { name: ASSET, bytes: pad::assets::VIT_PICO_RGB }];

/// Those of a name.
pub fn find(name: &str) -> Option<&'static Shipped> {
    SHIPPED.iter().find(|shipped| shipped.name == name)
}
