//! Published vision transformers: their sizes and what their families have in common.
//!
//! The numbers are those of timm's registry (Apache-2.0).

use pad_ops::{AxialRope, ImageSize, text::unknown_name};

use super::{
    Activation, PatchGrid, Positions, QkvBias, RelativeBias, RelativeResize, TableResize, ViTConfig,
};
use crate::{Error, Result};

/// What the models of a family have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Plain,
    Deit3,
    Dinov2,
    Dinov2SwiGlu,
    Dinov2Registers,
    Dinov2RegistersSwiGlu,
    Dinov3,
    Dinov3SwiGlu,
    /// With biases of queries and values.
    Dinov3Biased,
    Dinov3BiasedSwiGlu,
    Eva02Packed,
    Eva02,
    Eva02Clip,
    Siglip,
    SiglipTanh,
    Clip,
    ClipQuick,
    PeCore,
    /// Without class token.
    PeCoreBare,
    PeSpatial,
    /// With layer scale.
    PeScaled,
    PeScaledBare,
    Beit,
}

/// timm's name; ours, if it has one; family; side of a patch and of an image; width, depth, heads,
/// hidden width of the MLP.
type Row = (&'static str, &'static str, Family, [usize; 6]);

/// The number of names of presets.
const NAMES: usize = 53;

/// Names of presets: the plain ones, then the published ones.
const PRESETS: [&str; NAMES] = [
    "pico",
    "tiny",
    "small",
    "base",
    "large",
    "huge",
    "dinov2-small",
    "beitv2-base",
    "beitv2-large",
    "clip-base",
    "clip-huge",
    "clip-large",
    "deit3-base",
    "deit3-huge",
    "deit3-large",
    "deit3-medium",
    "deit3-small",
    "dinov2-base",
    "dinov2-giant",
    "dinov2-large",
    "dinov2-reg-base",
    "dinov2-reg-giant",
    "dinov2-reg-large",
    "dinov2-reg-small",
    "dinov3-7b",
    "dinov3-base",
    "dinov3-huge-plus",
    "dinov3-large",
    "dinov3-small",
    "dinov3-small-plus",
    "dinov3-tiny",
    "eva02-base",
    "eva02-clip-base",
    "eva02-clip-large",
    "eva02-large",
    "eva02-small",
    "eva02-tiny",
    "pe-core-base",
    "pe-core-gigantic",
    "pe-core-large",
    "pe-core-small",
    "pe-core-tiny",
    "pe-lang-gigantic",
    "pe-lang-large",
    "pe-spatial-base",
    "pe-spatial-gigantic",
    "pe-spatial-large",
    "pe-spatial-small",
    "pe-spatial-tiny",
    "siglip-base",
    "siglip-giantopt",
    "siglip-large",
    "siglip-so400m",
];

