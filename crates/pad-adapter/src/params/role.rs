//! The part a parameter plays, from its name: freezing and grouping go by role, never by substring.

/// The part a parameter plays in a network.
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
    /// it, or 0.
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
    /// Anything else: a head on top.
    Head,
}

impl Role {
    /// The role of a parameter by its full name, timm's / MAE's spelling.
    pub fn of(name: &str) -> Self {
        let segments: Vec<&str> = name.split('.').collect();
        match segments.as_slice() {
            ["patch_embed" | "norm_pre", ..] => Role::PatchEmbed,
            ["cls_token" | "reg_token"] => Role::ClassToken,
            ["pos_embed"] => Role::PosTable,
            ["blocks", index, part, rest @ ..] => match (index.parse(), *part) {
                (Ok(index), "adaptmlp") => Role::Adapter(index),
                (Ok(index), _) if rest.iter().any(|part| part.starts_with("lora_")) => {
                    Role::Adapter(index)
                }
                (Ok(index), "scalar_pred") => Role::Gate(index),
                (Ok(index), _) => Role::Block(index),
                (Err(_), _) => Role::Head,
            },
            ["norm" | "cls_norm", ..] => Role::FinalNorm,
            ["rel_pos_bias", "relative_position_bias_table"] => Role::PosTable,
            ["mask_token"] => Role::MaskToken,
            ["decoder_embed", ..] => Role::DecoderEmbed,
            ["decoder_pos_embed"] => Role::DecoderPosTable,
            ["decoder_blocks" | "decoder_norm" | "decoder_pred", ..] => Role::Decoder,
            segments => Self::foreign(segments),
        }
    }

    /// The role of an adapter's parameter in a network whose blocks have other names.
    fn foreign(segments: &[&str]) -> Self {
        let Some(place) = segments.iter().position(|s| matches!(*s, "adaptmlp" | "scalar_pred"))
        else {
            return Role::Head;
        };
        let block = segments[..place].iter().rev().find_map(|s| s.parse().ok()).unwrap_or(0);
        if segments[place] == "adaptmlp" { Role::Adapter(block) } else { Role::Gate(block) }
    }

    /// Whether it is an adapter's or its gate's.
    pub fn is_adapter(self) -> bool {
        matches!(self, Role::Adapter(_) | Role::Gate(_))
    }

    /// Whether it is the encoder's without adapters.
    pub fn is_backbone(self) -> bool {
        matches!(
            self,
            Role::PatchEmbed | Role::ClassToken | Role::PosTable | Role::Block(_) | Role::FinalNorm
        )
    }

    /// Whether it is of the part behind the encoder in a masked autoencoder.
    pub fn is_decoder(self) -> bool {
        matches!(self, Role::MaskToken | Role::DecoderEmbed | Role::DecoderPosTable | Role::Decoder)
    }

    /// The layer of a network of `depth` blocks that the role belongs to: 0 for the embeddings and
    /// the position table, `i + 1` for block `i` with its adapter, `depth + 1` for all that
    /// follows.
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
        ]
        .into_iter()
    }

    /// The role's name in a listing, blocks taken together.
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
            ("blocks.2.attn.q_bias", Role::Block(2)),
            ("norm_pre.bias", Role::PatchEmbed),
            ("fc_norm.weight", Role::Head),
            ("blocks.x.attn.qkv.weight", Role::Head),
            ("adaptmlp.up_proj.bias", Role::Adapter(0)),
            ("encoder.layer.3.adaptmlp.scale", Role::Adapter(3)),
            ("stages.1.layer.4.mixer.scalar_pred.bias", Role::Gate(4)),
            ("encoder.layer.3.fc1.weight", Role::Head),
        ];
        for (name, role) in table {
            assert_eq!(Role::of(name), role, "{name}");
        }
    }
}
