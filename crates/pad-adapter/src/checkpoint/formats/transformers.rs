//! Hugging Face transformers: `ViTModel`, `ViTMAEForPreTraining`, `Dinov2Model`, `CLIPVisionModel`.

use super::rule::{Group, Rule, Rule::*, Table};

const EMBEDDINGS: Group = Group {
    from: "embeddings.",
    to: "",
    rules: &[
        Name("cls_token", "cls_token"),
        Name("position_embeddings", "pos_embed"),
        Name("patch_embeddings.projection.*", "patch_embed.proj.*"),
        Drop("mask_token", "mask token of another training"),
    ],
};

const ATTENTION: [Rule; 2] = [
    Join(
        ["attention.attention.query.*", "attention.attention.key.*", "attention.attention.value.*"],
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
    prefixes: &["dinov2."],
    outside: None,
    groups: &[
        EMBEDDINGS,
        Group { from: "encoder.layer.*.", to: "blocks.*.", rules: DINOV2_BLOCK },
        ON_TOP,
    ],
};

/// `CLIPVisionModel`, and the image half of `CLIPModel`.
pub(super) const CLIP_VISION: Table = Table {
    marks: &["vision_model.embeddings.class_embedding"],
    evidence: &[],
    prefixes: &[],
    outside: None,
    groups: &[
        Group {
            from: "vision_model.",
            to: "",
            rules: &[
                Token("embeddings.class_embedding", "cls_token"),
                Token("embeddings.position_embedding.weight", "pos_embed"),
                Name("embeddings.patch_embedding.weight", "patch_embed.proj.weight"),
                Drop("embeddings.position_ids", "follows from the grid"),
                Name("pre_layrnorm.*", "norm_pre.*"),
                Name("post_layernorm.*", "norm.*"),
            ],
        },
        Group {
            from: "vision_model.encoder.layers.*.",
            to: "blocks.*.",
            rules: &[
                Join(
                    ["self_attn.q_proj.*", "self_attn.k_proj.*", "self_attn.v_proj.*"],
                    "attn.qkv.*",
                ),
                Name("self_attn.out_proj.*", "attn.proj.*"),
                Name("layer_norm1.*", "norm1.*"),
                Name("layer_norm2.*", "norm2.*"),
                Name("mlp.fc1.*", "mlp.fc1.*"),
                Name("mlp.fc2.*", "mlp.fc2.*"),
            ],
        },
        Group::top(&[
            Transposed("visual_projection.weight", "proj"),
            Drop("text_model.**", "CLIP's text half"),
            Drop("text_projection.weight", "CLIP's text half"),
            Drop("logit_scale", "CLIP's training"),
        ]),
    ],
};
