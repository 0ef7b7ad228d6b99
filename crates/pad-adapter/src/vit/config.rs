//! A vision transformer's hyperparameters.

use pad_ops::{AxialRope, ImageSize};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::kinds::{
    Activation, Positions, Prefix, QkvBias, RelativeBias, RelativeResize, TableResize,
};
use crate::{AdapterConfig, Error, LoraConfig, LoraTarget, Result};

/// Rows and columns of patches. A named pair, because a bare one gets swapped.
///
/// ```
/// use pad_adapter::vit::PatchGrid;
/// use pad_ops::ImageSize;
/// let grid = PatchGrid::of(ImageSize::new(480, 640), 16)?;
/// assert_eq!((grid, grid.len(), grid.is_empty()), (PatchGrid::new(30, 40), 1200, false));
/// let error = PatchGrid::of(ImageSize::square(100), 16).unwrap_err().to_string();
/// assert_eq!(error, "image of shape [100, 100], expected sides divisible by the patch size 16");
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PatchGrid {
    /// Rows of patches.
    pub height: usize,
    /// Columns of patches.
    pub width: usize,
}

impl PatchGrid {
    /// A grid from its rows and columns.
    pub const fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    /// The number of patches, `L`.
    pub const fn len(self) -> usize {
        self.height.saturating_mul(self.width)
    }

    /// Whether the grid has no patch.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The grid of an image.
    ///
    /// # Errors
    /// [`Error::ImageShape`] unless the patch divides both sides.
    pub fn of(size: ImageSize, patch_size: usize) -> Result<Self> {
        let fits = |side: usize| side > 0 && patch_size > 0 && side.is_multiple_of(patch_size);
        if fits(size.height) && fits(size.width) {
            return Ok(Self::new(size.height / patch_size, size.width / patch_size));
        }
        Err(Error::ImageShape {
            expected: format!("sides divisible by the patch size {patch_size}"),
            found: vec![size.height, size.width],
        })
    }
}

/// Rows, then columns: `14x14`.
impl std::fmt::Display for PatchGrid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}

