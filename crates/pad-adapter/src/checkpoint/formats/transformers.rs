//! Hugging Face transformers: `ViTModel`, `ViTMAEForPreTraining`, `Dinov2Model`, `DINOv3ViTModel`,
//! `BeitModel`, `CLIPVisionModel`, `SiglipVisionModel`.

use super::rule::{Group, NO_TEST, Rule, Rule::*, Table};

const EMBEDDINGS: Group = Group {
    from: "embeddings.",
    to: "",
    rules: &[
        Name("cls_token", "cls_token"),
        Name("register_tokens", "reg_token"),
        Name("position_embeddings", "pos_embed"),
        Name("patch_embeddings.projection.*", "patch_embed.proj.*"),
        Drop("mask_token", "mask token of another training"),
    ],
};

const ATTENTION: [Rule; 2] = [
    Join(
        &[
            "attention.attention.query.*",
            "attention.attention.key.*",
            "attention.attention.value.*",
        ],
        "attn.qkv.*",
    ),
    Name("attention.output.dense.*", "attn.proj.*"),
];

/// A block of `ViTModel` and of both halves of `ViTMAEForPreTraining`.
const VIT_BLOCK: &[Rule] = &[
    ATTENTION[0],
    ATTENTION[1],
    Name("layernorm_before.*", "norm1.*"),
    Name("layernorm_after.*", "norm2.*"),
    Name("intermediate.dense.*", "mlp.fc1.*"),
    Name("output.dense.*", "mlp.fc2.*"),
];

const DINOV2_BLOCK: &[Rule] = &[
    ATTENTION[0],
    ATTENTION[1],
    Name("norm1.*", "norm1.*"),
    Name("norm2.*", "norm2.*"),
    Name("layer_scale1.lambda1", "ls1.gamma"),
    Name("layer_scale2.lambda1", "ls2.gamma"),
    Name("mlp.fc1.*", "mlp.fc1.*"),
    Name("mlp.fc2.*", "mlp.fc2.*"),
    Name("mlp.weights_in.*", "mlp.fc1.*"),
    Name("mlp.weights_out.*", "mlp.fc2.*"),
];

const ON_TOP: Group = Group::top(&[
    Name("layernorm.*", "norm.*"),
    Drop("pooler.dense.*", "pooling of the class token"),
    Drop("classifier.*", "classification head"),
]);

/// `ViTModel`, `ViTForImageClassification`, `ViTMAEModel`.
pub(super) const VIT: Table = Table {
    marks: &[
        "embeddings.patch_embeddings.projection.weight",
        "encoder.layer.0.layernorm_before.weight",
    ],
    evidence: &[],
    test: NO_TEST,
    prefixes: &["vit."],
    outside: None,
    groups: &[
        EMBEDDINGS,
        Group { from: "encoder.layer.*.", to: "blocks.*.", rules: VIT_BLOCK },
        ON_TOP,
    ],
};

/// `ViTMAEForPreTraining`, as transformers 4 and 5 write it.
pub(super) const VIT_MAE: Table = Table {
    marks: &["embeddings.patch_embeddings.projection.weight", "decoder.decoder_embed.weight"],
    evidence: &[],
    test: NO_TEST,
    prefixes: &["vit."],
    outside: None,
    groups: &[
        EMBEDDINGS,
        Group { from: "encoder.layer.*.", to: "blocks.*.", rules: VIT_BLOCK },
        ON_TOP,
        Group {
            from: "decoder.",
            to: "",
            rules: &[
                Name("mask_token", "mask_token"),
                Name("decoder_embed.*", "decoder_embed.*"),
                Name("decoder_pos_embed", "decoder_pos_embed"),
                Name("decoder_norm.*", "decoder_norm.*"),
                Name("decoder_pred.*", "decoder_pred.*"),
            ],
        },
        Group { from: "decoder.decoder_layers.*.", to: "decoder_blocks.*.", rules: VIT_BLOCK },
        Group {
            from: "decoder.decoder_encoder.layer.*.",
            to: "decoder_blocks.*.",
            rules: VIT_BLOCK,
        },
    ],
};

/// `Dinov2Model`, with either MLP.
pub(super) const DINOV2: Table = Table {
    marks: &[
        "embeddings.patch_embeddings.projection.weight",
        "encoder.layer.0.layer_scale1.lambda1",
    ],
    evidence: &[],
    test: NO_TEST,
    prefixes: &["dinov2."],
    outside: None,
    groups: &[
        EMBEDDINGS,
        Group { from: "encoder.layer.*.", to: "blocks.*.", rules: DINOV2_BLOCK },
        ON_TOP,
    ],
};

/// `DINOv3ViTModel`, with either MLP.
pub(super) const DINOV3: Table = Table {
    marks: &["embeddings.patch_embeddings.weight", "layer.0.attention.q_proj.weight"],
    evidence: &[],
    test: NO_TEST,
    prefixes: &["model."],
    outside: None,
    groups: &[
        Group {
            from: "embeddings.",
            to: "",
            rules: &[
                Name("cls_token", "cls_token"),
                Name("register_tokens", "reg_token"),
                Name("patch_embeddings.*", "patch_embed.proj.*"),
                Drop("mask_token", "mask token of its training"),
            ],
        },
        Group {
            from: "layer.*.",
            to: "blocks.*.",
            rules: &[
                Join(
                    &[
                        "attention.q_proj.weight",
                        "attention.k_proj.weight",
                        "attention.v_proj.weight",
                    ],
                    "attn.qkv.weight",
                ),
                Name("attention.q_proj.bias", "attn.q_bias"),
                Name("attention.v_proj.bias", "attn.v_bias"),
                Name("attention.o_proj.*", "attn.proj.*"),
                Name("norm1.*", "norm1.*"),
                Name("norm2.*", "norm2.*"),
                Name("layer_scale1.lambda1", "ls1.gamma"),
                Name("layer_scale2.lambda1", "ls2.gamma"),
                // Without a gate `up_proj` is the first layer: see `gated`.
                Join(&["mlp.gate_proj.*", "mlp.up_proj.*"], "mlp.fc1.*"),
                Name("mlp.down_proj.*", "mlp.fc2.*"),
            ],
        },
        Group::top(&[
            Name("norm.*", "norm.*"),
            Drop("rope_embeddings.**", "follows from the grid"),
        ]),
    ],
};

