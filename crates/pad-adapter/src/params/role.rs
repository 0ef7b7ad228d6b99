//! The part a parameter plays, from its name: freezing and grouping go by role, never by substring.

/// The part a parameter plays in a network.
///
/// ```
/// use pad_adapter::params::Role;
/// assert_eq!(Role::of("blocks.3.scalar_pred.weight"), Role::Gate(3));
/// assert_eq!(Role::of("stages.0.conv.weight"), Role::Other);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Role {
    /// `patch_embed.*`, and `norm_pre.*` where a norm follows it.
    PatchEmbed,
    /// `cls_token`, `reg_token`.
    ClassToken,
    /// `pos_embed`: fixed tables in MAE; `rel_pos_bias`.
    PosTable,
    /// `blocks.{i}.*` of the backbone.
    Block(usize),
    /// `norm.*`, `cls_norm.*`.
    FinalNorm,
    /// `blocks.{i}.adaptmlp.*`, learnable scales among them, and low-rank adapters inside
    /// `blocks.{i}` (`attn.qkv.lora_A.weight`). In a network with other names,
    /// `adaptmlp` at any place (`encoder.layer.3.adaptmlp.*`); the number is the last one before
    /// it, or 0. Named adapters have the same role (`blocks.{i}.adapters.night.adaptmlp.*`, see
    /// [`adapter_name`](super::adapter_name)).
    Adapter(usize),
    /// `blocks.{i}.scalar_pred.*`, the gate of patchwise scales; at any place, as adapters.
    Gate(usize),
    /// `mask_token`.
    MaskToken,
    /// `decoder_embed.*`.
    DecoderEmbed,
    /// `decoder_pos_embed`.
    DecoderPosTable,
    /// `decoder_blocks.*`, `decoder_norm.*`, `decoder_pred.*`.
    Decoder,
    /// A head on top: `head.*`, `heads.*`, `head_dist.*`, `fc_norm.*`, `classifier.*`, `lm_head.*`,
    /// `fc.weight`, `fc.bias`.
    Head,
    /// Anything else: a name that no rule knows, such as those of a foreign backbone.
    Other,
}

impl Role {
    /// The role of a parameter by its full name, timm's / MAE's spelling. A name that no rule knows
    /// is [`Role::Other`], never a head.
    ///
    /// ```
    /// use pad_adapter::params::Role;
    /// assert_eq!(Role::of("blocks.3.attn.qkv.weight"), Role::Block(3));
    /// assert_eq!(Role::of("encoder.layer.3.adaptmlp.up_proj.bias"), Role::Adapter(3));
    /// assert_eq!(Role::of("head.weight"), Role::Head);
    /// assert_eq!(Role::of("encoder.layer.3.fc1.weight"), Role::Other);
    /// ```
    pub fn of(name: &str) -> Self {
        let segments: Vec<&str> = name.split('.').collect();
        if let Some(adapter) = Self::adapter(&segments) {
            return adapter;
        }
        match segments.as_slice() {
            ["patch_embed" | "norm_pre", ..] => Role::PatchEmbed,
            ["cls_token" | "reg_token"] => Role::ClassToken,
            ["pos_embed"] => Role::PosTable,
            ["blocks", index, _, ..] => index.parse().map_or(Role::Other, Role::Block),
            ["norm" | "cls_norm", ..] => Role::FinalNorm,
            ["rel_pos_bias", "relative_position_bias_table"] => Role::PosTable,
            ["mask_token"] => Role::MaskToken,
            ["decoder_embed", ..] => Role::DecoderEmbed,
            ["decoder_pos_embed"] => Role::DecoderPosTable,
            ["decoder_blocks" | "decoder_norm" | "decoder_pred", ..] => Role::Decoder,
            ["head" | "heads" | "head_dist" | "fc_norm" | "classifier" | "lm_head", ..] => {
                Role::Head
            }
            ["fc", "weight" | "bias"] => Role::Head,
            _ => Role::Other,
        }
    }

    /// The role of an adapter's parameter, whatever the names of the blocks; a decoder has none.
    fn adapter(segments: &[&str]) -> Option<Self> {
        if segments.first().is_some_and(|first| first.starts_with("decoder_")) {
            return None;
        }
        let is_own = |s: &str| super::named::PARTS.contains(&s);
        let place = segments.iter().position(|s| is_own(s))?;
        let block = segments[..place].iter().rev().find_map(|s| s.parse().ok()).unwrap_or(0);
        Some(if segments[place] == "scalar_pred" {
            Role::Gate(block)
        } else {
            Role::Adapter(block)
        })
    }

    /// Whether it is an adapter's or its gate's.
    ///
    /// ```
    /// use pad_adapter::params::Role;
    /// assert!(Role::Adapter(3).is_adapter() && Role::Gate(3).is_adapter());
    /// assert!(!Role::Block(3).is_adapter());
    /// ```
    pub fn is_adapter(self) -> bool {
        matches!(self, Role::Adapter(_) | Role::Gate(_))
    }

    /// Whether it is the encoder's without adapters. [`Role::Other`] is not: what such parameters
    /// are is unknown.
    ///
    /// ```
    /// use pad_adapter::params::Role;
    /// assert!(Role::PosTable.is_backbone() && Role::Block(0).is_backbone());
    /// assert!(!Role::Head.is_backbone() && !Role::Other.is_backbone());
    /// ```
    pub fn is_backbone(self) -> bool {
        matches!(
            self,
            Role::PatchEmbed | Role::ClassToken | Role::PosTable | Role::Block(_) | Role::FinalNorm
        )
    }