/// Published models.
const MODELS: &[Row] = &[
    ("beitv2_base_patch16_224", "beitv2-base", Family::Beit, [16, 224, 768, 12, 12, 3072]),
    ("beitv2_large_patch16_224", "beitv2-large", Family::Beit, [16, 224, 1024, 24, 16, 4096]),
    ("deit3_base_patch16_224", "deit3-base", Family::Deit3, [16, 224, 768, 12, 12, 3072]),
    ("deit3_base_patch16_384", "", Family::Deit3, [16, 384, 768, 12, 12, 3072]),
    ("deit3_huge_patch14_224", "deit3-huge", Family::Deit3, [14, 224, 1280, 32, 16, 5120]),
    ("deit3_large_patch16_224", "deit3-large", Family::Deit3, [16, 224, 1024, 24, 16, 4096]),
    ("deit3_large_patch16_384", "", Family::Deit3, [16, 384, 1024, 24, 16, 4096]),
    ("deit3_medium_patch16_224", "deit3-medium", Family::Deit3, [16, 224, 512, 12, 8, 2048]),
    ("deit3_small_patch16_224", "deit3-small", Family::Deit3, [16, 224, 384, 12, 6, 1536]),
    ("deit3_small_patch16_384", "", Family::Deit3, [16, 384, 384, 12, 6, 1536]),
    ("eva02_base_patch14_224", "eva02-base", Family::Eva02, [14, 224, 768, 12, 12, 2048]),
    ("eva02_base_patch14_448", "", Family::Eva02, [14, 448, 768, 12, 12, 2048]),
    (
        "eva02_base_patch16_clip_224",
        "eva02-clip-base",
        Family::Eva02Clip,
        [16, 224, 768, 12, 12, 2048],
    ),
    ("eva02_large_patch14_224", "eva02-large", Family::Eva02, [14, 224, 1024, 24, 16, 2730]),
    ("eva02_large_patch14_448", "", Family::Eva02, [14, 448, 1024, 24, 16, 2730]),
    (
        "eva02_large_patch14_clip_224",
        "eva02-clip-large",
        Family::Eva02Clip,
        [14, 224, 1024, 24, 16, 2730],
    ),
    ("eva02_large_patch14_clip_336", "", Family::Eva02Clip, [14, 336, 1024, 24, 16, 2730]),
    ("eva02_small_patch14_224", "eva02-small", Family::Eva02Packed, [14, 224, 384, 12, 6, 1024]),
    ("eva02_small_patch14_336", "", Family::Eva02Packed, [14, 336, 384, 12, 6, 1024]),
    ("eva02_tiny_patch14_224", "eva02-tiny", Family::Eva02Packed, [14, 224, 192, 12, 3, 512]),
    ("eva02_tiny_patch14_336", "", Family::Eva02Packed, [14, 336, 192, 12, 3, 512]),
    ("vit_7b_patch16_dinov3", "dinov3-7b", Family::Dinov3SwiGlu, [16, 256, 4096, 40, 32, 8192]),
    ("vit_base_patch14_dinov2", "dinov2-base", Family::Dinov2, [14, 518, 768, 12, 12, 3072]),
    (
        "vit_base_patch14_reg4_dinov2",
        "dinov2-reg-base",
        Family::Dinov2Registers,
        [14, 518, 768, 12, 12, 3072],
    ),
    ("vit_base_patch16_224", "", Family::Plain, [16, 224, 768, 12, 12, 3072]),
    ("vit_base_patch16_clip_224", "", Family::Clip, [16, 224, 768, 12, 12, 3072]),
    ("vit_base_patch16_clip_384", "", Family::Clip, [16, 384, 768, 12, 12, 3072]),
    (
        "vit_base_patch16_clip_quickgelu_224",
        "clip-base",
        Family::ClipQuick,
        [16, 224, 768, 12, 12, 3072],
    ),
    ("vit_base_patch16_dinov3", "", Family::Dinov3, [16, 256, 768, 12, 12, 3072]),
    (
        "vit_base_patch16_dinov3_qkvb",
        "dinov3-base",
        Family::Dinov3Biased,
        [16, 256, 768, 12, 12, 3072],
    ),
    ("vit_base_patch16_plus_clip_240", "", Family::Clip, [16, 240, 896, 12, 14, 3584]),
    ("vit_base_patch16_siglip_224", "siglip-base", Family::Siglip, [16, 224, 768, 12, 12, 3072]),
    ("vit_base_patch16_siglip_256", "", Family::Siglip, [16, 256, 768, 12, 12, 3072]),
    ("vit_base_patch16_siglip_384", "", Family::Siglip, [16, 384, 768, 12, 12, 3072]),
    ("vit_base_patch16_siglip_512", "", Family::Siglip, [16, 512, 768, 12, 12, 3072]),
    ("vit_base_patch16_siglip_gap_224", "", Family::Siglip, [16, 224, 768, 12, 12, 3072]),
    ("vit_base_patch16_siglip_gap_256", "", Family::Siglip, [16, 256, 768, 12, 12, 3072]),
    ("vit_base_patch16_siglip_gap_384", "", Family::Siglip, [16, 384, 768, 12, 12, 3072]),
    ("vit_base_patch16_siglip_gap_512", "", Family::Siglip, [16, 512, 768, 12, 12, 3072]),
    ("vit_base_patch32_clip_224", "", Family::Clip, [32, 224, 768, 12, 12, 3072]),
    ("vit_base_patch32_clip_256", "", Family::Clip, [32, 256, 768, 12, 12, 3072]),
    ("vit_base_patch32_clip_384", "", Family::Clip, [32, 384, 768, 12, 12, 3072]),
    ("vit_base_patch32_clip_448", "", Family::Clip, [32, 448, 768, 12, 12, 3072]),
    ("vit_base_patch32_clip_quickgelu_224", "", Family::ClipQuick, [32, 224, 768, 12, 12, 3072]),
    ("vit_base_patch32_siglip_256", "", Family::SiglipTanh, [32, 256, 768, 12, 12, 3072]),
    ("vit_base_patch32_siglip_gap_256", "", Family::SiglipTanh, [32, 256, 768, 12, 12, 3072]),
    ("vit_base_patch8_224", "", Family::Plain, [8, 224, 768, 12, 12, 3072]),
    ("vit_betwixt_patch32_clip_224", "", Family::Clip, [32, 224, 640, 12, 10, 2560]),
    ("vit_giant_patch14_224", "", Family::Plain, [14, 224, 1408, 40, 16, 6144]),
    ("vit_giant_patch14_clip_224", "", Family::Clip, [14, 224, 1408, 40, 16, 6144]),
    (
        "vit_giant_patch14_dinov2",
        "dinov2-giant",
        Family::Dinov2SwiGlu,
        [14, 518, 1536, 40, 24, 4096],
    ),
    (
        "vit_giant_patch14_reg4_dinov2",
        "dinov2-reg-giant",
        Family::Dinov2RegistersSwiGlu,
        [14, 518, 1536, 40, 24, 4096],
    ),
    (
        "vit_giantopt_patch16_siglip_256",
        "siglip-giantopt",
        Family::SiglipTanh,
        [16, 256, 1536, 40, 16, 6144],
    ),
    ("vit_giantopt_patch16_siglip_384", "", Family::SiglipTanh, [16, 384, 1536, 40, 16, 6144]),
    ("vit_giantopt_patch16_siglip_gap_256", "", Family::SiglipTanh, [16, 256, 1536, 40, 16, 6144]),
    ("vit_giantopt_patch16_siglip_gap_384", "", Family::SiglipTanh, [16, 384, 1536, 40, 16, 6144]),
    ("vit_gigantic_patch14_224", "", Family::Plain, [14, 224, 1664, 48, 16, 8192]),
    ("vit_gigantic_patch14_clip_224", "", Family::Clip, [14, 224, 1664, 48, 16, 8192]),
    ("vit_gigantic_patch14_clip_378", "", Family::Clip, [14, 378, 1664, 48, 16, 8192]),
    (
        "vit_gigantic_patch14_clip_quickgelu_224",
        "",
        Family::ClipQuick,
        [14, 224, 1664, 48, 16, 8192],
    ),
    ("vit_huge_patch14_224", "", Family::Plain, [14, 224, 1280, 32, 16, 5120]),
    ("vit_huge_patch14_clip_224", "clip-huge", Family::Clip, [14, 224, 1280, 32, 16, 5120]),
    ("vit_huge_patch14_clip_336", "", Family::Clip, [14, 336, 1280, 32, 16, 5120]),
    ("vit_huge_patch14_clip_378", "", Family::Clip, [14, 378, 1280, 32, 16, 5120]),
    ("vit_huge_patch14_clip_quickgelu_224", "", Family::ClipQuick, [14, 224, 1280, 32, 16, 5120]),
    ("vit_huge_patch14_clip_quickgelu_378", "", Family::ClipQuick, [14, 378, 1280, 32, 16, 5120]),
    ("vit_huge_plus_patch16_dinov3", "", Family::Dinov3SwiGlu, [16, 256, 1280, 32, 20, 5120]),
    (
        "vit_huge_plus_patch16_dinov3_qkvb",
        "dinov3-huge-plus",
        Family::Dinov3BiasedSwiGlu,
        [16, 256, 1280, 32, 20, 5120],
    ),
    ("vit_large_patch14_224", "", Family::Plain, [14, 224, 1024, 24, 16, 4096]),
    ("vit_large_patch14_clip_224", "", Family::Clip, [14, 224, 1024, 24, 16, 4096]),
    ("vit_large_patch14_clip_336", "", Family::Clip, [14, 336, 1024, 24, 16, 4096]),
    (
        "vit_large_patch14_clip_quickgelu_224",
        "clip-large",
        Family::ClipQuick,
        [14, 224, 1024, 24, 16, 4096],
    ),
    ("vit_large_patch14_clip_quickgelu_336", "", Family::ClipQuick, [14, 336, 1024, 24, 16, 4096]),
    ("vit_large_patch14_dinov2", "dinov2-large", Family::Dinov2, [14, 518, 1024, 24, 16, 4096]),
    (
        "vit_large_patch14_reg4_dinov2",
        "dinov2-reg-large",
        Family::Dinov2Registers,
        [14, 518, 1024, 24, 16, 4096],
    ),
    ("vit_large_patch16_224", "", Family::Plain, [16, 224, 1024, 24, 16, 4096]),
    ("vit_large_patch16_dinov3", "", Family::Dinov3, [16, 256, 1024, 24, 16, 4096]),
    (
        "vit_large_patch16_dinov3_qkvb",
        "dinov3-large",
        Family::Dinov3Biased,
        [16, 256, 1024, 24, 16, 4096],
    ),
    ("vit_large_patch16_siglip_256", "siglip-large", Family::Siglip, [16, 256, 1024, 24, 16, 4096]),
    ("vit_large_patch16_siglip_384", "", Family::Siglip, [16, 384, 1024, 24, 16, 4096]),
    ("vit_large_patch16_siglip_512", "", Family::SiglipTanh, [16, 512, 1024, 24, 16, 4096]),
    ("vit_large_patch16_siglip_gap_256", "", Family::Siglip, [16, 256, 1024, 24, 16, 4096]),
    ("vit_large_patch16_siglip_gap_384", "", Family::Siglip, [16, 384, 1024, 24, 16, 4096]),
    ("vit_large_patch16_siglip_gap_512", "", Family::SiglipTanh, [16, 512, 1024, 24, 16, 4096]),
    ("vit_medium_patch16_clip_224", "", Family::Clip, [16, 224, 512, 12, 8, 2048]),
    ("vit_medium_patch32_clip_224", "", Family::Clip, [32, 224, 512, 12, 8, 2048]),
    ("vit_pe_core_base_patch16_224", "pe-core-base", Family::PeCore, [16, 224, 768, 12, 12, 3072]),
    (
        "vit_pe_core_gigantic_patch14_448",
        "pe-core-gigantic",
        Family::PeCoreBare,
        [14, 448, 1536, 50, 16, 8960],
    ),
    (
        "vit_pe_core_large_patch14_336",
        "pe-core-large",
        Family::PeCore,
        [14, 336, 1024, 24, 16, 4096],
    ),
    ("vit_pe_core_small_patch16_384", "pe-core-small", Family::PeCore, [16, 384, 384, 12, 6, 1536]),
    ("vit_pe_core_tiny_patch16_384", "pe-core-tiny", Family::PeCore, [16, 384, 192, 12, 3, 768]),
    (
        "vit_pe_lang_gigantic_patch14_448",
        "pe-lang-gigantic",
        Family::PeScaledBare,
        [14, 448, 1536, 47, 16, 8960],
    ),
    (
        "vit_pe_lang_large_patch14_448",
        "pe-lang-large",
        Family::PeScaled,
        [14, 448, 1024, 23, 16, 4096],
    ),
    (
        "vit_pe_spatial_base_patch16_512",
        "pe-spatial-base",
        Family::PeSpatial,
        [16, 512, 768, 12, 12, 3072],
    ),
    (
        "vit_pe_spatial_gigantic_patch14_448",
        "pe-spatial-gigantic",
        Family::PeScaledBare,
        [14, 448, 1536, 50, 16, 8960],
    ),
    (
        "vit_pe_spatial_large_patch14_448",
        "pe-spatial-large",
        Family::PeSpatial,
        [14, 448, 1024, 24, 16, 4096],
    ),
    (
        "vit_pe_spatial_small_patch16_512",
        "pe-spatial-small",
        Family::PeSpatial,
        [16, 512, 384, 12, 6, 1536],
    ),
    (
        "vit_pe_spatial_tiny_patch16_512",
        "pe-spatial-tiny",
        Family::PeSpatial,
        [16, 512, 192, 12, 3, 768],
    ),
    ("vit_small_patch14_dinov2", "", Family::Dinov2, [14, 518, 384, 12, 6, 1536]),
    (
        "vit_small_patch14_reg4_dinov2",
        "dinov2-reg-small",
        Family::Dinov2Registers,
        [14, 518, 384, 12, 6, 1536],
    ),
    ("vit_small_patch16_224", "", Family::Plain, [16, 224, 384, 12, 6, 1536]),
    ("vit_small_patch16_dinov3", "", Family::Dinov3, [16, 256, 384, 12, 6, 1536]),
    (
        "vit_small_patch16_dinov3_qkvb",
        "dinov3-small",
        Family::Dinov3Biased,
        [16, 256, 384, 12, 6, 1536],
    ),
    ("vit_small_patch8_224", "", Family::Plain, [8, 224, 384, 12, 6, 1536]),
    ("vit_small_plus_patch16_dinov3", "", Family::Dinov3SwiGlu, [16, 256, 384, 12, 6, 1536]),
    (
        "vit_small_plus_patch16_dinov3_qkvb",
        "dinov3-small-plus",
        Family::Dinov3BiasedSwiGlu,
        [16, 256, 384, 12, 6, 1536],
    ),
    (
        "vit_so400m_patch14_siglip_224",
        "siglip-so400m",
        Family::Siglip,
        [14, 224, 1152, 27, 16, 4304],
    ),
    ("vit_so400m_patch14_siglip_378", "", Family::Siglip, [14, 378, 1152, 27, 16, 4304]),
    ("vit_so400m_patch14_siglip_384", "", Family::Siglip, [14, 384, 1152, 27, 16, 4304]),
    ("vit_so400m_patch14_siglip_gap_224", "", Family::Siglip, [14, 224, 1152, 27, 16, 4304]),
    ("vit_so400m_patch14_siglip_gap_378", "", Family::Siglip, [14, 378, 1152, 27, 16, 4304]),
    ("vit_so400m_patch14_siglip_gap_384", "", Family::Siglip, [14, 384, 1152, 27, 16, 4304]),
    ("vit_so400m_patch14_siglip_gap_448", "", Family::Siglip, [14, 448, 1152, 27, 16, 4304]),
    ("vit_so400m_patch14_siglip_gap_896", "", Family::Siglip, [14, 896, 1152, 27, 16, 4304]),
    ("vit_so400m_patch16_siglip_256", "", Family::SiglipTanh, [16, 256, 1152, 27, 16, 4304]),
    ("vit_so400m_patch16_siglip_384", "", Family::SiglipTanh, [16, 384, 1152, 27, 16, 4304]),
    ("vit_so400m_patch16_siglip_512", "", Family::SiglipTanh, [16, 512, 1152, 27, 16, 4304]),
    ("vit_so400m_patch16_siglip_gap_256", "", Family::SiglipTanh, [16, 256, 1152, 27, 16, 4304]),
    ("vit_so400m_patch16_siglip_gap_384", "", Family::SiglipTanh, [16, 384, 1152, 27, 16, 4304]),
    ("vit_so400m_patch16_siglip_gap_512", "", Family::SiglipTanh, [16, 512, 1152, 27, 16, 4304]),
    ("vit_tiny_patch16_224", "", Family::Plain, [16, 224, 192, 12, 3, 768]),
    (
        "vit_tiny_patch16_dinov3_qkvb",
        "dinov3-tiny",
        Family::Dinov3Biased,
        [16, 256, 192, 12, 3, 768],
    ),
    ("vit_xsmall_patch16_clip_224", "", Family::Clip, [16, 224, 256, 10, 4, 1024]),
];