/// [`DINOV3`]'s rules for a plain MLP.
pub(super) const DINOV3_PLAIN: &[Group] =
    &[Group { from: "layer.*.", to: "blocks.*.", rules: &[Name("mlp.up_proj.*", "mlp.fc1.*")] }];

/// `BeitModel`.
pub(super) const BEIT: Table = Table {
    marks: &["embeddings.patch_embeddings.projection.weight", "encoder.layer.0.lambda_1"],
    evidence: &[],
    test: NO_TEST,
    prefixes: &["beit."],
    outside: None,
    groups: &[
        EMBEDDINGS,
        Group {
            from: "encoder.layer.*.",
            to: "blocks.*.",
            rules: &[
                Join(
                    &[
                        "attention.attention.query.weight",
                        "attention.attention.key.weight",
                        "attention.attention.value.weight",
                    ],
                    "attn.qkv.weight",
                ),
                Name("attention.attention.query.bias", "attn.q_bias"),
                Name("attention.attention.value.bias", "attn.v_bias"),
                Name(
                    "attention.attention.relative_position_bias.relative_position_bias_table",
                    "attn.relative_position_bias_table",
                ),
                Drop(
                    "attention.attention.relative_position_bias.relative_position_index",
                    "follows from the grid",
                ),
                ATTENTION[1],
                Name("layernorm_before.*", "norm1.*"),
                Name("layernorm_after.*", "norm2.*"),
                Name("intermediate.dense.*", "mlp.fc1.*"),
                Name("output.dense.*", "mlp.fc2.*"),
                Name("lambda_1", "ls1.gamma"),
                Name("lambda_2", "ls2.gamma"),
            ],
        },
        Group::top(&[
            Name(
                "encoder.relative_position_bias.relative_position_bias_table",
                "rel_pos_bias.relative_position_bias_table",
            ),
            Drop("encoder.relative_position_bias.relative_position_index", "follows from the grid"),
            Drop("pooler.layernorm.*", "norm of the pooled tokens"),
        ]),
        ON_TOP,
    ],
};

/// A block of CLIP's and SigLIP's towers.
const TOWER_BLOCKS: Group = Group {
    from: "encoder.layers.*.",
    to: "blocks.*.",
    rules: &[
        Join(&["self_attn.q_proj.*", "self_attn.k_proj.*", "self_attn.v_proj.*"], "attn.qkv.*"),
        Name("self_attn.out_proj.*", "attn.proj.*"),
        Name("layer_norm1.*", "norm1.*"),
        Name("layer_norm2.*", "norm2.*"),
        Name("mlp.fc1.*", "mlp.fc1.*"),
        Name("mlp.fc2.*", "mlp.fc2.*"),
    ],
};

/// What lies beside a tower.
const TOWER_OUTSIDE: &[Group] = &[Group::top(&[
    Transposed("visual_projection.weight", "proj"),
    Drop("text_model.**", "the text half"),
    Drop("text_projection.weight", "the text half"),
    Drop("logit_scale", "of its training"),
    Drop("logit_bias", "of its training"),
    Drop("classifier.*", "classification head"),
])];

/// `CLIPVisionModel`, and the image half of `CLIPModel`; transformers 5 writes the bare tower
/// without its prefix.
pub(super) const CLIP_VISION: Table = Table {
    marks: &["embeddings.class_embedding", "embeddings.patch_embedding.weight"],
    evidence: &[],
    test: NO_TEST,
    prefixes: &["vision_model."],
    outside: Some(TOWER_OUTSIDE),
    groups: &[
        Group {
            from: "embeddings.",
            to: "",
            rules: &[
                Token("class_embedding", "cls_token"),
                Token("position_embedding.weight", "pos_embed"),
                Name("patch_embedding.weight", "patch_embed.proj.weight"),
                Drop("position_ids", "follows from the grid"),
            ],
        },
        TOWER_BLOCKS,
        Group::top(&[Name("pre_layrnorm.*", "norm_pre.*"), Name("post_layernorm.*", "norm.*")]),
    ],
};

/// `SiglipVisionModel`, `Siglip2VisionModel`, and the image half of `SiglipModel`.
pub(super) const SIGLIP: Table = Table {
    marks: &["embeddings.patch_embedding.weight", "encoder.layers.0.layer_norm1.weight"],
    evidence: &[],
    test: |has, _| !has("embeddings.class_embedding"),
    prefixes: &["vision_model."],
    outside: Some(TOWER_OUTSIDE),
    groups: &[
        Group {
            from: "embeddings.",
            to: "",
            rules: &[
                Token("position_embedding.weight", "pos_embed"),
                Name("patch_embedding.*", "patch_embed.proj.*"),
                Drop("position_ids", "follows from the grid"),
            ],
        },
        TOWER_BLOCKS,
        Group::top(&[Name("post_layernorm.*", "norm.*"), Drop("head.**", "pooling of the tokens")]),
    ],
};