    /// Whether it is of the part behind the encoder in a masked autoencoder.
    ///
    /// ```
    /// use pad_adapter::params::Role;
    /// assert!(Role::of("decoder_pred.weight").is_decoder() && Role::MaskToken.is_decoder());
    /// assert!(!Role::FinalNorm.is_decoder());
    /// ```
    pub fn is_decoder(self) -> bool {
        matches!(self, Role::MaskToken | Role::DecoderEmbed | Role::DecoderPosTable | Role::Decoder)
    }

    /// The layer of a network of `depth` blocks that the role belongs to: 0 for the embeddings and
    /// the position table, `i + 1` for block `i` with its adapter, `depth + 1` for all that
    /// follows.
    ///
    /// ```
    /// use pad_adapter::params::Role;
    /// assert_eq!(Role::PatchEmbed.layer(12), 0);
    /// assert_eq!(Role::Block(0).layer(12), 1);
    /// assert_eq!(Role::Head.layer(12), 13);
    /// ```
    pub fn layer(self, depth: usize) -> usize {
        match self {
            Role::PatchEmbed | Role::ClassToken | Role::PosTable => 0,
            Role::Block(block) | Role::Adapter(block) | Role::Gate(block) => {
                block.min(depth).saturating_add(1)
            }
            _ => depth.saturating_add(1),
        }
    }

    /// One role of each family, in the order of a network.
    pub(super) fn families() -> impl Iterator<Item = Self> {
        [
            Role::PatchEmbed,
            Role::ClassToken,
            Role::PosTable,
            Role::Block(0),
            Role::FinalNorm,
            Role::Adapter(0),
            Role::Gate(0),
            Role::MaskToken,
            Role::DecoderEmbed,
            Role::DecoderPosTable,
            Role::Decoder,
            Role::Head,
            Role::Other,
        ]
        .into_iter()
    }

    /// The role's name in a listing, blocks taken together.
    ///
    /// ```
    /// use pad_adapter::params::Role;
    /// assert_eq!(Role::Block(7).family(), "blocks");
    /// assert_eq!(Role::Other.family(), "other");
    /// ```
    pub fn family(self) -> &'static str {
        match self {
            Role::PatchEmbed => "patch embedding",
            Role::ClassToken => "class token",
            Role::PosTable => "position table",
            Role::Block(_) => "blocks",
            Role::FinalNorm => "final norm",
            Role::Adapter(_) => "adapters",
            Role::Gate(_) => "adapter gates",
            Role::MaskToken => "mask token",
            Role::DecoderEmbed => "decoder embedding",
            Role::DecoderPosTable => "decoder position table",
            Role::Decoder => "decoder",
            Role::Head => "head",
            Role::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_roles() {
        let table = [
            ("blocks.3.attn.qkv.weight", Role::Block(3)),
            ("blocks.11.adaptmlp.down_proj.weight", Role::Adapter(11)),
            ("blocks.0.adaptmlp.scale", Role::Adapter(0)),
            ("blocks.7.scalar_pred.weight", Role::Gate(7)),
            ("decoder_blocks.0.norm1.weight", Role::Decoder),
            ("decoder_pos_embed", Role::DecoderPosTable),
            ("norm.weight", Role::FinalNorm),
            ("cls_norm.bias", Role::FinalNorm),
            ("reg_token", Role::ClassToken),
            ("rel_pos_bias.relative_position_bias_table", Role::PosTable),
            ("blocks.2.attn.qkv.lora_A.weight", Role::Adapter(2)),
            ("blocks.2.mlp.fc1.lora_magnitude", Role::Adapter(2)),
            ("blocks.2.mlp.fc1.lora_bias", Role::Adapter(2)),
            // Of the user's own.
            ("lora_head.weight", Role::Other),
            ("blocks.2.lora_mixer.weight", Role::Block(2)),
            ("blocks.2.attn.q_bias", Role::Block(2)),
            ("norm_pre.bias", Role::PatchEmbed),
            ("fc_norm.weight", Role::Head),
            ("head.weight", Role::Head),
            ("heads.head.weight", Role::Head),
            ("classifier.bias", Role::Head),
            ("fc.weight", Role::Head),
            ("fc.0.weight", Role::Other),
            ("blocks.x.attn.qkv.weight", Role::Other),
            ("blocks.3", Role::Other),
            ("encoder.head.weight", Role::Other),
            ("", Role::Other),
            ("adaptmlp.up_proj.bias", Role::Adapter(0)),
            ("encoder.layer.3.adaptmlp.scale", Role::Adapter(3)),
            ("stages.1.layer.4.mixer.scalar_pred.bias", Role::Gate(4)),
            ("encoder.layer.3.fc1.weight", Role::Other),
            ("blocks.3.adapters.night.adaptmlp.scale", Role::Adapter(3)),
            ("blocks.3.adapters.night.scalar_pred.weight", Role::Gate(3)),
            ("layer.2.mixer.adapters.day.adaptmlp.up_proj.bias", Role::Adapter(2)),
        ];
        for (name, role) in table {
            assert_eq!(Role::of(name), role, "{name}");
        }
    }
}