impl ViTConfig {
    /// The names of [`ViTConfig::preset`]: the plain ones, then the published ones.
    pub const PRESETS: [&str; NAMES] = PRESETS;

    /// A preset by its name, one of [`ViTConfig::PRESETS`]. The plain ones get patches of
    /// `patch_size`; the published ones have their own.
    ///
    /// ```
    /// use pad_adapter::vit::ViTConfig;
    /// assert_eq!(ViTConfig::preset("base", 16)?, ViTConfig::base(16));
    /// assert_eq!(ViTConfig::preset("dinov3-small", 16)?.register_tokens, 4);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownName`].
    pub fn preset(name: &str, patch_size: usize) -> Result<Self> {
        Ok(match name {
            "pico" => Self::pico(patch_size),
            "tiny" => Self::tiny(patch_size),
            "small" => Self::small(patch_size),
            "base" => Self::base(patch_size),
            "large" => Self::large(patch_size),
            "huge" => Self::huge(patch_size),
            "dinov2-small" => Self::dinov2_small(),
            _ => {
                let found = MODELS.iter().find(|row| !name.is_empty() && row.1 == name);
                let refuse = || Error::UnknownName(unknown_name("model", name, PRESETS));
                found.map(config).ok_or_else(refuse)?
            }
        })
    }