/// A ViT's hyperparameters; presets are functions, such as [`ViTConfig::base`], or named
/// ([`ViTConfig::preset`]).
///
/// ```
/// use pad_adapter::vit::{PatchGrid, ViTConfig};
/// let base = ViTConfig::base(16);
/// assert_eq!((base.embed_dim, base.depth, base.hidden_dim()), (768, 12, 3072));
/// assert_eq!((base.grid()?, base.patch_values()), (PatchGrid::new(14, 14), 3 * 16 * 16));
/// assert_eq!((base.prefix().len(), base.table_prefix()), (1, 1)); // the class token
/// // Other sizes and families.
/// let presets = [
///     ViTConfig::pico(8),
///     ViTConfig::tiny(16),
///     ViTConfig::small(16),
///     ViTConfig::large(16),
///     ViTConfig::huge(14),
/// ];
/// assert_eq!(presets.map(|config| config.embed_dim), [160, 192, 384, 1024, 1280]);
/// assert_eq!(ViTConfig::dinov2_small().pos_table_grid()?, PatchGrid::new(37, 37));
/// assert_eq!(ViTConfig::base(32).clip().norm_eps, 1e-5);
/// // One of your own, for images of one channel.
/// let own = ViTConfig { in_channels: 1, ..ViTConfig::new(8, 64, 4, 4) };
/// own.validate()?;
/// let error = ViTConfig { num_heads: 5, ..own }.validate().unwrap_err().to_string();
/// assert_eq!(error, "vit: `num_heads` is 5, expected a divisor of `embed_dim` 64");
/// # Ok::<(), pad_adapter::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
// The derived functions are called by the implementations below, which also read an older field.
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct ViTConfig {
    /// Image size that the position table is made for; other sizes work too, with the table
    /// interpolated.
    pub image_size: ImageSize,
    /// Grid of the position table where it is not that of `image_size` (DINOv2: 37 x 37).
    pub pos_grid: Option<PatchGrid>,
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// Channels of an image: 1, 3, or from 4 to 64 bands.
    pub in_channels: usize,
    /// The number of values per token, `D`.
    pub embed_dim: usize,
    /// The number of blocks.
    pub depth: usize,
    /// The number of attention heads; must divide `embed_dim`.
    pub num_heads: usize,
    /// Width of the MLP as a multiple of `embed_dim`.
    pub mlp_ratio: f64,
    /// The activation of the MLP. Default: GELU.
    #[serde(skip_serializing_if = "is_default")]
    pub activation: Activation,
    /// Whether a norm stands in front of the MLP's second layer, `mlp.norm` (EVA-02). Default:
    /// false.
    #[serde(skip_serializing_if = "is_default")]
    pub mlp_norm: bool,
    /// Whether a norm stands in front of the attention's projection, `attn.norm` (EVA-CLIP).
    /// Default: false.
    #[serde(skip_serializing_if = "is_default")]
    pub attention_norm: bool,
    /// The biases of queries, keys and values. Default: all.
    #[serde(skip_serializing_if = "is_default")]
    pub qkv_bias: QkvBias,
    /// Whether there is a class token. Default: true.
    #[serde(skip_serializing_if = "is_true")]
    pub class_token: bool,
    /// The number of register tokens behind the class token. They have no positions and are kept
    /// out of all that goes by patches. Default 0.
    #[serde(skip_serializing_if = "is_default")]
    pub register_tokens: usize,
    /// The position table's rows. Default: one for the class token, one a patch.
    #[serde(skip_serializing_if = "is_default")]
    pub positions: Positions,
    /// How the position table becomes one of another grid. Default: bicubic.
    #[serde(skip_serializing_if = "is_default")]
    pub pos_resize: TableResize,
    /// Rotary positions of queries and keys. Default: none.
    #[serde(skip_serializing_if = "is_default")]
    pub rope: Option<AxialRope>,
    /// Relative position biases on the attention's logits, as in BEiT. Default: none.
    #[serde(skip_serializing_if = "is_default")]
    pub relative_bias: RelativeBias,
    /// How their tables become those of another grid. Default: the cubic spline of BEiT's authors.
    #[serde(skip_serializing_if = "is_default")]
    pub relative_resize: RelativeResize,
    /// Whether a norm stands in front of the first block, `norm_pre` (CLIP). Default: false.
    #[serde(skip_serializing_if = "is_default")]
    pub pre_norm: bool,
    /// Whether the patch embedding has a bias (CLIP's has none). Default: true.
    #[serde(skip_serializing_if = "is_true")]
    pub patch_bias: bool,
    /// Whether a norm follows the last block. Default: true.
    #[serde(skip_serializing_if = "is_true")]
    pub final_norm: bool,
    /// Whether class and register tokens have a final norm of their own, `cls_norm`. Default:
    /// false.
    #[serde(skip_serializing_if = "is_default")]
    pub class_norm: bool,
    /// First value of the layer scale (`ls1.gamma`, `ls2.gamma`). Default: no layer scale.
    pub layer_scale: Option<f64>,
    /// Largest rate of stochastic depth, that of the last block; it grows linearly from 0 in the
    /// first. Default 0.
    pub drop_path: f64,
    /// Eps of the norms.
    pub norm_eps: f64,
    /// The adapters, one per block. Default: no adapters.
    pub adapter: Option<AdapterConfig>,
    /// Low-rank adapters of the blocks' linear layers. Default: none.
    #[serde(skip_serializing_if = "is_default")]
    pub lora: Option<LoraConfig>,
}

/// Keeps fields that only foreign networks use out of files.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_true(value: &bool) -> bool {
    *value
}

impl Serialize for ViTConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// Files of the first versions have `no_patch_bias` in place of `patch_bias`.
impl<'de> Deserialize<'de> for ViTConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = serde_json::Value::deserialize(deserializer)?;
        if let Some(fields) = value.as_object_mut()
            && let Some(absent) = fields.remove("no_patch_bias")
        {
            let absent = absent
                .as_bool()
                .ok_or_else(|| D::Error::custom("`no_patch_bias`: expected true or false"))?;
            fields.insert("patch_bias".into(), (!absent).into());
        }
        Self::deserialize(value).map_err(D::Error::custom)
    }
}

