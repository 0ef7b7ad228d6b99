//! The model that a file holds: from its own metadata, from the `config.json` beside it, from names
//! and shapes.

use pad_ops::{AxialRope, ImageSize};
use serde_json::Value;

use super::{Checkpoint, Format, formats::Origin};
use crate::{
    AdapterConfig, AdapterNorm, AdapterPlacement, Error, Result, Scale,
    vit::{
        Activation, PatchGrid, Positions, QkvBias, RelativeBias, RelativeResize, TableResize,
        ViTConfig,
    },
};

impl Checkpoint {
    /// The encoder that the file holds, under this project's names (see [`Checkpoint::to_ours`]):
    /// from its metadata `vit`, or else from shapes, with heads of 64 values and a norm eps of
    /// 1e-6.
    ///
    /// Names and shapes tell patch size, channels, depth, widths, the grid of the position table (a
    /// square one), tokens in front of the patches, layer scale, norms, biases, the kind of MLP, of
    /// adapters and of most scales. They do not tell the number of heads and the norms' eps: these
    /// come from the `config.json` of transformers or timm, from the format, from the widths of
    /// published models, or are the usual ones.
    ///
    /// # Errors
    /// [`Error::Config`] with everything that cannot be inferred; [`Error::Format`] for metadata
    /// that cannot be read.
    ///
    /// ```
    /// use candle_core::Device;
    /// use pad_adapter::{AdapterConfig, Scale, checkpoint::Checkpoint, params::ParamStore};
    /// use pad_adapter::vit::{ViT, ViTConfig};
    /// use pad_ops::rng::Key;
    ///
    /// let adapter = Some(AdapterConfig { scale: Scale::Fixed(0.5), ..Default::default() });
    /// let config = ViTConfig { adapter, ..ViTConfig::new(8, 128, 3, 2) };
    /// let store = ParamStore::scratch(&Device::Cpu, Key::new(0));
    /// store.build(|vb| ViT::new(&config, vb))?;
    /// let mut file = Checkpoint::from_tensors("mine", store.tensors(|_| true));
    /// // A fixed scale is stored in no tensor: the first error says so, the second call gives it.
    /// assert!(file.vit_config().is_err());
    /// assert_eq!(file.adapter_config(Some(Scale::Fixed(0.5)))?, adapter);
    /// // Metadata hold everything.
    /// file.describe(&config)?;
    /// assert_eq!(file.vit_config()?, config);
    /// # Ok::<(), pad_adapter::Error>(())
    /// ```
    pub fn vit_config(&self) -> Result<ViTConfig> {
        let refuse = |what: String| Error::Format { path: self.path().to_path_buf(), what };
        match self.metadata().get("vit") {
            Some(json) => {
                let config: ViTConfig = serde_json::from_str(json)
                    .map_err(|error| refuse(format!("metadata `vit`: {error}")))?;
                config.validate().map_err(|error| refuse(format!("metadata `vit`: {error}")))?;
                Ok(config)
            }
            None => self.inferred_config(&Origin::ours(), None),
        }
    }

    /// The adapters that the file says it holds, or else those of the first block's shapes, with
    /// `scale` where the tensors do not tell it; `None` without adapters.
    ///
    /// # Errors
    /// [`Error::Format`] for adapters of an unknown scale and metadata that cannot be read.
    pub fn adapter_config(&self, scale: Option<Scale>) -> Result<Option<AdapterConfig>> {
        if self.metadata().contains_key("vit") {
            return Ok(self.vit_config()?.adapter);
        }
        let dim = match self.dims("patch_embed.proj.weight") {
            Some(&[dim, ..]) => dim,
            _ => 0,
        };
        let mut faults = Vec::new();
        self.adapter(dim, scale, &mut faults).ok_or_else(|| Error::Format {
            path: self.path().to_path_buf(),
            what: faults.join("; "),
        })
    }