    /// The encoder that timm calls `architecture` (`vit_small_patch14_dinov2`; a tag behind a dot
    /// is ignored), as timm runs it; `None` for a name that is not among the published models of
    /// the supported families.
    ///
    /// ```
    /// use pad_adapter::vit::ViTConfig;
    /// let config = ViTConfig::timm("vit_small_patch14_dinov2.lvd142m").unwrap();
    /// assert_eq!((config.embed_dim, config.layer_scale), (384, Some(1e-5)));
    /// assert_eq!(ViTConfig::timm("resnet50"), None);
    /// ```
    pub fn timm(architecture: &str) -> Option<Self> {
        let name = architecture.split('.').next().unwrap_or(architecture);
        MODELS.iter().find(|row| row.0 == name).map(config)
    }
}

/// The configuration of a row.
fn config(&(_, _, family, numbers): &Row) -> ViTConfig {
    let [patch, side, dim, depth, heads, hidden] = numbers;
    let grid = side / patch;
    let plain = ViTConfig {
        // SigLIP's 384 pixels are not whole patches of 14: the rest is cut off.
        image_size: ImageSize::square(grid * patch),
        mlp_ratio: hidden as f64 / dim as f64,
        pos_resize: TableResize::BicubicAntialias,
        ..ViTConfig::new(patch, dim, depth, heads)
    };
    let of_dinov2 = ViTConfig {
        image_size: ImageSize::square(224),
        pos_grid: Some(PatchGrid::new(grid, grid)),
        layer_scale: Some(1e-5),
        ..plain
    };
    let registers = ViTConfig { register_tokens: 4, positions: Positions::Patches, ..of_dinov2 };
    let of_dinov3 = ViTConfig {
        register_tokens: 4,
        positions: Positions::None,
        rope: Some(AxialRope::dinov3()),
        qkv_bias: QkvBias::None,
        layer_scale: Some(1e-5),
        norm_eps: 1e-5,
        ..plain
    };
    let of_eva = ViTConfig {
        activation: Activation::SwiGlu,
        rope: Some(AxialRope::eva02([16, 16])),
        qkv_bias: QkvBias::QueryValue,
        final_norm: false,
        ..plain
    };
    let of_siglip = ViTConfig { class_token: false, positions: Positions::Patches, ..plain };
    let of_clip = ViTConfig { pre_norm: true, patch_bias: false, norm_eps: 1e-5, ..plain };
    let of_pe = |class_token: bool| ViTConfig {
        class_token,
        positions: if class_token { Positions::Table } else { Positions::Patches },
        rope: Some(AxialRope::pe(class_token, Some([grid, grid]))),
        ..of_clip
    };
    let swiglu = |config: ViTConfig| ViTConfig { activation: Activation::SwiGlu, ..config };
    match family {
        Family::Plain => plain,
        Family::Deit3 => {
            ViTConfig { positions: Positions::Patches, layer_scale: Some(1e-6), ..plain }
        }
        Family::Dinov2 => of_dinov2,
        Family::Dinov2SwiGlu => swiglu(of_dinov2),
        Family::Dinov2Registers => registers,
        Family::Dinov2RegistersSwiGlu => swiglu(registers),
        Family::Dinov3 => of_dinov3,
        Family::Dinov3SwiGlu => swiglu(of_dinov3),
        Family::Dinov3Biased => ViTConfig { qkv_bias: QkvBias::QueryValue, ..of_dinov3 },
        Family::Dinov3BiasedSwiGlu => {
            swiglu(ViTConfig { qkv_bias: QkvBias::QueryValue, ..of_dinov3 })
        }
        Family::Eva02Packed => of_eva,
        Family::Eva02 => ViTConfig { mlp_norm: true, ..of_eva },
        Family::Eva02Clip => {
            ViTConfig { mlp_norm: true, attention_norm: true, final_norm: true, ..of_eva }
        }
        Family::Siglip => of_siglip,
        Family::SiglipTanh => ViTConfig { activation: Activation::GeluTanh, ..of_siglip },
        Family::Clip => of_clip,
        Family::ClipQuick => ViTConfig { activation: Activation::QuickGelu, ..of_clip },
        Family::PeCore => of_pe(true),
        Family::PeCoreBare => of_pe(false),
        Family::PeSpatial => ViTConfig { final_norm: false, ..of_pe(true) },
        Family::PeScaled => ViTConfig { final_norm: false, layer_scale: Some(0.1), ..of_pe(true) },
        Family::PeScaledBare => {
            ViTConfig { final_norm: false, layer_scale: Some(0.1), ..of_pe(false) }
        }
        Family::Beit => ViTConfig {
            positions: Positions::None,
            relative_bias: RelativeBias::PerBlock,
            relative_resize: RelativeResize::Linear,
            qkv_bias: QkvBias::QueryValue,
            layer_scale: Some(1e-5),
            final_norm: false,
            ..plain
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_by_name() {
        for name in ViTConfig::PRESETS {
            ViTConfig::preset(name, 16).unwrap().validate().unwrap();
        }
        let error = ViTConfig::preset("smal", 16).unwrap_err().to_string();
        assert!(error.starts_with("model: expected pico, tiny, small, base, large, "), "{error}");
        assert!(error.ends_with("found `smal` (did you mean `small`?)"), "{error}");
    }
}