impl Default for ViTConfig {
    fn default() -> Self {
        Self::base(16)
    }
}

impl ViTConfig {
    /// A plain ViT for 224 x 224 RGB images.
    pub fn new(patch_size: usize, embed_dim: usize, depth: usize, num_heads: usize) -> Self {
        Self {
            image_size: ImageSize::square(224),
            pos_grid: None,
            patch_size,
            in_channels: 3,
            embed_dim,
            depth,
            num_heads,
            mlp_ratio: 4.0,
            activation: Activation::Gelu,
            mlp_norm: false,
            attention_norm: false,
            qkv_bias: QkvBias::All,
            class_token: true,
            register_tokens: 0,
            positions: Positions::Table,
            pos_resize: TableResize::Bicubic,
            rope: None,
            relative_bias: RelativeBias::None,
            relative_resize: RelativeResize::Cubic,
            pre_norm: false,
            patch_bias: true,
            final_norm: true,
            class_norm: false,
            layer_scale: None,
            drop_path: 0.0,
            norm_eps: 1e-6,
            adapter: None,
            lora: None,
        }
    }

    /// The small backbone that this project ships: 160 x 6, 5 heads.
    pub fn pico(patch_size: usize) -> Self {
        Self::new(patch_size, 160, 6, 5)
    }

    /// ViT-Ti: 192 x 12, 3 heads.
    pub fn tiny(patch_size: usize) -> Self {
        Self::new(patch_size, 192, 12, 3)
    }

    /// ViT-S: 384 x 12, 6 heads.
    pub fn small(patch_size: usize) -> Self {
        Self::new(patch_size, 384, 12, 6)
    }

    /// ViT-B: 768 x 12, 12 heads.
    pub fn base(patch_size: usize) -> Self {
        Self::new(patch_size, 768, 12, 12)
    }

    /// ViT-L: 1024 x 24, 16 heads.
    pub fn large(patch_size: usize) -> Self {
        Self::new(patch_size, 1024, 24, 16)
    }

    /// ViT-H: 1280 x 32, 16 heads.
    pub fn huge(patch_size: usize) -> Self {
        Self::new(patch_size, 1280, 32, 16)
    }

    /// CLIP's image tower of this shape: norm in front of the blocks, its own GELU, no bias in the
    /// patch embedding. The tower's tokens come from [`ViT::run_blocks`](super::ViT::run_blocks),
    /// since only its class token is normed.
    #[must_use]
    pub fn clip(self) -> Self {
        Self {
            activation: Activation::QuickGelu,
            pre_norm: true,
            patch_bias: false,
            norm_eps: 1e-5,
            ..self
        }
    }

    /// DINOv2 ViT-S/14: layer scale, a 37 x 37 position table.
    pub fn dinov2_small() -> Self {
        Self { pos_grid: Some(PatchGrid::new(37, 37)), layer_scale: Some(1e-5), ..Self::small(14) }
    }

    /// The tokens in front of the patches.
    pub fn prefix(&self) -> Prefix {
        Prefix { class: self.class_token, registers: self.register_tokens }
    }

    /// Rows of the position table in front of the patches': that of the class token, if it has
    /// one.
    pub fn table_prefix(&self) -> usize {
        usize::from(self.class_token && self.positions == Positions::Table)
    }

    /// What no vision transformer exceeds, each well above the largest published one: a
    /// configuration from a file is refused before anything of its size is made.
    const MAX_SIDE: usize = 1 << 15;
    const MAX_PATCH: usize = 1 << 12;
    const MAX_PATCHES: usize = 1 << 20;
    const MAX_WIDTH: usize = 1 << 16;
    const MAX_HIDDEN: usize = 1 << 20;
    const MAX_DEPTH: usize = 1 << 10;
    /// Values of a position table: 1 GiB.
    const MAX_TABLE: usize = 1 << 28;

