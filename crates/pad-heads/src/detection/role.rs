//! The parts that a detector's parameters play.

use pad_adapter::params::Role;

/// Returns the role of a detector's parameter by its full name, for
/// [`ParamStore::with_roles`](pad_adapter::params::ParamStore::with_roles). The names of the
/// transformer start with `backbone.net.`; the pyramid counts as head, since no pre-training has
/// it.
///
/// ```
/// use pad_adapter::params::Role;
/// use pad_heads::detection::role_of;
/// assert_eq!(role_of("backbone.net.blocks.3.attn.qkv.weight"), Role::Block(3));
/// assert_eq!(role_of("backbone.simfp_2.4.weight"), Role::Head);
/// ```
pub fn role_of(name: &str) -> Role {
    match name.strip_prefix("backbone.net.").map_or(Role::Head, Role::of) {
        Role::Other => Role::Head,
        role => role,
    }
}
