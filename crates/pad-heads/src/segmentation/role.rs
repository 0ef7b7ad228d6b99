//! The parts that a segmentor's parameters play.

use pad_adapter::params::Role;

/// Returns the role of a segmentor's parameter by its full name, for
/// [`ParamStore::with_roles`](pad_adapter::params::ParamStore::with_roles). The names of the
/// backbone start with `backbone.`; the pyramid counts as head, since no pre-training has it.
///
/// ```
/// use pad_adapter::params::Role;
/// use pad_heads::segmentation::role_of;
/// assert_eq!(role_of("backbone.blocks.3.attn.qkv.weight"), Role::Block(3));
/// assert_eq!(role_of("decode_head.conv_seg.weight"), Role::Head);
/// ```
pub fn role_of(name: &str) -> Role {
    match name.strip_prefix("backbone.").map_or(Role::Head, Role::of) {
        Role::Other => Role::Head,
        role => role,
    }
}