    /// The faults of sizes that are too large.
    fn excesses(&self) -> Vec<String> {
        let ImageSize { height, width } = self.image_size;
        let grid = self.pos_grid.or_else(|| self.grid().ok());
        let patches = grid.map_or(0, PatchGrid::len);
        let sizes = [
            ("image_size", height.max(width), Self::MAX_SIDE),
            ("patch_size", self.patch_size, Self::MAX_PATCH),
            ("embed_dim", self.embed_dim, Self::MAX_WIDTH),
            ("depth", self.depth, Self::MAX_DEPTH),
            ("num_heads", self.num_heads, Self::MAX_WIDTH),
            ("register_tokens", self.register_tokens, Self::MAX_PATCHES),
            ("the number of patches", patches, Self::MAX_PATCHES),
            ("the width of the MLP", self.hidden_dim(), Self::MAX_HIDDEN),
            ("the position table", patches.saturating_mul(self.embed_dim), Self::MAX_TABLE),
        ];
        let too_large = sizes.into_iter().filter(|(_, found, most)| found > most);
        too_large
            .map(|(name, found, most)| {
                let name = match name.contains(' ') {
                    true => name.to_string(),
                    false => format!("`{name}`"),
                };
                format!("{name} is {found}, expected at most {most}")
            })
            .collect()
    }

