//! CLIP as OpenAI publishes it.

use super::rule::{Group, NO_TEST, Rule::*, Table};

/// The image tower: names as in the whole model (`visual.*`) or of the tower alone.
pub(super) const CLIP: Table = Table {
    marks: &["conv1.weight", "class_embedding", "ln_pre.weight"],
    evidence: &[],
    test: NO_TEST,
    prefixes: &["visual."],
    outside: Some(TEXT),
    groups: &[
        Group::top(&[
            Token("class_embedding", "cls_token"),
            // The whole model's text half has one of this name as well; with the prefix it is left
            // out below.
            Token("positional_embedding", "pos_embed"),
            Name("conv1.weight", "patch_embed.proj.weight"),
            Name("ln_pre.*", "norm_pre.*"),
            Name("ln_post.*", "norm.*"),
            Name("proj", "proj"),
        ]),
        BLOCKS,
    ],
};

/// The blocks of OpenAI's image towers.
pub(super) const BLOCKS: Group = Group {
    from: "transformer.resblocks.*.",
    to: "blocks.*.",
    rules: &[
        Name("attn.in_proj_weight", "attn.qkv.weight"),
        Name("attn.in_proj_bias", "attn.qkv.bias"),
        Name("attn.out_proj.*", "attn.proj.*"),
        Name("ln_1.*", "norm1.*"),
        Name("ln_2.*", "norm2.*"),
        Name("mlp.c_fc.*", "mlp.fc1.*"),
        Name("mlp.c_proj.*", "mlp.fc2.*"),
    ],
};

/// The parts of the whole model outside `visual.`.
pub(super) const TEXT: &[Group] = &[Group::top(&[
    Drop("positional_embedding", "CLIP's text half"),
    Drop("text_projection", "CLIP's text half"),
    Drop("token_embedding.weight", "CLIP's text half"),
    Drop("transformer.**", "CLIP's text half"),
    Drop("ln_final.*", "CLIP's text half"),
    Drop("logit_scale", "CLIP's training"),
    Drop("input_resolution", "CLIP's training"),
    Drop("context_length", "CLIP's training"),
    Drop("vocab_size", "CLIP's training"),
])];
