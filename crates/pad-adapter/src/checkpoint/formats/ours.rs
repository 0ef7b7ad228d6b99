//! Names that are ours already, or nearly: facebookresearch's MAE, timm, the original PAD
//! repository.

use super::rule::{Group, NO_TEST, Rule::*, Table};

/// The encoder, timm's and MAE's names.
pub(super) const ENCODER: Group = Group::top(&[
    Name("cls_token", "cls_token"),
    Name("reg_token", "reg_token"),
    Name("pos_embed", "pos_embed"),
    Name("patch_embed.proj.*", "patch_embed.proj.*"),
    Name("norm_pre.*", "norm_pre.*"),
    Name("norm.*", "norm.*"),
    Name("cls_norm.*", "cls_norm.*"),
    Name("rel_pos_bias.relative_position_bias_table", "rel_pos_bias.relative_position_bias_table"),
]);

pub(super) const BLOCKS: Group = Group {
    from: "blocks.*.",
    to: "blocks.*.",
    rules: &[
        Name("norm1.*", "norm1.*"),
        Name("attn.qkv.*", "attn.qkv.*"),
        Name("attn.q_bias", "attn.q_bias"),
        Name("attn.v_bias", "attn.v_bias"),
        Name("attn.norm.*", "attn.norm.*"),
        Name("attn.relative_position_bias_table", "attn.relative_position_bias_table"),
        Name("attn.proj.*", "attn.proj.*"),
        Name("norm2.*", "norm2.*"),
        Name("mlp.fc1.*", "mlp.fc1.*"),
        Name("mlp.norm.*", "mlp.norm.*"),
        Name("mlp.fc2.*", "mlp.fc2.*"),
        Name("ls1.gamma", "ls1.gamma"),
        Name("ls2.gamma", "ls2.gamma"),
    ],
};

/// The decoder of a masked autoencoder.
const DECODER: Group = Group::top(&[
    Name("mask_token", "mask_token"),
    Name("decoder_embed.*", "decoder_embed.*"),
    Name("decoder_pos_embed", "decoder_pos_embed"),
    Name("decoder_blocks.**", "decoder_blocks.**"),
    Name("decoder_norm.*", "decoder_norm.*"),
    Name("decoder_pred.*", "decoder_pred.*"),
]);

const ADAPTERS: Group = Group {
    from: "blocks.*.",
    to: "blocks.*.",
    rules: &[
        Name("adaptmlp.**", "adaptmlp.**"),
        Name("scalar_pred.weight", "scalar_pred.weight"),
        Name("attn.adaptmlp.**", "attn.adaptmlp.**"),
        Name("attn.scalar_pred.weight", "attn.scalar_pred.weight"),
        Name("attn.*.lora_A.weight", "attn.*.lora_A.weight"),
        Name("attn.*.lora_B.weight", "attn.*.lora_B.weight"),
        Name("attn.*.lora_magnitude", "attn.*.lora_magnitude"),
        Name("attn.*.lora_bias", "attn.*.lora_bias"),
        Name("mlp.*.lora_A.weight", "mlp.*.lora_A.weight"),
        Name("mlp.*.lora_B.weight", "mlp.*.lora_B.weight"),
        Name("mlp.*.lora_magnitude", "mlp.*.lora_magnitude"),
        Name("mlp.*.lora_bias", "mlp.*.lora_bias"),
    ],
};

/// Queries, keys and values apart, gate and value apart, layer scale by other names: timm's Eva.
pub(super) const APART: Group = Group {
    from: "blocks.*.",
    to: "blocks.*.",
    rules: &[
        Join(
            &["attn.q_proj.weight", "attn.k_proj.weight", "attn.v_proj.weight"],
            "attn.qkv.weight",
        ),
        Name("attn.q_proj.bias", "attn.q_bias"),
        Name("attn.v_proj.bias", "attn.v_bias"),
        Join(&["mlp.fc1_g.*", "mlp.fc1_x.*"], "mlp.fc1.*"),
        Name("gamma_1", "ls1.gamma"),
        Name("gamma_2", "ls2.gamma"),
    ],
};

/// What makes one vector of an encoder's tokens ([`PoolHead`](crate::vit::PoolHead)).
const POOLING: Group = Group::top(&[
    Drop("attn_pool.**", "pooling of the tokens"),
    Drop("fc_norm.*", "norm of the pooled tokens"),
]);

/// What fine-tuning for classification puts on top.
pub(super) const CLASSIFIER: Group = Group::top(&[
    Drop("head.**", "classification head"),
    Drop("head_dist.**", "classification head"),
    Drop("fc_norm.*", "norm of the pooled tokens"),
]);

/// This project's own files: nothing to do.
pub(super) const OURS: Table = Table {
    marks: &["patch_embed.proj.weight"],
    evidence: &[],
    test: NO_TEST,
    prefixes: &[],
    outside: None,
    groups: &[ENCODER, BLOCKS, DECODER, ADAPTERS],
};

/// <https://github.com/facebookresearch/mae>
pub(super) const MAE: Table = Table {
    marks: &["patch_embed.proj.weight", "decoder_embed.weight"],
    evidence: &[],
    test: NO_TEST,
    prefixes: &[],
    outside: None,
    groups: &[ENCODER, BLOCKS, DECODER, CLASSIFIER],
};