    /// Checks the configuration and reports all faults at once: values that make no network, and
    /// sizes beyond every published one, which no machine holds.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn validate(&self) -> Result<()> {
        let mut faults = self.excesses();
        let mut expect = |good: bool, fault: String| {
            if !good {
                faults.push(fault);
            }
        };
        let patch = self.patch_size;
        expect(patch > 0, "`patch_size` is 0, expected at least 1".into());
        let ImageSize { height, width } = self.image_size;
        expect(
            PatchGrid::of(self.image_size, patch).is_ok(),
            format!("`image_size` is {height}x{width}, expected sides divisible by {patch}"),
        );
        expect(
            matches!(self.in_channels, 1 | 3..=64),
            format!("`in_channels` is {}, expected 1 or 3 to 64", self.in_channels),
        );
        expect(self.depth > 0, "`depth` is 0, expected at least 1".into());
        let (dim, heads) = (self.embed_dim, self.num_heads);
        expect(
            dim > 0 && heads > 0 && dim.is_multiple_of(heads),
            format!("`num_heads` is {heads}, expected a divisor of `embed_dim` {dim}"),
        );
        expect(
            dim.is_multiple_of(4) || self.positions == Positions::None,
            format!("`embed_dim` is {dim}, expected a multiple of 4 (sine-cosine positions)"),
        );
        if let Some(rope) = self.rope
            && heads > 0
            && let Some(fault) = rope.fault(dim / heads)
        {
            expect(false, format!("`rope`: {fault}"));
        }
        expect(
            !self.class_norm || (self.final_norm && !self.prefix().is_empty()),
            "`class_norm` is true, expected a final norm and tokens in front of the patches".into(),
        );
        expect(
            self.relative_bias == RelativeBias::None || self.register_tokens == 0,
            "`relative_bias` with register tokens, expected none".into(),
        );
        expect(
            self.mlp_ratio > 0.0 && self.hidden_dim() > 0,
            format!("`mlp_ratio` is {}, expected more than 0", self.mlp_ratio),
        );
        expect(
            (0.0..1.0).contains(&self.drop_path),
            format!("`drop_path` is {}, expected 0 <= drop_path < 1", self.drop_path),
        );
        expect(
            self.norm_eps.is_finite() && self.norm_eps >= 0.0,
            format!("`norm_eps` is {}, expected a finite number, 0 at least", self.norm_eps),
        );
        if let Some(scale) = self.layer_scale {
            expect(
                scale.is_finite(),
                format!("`layer_scale` is {scale}, expected a finite number"),
            );
        }
        if let Some(grid) = self.pos_grid {
            expect(!grid.is_empty(), format!("`pos_grid` is {grid}, expected at least 1x1"));
        }
        if let Some(adapter) = &self.adapter {
            faults.extend(adapter.faults().into_iter().map(|fault| format!("adapter: {fault}")));
        }
        if let Some(lora) = &self.lora {
            let parts = [LoraTarget::Qkv, LoraTarget::Query, LoraTarget::Key, LoraTarget::Value];
            if lora.bias
                && self.qkv_bias != QkvBias::All
                && parts.iter().any(|&part| lora.targets.get(part).is_some())
            {
                faults.push(
                    "lora: `bias` of queries, keys or values, expected a network with all three"
                        .into(),
                );
            }
            faults.extend(lora.faults().into_iter().map(|fault| format!("lora: {fault}")));
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::Config { what: "vit", faults })
    }

    /// Hidden width of the MLP.
    pub fn hidden_dim(&self) -> usize {
        // A ratio of two whole numbers gives its numerator back.
        (self.embed_dim as f64 * self.mlp_ratio * (1.0 + 1e-12)) as usize
    }

    /// Patch grid of images of `image_size`.
    ///
    /// # Errors
    /// [`Error::ImageShape`] unless the patch divides both sides.
    pub fn grid(&self) -> Result<PatchGrid> {
        PatchGrid::of(self.image_size, self.patch_size)
    }

    /// Grid of the position table.
    ///
    /// # Errors
    /// As [`ViTConfig::grid`].
    pub fn pos_table_grid(&self) -> Result<PatchGrid> {
        self.pos_grid.map_or_else(|| self.grid(), Ok)
    }

    /// The number of values of a flattened patch: `in_channels * patch_size^2`.
    pub fn patch_values(&self) -> usize {
        self.in_channels.saturating_mul(self.patch_size).saturating_mul(self.patch_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_beyond_every_machine() {
        let text = |config: ViTConfig| config.validate().unwrap_err().to_string();
        let base = ViTConfig::base(16);
        let endless = text(ViTConfig { mlp_ratio: 1e308, ..base });
        assert_eq!(
            endless,
            format!("vit: the width of the MLP is {}, expected at most 1048576", usize::MAX)
        );
        assert_eq!(
            text(ViTConfig { depth: 1_000_000_000_000_000_000, ..base }),
            "vit: `depth` is 1000000000000000000, expected at most 1024"
        );
        let large = ImageSize::square(102_400);
        assert!(text(ViTConfig { image_size: large, ..base }).starts_with(
            "vit: `image_size` is 102400, expected at most 32768; the number of patches is 40960000, "
        ));
        let grid = Some(PatchGrid::new(1 << 40, 1 << 40));
        assert!(text(ViTConfig { pos_grid: grid, ..base }).contains("the number of patches is "));
        let adapter = Some(AdapterConfig { bottleneck: 1 << 62, ..Default::default() });
        assert!(text(ViTConfig { adapter, ..base }).starts_with("vit: adapter: `bottleneck` is "));
        assert!(text(ViTConfig { norm_eps: f64::NAN, ..base }).contains("`norm_eps` is NaN"));
        assert!(text(ViTConfig { layer_scale: Some(f64::INFINITY), ..base }).contains("is inf"));
        // ViT-22B, the largest that was published.
        ViTConfig { mlp_ratio: 4.0, ..ViTConfig::new(14, 6144, 48, 48) }.validate().unwrap();
    }

    #[test]
    fn files_of_the_first_versions() {
        let clip = ViTConfig::base(16).clip();
        let text = serde_json::to_string(&clip).unwrap();
        assert!(text.contains(r#""patch_bias":false"#), "{text}");
        assert_eq!(serde_json::from_str::<ViTConfig>(&text).unwrap(), clip);
        let old = text.replace(r#""patch_bias":false"#, r#""no_patch_bias":true"#);
        assert_eq!(serde_json::from_str::<ViTConfig>(&old).unwrap(), clip);
        let plain = serde_json::to_string(&ViTConfig::base(16)).unwrap();
        assert!(!plain.contains("patch_bias"), "{plain}");
        assert_eq!(serde_json::from_str::<ViTConfig>(&plain).unwrap(), ViTConfig::base(16));
        assert_eq!(serde_json::from_str::<ViTConfig>("{}").unwrap(), ViTConfig::base(16));
        let error = serde_json::from_str::<ViTConfig>(r#"{"dept": 3}"#).unwrap_err().to_string();
        assert!(error.starts_with("unknown field `dept`, expected one of"), "{error}");
    }
}
