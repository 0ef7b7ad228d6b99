//! Backbones under their authors' names: DINOv2 and DINOv3, EVA-02, BEiT, PE.

use super::{
    ours::{APART, BLOCKS, CLASSIFIER, ENCODER},
    rule::{Group, NO_TEST, Rule::*, Table},
};

/// DINOv2 and DINOv3 as their authors publish them, or as their training stores them (`teacher`).
pub(super) const DINO: Table = Table {
    marks: &["patch_embed.proj.weight", "blocks.0.ls1.gamma"],
    evidence: &["mask_token", "register_tokens", "storage_tokens"],
    test: |has, _| !has("decoder_embed.weight"),
    prefixes: &["backbone."],
    outside: Some(&[Group::top(&[
        Drop("dino_head.**", "head of its training"),
        Drop("ibot_head.**", "head of its training"),
        Drop("gram_head.**", "head of its training"),
    ])]),
    groups: &[
        ENCODER,
        BLOCKS,
        Group {
            from: "blocks.*.mlp.",
            to: "blocks.*.mlp.",
            rules: &[
                Name("w12.*", "fc1.*"),
                Join(&["w1.*", "w2.*"], "fc1.*"),
                Name("w3.*", "fc2.*"),
            ],
        },
        Group::top(&[
            Name("register_tokens", "reg_token"),
            Name("storage_tokens", "reg_token"),
            Drop("mask_token", "mask token of its training"),
            Drop("rope_embed.periods", "follows from the head's width"),
            Drop("local_cls_norm.*", "of its training"),
        ]),
        CLASSIFIER,
    ],
};

/// EVA-02 and EVA-CLIP as their authors publish them, <https://github.com/baaivision/EVA>.
pub(super) const EVA: Table = Table {
    marks: &["patch_embed.proj.weight", "blocks.0.attn.q_bias"],
    evidence: &["blocks.0.mlp.w12.weight", "blocks.0.mlp.w1.weight"],
    test: |has, _| has("blocks.0.mlp.w12.weight") || has("blocks.0.mlp.w1.weight"),
    prefixes: &["visual."],
    outside: Some(&[Group::top(&[
        Drop("text.**", "CLIP's text half"),
        Drop("logit_scale", "CLIP's training"),
    ])]),
    groups: &[
        ENCODER,
        BLOCKS,
        APART,
        Group {
            from: "blocks.*.",
            to: "blocks.*.",
            rules: &[
                Name("mlp.w12.*", "mlp.fc1.*"),
                Join(&["mlp.w1.*", "mlp.w2.*"], "mlp.fc1.*"),
                Name("mlp.ffn_ln.*", "mlp.norm.*"),
                Name("mlp.w3.*", "mlp.fc2.*"),
                Name("attn.inner_attn_ln.*", "attn.norm.*"),
                Drop("attn.rope.*", "follows from the grid"),
            ],
        },
        Group::top(&[
            Drop("rope.*", "follows from the grid"),
            Drop("mask_token", "mask token of its training"),
            Drop("lm_head.**", "head of its training"),
        ]),
        CLASSIFIER,
    ],
};

/// BEiT and BEiT v2 as their authors publish them: timm's names and indices of the grid.
pub(super) const BEIT_ORIGINAL: Table = Table {
    marks: &["patch_embed.proj.weight", "blocks.0.attn.q_bias"],
    evidence: &["blocks.0.attn.relative_position_index", "rel_pos_bias.relative_position_index"],
    test: NO_TEST,
    prefixes: &[],
    outside: None,
    groups: &[
        ENCODER,
        BLOCKS,
        APART,
        Group::top(&[
            Drop("blocks.*.attn.relative_position_index", "follows from the grid"),
            Drop("rel_pos_bias.relative_position_index", "follows from the grid"),
            Drop("mask_token", "mask token of its training"),
            Drop("lm_head.**", "head of its training"),
            Drop("cls_pt_layers.**", "head of its training"),
        ]),
        CLASSIFIER,
    ],
};

/// PE (<https://github.com/facebookresearch/perception_models>): OpenAI's names of CLIP, without
/// some of its parts, with others.
pub(super) const PE: Table = Table {
    marks: &["conv1.weight", "ln_pre.weight", "positional_embedding"],
    evidence: &[],
    test: |has, _| {
        has("attn_pool.probe")
            || has("transformer.resblocks.0.ls_1.gamma")
            || !has("ln_post.weight")
            || !has("class_embedding")
    },
    prefixes: &["visual."],
    outside: Some(super::clip::TEXT),
    groups: &[
        Group::top(&[
            Token("class_embedding", "cls_token"),
            Token("positional_embedding", "pos_embed"),
            Name("conv1.weight", "patch_embed.proj.weight"),
            Name("ln_pre.*", "norm_pre.*"),
            Name("ln_post.*", "norm.*"),
            Drop("attn_pool.**", "pooling of the tokens"),
            Drop("proj", "projection of the pooled tokens"),
            Drop("rope.**", "follows from the grid"),
        ]),
        super::clip::BLOCKS,
        Group {
            from: "transformer.resblocks.*.",
            to: "blocks.*.",
            rules: &[
                Name("ls_1.gamma", "ls1.gamma"),
                Name("ls_2.gamma", "ls2.gamma"),
                Drop("attn.rope.**", "follows from the grid"),
            ],
        },
    ],
};