    /// The encoder, from `config.json`, origin and shapes; names are this project's already.
    /// `scale` is used where the tensors do not tell it.
    ///
    /// # Errors
    /// [`Error::Config`] with everything that cannot be inferred.
    pub(super) fn inferred_config(
        &self,
        origin: &Origin,
        scale: Option<Scale>,
    ) -> Result<ViTConfig> {
        // A file of this project has its configuration under a key of the crate that wrote it, if
        // not under `vit`.
        if let Some(own) = self.own_format() {
            let fault = format!("a file of the format {own} without metadata `vit`");
            return Err(Error::Config { what: "vit", faults: vec![fault] });
        }
        let mut faults = Vec::new();
        let config = self.shapes(origin, scale, &mut faults);
        match config {
            Some(config) if faults.is_empty() => {
                config.validate()?;
                Ok(config)
            }
            _ => Err(Error::Config { what: "vit", faults }),
        }
    }

    /// The number of heads of the decoder, if `config.json` has it.
    pub(super) fn decoder_heads(&self) -> Option<usize> {
        self.setting("decoder_num_attention_heads").and_then(count)
    }

    /// The number of channels of an image, if `config.json` has it.
    pub(super) fn input_channels(&self) -> Option<usize> {
        self.setting("num_channels").and_then(count)
    }

    fn setting(&self, key: &str) -> Option<&Value> {
        let config = self.hub_config()?;
        config.get("vision_config").and_then(|vision| vision.get(key)).or_else(|| config.get(key))
    }

