//! Names that are ours already, or nearly: facebookresearch's MAE, timm, the original PAD
//! repository.

use super::rule::{Group, Rule::*, Table};

/// The encoder, timm's and MAE's names.
const ENCODER: Group = Group::top(&[
    Name("cls_token", "cls_token"),
    Name("pos_embed", "pos_embed"),
    Name("patch_embed.proj.*", "patch_embed.proj.*"),
    Name("norm_pre.*", "norm_pre.*"),
    Name("norm.*", "norm.*"),
]);

const BLOCKS: Group = Group {
    from: "blocks.*.",
    to: "blocks.*.",
    rules: &[
        Name("norm1.*", "norm1.*"),
        Name("attn.qkv.*", "attn.qkv.*"),
        Name("attn.proj.*", "attn.proj.*"),
        Name("norm2.*", "norm2.*"),
        Name("mlp.fc1.*", "mlp.fc1.*"),
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
    rules: &[Name("adaptmlp.**", "adaptmlp.**"), Name("scalar_pred.weight", "scalar_pred.weight")],
};

/// What fine-tuning for classification puts on top.
const CLASSIFIER: Group = Group::top(&[
    Drop("head.**", "classification head"),
    Drop("head_dist.**", "classification head"),
    Drop("fc_norm.*", "norm in front of the classification head"),
]);

/// This project's own files: nothing to do.
pub(super) const OURS: Table = Table {
    marks: &["patch_embed.proj.weight"],
    evidence: &[],
    prefixes: &[],
    outside: None,
    groups: &[ENCODER, BLOCKS, DECODER, ADAPTERS],
};

/// <https://github.com/facebookresearch/mae>
pub(super) const MAE: Table = Table {
    marks: &["patch_embed.proj.weight", "decoder_embed.weight"],
    evidence: &[],
    prefixes: &[],
    outside: None,
    groups: &[ENCODER, BLOCKS, DECODER, CLASSIFIER],
};

/// <https://github.com/huggingface/pytorch-image-models> (`vision_transformer.py`), and DINOv2 as
/// its authors publish it, which has the same names.
pub(super) const TIMM: Table = Table {
    marks: &["patch_embed.proj.weight", "blocks.0.attn.qkv.weight"],
    evidence: &[],
    prefixes: &[],
    outside: None,
    groups: &[
        ENCODER,
        BLOCKS,
        Group {
            from: "blocks.*.mlp.",
            to: "blocks.*.mlp.",
            rules: &[Name("w12.*", "fc1.*"), Name("w3.*", "fc2.*")],
        },
        Group::top(&[Drop("mask_token", "mask token of DINOv2's training")]),
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
        ],
    },
    Group::top(&[
        Drop("mask_token", "the decoder's"),
        Drop("decoder_embed.*", "the decoder's"),
        Drop("decoder_pos_embed", "the decoder's"),
        Drop("decoder_blocks.**", "the decoder's"),
        Drop("decoder_norm.*", "the decoder's"),
        Drop("decoder_pred.*", "the decoder's"),
    ]),
];