/// <https://github.com/huggingface/pytorch-image-models> (`vision_transformer.py`, `eva.py`,
/// `beit.py`, `naflexvit.py`), and DeiT III as its authors publish it.
pub(super) const TIMM: Table = Table {
    marks: &["blocks.0.norm1.weight"],
    evidence: &[],
    test: |has, _| {
        (has("patch_embed.proj.weight") || has("embeds.proj.weight"))
            && (has("blocks.0.attn.qkv.weight") || has("blocks.0.attn.q_proj.weight"))
    },
    prefixes: &["timm_model."],
    outside: None,
    groups: &[
        ENCODER,
        BLOCKS,
        APART,
        Group {
            from: "blocks.*.mlp.",
            to: "blocks.*.mlp.",
            rules: &[Name("w12.*", "fc1.*"), Name("w3.*", "fc2.*")],
        },
        Group::top(&[
            Name("embeds.proj.*", "patch_embed.proj.*"),
            Token("embeds.pos_embed", "pos_embed"),
            Token("embeds.cls_token", "cls_token"),
            Token("embeds.reg_token", "reg_token"),
            Name("embeds.norm.*", "norm_pre.*"),
            Drop("mask_token", "mask token of another training"),
        ]),
        POOLING,
        CLASSIFIER,
    ],
};

/// The original PAD repository: pre-training as [`MAE`] with adapters; downstream with a prefix,
/// its own names of the layer scale, relative positions, pyramid and heads.
pub(super) const ORIGINAL: Table = Table {
    marks: &["patch_embed.proj.weight"],
    evidence: &[
        "blocks.0.adaptmlp.down_proj.weight",
        "blocks.0.gamma_1",
        "blocks.0.attn.relative_position_bias_table",
        "blocks.0.attn.rel_pos_h",
        "rel_pos_bias.relative_position_bias_table",
    ],
    // Layer scale alone, under its names and without its prefix, is DeiT III's too.
    test: |has, prefixed| {
        let foreign = ["blocks.0.attn.q_bias", "reg_token", "norm_pre.weight"];
        let own = [
            "blocks.0.adaptmlp.down_proj.weight",
            "blocks.0.attn.relative_position_bias_table",
            "blocks.0.attn.rel_pos_h",
            "rel_pos_bias.relative_position_bias_table",
        ];
        !foreign.iter().any(|name| has(name)) && (prefixed || own.iter().any(|name| has(name)))
    },
    prefixes: &["backbone.net.", "backbone."],
    outside: None,
    groups: &[
        ENCODER,
        BLOCKS,
        Group {
            from: "blocks.*.",
            to: "blocks.*.",
            rules: &[
                Name("gamma_1", "ls1.gamma"),
                Name("gamma_2", "ls2.gamma"),
                Name("attn.relative_position_bias_table", "attn.relative_position_bias_table"),
                Drop("attn.relative_position_index", "follows from the grid"),
                Name("attn.rel_pos_h", "attn.rel_pos_h"),
                Name("attn.rel_pos_w", "attn.rel_pos_w"),
            ],
        },
        ADAPTERS,
        DECODER,
        CLASSIFIER,
        Group::top(&[
            Name(
                "rel_pos_bias.relative_position_bias_table",
                "rel_pos_bias.relative_position_bias_table",
            ),
            Drop("rel_pos_bias.relative_position_index", "follows from the grid"),
            Name("fpn1.**", "fpn1.**"),
            Name("fpn2.**", "fpn2.**"),
            Name("decode_head.**", "decode_head.**"),
            Name("auxiliary_head.**", "auxiliary_head.**"),
            Name("backbone.**", "**"),
            Name("proposal_generator.**", "proposal_generator.**"),
            Name("roi_heads.**", "roi_heads.**"),
            Drop("pixel_mean", "pixel normalisation"),
            Drop("pixel_std", "pixel normalisation"),
        ]),
    ],
};

/// Ours to the original's names.
pub(super) const TO_ORIGINAL: &[Group] = &[
    Group {
        from: "blocks.*.",
        to: "blocks.*.",
        rules: &[Name("ls1.gamma", "gamma_1"), Name("ls2.gamma", "gamma_2")],
    },
    Group::top(&[Name("**", "**")]),
];

/// Ours to timm's: the encoder alone.
pub(super) const TO_TIMM: &[Group] = &[
    ENCODER,
    BLOCKS,
    Group {
        from: "blocks.*.",
        to: "blocks.*.",
        rules: &[
            Drop("adaptmlp.**", "timm has no adapters"),
            Drop("scalar_pred.weight", "timm has no adapters"),
            Drop("attn.adaptmlp.**", "timm has no adapters"),
            Drop("attn.scalar_pred.weight", "timm has no adapters"),
            Drop("attn.*.lora_A.weight", "timm has no adapters"),
            Drop("attn.*.lora_B.weight", "timm has no adapters"),
            Drop("attn.*.lora_magnitude", "timm has no adapters"),
            Drop("attn.*.lora_bias", "timm has no adapters"),
            Drop("mlp.*.lora_A.weight", "timm has no adapters"),
            Drop("mlp.*.lora_B.weight", "timm has no adapters"),
            Drop("mlp.*.lora_magnitude", "timm has no adapters"),
            Drop("mlp.*.lora_bias", "timm has no adapters"),
        ],
    },
    Group::top(&[
        Drop("proj", "projection of the pooled tokens"),
        Drop("mask_token", "the decoder's"),
        Drop("decoder_embed.*", "the decoder's"),
        Drop("decoder_pos_embed", "the decoder's"),
        Drop("decoder_blocks.**", "the decoder's"),
        Drop("decoder_norm.*", "the decoder's"),
        Drop("decoder_pred.*", "the decoder's"),
    ]),
];
