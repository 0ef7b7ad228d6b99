//! MMSelfSup and mmpretrain: MAE and MILAN.

use super::rule::{Group, NO_TEST, Rule::*, Table};

const BLOCK: &[super::rule::Rule] = &[
    Name("ln1.*", "norm1.*"),
    Name("attn.qkv.*", "attn.qkv.*"),
    Name("attn.proj.*", "attn.proj.*"),
    Name("ln2.*", "norm2.*"),
    Name("ffn.layers.0.0.*", "mlp.fc1.*"),
    Name("ffn.layers.1.*", "mlp.fc2.*"),
];

/// <https://github.com/open-mmlab/mmselfsup>. MILAN's decoder has the same names; its
/// `decoder_pred` has as many rows as the teacher's features have values.
pub(super) const MMSELFSUP: Table = Table {
    marks: &["backbone.patch_embed.projection.weight", "backbone.layers.0.attn.qkv.weight"],
    evidence: &[],
    test: NO_TEST,
    prefixes: &[],
    outside: None,
    groups: &[
        Group {
            from: "backbone.",
            to: "",
            rules: &[
                Name("cls_token", "cls_token"),
                Name("pos_embed", "pos_embed"),
                Name("patch_embed.projection.*", "patch_embed.proj.*"),
                Name("ln1.*", "norm.*"),
            ],
        },
        Group { from: "backbone.layers.*.", to: "blocks.*.", rules: BLOCK },
        Group {
            from: "neck.",
            to: "",
            rules: &[
                Name("mask_token", "mask_token"),
                Name("decoder_embed.*", "decoder_embed.*"),
                Name("decoder_pos_embed", "decoder_pos_embed"),
                Name("ln1.*", "decoder_norm.*"),
                Name("decoder_pred.*", "decoder_pred.*"),
            ],
        },
        Group { from: "neck.decoder_blocks.*.", to: "decoder_blocks.*.", rules: BLOCK },
        Group::top(&[
            Drop("data_preprocessor.*", "pixel normalisation"),
            Drop("target_generator.**", "MILAN's teacher"),
            Drop("head.**", "holds no weights of the model"),
        ]),
    ],
};