    fn dims(&self, name: &str) -> Option<&[usize]> {
        self.get(name).map(candle_core::Tensor::dims)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn shapes(
        &self,
        origin: &Origin,
        scale: Option<Scale>,
        faults: &mut Vec<String>,
    ) -> Option<ViTConfig> {
        let mut matrix = |name: &str| match self.dims(name) {
            Some(&[rows, columns]) => Some((rows, columns)),
            found => {
                let found = found.map_or("none".into(), |dims| format!("{dims:?}"));
                faults.push(format!("`{name}`, expected a matrix, found {found}"));
                None
            }
        };
        let (wide, _) = matrix("blocks.0.mlp.fc1.weight")?;
        let (_, hidden) = matrix("blocks.0.mlp.fc2.weight")?;
        let &[dim, in_channels, patch, _] = self.dims("patch_embed.proj.weight").unwrap_or(&[])
        else {
            faults.push("`patch_embed.proj.weight`, expected (D, C, p, p)".into());
            return None;
        };
        let depth = (0..).take_while(|i| self.has(&format!("blocks.{i}.norm1.weight"))).count();
        let registers = match self.dims("reg_token") {
            Some(&[_, count, _]) => count,
            _ => 0,
        };
        let bare = ViTConfig {
            in_channels,
            mlp_ratio: hidden as f64 / dim.max(1) as f64,
            class_token: self.has("cls_token"),
            register_tokens: registers,
            pre_norm: self.has("norm_pre.weight"),
            patch_bias: self.has("patch_embed.proj.bias"),
            mlp_norm: self.has("blocks.0.mlp.norm.weight"),
            attention_norm: self.has("blocks.0.attn.norm.weight"),
            qkv_bias: match (self.has("blocks.0.attn.qkv.bias"), self.has("blocks.0.attn.q_bias")) {
                (true, _) => QkvBias::All,
                (false, true) => QkvBias::QueryValue,
                (false, false) => QkvBias::None,
            },
            relative_bias: if self.has("blocks.0.attn.relative_position_bias_table") {
                RelativeBias::PerBlock
            } else if self.has("rel_pos_bias.relative_position_bias_table") {
                RelativeBias::Shared
            } else {
                RelativeBias::None
            },
            final_norm: self.has("norm.weight"),
            class_norm: self.has("cls_norm.weight"),
            layer_scale: self.has("blocks.0.ls1.gamma").then_some(1e-5),
            adapter: self.adapter(dim, scale, faults)?,
            ..ViTConfig::new(patch, dim, depth, 1)
        };
        let is_gated = wide == 2 * hidden && hidden > 0;
        let family = self.family(&bare, is_gated, origin);
        let (positions, grid) = self.positions(&bare, patch, origin, faults)?;
        let activation = self.activation(family, is_gated, origin, faults)?;
        let num_heads = self.heads(&bare, family, origin, faults)?;
        let usual = match (origin.format, family) {
            (Format::Vit | Format::VitMae | Format::Beit, _) => 1e-12,
            (_, Family::Dinov3 | Family::Clip | Family::Pe) => 1e-5,
            _ => 1e-6,
        };
        let stated = self.setting("layer_norm_eps").and_then(Value::as_f64);
        let norm_eps = stated.or(origin.known.map(|known| known.norm_eps)).unwrap_or(usual);
        let image_size = self.side(patch).unwrap_or(match grid {
            Some(grid) => ImageSize::new(grid.height * patch, grid.width * patch),
            // A computed table, or none: any size will do.
            None => ImageSize::square(14 * patch),
        });
        let pos_grid = grid.filter(|&grid| PatchGrid::of(image_size, patch).ok() != Some(grid));
        Some(ViTConfig {
            image_size,
            pos_grid,
            num_heads,
            activation,
            norm_eps,
            positions,
            pos_resize: self.pos_resize(&bare, origin),
            relative_resize: match (origin.known, origin.format) {
                _ if bare.relative_bias == RelativeBias::None => RelativeResize::default(),
                (Some(known), _) => known.relative_resize,
                (None, Format::Timm) => RelativeResize::Linear,
                (None, Format::Beit) => RelativeResize::Bilinear,
                (None, _) => RelativeResize::Cubic,
            },
            rope: self.rope(&bare, family, grid, origin),
            ..bare
        })
    }

    /// The family that tensors tell, as far as the rest of the description depends on it.
    fn family(&self, bare: &ViTConfig, is_gated: bool, origin: &Origin) -> Family {
        let has_table = self.has("pos_embed");
        match origin.format {
            Format::Clip | Format::ClipVision => return Family::Clip,
            Format::Siglip => return Family::Siglip,
            Format::Pe => return Family::Pe,
            Format::Eva => return Family::Eva02,
            Format::Dinov3 => return Family::Dinov3,
            // Files of this project say what they are; others are MAE's kind.
            Format::Ours | Format::Original | Format::Mae | Format::MmSelfSup => {
                return Family::Plain;
            }
            _ => {}
        }
        if bare.register_tokens > 0
            && !has_table
            && bare.relative_bias == RelativeBias::None
            && bare.class_token
        {
            return Family::Dinov3;
        }
        if bare.pre_norm && has_table {
            let pe = !bare.final_norm || !bare.class_token || origin.attention_pool;
            return if pe { Family::Pe } else { Family::Clip };
        }
        if is_gated && has_table && bare.qkv_bias != QkvBias::All {
            return Family::Eva02;
        }
        if !bare.class_token && has_table {
            return Family::Siglip;
        }
        Family::Plain
    }

    fn activation(
        &self,
        family: Family,
        is_gated: bool,
        origin: &Origin,
        faults: &mut Vec<String>,
    ) -> Option<Activation> {
        if is_gated {
            return Some(Activation::SwiGlu);
        }
        match self.setting("hidden_act").and_then(Value::as_str) {
            Some("gelu") => return Some(Activation::Gelu),
            Some("quick_gelu") => return Some(Activation::QuickGelu),
            Some("gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" | "gelu_accurate") => {
                return Some(Activation::GeluTanh);
            }
            Some(other) => {
                faults.push(format!(
                    "`hidden_act` is {other}, expected gelu, gelu_pytorch_tanh or quick_gelu"
                ));
                return None;
            }
            None => {}
        }
        if let Some(known) = origin.known {
            return Some(known.activation);
        }
        match (family, origin.format) {
            (Family::Clip, Format::Clip | Format::ClipVision) => Some(Activation::QuickGelu),
            (Family::Clip, _) => {
                faults.push(
                    "`activation` cannot be inferred: CLIP under timm's names has GELU or \
                     quick-gelu; expected timm's config.json beside it"
                        .into(),
                );
                None
            }
            // What its authors train with, whatever timm registers.
            (Family::Siglip, _) => Some(Activation::GeluTanh),
            _ => Some(Activation::Gelu),
        }
    }

    /// The number of heads: as stated, or from another tensor's shape, or that of published models of
    /// this width.
    fn heads(
        &self,
        bare: &ViTConfig,
        family: Family,
        origin: &Origin,
        faults: &mut Vec<String>,
    ) -> Option<usize> {
        let dim = bare.embed_dim;
        if let Some(heads) = self.setting("num_attention_heads").and_then(count) {
            return Some(heads);
        }
        if let Some(known) = origin.known.filter(|known| known.embed_dim == dim) {
            return Some(known.num_heads);
        }
        if let Some(head) = origin.head_dim.filter(|&head| head > 0 && dim.is_multiple_of(head)) {
            return Some(dim / head);
        }
        let tables = [
            "blocks.0.attn.relative_position_bias_table",
            "rel_pos_bias.relative_position_bias_table",
        ];
        if let Some(&[_, heads]) = tables.iter().find_map(|table| self.dims(table)) {
            return Some(heads);
        }
        match (dim, family) {
            (1280, Family::Dinov3) => Some(20),
            (4096, Family::Dinov3) => Some(32),
            (1536, Family::Siglip | Family::Pe) => Some(16),
            // ViT-H, the giants, SigLIP's so400m: the published ones without 64 values a head.
            (1152 | 1280 | 1408 | 1664, _) => Some(16),
            // Widths that models with 64 values a head were published in.
            _ if dim > 0 && dim.is_multiple_of(64) => Some(dim / 64),
            _ => {
                faults.push(format!(
                    "`num_heads` cannot be inferred: no config.json, and `embed_dim` {dim} is not a multiple of 64"
                ));
                None
            }
        }
    }

    /// The rows of the position table and its grid, or that of the relative tables.
    fn positions(
        &self,
        bare: &ViTConfig,
        patch: usize,
        origin: &Origin,
        faults: &mut Vec<String>,
    ) -> Option<(Positions, Option<PatchGrid>)> {
        let known = origin.known.and_then(|known| known.pos_table_grid().ok());
        let stated = self.side(patch).and_then(|size| PatchGrid::of(size, patch).ok());
        let candidates = || known.into_iter().chain(stated);
        let rows = match self.dims("pos_embed") {
            Some(&[1, rows, _]) if rows > 0 => rows,
            None => {
                let relative = match self.relative_rows() {
                    Some(rows) => Some(self.relative_grid(rows, candidates(), faults)?),
                    None => None,
                };
                let none = bare.relative_bias != RelativeBias::None
                    || origin.format == Format::Dinov3
                    || bare.register_tokens > 0;
                let positions = if none { Positions::None } else { Positions::Table };
                return Some((positions, relative));
            }
            Some(dims) => {
                faults.push(format!("`pos_embed` of shape {dims:?}, expected (1, 1 + L, D)"));
                return None;
            }
        };
        let class = usize::from(bare.class_token);
        for grid in candidates() {
            if rows.checked_sub(class) == Some(grid.len()) {
                return Some((table_of(class), Some(grid)));
            }
            if grid.len() == rows {
                return Some((Positions::Patches, Some(grid)));
            }
        }
        let square = |count: usize| {
            let side = count.isqrt();
            (side > 0 && side * side == count).then(|| PatchGrid::new(side, side))
        };
        if let Some(grid) = square(rows.saturating_sub(class)) {
            return Some((table_of(class), Some(grid)));
        }
        if let Some(grid) = square(rows) {
            return Some((Positions::Patches, Some(grid)));
        }
        faults.push(format!(
            "`image_size` cannot be inferred: {} positions are not a square",
            rows - class.min(rows)
        ));
        None
    }

    fn relative_rows(&self) -> Option<usize> {
        let tables = [
            "blocks.0.attn.relative_position_bias_table",
            "rel_pos_bias.relative_position_bias_table",
        ];
        tables.iter().find_map(|table| self.dims(table)?.first().copied())
    }

    fn relative_grid(
        &self,
        rows: usize,
        candidates: impl Iterator<Item = PatchGrid>,
        faults: &mut Vec<String>,
    ) -> Option<PatchGrid> {
        let mut candidates = candidates;
        if let Some(grid) = candidates.find(|&grid| crate::vit::relative_table_rows(grid) == rows) {
            return Some(grid);
        }
        let across = rows.saturating_sub(3).isqrt();
        if across * across + 3 == rows && !across.is_multiple_of(2) {
            return Some(PatchGrid::new(across.div_ceil(2), across.div_ceil(2)));
        }
        faults.push(format!(
            "`image_size` cannot be inferred: {rows} relative positions are not those of a square"
        ));
        None
    }

    /// The image size that `config.json` states, if the patch divides it.
    fn side(&self, patch: usize) -> Option<ImageSize> {
        let size = match self.setting("image_size")? {
            Value::Array(sides) => match sides.as_slice() {
                [height, width] => ImageSize::new(count(height)?, count(width)?),
                _ => return None,
            },
            side => ImageSize::square(count(side)?),
        };
        PatchGrid::of(size, patch).is_ok().then_some(size)
    }

    fn pos_resize(&self, bare: &ViTConfig, origin: &Origin) -> TableResize {
        if let Some(known) = origin.known {
            return known.pos_resize;
        }
        match origin.format {
            _ if origin.patch_lists => TableResize::BilinearAntialias,
            Format::Timm => TableResize::BicubicAntialias,
            Format::Dino | Format::Dinov2 if bare.register_tokens > 0 => {
                TableResize::BicubicAntialias
            }
            Format::Dino => TableResize::Dinov2,
            Format::Pe => TableResize::Bilinear,
            _ => TableResize::Bicubic,
        }
    }

    fn rope(
        &self,
        bare: &ViTConfig,
        family: Family,
        grid: Option<PatchGrid>,
        origin: &Origin,
    ) -> Option<AxialRope> {
        if let Some(known) = origin.known {
            return known.rope;
        }
        match family {
            Family::Dinov3 => {
                let base = self.setting("rope_theta").and_then(Value::as_f64);
                let dinov3 = AxialRope::dinov3();
                Some(AxialRope { base: base.unwrap_or(dinov3.base), ..dinov3 })
            }
            // Every published EVA-02 was pre-trained on 16 x 16 patches.
            Family::Eva02 => Some(AxialRope::eva02(origin.reference.unwrap_or([16, 16]))),
            Family::Pe => {
                // Its authors count whole places on any grid; timm scales them to the table's.
                let table = grid.map(|grid| [grid.height, grid.width]);
                let reference = table.filter(|_| origin.format != Format::Pe);
                Some(AxialRope::pe(bare.class_token, reference))
            }
            Family::Plain | Family::Clip | Family::Siglip => None,
        }
    }

    /// The adapters of the first block, if it has one; `None` if its scale is unknown.
    fn adapter(
        &self,
        dim: usize,
        scale: Option<Scale>,
        faults: &mut Vec<String>,
    ) -> Option<Option<AdapterConfig>> {
        let Some(&[bottleneck, _]) = self.dims("blocks.0.adaptmlp.down_proj.weight") else {
            return Some(None);
        };
        let norm = match self.get("blocks.0.adaptmlp.adapter_layer_norm_before.weight") {
            Some(_) => AdapterNorm::In,
            None => AdapterNorm::None,
        };
        let inferred = Scale::infer(|name| self.dims(&format!("blocks.0.{name}")), dim);
        match inferred.or_else(|fault| scale.ok_or(fault)) {
            Ok(scale) => {
                // One behind the MLP has the names of one beside it, which is what files without a
                // description of ours have.
                let placement = match self.get("blocks.0.attn.adaptmlp.down_proj.weight") {
                    Some(_) => AdapterPlacement::AfterBoth,
                    None => AdapterPlacement::Parallel,
                };
                let rest = AdapterConfig::default();
                Some(Some(AdapterConfig { bottleneck, norm, scale, placement, ..rest }))
            }
            Err(fault) => {
                faults.push(format!("adapter: {fault}"));
                None
            }
        }
    }
}

/// Families that differ in what tensors do not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Plain,
    Dinov3,
    Eva02,
    Siglip,
    Clip,
    Pe,
}

/// The rows of a table that has one for the class token, if there is one.
fn table_of(class: usize) -> Positions {
    if class > 0 { Positions::Table } else { Positions::Patches }
}

fn count(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|value| usize::try_from(value).ok()).filter(|&value| value > 0)
}
