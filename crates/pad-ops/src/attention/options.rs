//! What an attention computes beside its operands.

/// Which keys a query sees, and how logits are made.
///
/// ```
/// use pad_ops::AttentionOptions;
/// let causal = AttentionOptions { causal: true, ..AttentionOptions::of_head_dim(64) };
/// assert_eq!(causal.scale, 0.125);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionOptions {
    /// Factor on the inner products of queries and keys.
    pub scale: f64,
    /// Whether the last query sees all keys and each one before it one key less. With as many
    /// queries as keys that is the usual lower triangle; with fewer queries they are the last ones
    /// (as behind a cache of keys).
    pub causal: bool,
}

impl AttentionOptions {
    /// The usual scale, `head_dim^-0.5`; every query sees every key.
    pub fn of_head_dim(head_dim: usize) -> Self {
        Self { scale: (head_dim as f64).powf(-0.5), causal: false }
    }
}
